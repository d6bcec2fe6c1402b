//! Every way to read, and what each must be told as: pages, cut to the file's size, of that file alone.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};

use agent::probe::{Case, Plan, Probe, ProbeConfig, ReadEvent, Seen};
use agent_core::observation::Via;

use super::identity::forget;
use super::{PAGE, expect, set};
use crate::scene::{Mount, Scene, chill, run};

pub fn every_read(scene: &mut Scene) {
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

pub fn uring(scene: &mut Scene) {
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

pub fn mappings(scene: &mut Scene) {
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

pub fn direct(scene: &mut Scene) {
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

pub fn clamped(scene: &mut Scene) {
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

pub fn overlay(scene: &mut Scene) {
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

pub fn tmpfs(plan: Plan) {
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
