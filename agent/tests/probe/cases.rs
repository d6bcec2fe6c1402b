//! The accesses that are made, and what must be told of each.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

use agent::probe::{Case, Plan, Probe, ProbeConfig, ReadEvent, Seen};
use agent_core::observation::{Actor, Via};
use agent_core::units::FileKey;

use crate::scene::{Mount, Scene, Told, below, chill, key, key_of, run};

const PAGE: usize = 4096;

pub fn all(plan: Plan) {
    let mut scene = Scene::open(plan);
    let cases: [(&str, fn(&mut Scene)); 16] = [
        ("every read", every_read),
        ("mappings", mappings),
        ("io_uring", uring),
        ("direct", direct),
        ("clamped to the size", clamped),
        ("miss and residency", miss),
        ("large folios", large_folios),
        ("two processes", two_processes),
        ("names", names),
        ("overlay", overlay),
        ("lives of an inode", lives),
        ("sequential", sequential),
        ("interleaved files", interleaved),
        ("flood", flood),
        ("without details", quiet),
        ("unwatched", unwatched),
    ];
    for (name, case) in cases {
        println!("-- {name}");
        scene.told();
        case(&mut scene);
    }
    drop(scene);
    println!("-- agent's own reads");
    own_reads(plan);
    println!("-- tmpfs");
    tmpfs(plan);
}

fn set(pages: std::ops::Range<u64>) -> BTreeSet<u64> {
    pages.collect()
}

/// Does `read`, and expects exactly these pages of exactly this file.
fn expect(scene: &mut Scene, what: &str, path: &Path, pages: BTreeSet<u64>, read: impl FnOnce(&File)) {
    let file = File::open(path).expect("opening");
    scene.told();
    read(&file);
    let told = scene.told();
    assert_eq!(told.pages(path, Via::Read), pages, "{what}: {:?}", told.events);
    assert!(told.accessed().iter().all(|file| *file == key_of(path)), "{what} touched other files");
}

fn every_read(scene: &mut Scene) {
    let path = scene.disk.file("every/read", 1 << 20);
    expect(scene, "read", &path, set(0..8), |mut file| {
        for _ in 0..3 {
            file.read_exact(&mut [0; 10_000]).expect("read");
        }
    });
    expect(scene, "pread", &path, set(24..26), |file| {
        file.read_exact_at(&mut [0; 5000], 100_000).expect("pread");
    });
    expect(scene, "one byte", &path, set(255..256), |file| {
        file.read_exact_at(&mut [0], (1 << 20) - 1).expect("pread");
    });
    expect(scene, "readv", &path, set(0..3), |file| {
        let (mut first, mut second) = ([0; PAGE], [0; 2 * PAGE]);
        let mut parts = [std::io::IoSliceMut::new(&mut first), std::io::IoSliceMut::new(&mut second)];
        assert_eq!(rustix::io::readv(file, &mut parts).expect("readv"), 3 * PAGE);
    });
    expect(scene, "preadv2", &path, set(10..12), |file| {
        let mut buffer = [0; 2 * PAGE];
        let mut parts = [std::io::IoSliceMut::new(&mut buffer)];
        let read = rustix::io::preadv2(file, &mut parts, 10 * 4096, rustix::io::ReadWriteFlags::empty());
        assert_eq!(read.expect("preadv2"), 2 * PAGE);
    });
    expect(scene, "sendfile", &path, set(40..56), |file| {
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        let mut offset = 40 * 4096;
        let sent = rustix::fs::sendfile(&writer, file, Some(&mut offset), 16 * PAGE).expect("sendfile");
        assert_eq!(sent, 16 * PAGE);
        drop(reader);
    });
    expect(scene, "splice", &path, set(60..70), |file| {
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        let mut offset = 60 * 4096;
        let flags = rustix::pipe::SpliceFlags::empty();
        let moved = rustix::pipe::splice(file, Some(&mut offset), &writer, None, 10 * PAGE, flags);
        assert_eq!(moved.expect("splice"), 10 * PAGE);
        drop(reader);
    });
    expect(scene, "a long read", &path, set(0..256), |file| {
        file.read_exact_at(&mut vec![0; 1 << 20], 0).expect("pread");
    });
}

