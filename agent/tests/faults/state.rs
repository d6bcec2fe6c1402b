//! The folder of learned profiles: not a folder, full, damaged. The agent goes on with each.

use std::fs;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::Signal;

use crate::fixture::{Home, Reader, Remote, until};
use crate::store::Store;

fn store() -> Store {
    Store { files: 400, ..Store::default() }
}

fn remote() -> Remote {
    Remote::new(store())
}

/// Runs one workload to its end and waits until it has been seen.
fn work(home: &Home, remote: &Remote) {
    let before = home.number("reads");
    Reader::start(&remote.files(0..200)).wait();
    until("the reads are seen", || home.number("reads") >= before + 200);
}

fn times(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

#[test]
fn a_folder_that_cannot_be_used_is_said_once() {
    let mut home = Home::new();
    let remote = remote();
    let file = home.folder.path().join("file");
    fs::write(&file, "no folder").unwrap();
    home.state = file.join("state");
    let mut agent = home.agent(&remote.path);
    let said = "the folder for learned profiles cannot be used";
    for _ in 0..2 {
        work(&home, &remote);
    }
    assert_eq!(times(&home.log(), said), 1, "{}", home.log());
    let check = home.check("learned profiles").unwrap();
    assert_eq!(check["state"], "warn");
    assert!(check["finding"].as_str().unwrap().contains(said), "{check}");

    // The obstacle goes, and what was learned meanwhile is kept.
    fs::remove_file(&file).unwrap();
    assert!(agent.stop(Signal::TERM).success());
    assert!(!home.kept("profile").is_empty(), "{}", home.log());
    home.assert_calm();
}

struct Tmpfs(std::path::PathBuf);

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_is_said_once_and_loses_nothing() {
    let home = Home::new();
    let remote = remote();
    fs::create_dir(&home.state).unwrap();
    mount("none", &home.state, "tmpfs", MountFlags::empty(), Some(c"size=64k")).unwrap();
    let _mounted = Tmpfs(home.state.clone());
    let ballast = home.state.join("ballast");
    let mut agent = home.agent(&remote.path);
    fs::write(&ballast, vec![0; 64 << 10]).unwrap();
    let said = "the disk is full";
    work(&home, &remote);
    until("it is said", || home.log().contains(said));
    work(&home, &remote);
    until("doctor says it", || {
        let check = home.check("learned profiles");
        check.is_some_and(|check| check["finding"].as_str().unwrap().contains(said))
    });
    assert_eq!(times(&home.log(), said), 1, "{}", home.log());
    assert!(home.kept("new").is_empty());

    fs::remove_file(&ballast).unwrap();
    assert!(agent.stop(Signal::TERM).success());
    assert!(!home.kept("profile").is_empty(), "{}", home.log());
    home.assert_calm();
}

#[test]
fn a_damaged_profile_is_set_aside() {
    let home = Home::new();
    let mut remote = remote();
    let mut agent = home.agent(&remote.path);
    work(&home, &remote);
    assert!(agent.stop(Signal::TERM).success());
    let kept = home.kept("profile");
    let [profile] = &kept[..] else { panic!("{kept:?}: {}", home.log()) };
    let mut bytes = fs::read(profile).unwrap();
    *bytes.last_mut().unwrap() ^= 0x10;
    fs::write(profile, &bytes).unwrap();

    // With nothing in memory the reader lives long enough to be told apart.
    remote.mount(store());
    let mut agent = home.agent(&remote.path);
    work(&home, &remote);
    assert!(agent.stop(Signal::TERM).success());
    assert_eq!(fs::read(&home.kept("bad")[0]).unwrap(), bytes, "it is kept for who wants to look");
    assert_eq!(home.kept("profile"), kept, "learned anew");
    assert_eq!(times(&home.log(), "is damaged"), 1, "{}", home.log());
    home.assert_calm();
}
