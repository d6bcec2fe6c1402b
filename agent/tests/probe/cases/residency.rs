//! What enters and leaves the page cache, compared with mincore, and who did it.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;

use agent::probe::{Case, Plan, ProbeConfig, ReadEvent};
use agent_core::observation::{Actor, Via};

use super::{PAGE, set};
use crate::disk::chill;
use crate::scene::{PageSet, Scene, key, key_of};
use crate::verdict::Verdict;

pub fn miss(scene: &mut Scene) -> Verdict {
    let path = scene.disk.file("miss", 1 << 20);
    let file = File::open(&path).expect("opening");
    scene.told();
    chill(&file);
    let told = scene.told();
    assert_eq!(told.removed(&path), set(0..256), "{:?}", told.events);
    let by_thread = told.events.iter().all(|event| match event {
        ReadEvent::Removed { file, by, .. } if key(*file) == key_of(&path) => matches!(by, Actor::Thread(_)),
        _ => true,
    });
    assert!(by_thread, "{:?}", told.events);

    file.read_exact_at(&mut [0; PAGE], 100 * 4096).expect("pread");
    let told = scene.told();
    assert_eq!(told.resident(&path), filled(&file, &told.resident(&path), 256), "{:?}", told.events);
    let position = |wanted: &dyn Fn(&ReadEvent) -> bool| told.events.iter().position(wanted);
    let added = position(
        &|event| matches!(event, ReadEvent::Added { pages, by: Actor::Thread(_), .. } if pages.contains(&100)),
    );
    assert!(added.is_some(), "{:?}", told.events);
    if !scene.sees(Case::MissLatency) {
        return Verdict::Misses;
    }
    let access = position(&|event| matches!(event, ReadEvent::Access { .. }));
    let missed =
        position(&|event| matches!(event, ReadEvent::Miss { bytes: 4096, latency, .. } if latency.0 > 0));
    assert!(access.is_some() && missed.is_some(), "{:?}", told.events);
    assert!(added < access, "pages must come before their read: {:?}", told.events);

    // A hit is no miss.
    file.read_exact_at(&mut [0; PAGE], 100 * 4096).expect("pread");
    let told = scene.told();
    assert!(!told.events.iter().any(|event| matches!(event, ReadEvent::Miss { .. })), "{:?}", told.events);
    Verdict::Seen
}

/// Of resident reads, the plans that can time some do; a read that had to wait for a page of its own is none.
pub fn hit_latency(scene: &mut Scene) -> Verdict {
    let path = scene.disk.file("hit-latency", 1 << 20);
    let file = File::open(&path).expect("opening");
    std::fs::read(&path).expect("reading");
    scene.told();
    for read in 0..400 {
        file.read_exact_at(&mut [0; PAGE], read % 256 * 4096).expect("pread");
    }
    let told = scene.told();
    let hits: Vec<_> = told.events.iter().filter(|event| matches!(event, ReadEvent::Hit { .. })).collect();
    if !scene.sees(Case::HitLatency) {
        assert!(hits.is_empty(), "{hits:?}");
        return Verdict::Unseen;
    }
    assert!((5..=7).contains(&hits.len()), "of 400 reads one in 64 is to be timed: {hits:?}");
    for hit in hits {
        let right = matches!(hit, ReadEvent::Hit { file, bytes: 4096, latency, .. }
            if key(*file) == key_of(&path) && (1..1_000_000_000).contains(&latency.0));
        assert!(right, "{hit:?}");
    }
    // Without read-ahead, each of these waits.
    chill(&file);
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).expect("fadvise");
    scene.told();
    for page in (0..256).step_by(2) {
        file.read_exact_at(&mut [0; PAGE], page * 4096).expect("pread");
    }
    let told = scene.told();
    let misses = told.events.iter().filter(|event| matches!(event, ReadEvent::Miss { .. })).count();
    let hits = told.events.iter().filter(|event| matches!(event, ReadEvent::Hit { .. })).count();
    assert!(misses > 100 && hits == 0, "{misses} misses, {hits} hits: {:?}", told.events);
    Verdict::Seen
}

