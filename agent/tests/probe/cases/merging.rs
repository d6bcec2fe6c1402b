//! Runs, batches, counters and losses: less is told, nothing is forgotten.
//!
//! Where a plan sees no hits, nothing at all may be told of these reads of resident pages.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use agent::probe::{self, Plan, ProbeConfig, ReadEvent, Seen};
use agent_core::observation::Via;
use agent_core::units::FileKey;

use super::{by_another, reached, set, verdict, whole_file};
use crate::scene::{Scene, Told, key_of};
use crate::verdict::Verdict;

/// `Some` where hits are invisible: then nothing was told.
fn invisible(scene: &Scene, told: &Told) -> Option<Verdict> {
    if scene.sees_hits() {
        return None;
    }
    assert_eq!(told.events, [], "a plan that sees no hits told of some");
    Some(Verdict::Misses)
}

pub fn sequential(scene: &mut Scene) -> Verdict {
    let path = scene.disk.file("sequential", 16 << 20);
    let mut file = File::open(&path).expect("opening");
    let mut buffer = vec![0; 128 << 10];
    let told = whole_file(scene, &path, || {
        for _ in 0..128 {
            file.read_exact(&mut buffer).expect("read");
        }
    });
    assert_eq!(reached(scene, &told, &path), set(0..4096));
    let records = told.events.len();
    assert!(records <= 70, "one every 256 KiB were expected, {records} came");
    if !scene.sees_hits() {
        return Verdict::Misses;
    }
    assert_eq!(told.count(&path), 128);
    // A few more pages make no record: only the flush finds them.
    let mut file = File::open(&path).expect("opening");
    file.read_exact(&mut buffer).expect("read");
    scene.told();
    file.read_exact(&mut buffer).expect("read");
    let told = scene.told();
    assert_eq!(told.pages(&path, Via::Read), set(32..64), "{:?}", told.events);
    assert_eq!(told.count(&path), 1);
    Verdict::Seen
}

/// Reads of less than a page, one after the other: neighbours share a page, and now and then their end.
pub fn small_reads(scene: &mut Scene) -> Verdict {
    const READS: u64 = 100;
    let path = scene.disk.file("small-reads", 1 << 20);
    let mut buffer = [0; 3000];
    for bytes in [1000, 1500, 2000, 2999, 3000] {
        let mut file = File::open(&path).expect("opening");
        scene.told();
        for _ in 0..READS {
            file.read_exact(&mut buffer[..bytes]).expect("read");
        }
        let told = scene.told();
        if let Some(verdict) = invisible(scene, &told) {
            return verdict;
        }
        assert_eq!(told.pages(&path, Via::Read), set(0..(READS * bytes as u64).div_ceil(4096)));
        assert_eq!(u64::from(told.count(&path)), READS, "of {bytes} bytes each: {:?}", told.events);
    }
    small_reads_uncalled(scene, &path, READS);
    Verdict::Seen
}

/// The same by io_uring, whose reads the kernel counts nowhere: a plan that tells reads in parts takes one that begins
/// on a later page than the one before, and ends on the same, for a part of that.
fn small_reads_uncalled(scene: &mut Scene, path: &Path, reads: u64) {
    let Ok(mut ring) = io_uring::IoUring::new(4) else { return };
    let file = File::open(path).expect("opening");
    let fd = io_uring::types::Fd(file.as_raw_fd());
    let mut buffer = [0_u8; 3000];
    let in_parts = matches!(scene.report.sees(probe::Case::Read), Some(Seen::Partly(_)));
    let (mut expected, mut before) = (0, 0..0);
    // Of the reads before, nothing is to pass for a part of these.
    by_another(|| {
        for read in 0..reads {
            let from = read * 3000;
            let pages = from / 4096..(from + 3000).div_ceil(4096);
            let part = in_parts && pages.end == before.end && pages.start > before.start;
            expected += u32::from(!part);
            before = pages;
            let read = io_uring::opcode::Read::new(fd, buffer.as_mut_ptr(), 3000).offset(from).build();
            // SAFETY: the buffer lives until the completion below has been taken.
            unsafe { ring.submission().push(&read).expect("room") };
            ring.submit_and_wait(1).expect("submitting");
            assert_eq!(ring.completion().next().expect("a completion").result(), 3000);
        }
    });
    let told = scene.told();
    assert_eq!(told.count(path), expected, "by io_uring: {:?}", told.events);
}