fn uring(scene: &mut Scene) {
    let path = scene.disk.file("uring", 1 << 20);
    for (what, cold) in [("io_uring, resident", false), ("io_uring, from disk", true)] {
        if cold {
            chill(&File::open(&path).expect("opening"));
        }
        expect(scene, what, &path, set(32..48), |file| {
            let mut ring = io_uring::IoUring::new(4).expect("io_uring");
            let mut buffer = vec![0_u8; 16 * PAGE];
            let fd = io_uring::types::Fd(file.as_raw_fd());
            let read =
                io_uring::opcode::Read::new(fd, buffer.as_mut_ptr(), 16 * 4096).offset(32 * 4096).build();
            // SAFETY: the buffer lives until the completion below has been taken.
            unsafe { ring.submission().push(&read).expect("room") };
            ring.submit_and_wait(1).expect("submitting");
            assert_eq!(ring.completion().next().expect("a completion").result(), 16 * 4096);
        });
    }
}

fn mappings(scene: &mut Scene) {
    let path = scene.disk.file("mapped", 1 << 20);
    let file = File::open(&path).expect("opening");
    scene.told();
    let touch = |page: usize| {
        // SAFETY: nobody truncates the file meanwhile.
        let map = unsafe { memmap2::Mmap::map(&file) }.expect("mmap");
        assert_eq!(map[page * PAGE], 7);
    };
    touch(20);
    let told = scene.told();
    // A page that the kernel cannot map around a fault (locked, or marked for read-ahead) is a fault.
    let mut reached = told.pages(&path, Via::Mapped);
    reached.extend(told.pages(&path, Via::Fault));
    assert!(reached.contains(&20) && reached.len() <= 17, "resident: {:?}", told.events);
    assert_eq!(told.pages(&path, Via::Read), set(0..0));

    chill(&file);
    scene.told();
    touch(100);
    let told = scene.told();
    assert!(told.pages(&path, Via::Fault).contains(&100), "from disk: {:?}", told.events);
    assert!(told.pages(&path, Via::Fault).len() == 1, "from disk: {:?}", told.events);
    assert_eq!(told.pages(&path, Via::Read), set(0..0));
    let added = |page| {
        told.events
            .iter()
            .any(|event| matches!(event, ReadEvent::Added { pages, .. } if pages.contains(&page)))
    };
    assert!(added(100), "{:?}", told.events);
}

fn direct(scene: &mut Scene) {
    let path = scene.disk.file("direct", 1 << 20);
    let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path).expect("O_DIRECT");
    scene.told();
    let mut buffer = vec![0_u8; 3 * PAGE];
    let aligned = buffer.as_ptr().align_offset(PAGE);
    let read = file.read_at(&mut buffer[aligned..aligned + 2 * PAGE], 8 * 4096).expect("a direct read");
    assert_eq!(read, 2 * PAGE);
    let told = scene.told();
    let seen = told.pages(&path, Via::Direct);
    let report = Probe::start(ProbeConfig { plan: Some(scene.plan()), ..ProbeConfig::default() });
    match report.expect("the same plan again").1.sees(Case::Direct) {
        Some(Seen::No(_)) => assert_eq!(seen, set(0..0), "{:?}", told.events),
        _ => assert_eq!(seen, set(8..10), "{:?}", told.events),
    }
    assert_eq!(told.pages(&path, Via::Read), set(0..0));
}

