//! Every way to read, and what each must be told as: pages, cut to the file's size, of that file alone.

use std::fs::{File, OpenOptions};
use std::io::{IoSliceMut, Read as _, Seek as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use agent::probe::{Case, ReadEvent};
use agent_core::observation::Via;

use super::{PAGE, Reads, set, verdict, way};
use crate::disk::chill;
use crate::scene::{Scene, Told};
use crate::verdict::Verdict;

/// 1 MiB, made anew for each way.
fn file(scene: &Scene, name: &str) -> PathBuf {
    scene.disk.file(format!("ways/{name}"), 1 << 20)
}

pub fn read(scene: &mut Scene) -> Verdict {
    let path = file(scene, "read");
    way(scene, &path, set(0..8), |mut file| {
        file.rewind().expect("seek");
        for _ in 0..3 {
            file.read_exact(&mut [0; 10_000]).expect("read");
        }
        Reads::exactly(3)
    })
}

pub fn pread(scene: &mut Scene) -> Verdict {
    let path = file(scene, "pread");
    way(scene, &path, set(255..256), |file| {
        file.read_exact_at(&mut [0], (1 << 20) - 1).expect("pread of one byte");
        Reads::exactly(1)
    });
    way(scene, &path, set(24..26), |file| {
        file.read_exact_at(&mut [0; 5000], 100_000).expect("pread");
        Reads::exactly(1)
    })
}

pub fn readv(scene: &mut Scene) -> Verdict {
    let path = file(scene, "readv");
    way(scene, &path, set(0..3), |mut file| {
        file.rewind().expect("seek");
        let (mut first, mut second) = ([0; PAGE], [0; 2 * PAGE]);
        let mut parts = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        assert_eq!(rustix::io::readv(file, &mut parts).expect("readv"), 3 * PAGE);
        Reads::exactly(1)
    })
}

pub fn preadv2(scene: &mut Scene) -> Verdict {
    let path = file(scene, "preadv2");
    way(scene, &path, set(10..12), |file| {
        let mut buffer = [0; 2 * PAGE];
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let read = rustix::io::preadv2(file, &mut parts, 10 * 4096, rustix::io::ReadWriteFlags::empty());
        assert_eq!(read.expect("preadv2"), 2 * PAGE);
        Reads::exactly(1)
    })
}

pub fn sendfile(scene: &mut Scene) -> Verdict {
    let path = file(scene, "sendfile");
    way(scene, &path, set(40..56), |file| {
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        let mut offset = 40 * 4096;
        let sent = rustix::fs::sendfile(&writer, file, Some(&mut offset), 16 * PAGE).expect("sendfile");
        assert_eq!(sent, 16 * PAGE);
        drop(reader);
        // Where one splice ends early, 5.10 makes another within the call.
        Reads { asked: 1, waiting: (1, 16) }
    })
}

pub fn splice(scene: &mut Scene) -> Verdict {
    let path = file(scene, "splice");
    way(scene, &path, set(60..70), |file| {
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        let mut offset = 60 * 4096;
        let (mut left, mut calls) = (10 * PAGE, 0);
        // A page that is still being read ends a splice early on some kernels.
        while left > 0 {
            let flags = rustix::pipe::SpliceFlags::empty();
            let moved = rustix::pipe::splice(file, Some(&mut offset), &writer, None, left, flags);
            let moved = moved.expect("splice");
            assert!(moved > 0, "splice ended early");
            left -= moved;
            calls += 1;
        }
        drop(reader);
        // Tracepoints tell what a call asks for: one that goes on to the same end is the same read to them.
        Reads { asked: calls, waiting: (1, calls) }
    })
}

pub fn uring(scene: &mut Scene) -> Verdict {
    let path = file(scene, "uring");
    if let Err(error) = io_uring::IoUring::new(4) {
        return Verdict::Absent(format!("no io_uring: {error}"));
    }
    way(scene, &path, set(32..48), |file| {
        let mut ring = io_uring::IoUring::new(4).expect("io_uring");
        let mut buffer = vec![0_u8; 16 * PAGE];
        let fd = io_uring::types::Fd(file.as_raw_fd());
        let read = io_uring::opcode::Read::new(fd, buffer.as_mut_ptr(), 16 * 4096).offset(32 * 4096).build();
        // SAFETY: the buffer lives until the completion below has been taken.
        unsafe { ring.submission().push(&read).expect("room") };
        ring.submit_and_wait(1).expect("submitting");
        assert_eq!(ring.completion().next().expect("a completion").result(), 16 * 4096);
        // Tried without waiting first, then for the rest, perhaps by a thread of the kernel's.
        Reads { asked: 1, waiting: (1, 16) }
    })
}

pub fn mmap(scene: &mut Scene) -> Verdict {
    let path = file(scene, "mapped");
    let file = File::open(&path).expect("opening");
    scene.told();
    let told = touched_twice(scene, &path, &file, 20);
    // A page that the kernel cannot map around a fault (locked, or marked for read-ahead) is a fault.
    let mut reached = told.pages(&path, Via::Mapped);
    reached.extend(told.pages(&path, Via::Fault).iter());
    if scene.sees(Case::Mapped) {
        assert!(reached.contains(&20) && reached.len() <= 17, "resident: {:?}", told.events);
        mapped_once(&told, &path);
    } else {
        assert_eq!(told.count(&path), 0, "{:?}", told.events);
    }
    assert_eq!(told.pages(&path, Via::Read), set(0..0), "mapped counted as read");

    chill(&file);
    scene.told();
    let told = touched_twice(scene, &path, &file, 100);
    let faults = if scene.sees_hits() { set(100..101) } else { set(0..0) };
    assert_eq!(told.pages(&path, Via::Fault), faults, "from disk: {:?}", told.events);
    assert_eq!(told.pages(&path, Via::Read), set(0..0));
    assert!(told.resident(&path).contains(&100), "{:?}", told.events);
    if scene.sees_hits() {
        faulted_once(&told, &path);
    } else {
        assert_eq!(told.count(&path), 0, "{:?}", told.events);
    }
    verdict(scene)
}

/// Touches a page of a new mapping, and returns what was told of that; touched again it is mapped already, which is
/// invisible to everybody.
fn touched_twice(scene: &mut Scene, path: &Path, file: &File, page: usize) -> Told {
    // SAFETY: nobody truncates the file meanwhile.
    let map = unsafe { memmap2::Mmap::map(file) }.expect("mmap");
    assert_eq!(map[page * PAGE], 7);
    let first = scene.told();
    assert_eq!(map[page * PAGE + 1], 7);
    let again = scene.told();
    assert!(again.is_silent(path), "mapped already, told again: {:?}", again.events);
    first
}

/// A resident page was reached by a mapping: once around the fault, or, where it was passed over there, once by the
/// fault itself, and then tracepoints tell of both.
pub fn mapped_once(told: &Told, path: &Path) {
    let (mapped, faults) = (told.times(path, Via::Mapped), told.times(path, Via::Fault));
    assert!(mapped <= 1 && faults <= 1 && mapped + faults > 0, "{mapped} + {faults}: {:?}", told.events);
}

/// A page that had to be fetched was reached by a mapping. The fault lets go of the address space while it waits and
/// is tried again: that is no second fault, but the second try may find the page and map it with those around it.
pub fn faulted_once(told: &Told, path: &Path) {
    let (mapped, faults) = (told.times(path, Via::Mapped), told.times(path, Via::Fault));
    assert!(faults == 1 && mapped <= 1, "{faults} faults, {mapped} times mapped: {:?}", told.events);
}

pub fn direct(scene: &mut Scene) -> Verdict {
    let path = file(scene, "direct");
    let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path).expect("O_DIRECT");
    scene.told();
    let mut buffer = vec![0_u8; 3 * PAGE];
    let aligned = buffer.as_ptr().align_offset(PAGE);
    let read = file.read_at(&mut buffer[aligned..aligned + 2 * PAGE], 8 * 4096).expect("a direct read");
    assert_eq!(read, 2 * PAGE);
    let told = scene.told();
    assert_eq!(told.pages(&path, Via::Read), set(0..0));
    if scene.sees(Case::Direct) {
        assert_eq!(told.pages(&path, Via::Direct), set(8..10), "{:?}", told.events);
        assert_eq!(told.count(&path), 1, "{:?}", told.events);
        return Verdict::Seen;
    }
    assert_eq!(told.pages(&path, Via::Direct), set(0..0), "{:?}", told.events);
    Verdict::Unseen
}

pub fn clamped(scene: &mut Scene) -> Verdict {
    let path = scene.disk.file("ways/clamped", 40_000);
    way(scene, &path, set(0..10), |file| {
        assert_eq!(file.read_at(&mut vec![0; 128 << 10], 0).expect("pread"), 40_000);
        Reads::exactly(1)
    });
    let file = File::open(&path).expect("opening");
    scene.told();
    assert_eq!(file.read_at(&mut [0; 100], 50_000).expect("pread"), 0);
    let told = scene.told();
    assert_eq!(told.pages(&path, Via::Read), set(0..0), "behind the end: {:?}", told.events);
    file.read_exact_at(&mut [0; 10], 0).expect("pread");
    let told = scene.told();
    let sizes = told.events.iter().filter_map(|event| match event {
        ReadEvent::Access { size, .. } => Some(*size),
        _ => None,
    });
    let sizes: Vec<u64> = sizes.collect();
    assert_eq!(sizes, if scene.sees_hits() { vec![40_000] } else { vec![] });
    assert_eq!(told.count(&path), u32::from(scene.sees_hits()), "{:?}", told.events);
    verdict(scene)
}