pub fn interleaved(scene: &mut Scene) -> Verdict {
    let paths: Vec<_> = (0..4).map(|n| scene.disk.file(format!("turn{n}"), 4 << 20)).collect();
    let mut files: Vec<_> = paths.iter().map(|path| File::open(path).expect("opening")).collect();
    scene.told();
    let mut buffer = vec![0; 64 << 10];
    for _ in 0..64 {
        for file in &mut files {
            file.read_exact(&mut buffer).expect("read");
        }
    }
    let told = scene.told();
    if let Some(verdict) = invisible(scene, &told) {
        return verdict;
    }
    for path in &paths {
        assert_eq!(told.pages(path, Via::Read), set(0..1024));
        assert_eq!(told.count(path), 64);
    }
    assert!(told.events.len() <= 100, "{} records for four runs of 4 MiB", told.events.len());
    Verdict::Seen
}

pub fn flood(scene: &mut Scene) -> Verdict {
    const READS: u32 = 60_000;
    // The allowance grows with time: on a slow machine 60,000 reads make more records than a small ring holds, so it
    // is emptied in between, as the agent does.
    const BETWEEN: u32 = 2_000;
    let path = scene.disk.file("flood", 1 << 20);
    let file = File::open(&path).expect("opening");
    scene.told();
    let mut seed = 88_172_645_463_325_252_u64;
    let mut told = Told::default();
    for read in 0..READS {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        file.read_exact_at(&mut [0; 10], seed % 256 * 4096).expect("pread");
        if (read + 1).is_multiple_of(BETWEEN) {
            told.events.append(&mut scene.told().events);
        }
    }
    if let Some(verdict) = invisible(scene, &told) {
        return verdict;
    }
    assert_eq!(scene.probe.lost(), 0);
    assert_eq!(told.count(&path), READS, "merged accesses must still be counted");
    let sampled = told.events.iter().filter(|event| matches!(event, ReadEvent::Access { sampled: true, .. }));
    // A slow machine may stay within the file's allowance of 4,096 records and 3,815 more a second.
    let records = told.events.len();
    assert!(
        sampled.count() > 0 && records < READS as usize || records == READS as usize,
        "{records} records"
    );
    Verdict::Seen
}

fn accesses(told: &Told) -> usize {
    told.events.iter().filter(|event| matches!(event, ReadEvent::Access { .. })).count()
}

pub fn quiet(scene: &mut Scene) -> Verdict {
    let path = scene.disk.file("quiet", 4 << 20);
    let file = File::open(&path).expect("opening");
    fs::read(&path).expect("reading");
    scene.told();
    let (dev, ino) = key_of(&path);
    scene.probe.detail(FileKey { dev, ino }, false).expect("switching");
    for page in (0..1000).rev() {
        file.read_exact_at(&mut [0; 10], page * 4096).expect("pread");
    }
    let told = scene.told();
    if let Some(verdict) = invisible(scene, &told) {
        return verdict;
    }
    assert_eq!(told.count(&path), 1000, "{:?}", told.events);
    // Timed hits, one read in 64, are told of quiet files too.
    let records = accesses(&told);
    assert!(records <= 8, "{records} records without details");
    // A thread that has not read it yet begins anew, from what is known of the file.
    by_another(|| {
        for page in (0..1000).rev() {
            file.read_exact_at(&mut [0; 10], page * 4096).expect("pread");
        }
    });
    let records = accesses(&scene.told());
    assert!(records <= 8, "{records} records of another thread without details");
    scene.probe.detail(FileKey { dev, ino }, true).expect("switching");
    for page in (0..100).rev() {
        file.read_exact_at(&mut [0; 10], page * 4096).expect("pread");
    }
    let told = scene.told();
    assert_eq!(told.pages(&path, Via::Read), set(0..100));
    assert_eq!(accesses(&told), 100, "details again");
    Verdict::Seen
}

