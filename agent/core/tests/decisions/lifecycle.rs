//! Pods come and go, file systems with them: what was fetched for them and not read does not wait for ever.

use agent_core::{FileKey, Limits, MountId, Observation, Via};

use crate::folders::{Folders, MOUNT, Who};

/// A multiple of a page, so that waste is as many bytes as were fetched.
const SIZE: u64 = 40_960;

/// A walk, with some files fetched and not read, and others under way.
fn walking(limits: Limits) -> Folders {
    let mut folders = Folders::with(limits, SIZE, 16 << 30);
    for file in 0..8 {
        folders.read(Who::D, file, true);
        folders.answer(true);
    }
    folders.read(Who::D, 8, false);
    assert!(folders.carry_out(|_| None).len() > 1);
    folders
}

fn pending(folders: &Folders) -> u64 {
    folders.core.node().fate.pending
}

/// The reader's process ends, and so does its run a little later.
fn end_run(folders: &mut Folders) {
    folders.tell(&Observation::Exit { tgid: Who::D.reader().tgid });
    folders.now += 3_000_000_000;
    folders.tell(&Observation::Tick);
}

#[test]
fn what_comes_after_its_run_has_ended_is_wasted() {
    let mut folders = walking(Limits::default());
    end_run(&mut folders);
    let before = folders.core.node().fate;
    let under_way = folders.under_way().len() as u64;
    folders.end_fetches();
    let fate = folders.core.node().fate;
    assert_eq!((fate.wasted - before.wasted, fate.pending), (under_way * SIZE, 0), "{fate:?}");
    folders.tell(&Observation::Unmount { mount: MOUNT });
    assert_eq!(pending(&folders), 0);
}

#[test]
fn an_unmount_settles_what_lay_ready_there_though_the_workload_reads_elsewhere() {
    let mut folders = walking(Limits::default());
    let (mount, source, fstype) = (MountId(2), "t".into(), "nfs4".into());
    folders.tell(&Observation::Mount { mount, dev: 6, source, fstype, read_ahead_bytes: 131_072 });
    let (file, reader, path) = (FileKey { dev: 6, ino: 1 }, Who::D.reader(), b"x"[..].into());
    folders.tell(&Observation::Sight { file, mount, path, size: SIZE, mtime: 0 });
    let (pages, via) = (0..SIZE / 4096, Via::Read);
    folders.tell(&Observation::Access { file, reader, pages, via, count: 1, size: SIZE });
    assert!(pending(&folders) > 0);
    folders.tell(&Observation::Unmount { mount: MOUNT });
    assert_eq!(pending(&folders), 0);
    // Answers that come late say nothing of a mount that has gone.
    folders.end_fetches();
    assert_eq!(pending(&folders), 0);
}

#[test]
fn a_file_that_is_replaced_takes_its_claims_along() {
    let mut folders = walking(Limits::default());
    folders.end_fetches();
    assert!(pending(&folders) > 0);
    for file in 9..300 {
        folders.replace(Who::D, file);
    }
    assert_eq!(pending(&folders), 0);
}

#[test]
fn a_full_catalog_settles_what_lay_ready() {
    let mut folders = walking(Limits { files: 3_000, ..Limits::default() });
    end_run(&mut folders);
    folders.end_fetches();
    for file in 0..1_200 {
        folders.sight(Who::E, file);
    }
    assert!(folders.core.node().files < 2_000, "it began anew");
    assert_eq!(pending(&folders), 0);
}

#[test]
fn files_below_a_page_leave_nothing_behind_when_they_are_read() {
    let mut folders = Folders::with(Limits::default(), 100, 16 << 30);
    for file in 0..31 {
        folders.read(Who::D, file, file < 8);
        folders.answer(true);
    }
    let fate = folders.core.node().fate;
    assert!(fate.hit > 0 && fate.wasted == 0, "{fate:?}");
    assert_eq!(fate.pending % 100, 0, "whole files wait to be read: {fate:?}");
}
