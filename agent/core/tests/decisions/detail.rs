//! Details are given up where nothing is left to predict, and wanted back when pages leave.

use agent_core::{Actor, Core, FileKey, Limits, MountId, Nanos, Observation, Order, Reader, Via};

const FILE: FileKey = FileKey { dev: 5, ino: 7 };
const READER: Reader = Reader { tgid: 3, tid: 3 };

fn details(core: &mut Core) -> Vec<bool> {
    let wanted = |order| match order {
        Order::Detail { wanted, .. } => Some(wanted),
        _ => None,
    };
    core.orders().into_iter().filter_map(wanted).collect()
}

#[test]
fn a_resident_file_read_at_random_is_only_counted_until_its_pages_leave() {
    let mut core = Core::new(Limits::default());
    let mount = MountId(1);
    let (source, fstype) = ("s".into(), "nfs4".into());
    let at = Nanos(1);
    core.apply(&Observation::Mount { mount, dev: 5, source, fstype, read_ahead_bytes: 131_072 }, at);
    let named = |path: &[u8]| {
        let path = path.into();
        Observation::Sight { file: FILE, mount, path, size: 1 << 20, mtime: 0 }
    };
    core.apply(&named(b"f"), at);
    core.apply(&Observation::Added { file: FILE, pages: 0..256, by: Actor::Thread(READER) }, at);
    let mut page = 1u64;
    let mut read = |core: &mut Core, count: u64| {
        for now in 0..count {
            page = page * 1_103_515_245 % 2_147_483_647;
            let pages = page % 256..page % 256 + 1;
            let (via, size) = (Via::Read, 1 << 20);
            let access = Observation::Access { file: FILE, reader: READER, pages, via, count: 1, size };
            core.apply(&access, Nanos(now * 1_000_000));
        }
    };
    read(&mut core, 100);
    assert_eq!(details(&mut core), []);
    read(&mut core, 1000);
    assert_eq!(details(&mut core), [false]);
    core.apply(&Observation::Removed { file: FILE, pages: 3..4, by: Actor::Reclaim }, at);
    assert_eq!(details(&mut core), [true]);
    // Whoever made it so has long ended when they leave: the next reader is told of too.
    read(&mut core, 1000);
    assert_eq!(details(&mut core), [false]);
    core.apply(&Observation::Exit { tgid: READER.tgid }, at);
    core.apply(&Observation::Tick, Nanos(100_000_000_000));
    core.apply(&Observation::Removed { file: FILE, pages: 3..4, by: Actor::Reclaim }, at);
    assert_eq!(details(&mut core), [true]);
    // That they left may have been among records that were lost.
    read(&mut core, 1000);
    assert_eq!(details(&mut core), [false]);
    core.apply(&Observation::Added { file: FILE, pages: 9..10, by: Actor::Thread(READER) }, at);
    assert_eq!(details(&mut core), [true]);
    // Another inode took its place in the probe's register, or it was renamed: named anew, it is told of by record.
    for path in [b"f", b"g"] {
        read(&mut core, 1000);
        assert_eq!(details(&mut core), [false]);
        core.apply(&named(path), at);
        assert_eq!(details(&mut core), [true]);
    }
    read(&mut core, 1000);
    assert_eq!(details(&mut core), [false]);
}
