//! What is told to lie in memory: only what was seen to come, and nothing once records of its going may be lost.

use agent_core::{Actor, Core, FileKey, Limits, MountId, Nanos, Observation, Pages, Reader, Via};

use crate::folders::{FILES, Folders, SIZE, Who};

const MOUNT: MountId = MountId(1);
const READER: Reader = Reader { tgid: 3, tid: 3 };
const PAGES: u64 = 16;

fn key(file: u64) -> FileKey {
    FileKey { dev: 5, ino: 10 + file }
}

/// A mount with three files of sixteen pages.
fn three_files() -> Core {
    let mut core = Core::new(Limits::default());
    let (source, fstype) = ("s".into(), "nfs4".into());
    let mount = Observation::Mount { mount: MOUNT, dev: 5, source, fstype, read_ahead_bytes: 131_072 };
    core.apply(&mount, Nanos(1));
    for file in 0..3 {
        let path = format!("f{file}").into_bytes().into();
        let sight = Observation::Sight { file: key(file), mount: MOUNT, path, size: PAGES * 4096, mtime: 0 };
        core.apply(&sight, Nanos(1));
    }
    core
}

fn added(core: &mut Core, file: u64, pages: Pages) {
    core.apply(&Observation::Added { file: key(file), pages, by: Actor::Thread(READER) }, Nanos(2));
}

fn access(core: &mut Core, file: u64, pages: Pages, via: Via) {
    let size = PAGES * 4096;
    core.apply(
        &Observation::Access { file: key(file), reader: READER, pages, via, count: 1, size },
        Nanos(2),
    );
}

/// What is told of a file, if anything is.
fn told(core: &mut Core, file: u64) -> Option<Vec<Pages>> {
    core.stirred(100).files.into_iter().find(|told| told.file == key(file)).map(|told| told.resident)
}

#[test]
fn after_lost_records_nothing_is_told_of_files_done_with() {
    let mut core = three_files();
    for file in 0..3 {
        added(&mut core, file, 0..PAGES);
        access(&mut core, file, 0..PAGES, Via::Read);
    }
    assert_eq!(told(&mut core, 0), Some(vec![0..PAGES]));
    core.apply(&Observation::Lost { records: 1 }, Nanos(3));
    let stir = core.stirred(100);
    assert!(stir.void);
    assert_eq!(stir.files, []);
    // A count, or a read, tells of it again.
    core.apply(&Observation::Resident { file: key(1), pages: vec![0..4] }, Nanos(4));
    assert_eq!(told(&mut core, 1), Some(vec![0..4]));
}

/// A walk has files lie ready, and records are lost.
fn ready_and_in_doubt() -> Folders {
    let mut folders = Folders::new();
    for file in 0..40 {
        folders.read(Who::D, file, file < 8);
        folders.answer(true);
    }
    folders.tell(&Observation::Lost { records: 1 });
    folders
}

#[test]
fn what_lay_ready_when_records_were_lost_is_settled_once() {
    // Still there: read, and as good as foreseen.
    let mut folders = ready_and_in_doubt();
    let before = folders.core.node().fate;
    folders.read(Who::D, 40, false);
    let fate = folders.core.node().fate;
    assert_eq!((fate.hit - before.hit, fate.wasted - before.wasted), (SIZE, 0));
    // Gone, which the lost records would have said: its reader brings it in again.
    let mut folders = ready_and_in_doubt();
    folders.read(Who::D, 40, true);
    let fate = folders.core.node().fate;
    assert_eq!((fate.hit - before.hit, fate.wasted - before.wasted), (0, SIZE));
    // The last file that lies ready has gone too, and another run brings it in again.
    let mut folders = ready_and_in_doubt();
    let last =
        (40..FILES).take_while(|file| folders.core.explain(Who::D.key(*file)).is_some()).last().unwrap();
    folders.tell(&Observation::Added { file: Who::D.key(last), pages: 0..10, by: Actor::Agent });
    folders.read(Who::D, last, false);
    let fate = folders.core.node().fate;
    assert_eq!((fate.hit - before.hit, fate.wasted - before.wasted), (0, SIZE));
}

#[test]
fn pages_around_a_mapping_fault_are_not_told_unless_they_came() {
    let mut core = three_files();
    for page in [0, 8] {
        added(&mut core, 0, page..page + 1);
    }
    access(&mut core, 0, 0..16, Via::Mapped);
    assert_eq!(told(&mut core, 0), Some(vec![0..1, 8..9]));
    // Nothing came that was seen: it lay there before, and which of the pages did is not known.
    access(&mut core, 1, 0..16, Via::Mapped);
    assert_eq!(told(&mut core, 1), Some(vec![]));
    // The page that was touched is there, whoever brought it.
    access(&mut core, 2, 3..4, Via::Fault);
    assert_eq!(told(&mut core, 2), Some(vec![3..4]));
}