fn clamped(scene: &mut Scene) {
    let path = scene.disk.file("clamped", 40_000);
    expect(scene, "128 KiB of 40 kB", &path, set(0..10), |file| {
        assert_eq!(file.read_at(&mut vec![0; 128 << 10], 0).expect("pread"), 40_000);
    });
    expect(scene, "behind the end", &path, set(0..0), |file| {
        assert_eq!(file.read_at(&mut [0; 100], 50_000).expect("pread"), 0);
    });
    let told = {
        let file = File::open(&path).expect("opening");
        file.read_exact_at(&mut [0; 10], 0).expect("pread");
        scene.told()
    };
    let sizes: Vec<_> = told
        .events
        .iter()
        .filter_map(|event| match event {
            ReadEvent::Access { size, .. } => Some(*size),
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [40_000]);
}

fn miss(scene: &mut Scene) {
    let path = scene.disk.file("miss", 1 << 20);
    let file = File::open(&path).expect("opening");
    chill(&file);
    let removed = scene.told();
    let gone: BTreeSet<u64> = removed
        .events
        .iter()
        .filter_map(|event| match event {
            ReadEvent::Removed { file, pages, by: Actor::Thread(_), .. } if key(*file) == key_of(&path) => {
                Some(pages.clone())
            }
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(gone, set(0..256), "{:?}", removed.events);

    file.read_exact_at(&mut [0; PAGE], 100 * 4096).expect("pread");
    let told = scene.told();
    let position = |wanted: &dyn Fn(&ReadEvent) -> bool| told.events.iter().position(wanted);
    let added = position(
        &|event| matches!(event, ReadEvent::Added { pages, by: Actor::Thread(_), .. } if pages.contains(&100)),
    );
    let access = position(&|event| matches!(event, ReadEvent::Access { .. }));
    let missed =
        position(&|event| matches!(event, ReadEvent::Miss { bytes: 4096, latency, .. } if latency.0 > 0));
    assert!(added.is_some() && access.is_some() && missed.is_some(), "{:?}", told.events);
    assert!(added < access, "pages must come before their read: {:?}", told.events);

    let by_events = resident_by(&told, &path);
    assert_eq!(by_events, filled(&file, &by_events, 256), "{:?}", told.events);

    // A hit is no miss.
    file.read_exact_at(&mut [0; PAGE], 100 * 4096).expect("pread");
    let told = scene.told();
    assert!(!told.events.iter().any(|event| matches!(event, ReadEvent::Miss { .. })), "{:?}", told.events);
}

/// Pages of a file that are in the page cache by what was told.
fn resident_by(told: &Told, path: &Path) -> BTreeSet<u64> {
    let mut resident = BTreeSet::new();
    for event in &told.events {
        match event {
            ReadEvent::Added { file, pages, .. } if key(*file) == key_of(path) => {
                resident.extend(pages.clone());
            }
            ReadEvent::Removed { file, pages, .. } if key(*file) == key_of(path) => {
                resident.retain(|page| !pages.contains(page));
            }
            _ => {}
        }
    }
    resident
}

/// The same by what the kernel says.
fn resident(file: &File, pages: u64) -> BTreeSet<u64> {
    // SAFETY: nobody truncates the file meanwhile.
    let map = unsafe { memmap2::Mmap::map(file) }.expect("mmap");
    let mut core = vec![0_u8; pages as usize];
    // SAFETY: `pages` pages are mapped, and `core` has a byte for each.
    let result = unsafe { libc::mincore(map.as_ptr().cast_mut().cast(), map.len(), core.as_mut_ptr()) };
    assert_eq!(result, 0);
    (0..pages).filter(|page| core[*page as usize] & 1 == 1).collect()
}

/// The same, once what was read ahead has come: pages are told when they are added, mincore tells of
/// those that are filled.
fn filled(file: &File, expected: &BTreeSet<u64>, pages: u64) -> BTreeSet<u64> {
    for _ in 0..200 {
        let found = resident(file, pages);
        if found.is_superset(expected) {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    resident(file, pages)
}

fn large_folios(scene: &mut Scene) {
    let path = scene.disk.file("large", 16 << 20);
    let mut file = File::open(&path).expect("opening");
    chill(&file);
    let mut told = scene.told();
    let mut buffer = vec![0; 128 << 10];
    for _ in 0..64 {
        file.read_exact(&mut buffer).expect("read");
    }
    // Page tables of the mapping that asks must not fault anything in: told first.
    told.events.extend(scene.told().events);
    let by_events = resident_by(&told, &path);
    let by_kernel = filled(&file, &by_events, 4096);
    let differ: Vec<_> = by_events.symmetric_difference(&by_kernel).collect();
    assert!(differ.is_empty(), "{differ:?} differ: {:#?}", told.events);
    assert_eq!(told.pages(&path, Via::Read), set(0..2048));
    // Most of it was read ahead and waited for by nobody: a miss for each part that was not.
    let misses = told.events.iter().filter(|event| matches!(event, ReadEvent::Miss { .. }));
    assert!((1..64).contains(&misses.count()));
    chill(&file);
    let told = scene.told();
    assert_eq!(resident(&file, 4096), set(0..0));
    let mut gone = BTreeSet::new();
    for event in &told.events {
        if let ReadEvent::Removed { pages, .. } = event {
            gone.extend(pages.clone());
        }
    }
    assert!(gone.is_superset(&set(0..2048)));
}

fn two_processes(scene: &mut Scene) {
    let paths = [scene.disk.file("one", 3 << 20), scene.disk.file("two", 2 << 20)];
    scene.told();
    let children: Vec<_> = paths
        .iter()
        .map(|path| Command::new("cat").arg(path).stdout(Stdio::null()).spawn().expect("cat"))
        .collect();
    let ids: Vec<u32> = children.iter().map(std::process::Child::id).collect();
    for mut child in children {
        assert!(child.wait().expect("waiting").success());
    }
    let told = scene.told();
    for (path, id) in paths.iter().zip(&ids) {
        let pages = fs::metadata(path).expect("metadata").len() / 4096;
        assert_eq!(told.pages(path, Via::Read), set(0..pages));
        for event in &told.events {
            if let ReadEvent::Access { file, reader, .. } = event
                && key(*file) == key_of(path)
            {
                assert_eq!(reader.tgid, *id);
            }
        }
        let ends =
            told.events.iter().filter(|event| matches!(event, ReadEvent::Exit { tgid, .. } if tgid == id));
        assert_eq!(ends.count(), 1, "{:?}", told.events);
    }
}

fn names(scene: &mut Scene) {
    let long = "n".repeat(255);
    let paths: Vec<&OsStr> = vec![
        OsStr::new("breath"),
        OsStr::new("a/b/c/d/e/f/g/h/deep"),
        OsStr::from_bytes(b"new\nline"),
        OsStr::from_bytes(b"not \xff\xfe UTF-8"),
        OsStr::new(&long),
    ];
    for name in paths {
        let path = scene.disk.file(name, 100);
        scene.told();
        // Opened, read and closed in one breath, by a process that is gone at once.
        assert!(Command::new("cat").arg(&path).stdout(Stdio::null()).status().expect("cat").success());
        let told = scene.told();
        assert_eq!(told.pages(&path, Via::Read), set(0..1));
        let first =
            told.events.iter().position(|event| event.file().is_some_and(|f| key(f) == key_of(&path)));
        // It was named when it was written, unless the name is news.
        if let Some(seen) = told.path(&path) {
            assert_eq!(seen, below(&path, &scene.disk.root));
            assert!(matches!(first.map(|at| &told.events[at]), Some(ReadEvent::Sight { .. })));
        }
        forget(scene);
        let mut text = Vec::new();
        File::open(&path).and_then(|mut file| file.read_to_end(&mut text)).expect("reading");
        let told = scene.told();
        assert_eq!(told.path(&path).expect("a name"), below(&path, &scene.disk.root));
        assert!(matches!(told.events.first(), Some(ReadEvent::Sight { truncated: false, size: 100, .. })));
    }
    let path = scene.disk.file("link/first", 100);
    let other = scene.disk.root.join("link/second");
    fs::hard_link(&path, &other).expect("a link");
    forget(scene);
    fs::read(&other).expect("reading");
    let told = scene.told();
    let seen = told.path(&path).expect("a name");
    assert!(seen == b"link/first" || seen == b"link/second", "{}", String::from_utf8_lossy(seen));

    let deep = scene.disk.file((0..40).map(|n| n.to_string()).collect::<Vec<_>>().join("/"), 100);
    forget(scene);
    fs::read(&deep).expect("reading");
    let told = scene.told();
    let truncated = told.events.iter().find_map(|event| match event {
        ReadEvent::Sight { truncated, path, .. } => Some((*truncated, path.clone())),
        _ => None,
    });
    let (truncated, path) = truncated.expect("a sight");
    assert!(truncated && path.ends_with(b"/38/39"), "{}", String::from_utf8_lossy(&path));

    // An unlinked file has no name, and is read all the same.
    let path = scene.disk.file("unlinked", 100);
    let file = File::open(&path).expect("opening");
    fs::remove_file(&path).expect("unlinking");
    forget(scene);
    file.read_exact_at(&mut [0; 10], 0).expect("pread");
    let told = scene.told();
    assert_eq!(told.events.iter().filter(|event| matches!(event, ReadEvent::Access { .. })).count(), 1);
}

/// Makes the probe forget all names.
fn forget(scene: &mut Scene) {
    let dev = scene.disk.dev;
    scene.probe.forget(dev).expect("forgetting");
    scene.probe.watch(dev).expect("watching");
    scene.told();
}

fn overlay(scene: &mut Scene) {
    let path = scene.disk.file("lower/folder/file", 20_000);
    for folder in ["upper", "work", "merged"] {
        fs::create_dir(scene.disk.root.join(folder)).expect("a folder");
    }
    let root = scene.disk.root.to_str().expect("UTF-8").to_owned();
    let options = format!("lowerdir={root}/lower,upperdir={root}/upper,workdir={root}/work");
    run("mount", &["-t", "overlay", "overlay", "-o", &options, &format!("{root}/merged")]);
    let _mount = Mount(scene.disk.root.join("merged"));
    forget(scene);
    assert_eq!(fs::read(scene.disk.root.join("merged/folder/file")).expect("reading").len(), 20_000);
    let told = scene.told();
    assert_eq!(told.pages(&path, Via::Read), set(0..5), "{:?}", told.events);
    assert_eq!(told.path(&path).expect("a name"), b"lower/folder/file");
}

fn lives(scene: &mut Scene) {
    let path = scene.disk.file("life", 100);
    fs::read(&path).expect("reading");
    let first = key_of(&path);
    scene.told();
    fs::rename(&path, scene.disk.root.join("renamed")).expect("renaming");
    let path = scene.disk.root.join("renamed");
    fs::read(&path).expect("reading");
    let told = scene.told();
    assert_eq!(told.path(&path).expect("named anew"), b"renamed", "{:?}", told.events);
    // The number is given to the next file: ext4 takes the lowest that is free.
    fs::remove_file(&path).expect("removing");
    let path = scene.disk.file("next life", 200);
    fs::read(&path).expect("reading");
    let told = scene.told();
    assert!(
        key_of(&path) == first || std::env::var_os("PROBE_TEST_FS").is_some(),
        "ext4 was expected to give the number again"
    );
    assert_eq!(told.path(&path).expect("named anew"), b"next life", "{:?}", told.events);
}

fn sequential(scene: &mut Scene) {
    let path = scene.disk.file("sequential", 16 << 20);
    let mut file = File::open(&path).expect("opening");
    scene.told();
    let mut buffer = vec![0; 128 << 10];
    for _ in 0..128 {
        file.read_exact(&mut buffer).expect("read");
    }
    let told = scene.told();
    assert_eq!(told.pages(&path, Via::Read), set(0..4096));
    assert_eq!(told.count(&path), 128);
    let records = told.events.len();
    assert!(records <= 70, "one every 256 KiB were expected, {records} came");
    // A few more pages make no record: only the flush finds them.
    let mut file = File::open(&path).expect("opening");
    file.read_exact(&mut buffer).expect("read");
    scene.told();
    file.read_exact(&mut buffer).expect("read");
    let told = scene.told();
    assert_eq!(told.pages(&path, Via::Read), set(32..64), "{:?}", told.events);
    assert_eq!(told.count(&path), 1);
}

fn interleaved(scene: &mut Scene) {
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
    for path in &paths {
        assert_eq!(told.pages(path, Via::Read), set(0..1024));
        assert_eq!(told.count(path), 64);
    }
    assert!(told.events.len() <= 100, "{} records for four runs of 4 MiB", told.events.len());
}

fn flood(scene: &mut Scene) {
    const READS: u32 = 60_000;
    let path = scene.disk.file("flood", 1 << 20);
    let file = File::open(&path).expect("opening");
    scene.told();
    let mut seed = 88_172_645_463_325_252_u64;
    for _ in 0..READS {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        file.read_exact_at(&mut [0; 10], seed % 256 * 4096).expect("pread");
    }
    let told = scene.told();
    assert_eq!(told.count(&path), READS, "merged accesses must still be counted");
    assert_eq!(scene.probe.lost(), 0);
    let sampled = told.events.iter().filter(|event| matches!(event, ReadEvent::Access { sampled: true, .. }));
    assert!(sampled.count() > 0);
    assert!(told.events.len() < READS as usize / 4, "{} records", told.events.len());
}

fn quiet(scene: &mut Scene) {
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
    assert_eq!(told.count(&path), 1000, "{:?}", told.events);
    assert!(told.events.len() <= 8, "{} records without details", told.events.len());
    scene.probe.detail(FileKey { dev, ino }, true).expect("switching");
    for page in (0..100).rev() {
        file.read_exact_at(&mut [0; 10], page * 4096).expect("pread");
    }
    let told = scene.told();
    assert_eq!(told.pages(&path, Via::Read), set(0..100));
    assert_eq!(told.events.len(), 100, "details again");
}

fn unwatched(scene: &mut Scene) {
    let path = scene.disk.file("unwatched", 1 << 20);
    scene.told();
    scene.probe.unwatch(scene.disk.dev).expect("unwatching");
    fs::read(&path).expect("reading");
    let told = scene.told();
    assert_eq!(told.events, []);
    scene.probe.watch(scene.disk.dev).expect("watching");
    fs::read(&path).expect("reading");
    let told = scene.told();
    assert_eq!(told.pages(&path, Via::Read), set(0..256));
}

fn own_reads(plan: Plan) {
    let mut scene = Scene::with(plan, ProbeConfig::default());
    let path = scene.disk.file("own", 1 << 20);
    let file = File::open(&path).expect("opening");
    chill(&file);
    scene.told();
    file.read_exact_at(&mut vec![0; 256 << 10], 0).expect("pread");
    let told = scene.told();
    assert_eq!(told.accessed().len(), 0, "{:?}", told.events);
    let mut added = BTreeSet::new();
    for event in &told.events {
        if let ReadEvent::Added { pages, by, .. } = event {
            assert_eq!(*by, Actor::Agent);
            added.extend(pages.clone());
        }
    }
    assert!(added.is_superset(&set(0..64)), "{:?}", told.events);
}

fn tmpfs(plan: Plan) {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    run("mount", &["-t", "tmpfs", "tmpfs", folder.path().to_str().expect("UTF-8")]);
    let _mount = Mount(folder.path().to_owned());
    let config = ProbeConfig { plan: Some(plan), own_tgid: Some(1), ..ProbeConfig::default() };
    let (mut probe, report) = Probe::start(config).unwrap_or_else(|error| panic!("{error}"));
    probe.watch(crate::scene::dev_of(folder.path())).expect("watching");
    let path = folder.path().join("file");
    fs::write(&path, vec![1; 20_000]).expect("writing");
    fs::read(&path).expect("reading");
    let mut seen = BTreeSet::new();
    probe.drain(agent_core::units::Nanos(0), 4096, |event| {
        if let ReadEvent::Access { pages, .. } = event {
            seen.extend(pages);
        }
    });
    match report.sees(Case::Tmpfs) {
        Some(Seen::No(_)) => assert_eq!(seen, set(0..0)),
        _ => assert_eq!(seen, set(0..5)),
    }
}

pub fn full_ring() {
    let config = ProbeConfig { ring_bytes: Some(4096), own_tgid: Some(1), ..ProbeConfig::default() };
    let mut scene = Scene::with(Plan::BtfTracepoint, config);
    let path = scene.disk.file("full", 4 << 20);
    scene.told();
    let file = File::open(&path).expect("opening");
    for page in (0..1000).rev() {
        file.read_exact_at(&mut [0; 10], page * 4096).expect("pread");
    }
    let told = scene.told();
    let lost: u64 = told
        .events
        .iter()
        .map(|event| match event {
            ReadEvent::Lost { records } => *records,
            _ => 0,
        })
        .sum();
    assert!(lost > 0 && lost == scene.probe.lost(), "{lost} told, {} counted", scene.probe.lost());
}