/// Pages that are in the page cache by what the kernel says.
pub fn resident(file: &File, pages: u64) -> PageSet {
    // SAFETY: nobody truncates the file meanwhile.
    let map = unsafe { memmap2::Mmap::map(file) }.expect("mmap");
    let mut core = vec![0_u8; pages as usize];
    // SAFETY: `pages` pages are mapped, and `core` has a byte for each.
    let result = unsafe { libc::mincore(map.as_ptr().cast_mut().cast(), map.len(), core.as_mut_ptr()) };
    assert_eq!(result, 0);
    (0..pages).filter(|page| core[*page as usize] & 1 == 1).collect()
}

/// Drops a file's pages, and says which the kernel kept: now and then it holds some for a moment (seen on FUSE, 7.3).
pub fn chilled(file: &File, pages: u64) -> PageSet {
    for _ in 0..20 {
        chill(file);
        if resident(file, pages).is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    resident(file, pages)
}

/// The same, once what was read ahead has come: pages are told when they are added, mincore tells of
/// those that are filled.
pub fn filled(file: &File, expected: &PageSet, pages: u64) -> PageSet {
    for _ in 0..500 {
        let found = resident(file, pages);
        if found.is_superset(expected) {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    resident(file, pages)
}

pub fn large_folios(scene: &mut Scene) -> Verdict {
    let path = scene.disk.file("large", 16 << 20);
    let mut file = File::open(&path).expect("opening");
    chill(&file);
    let mut told = scene.told();
    told.events.clear();
    let mut buffer = vec![0; 128 << 10];
    for _ in 0..64 {
        file.read_exact(&mut buffer).expect("read");
    }
    // Page tables of the mapping that asks must not fault anything in: told first.
    told.events.extend(scene.told().events);
    let by_events = told.resident(&path);
    let by_kernel = filled(&file, &by_events, 4096);
    let differ: Vec<_> = by_events.symmetric_difference(&by_kernel).collect();
    assert!(differ.is_empty(), "{differ:?} differ: {:#?}", told.events);
    assert!(by_events.is_superset(&set(0..2048)));
    if scene.sees_hits() {
        let mut seen = told.pages(&path, Via::Read);
        for read in (0..2048).step_by(32) {
            super::with_head(scene, &mut seen, &set(read..read + 32), &by_events);
        }
        assert_eq!(seen, set(0..2048));
        assert_eq!(told.count(&path), 64, "{:?}", told.events);
        // Most of it was read ahead and waited for by nobody: a miss for each part that was not.
        let misses = told.events.iter().filter(|event| matches!(event, ReadEvent::Miss { .. }));
        assert!((1..64).contains(&misses.count()));
    }
    chill(&file);
    let told = scene.told();
    assert_eq!(resident(&file, 4096), set(0..0));
    assert!(told.removed(&path).is_superset(&set(0..2048)));
    super::verdict(scene)
}

/// What the agent itself reads is no access, and the pages it brings in are its own.
pub fn own_reads(plan: Plan) -> Verdict {
    let mut scene = Scene::with(plan, ProbeConfig::default());
    let path = scene.disk.file("own", 1 << 20);
    let file = File::open(&path).expect("opening");
    chill(&file);
    scene.told();
    file.read_exact_at(&mut vec![0; 256 << 10], 0).expect("pread");
    let told = scene.told();
    assert_eq!(told.accessed().len(), 0, "{:?}", told.events);
    for event in &told.events {
        if let ReadEvent::Added { by, .. } = event {
            assert_eq!(*by, Actor::Agent);
        }
    }
    assert!(told.resident(&path).is_superset(&set(0..64)), "{:?}", told.events);
    Verdict::Seen
}
