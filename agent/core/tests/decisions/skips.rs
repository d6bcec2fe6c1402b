//! Readers that skip parts of a file: what was fetched and not read is never taken for read.

use crate::sim::{MOUNT, Sim};
use crate::world::{Step, World};
use agent_core::{Actor, Core, Extent, FileKey, Limits, Nanos, Observation, Order, PAGE, Pages, Reader, Via};

/// What a reader of these pages of a large file has, and what the core says of it: bytes read, and fate.
fn skips(pages: impl Iterator<Item = (u64, u64)>) -> (u64, agent_core::view::Fate, u64) {
    let world = World::new(5, 200.0, vec![("m.bin".into(), 1 << 30)]);
    let steps: Vec<Step> = pages.map(|(start, len)| Step { file: 0, pages: start..start + len }).collect();
    let (felt, core) = Sim::run(&world, Some(Core::new(Limits::default())), &[steps]);
    (felt.read, core.unwrap().node().fate, felt.wasted)
}

#[test]
fn what_a_reader_skips_is_not_read() {
    // 256 KiB in four reads, and as much left out; three of five; members of a tar, every second.
    let parts = (0..200).flat_map(|part| (0..4).map(move |i| (part * 128 + i * 16, 16)));
    let most = (0..200).flat_map(|part| (0..3).map(move |i| (part * 80 + i * 16, 16)));
    let members = (0..200).flat_map(|part| [(part * 50, 16), (part * 50 + 16, 9)]);
    let kinds: [(&str, Vec<(u64, u64)>); 3] =
        [("parts", parts.collect()), ("most", most.collect()), ("members", members.collect())];
    for (name, pages) in kinds {
        let (read, fate, wasted) = skips(pages.into_iter());
        assert!(fate.hit + fate.late <= read, "{name}: {fate:?} of {read} read");
        assert_eq!(fate.wasted + fate.pending, wasted, "{name}: {fate:?}");
    }
}

/// Every sixth record of 150,528 bytes, and others: their starts drift through the pages.
#[test]
fn records_whose_distance_is_no_multiple_of_a_page() {
    for (bytes, every) in [(150_528, 6), (40_000, 5), (100_000, 64), (3_000, 8)] {
        let record = |i: u64| {
            let start = i * every * bytes;
            (start / PAGE, (start + bytes).div_ceil(PAGE) - start / PAGE)
        };
        let records: Vec<_> = (0..600).map(record).take_while(|(start, _)| *start < 260_000).collect();
        let pages = records.len() as u64 * 2 * PAGE;
        let (read, fate, wasted) = skips(records.into_iter());
        assert!(fate.hit + fate.late > read / 10 * 9, "{bytes} bytes: {fate:?} of {read} read");
        // To a page, where a record begins and where it ends.
        assert!(wasted < pages.max(read / 10), "{bytes} bytes: {wasted} of {read} read");
    }
}

const FILE: FileKey = FileKey { dev: 5, ino: 7 };
const READER: Reader = Reader { tgid: 3, tid: 3 };

/// Four reads of sixteen pages, and what was asked for then has come: gives where it ends.
fn ahead(core: &mut Core) -> u64 {
    let mount = Observation::Mount {
        mount: MOUNT,
        dev: 5,
        source: "s".into(),
        fstype: "nfs4".into(),
        read_ahead_bytes: 131_072,
    };
    core.apply(&mount, Nanos(0));
    let sight =
        Observation::Sight { file: FILE, mount: MOUNT, path: (*b"f").into(), size: 1 << 30, mtime: 0 };
    core.apply(&sight, Nanos(0));
    let mut end = 64;
    for read in 0..4 {
        let pages = read * 16..read * 16 + 16;
        core.apply(
            &Observation::Added { file: FILE, pages: pages.clone(), by: Actor::Thread(READER) },
            at(read),
        );
        told(core, pages, read);
        for order in core.orders() {
            let Order::Fetch { extent: Extent::Ranges(ranges), .. } = order else { continue };
            for pages in ranges {
                end = end.max(pages.end);
                core.apply(&Observation::Added { file: FILE, pages, by: Actor::Agent }, at(read));
            }
        }
    }
    end
}

fn at(read: u64) -> Nanos {
    Nanos::from_millis(5 * read)
}

fn told(core: &mut Core, pages: Pages, read: u64) {
    let (via, size) = (Via::Read, 1 << 30);
    core.apply(&Observation::Access { file: FILE, reader: READER, pages, via, count: 1, size }, at(read));
}

/// The kernel tells the end alone of a read that met a fetch on its way.
#[test]
fn a_read_that_lacks_its_head_has_read_it() {
    for told_from in 65..80 {
        let mut core = Core::new(Limits::default());
        assert!(ahead(&mut core) >= 80);
        let before = core.node().fate;
        told(&mut core, told_from..80, 4);
        assert_eq!(core.node().fate.hit + core.node().fate.late, before.hit + before.late + 16 * PAGE);
    }
    // A whole read, as long as those before, has left out what lies before it.
    let mut core = Core::new(Limits::default());
    let end = ahead(&mut core);
    let before = core.node().fate;
    told(&mut core, 70..86, 4);
    let hit = core.node().fate.hit + core.node().fate.late - before.hit - before.late;
    assert_eq!(hit, (end.min(86) - 70) * PAGE);
}