/// A file without details is pushed out of the register, and details are wanted again: its runs from before go on
/// in single accesses, whether or not another thread has named it meanwhile.
pub fn quiet_pushed_out(plan: Plan) -> Verdict {
    let config = ProbeConfig { sets: Some(1), own_tgid: Some(1), ..ProbeConfig::default() };
    let mut scene = Scene::with(plan, config);
    let path = scene.disk.file("lost-wish", 4 << 20);
    let others: Vec<_> = (0..40).map(|n| scene.disk.file(format!("crowd/{n}"), 4096)).collect();
    fs::read(&path).expect("reading");
    let file = File::open(&path).expect("opening");
    let (dev, ino) = key_of(&path);
    let backwards = |pages: std::ops::Range<u64>| {
        for page in pages.rev() {
            file.read_exact_at(&mut [0; 10], page * 4096).expect("pread");
        }
    };
    scene.told();
    for named_by_another in [false, true] {
        backwards(900..910);
        scene.probe.detail(FileKey { dev, ino }, false).expect("switching");
        backwards(500..600);
        let told = scene.told();
        if let Some(verdict) = invisible(&scene, &told) {
            return verdict;
        }
        let records = accesses(&told);
        assert!(records < 20, "{records} records of 10 and 100 reads, of the latter none by itself");
        // Each of these takes the place of one of eight, by chance: of 400 the file survives none.
        by_another(|| {
            for path in (0..10).flat_map(|_| &others) {
                fs::read(path).expect("reading");
            }
            if named_by_another {
                file.read_exact_at(&mut [0; 10], 0).expect("pread");
            }
        });
        scene.told();
        scene.probe.detail(FileKey { dev, ino }, true).expect("switching");
        backwards(100..150);
        let told = scene.told();
        assert_eq!(told.count(&path), 50);
        assert_eq!(accesses(&told), 50, "details again, named by another: {named_by_another}");
    }
    Verdict::Seen
}

pub fn unwatched(scene: &mut Scene) -> Verdict {
    let path = scene.disk.file("unwatched", 1 << 20);
    let dev = scene.disk.dev;
    scene.probe.unwatch(dev).expect("unwatching");
    let told = whole_file(scene, &path, || {
        fs::read(&path).expect("reading");
    });
    assert_eq!(told.events, []);
    scene.probe.watch(dev).expect("watching");
    let told = whole_file(scene, &path, || {
        fs::read(&path).expect("reading");
    });
    assert_eq!(reached(scene, &told, &path), set(0..256));
    verdict(scene)
}

/// What finds no room in the ring is counted, and told as lost.
pub fn full_ring(plan: Plan) -> Verdict {
    let config = ProbeConfig { ring_bytes: Some(4096), own_tgid: Some(1), ..ProbeConfig::default() };
    let mut scene = Scene::with(plan, config);
    let path = scene.disk.file("full", 4 << 20);
    let file = File::open(&path).expect("opening");
    let told = whole_file(&mut scene, &path, || {
        for page in (0..1000).rev() {
            file.read_exact_at(&mut [0; 10], page * 4096).expect("pread");
        }
    });
    let lost = told.events.iter().map(|event| match event {
        ReadEvent::Lost { records } => *records,
        _ => 0,
    });
    let lost: u64 = lost.sum();
    assert!(lost > 0, "1,000 records found room in 4 KiB");
    assert!(lost <= scene.probe.lost(), "{lost} told, {} counted", scene.probe.lost());
    let by_cpu = |scene: &Scene| scene.probe.lost_per_cpu().iter().sum::<u64>();
    assert_eq!(by_cpu(&scene), scene.probe.lost());
    if scene.sees_hits() {
        first_sight_lost(&mut scene, &file, by_cpu);
    }
    verdict(&scene)
}

/// A file is met while the ring is full: neither its name nor its read alone finds room, and that is one loss.
fn first_sight_lost(scene: &mut Scene, full: &File, lost: impl Fn(&Scene) -> u64) {
    let other = scene.disk.file("full-too", 4096);
    let other = File::open(other).expect("opening");
    scene.forget(scene.disk.dev);
    for page in (0..1000).rev() {
        full.read_exact_at(&mut [0; 10], page * 4096).expect("pread");
    }
    let before = lost(scene);
    other.read_exact_at(&mut [0; 10], 0).expect("pread");
    assert_eq!(lost(scene) - before, 1, "losses of one read of a file that was not met before");
}
