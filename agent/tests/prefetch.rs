//! The prefetch edge on real file systems: an ext4 on a loop device, and a FUSE store with latency.
//!
//! Needs root, /dev/fuse, loop devices, mkfs.ext4. Only files of the tests' own are evicted.

#![expect(clippy::single_range_in_vec_init, reason = "lists of one page range are tested")]
#![expect(clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

#[path = "prefetch/fixture.rs"]
mod fixture;

#[path = "prefetch/mounts.rs"]
mod mounts;

#[path = "prefetch/store.rs"]
mod store;

#[path = "prefetch/pace.rs"]
mod pace;

use std::ffi::OsStr;
use std::fs::File;
use std::io::Seek;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use std::time::Duration;

use agent::prefetch::MountPoint;
use agent_core::{Anchored, Door, EntryKind, Extent, FileKey, MountId, Nanos, Observation, Order, Outcome};
use fixture::{
    Disk, MOUNT, Shell, ask, evict, fetch, key, list, mount_point, quietly, resident, run, start, told, whole,
};
use store::{Mounted, Store};

/// The body of the FUSE store's process; does nothing when run as a test.
#[test]
fn store_process() {
    store::serve_if_asked();
}

struct Remote {
    mounted: Mounted,
    _directory: tempfile::TempDir,
}

impl Remote {
    fn new(store: Store) -> Self {
        let directory =
            tempfile::Builder::new().prefix("headrace-store").tempdir().expect("temporary directory");
        let mounted = Mounted::start(directory.path(), store, "store_process");
        Self { mounted, _directory: directory }
    }

    fn path(&self) -> &Path {
        &self.mounted.path
    }

    fn point(&self) -> MountPoint {
        mount_point("self", self.path())
    }
}

fn with_door(order: Order, through: Door, is: Option<FileKey>) -> Order {
    match order {
        Order::Fetch { id, mount, path, via, extent, deadline, .. } => {
            Order::Fetch { id, mount, path, file: is, door: through, via, extent, deadline }
        }
        other => other,
    }
}

#[test]
fn exactly_the_pages_asked_for_come_in() {
    let disk = Disk::new();
    let prefetch = disk.prefetch();
    let odd = disk.file(b"odd", (1 << 20) + 100);
    let small = disk.file(b"small", 40_000);
    let mut id = 0;
    let mut check = |path: &Path, extent: Extent, pages: Vec<std::ops::Range<u64>>, bytes: u64| {
        let name = path.file_name().expect("name").as_bytes();
        let found = std::fs::metadata(path).expect("stat");
        // Other tests and the machine itself may drop a page at any time: a loss is tried again, a page too
        // many is not.
        for attempt in 0..5 {
            evict(path);
            id += 1;
            let answer = ask(&prefetch, fetch(id, name, extent.clone()));
            assert_eq!(told(&answer), (id, Outcome::Done, bytes), "{extent:?}");
            let Observation::Fetched { file, size, took, .. } = answer else { panic!("not a fetch") };
            assert_eq!((file.expect("file").ino, size), (found.ino(), found.len()));
            assert_ne!(took, Nanos(0));
            // Again: all of it is there, and nothing is asked.
            let (_, outcome, more) = told(&ask(&prefetch, fetch(id, name, extent.clone())));
            let there = resident(quietly(path));
            let count = |ranges: &[std::ops::Range<u64>]| {
                ranges.iter().map(|range| range.end - range.start).sum::<u64>()
            };
            if attempt == 4 || (more == 0 && there == pages) || count(&there) > count(&pages) {
                assert_eq!((outcome, more), (Outcome::Done, 0), "{extent:?}");
                assert_eq!(there, pages, "{extent:?}");
                break;
            }
        }
    };
    check(&small, whole(), vec![0..10], 40_000);
    check(&odd, whole(), vec![0..257], (1 << 20) + 100);
    check(&odd, Extent::Whole { limit: 300_000 }, vec![0..74], 74 * 4096);
    check(
        &odd,
        Extent::Ranges(vec![200..201, 5..9, 100..133, 256..300]),
        vec![5..9, 100..133, 200..201, 256..257],
        38 * 4096 + 100,
    );
    let shape =
        vec![Anchored::End { before_end: 0, len: 8 }, Anchored::Fraction { start: 500_000, end: 501_000 }];
    check(&odd, Extent::Shape(shape), vec![128..129, 256..257], 4096 + 100);
    let name = disk.file(b"empty", 0);
    check(&name, whole(), vec![], 0);
    // What is there already is not counted: pages 0..10 of 257.
    evict(&odd);
    ask(&prefetch, fetch(50, "odd", Extent::Ranges(vec![0..10])));
    assert_eq!(told(&ask(&prefetch, fetch(51, "odd", whole()))), (51, Outcome::Done, 246 * 4096 + 100));
}

#[test]
fn reading_ahead_leaves_the_atime_alone() {
    let disk = Disk::new();
    let prefetch = disk.prefetch();
    let path = disk.file(b"file", 1 << 20);
    std::fs::create_dir(disk.path.join("dir")).expect("mkdir");
    let dir = disk.path.join("dir");
    let atime = |path: &Path| {
        let found = std::fs::metadata(path).expect("stat");
        (found.atime(), found.atime_nsec())
    };
    let before = (atime(&path), atime(&dir));
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(told(&ask(&prefetch, fetch(1, "file", whole()))).1, Outcome::Done);
    assert_eq!(told(&ask(&prefetch, list(2, "dir", 9))).1, Outcome::Done);
    assert_eq!((atime(&path), atime(&dir)), before);
    // The file system does keep them: a plain read changes it.
    std::fs::read(&path).expect("read");
    assert_ne!(atime(&path), before.0);
}

#[test]
fn what_cannot_be_prefetched_is_told_and_never_hangs() {
    let disk = Disk::new();
    let prefetch = disk.prefetch();
    disk.file(b"file", 4096);
    let secret = disk.path.parent().expect("parent").join("image");
    std::fs::create_dir(disk.path.join("dir")).expect("mkdir");
    run("mkfifo", &[disk.path.join("fifo").as_ref()]);
    run("mknod", &[disk.path.join("tty").as_ref(), "c".as_ref(), "5".as_ref(), "0".as_ref()]);
    std::os::unix::fs::symlink(&secret, disk.path.join("escape")).expect("symlink");
    std::os::unix::fs::symlink("/", disk.path.join("out")).expect("symlink");
    std::os::unix::fs::symlink("file", disk.path.join("inside")).expect("symlink");
    let out = format!("out{}", secret.display());
    let long = vec![b'n'; 300];
    let deep = b"x/".repeat(4000);
    let paths: [&[u8]; 16] = [
        b"gone",
        b"gone/file",
        b"file/below",
        b"dir",
        b"",
        b"fifo",
        b"tty",
        b"escape",
        out.as_bytes(),
        b"inside",
        b"../image",
        b"/etc/passwd",
        b"dir/../../image",
        b"nul\0name",
        &long,
        &deep,
    ];
    for (id, path) in paths.iter().enumerate() {
        let answer = ask(&prefetch, fetch(id as u64, path, whole()));
        assert_eq!(told(&answer), (id as u64, Outcome::Absent, 0), "{:?}", OsStr::from_bytes(path));
    }
    for (id, dir) in [&b"file"[..], b"gone", b"out", b"..", b"fifo"].iter().enumerate() {
        assert_eq!(
            told(&ask(&prefetch, list(id as u64, dir, 9))).1,
            Outcome::Absent,
            "{:?}",
            OsStr::from_bytes(dir)
        );
    }
    // Another file under the same name.
    let point = mount_point("self", &disk.path);
    let is = key(&disk.path.join("file"), &point);
    let other = FileKey { ino: is.ino + 1, ..is };
    let answer = ask(&prefetch, with_door(fetch(40, "file", whole()), Door::Open, Some(other)));
    assert_eq!(told(&answer).1, Outcome::Absent);
    let answer = ask(&prefetch, with_door(fetch(41, "file", whole()), Door::Open, Some(is)));
    assert_eq!(told(&answer).1, Outcome::Done);
    // A mount nobody knows, a process that is gone.
    let mut order = fetch(42, "file", whole());
    if let Order::Fetch { mount, .. } = &mut order {
        *mount = MountId(99);
    }
    assert_eq!(told(&ask(&prefetch, order)).1, Outcome::Absent);
    for tgid in [0, u32::MAX, 4_194_303] {
        let answer =
            ask(&prefetch, with_door(fetch(43, "file", whole()), Door::Descriptor { tgid }, Some(is)));
        assert_eq!(told(&answer).1, Outcome::Absent);
    }
    let nobody = Door::Descriptor { tgid: std::process::id() };
    assert_eq!(
        told(&ask(&prefetch, with_door(fetch(44, "file", whole()), nobody, Some(is)))).1,
        Outcome::Absent
    );
    assert_eq!(told(&ask(&prefetch, with_door(fetch(45, "file", whole()), nobody, None))).1, Outcome::Absent);
    let outcomes = prefetch.statistics().outcomes;
    assert_eq!((outcomes.done, outcomes.failed, outcomes.refused, outcomes.dropped), (1, 0, 0, 0));
}

#[test]
fn directories_with_odd_names_are_listed() {
    let disk = Disk::new();
    let prefetch = disk.prefetch();
    let dir = disk.path.join("d");
    std::fs::create_dir(&dir).expect("mkdir");
    let long = vec![0xff; 255];
    let mut names: Vec<&[u8]> = vec![b"new\nline", b"\xff\xfe", &long, b" ", b"-rf"];
    for name in &names {
        File::create(dir.join(OsStr::from_bytes(name))).expect("create");
    }
    std::fs::create_dir(dir.join("sub")).expect("mkdir");
    std::os::unix::fs::symlink("/", dir.join("link")).expect("symlink");
    names.extend([&b"sub"[..], b"link"]);
    names.sort_unstable();
    let Observation::Listing { dir: told, outcome, complete, entries, mount, .. } =
        ask(&prefetch, list(1, "d", 100))
    else {
        panic!("not a listing")
    };
    assert_eq!((&*told, mount, outcome, complete), (&b"d"[..], MOUNT, Outcome::Done, true));
    let mut found: Vec<&[u8]> = entries.iter().map(|entry| &*entry.name).collect();
    found.sort_unstable();
    assert_eq!(found, names);
    for entry in &entries {
        let kind = match &*entry.name {
            b"sub" => EntryKind::Directory,
            b"link" => EntryKind::Other,
            _ => EntryKind::File,
        };
        assert_eq!(entry.kind, kind);
        let path = dir.join(OsStr::from_bytes(&entry.name));
        assert_eq!(entry.ino, std::fs::symlink_metadata(path).expect("stat").ino());
    }
    for (limit, many, all) in [(3, 3, false), (7, 7, true), (0, 0, false)] {
        let answer = ask(&prefetch, list(2, "d", limit));
        let Observation::Listing { complete, entries, .. } = answer else { panic!("not a listing") };
        assert_eq!((entries.len(), complete), (many, all), "limit {limit}");
    }
    assert!(
        matches!(ask(&prefetch, list(3, "", 9)), Observation::Listing { outcome: Outcome::Done, entries, .. } if entries.len() == 2)
    );
}

#[test]
fn an_open_file_is_reached_through_its_readers_descriptor() {
    let disk = Disk::new();
    let prefetch = disk.prefetch();
    let path = disk.file(b"held", 1 << 20);
    let is = key(&path, &mount_point("self", &disk.path));
    let mine = quietly(&path);
    let child = Shell::start(&["env"], &format!("exec 5<{0} && exec 6>>{0}", path.display()), 0);
    std::fs::remove_file(&path).expect("unlink");
    let door = Door::Descriptor { tgid: child.pid() };
    let part = Extent::Ranges(vec![40..50, 250..400]);
    let answer = ask(&prefetch, with_door(fetch(1, "gone", part), door, Some(is)));
    assert_eq!(told(&answer), (1, Outcome::Done, 16 * 4096));
    assert_eq!(resident(&mine), vec![40..50, 250..256]);
    let answer = ask(&prefetch, with_door(fetch(2, "gone", whole()), door, Some(is)));
    assert_eq!(told(&answer), (2, Outcome::Done, 240 * 4096));
    assert_eq!(resident(&mine), vec![0..256]);
    assert_eq!(told(&ask(&prefetch, fetch(3, "held", whole()))).1, Outcome::Absent);
    drop(child);
    let answer = ask(&prefetch, with_door(fetch(4, "gone", whole()), door, Some(is)));
    assert_eq!(told(&answer).1, Outcome::Absent);
}

/// A copy's closing would have a FUSE or NFS server take over what has been written so far.
#[test]
fn who_writes_too_is_let_alone() {
    let disk = Disk::new();
    let prefetch = disk.prefetch();
    let path = disk.file(b"held", 1 << 20);
    let is = key(&path, &mount_point("self", &disk.path));
    let child = Shell::start(&["env"], &format!("exec 5<>{0} && exec 6>{0}.new", path.display()), 0);
    let door = Door::Descriptor { tgid: child.pid() };
    let answer = ask(&prefetch, with_door(fetch(1, "held", whole()), door, Some(is)));
    assert_eq!(told(&answer).1, Outcome::Absent);
    assert_eq!(resident(quietly(&path)), vec![]);
}

#[test]
fn where_an_open_drops_the_pages_the_readers_descriptor_does_not() {
    let remote = Remote::new(Store { size: 1 << 20, keep: false, ..Store::default() });
    let prefetch = start(remote.point(), |_| {});
    let path = remote.path().join("f00001");
    let mut reader = File::open(&path).expect("open");
    reader.seek(std::io::SeekFrom::Start(12345)).expect("seek");
    let is = key(&path, &remote.point());
    let door = Door::Descriptor { tgid: std::process::id() };
    for (id, pages) in [(1, 0..64), (2, 100..200)] {
        let extent = Extent::Ranges(vec![pages.clone()]);
        let answer = ask(&prefetch, with_door(fetch(id, "f00001", extent), door, Some(is)));
        assert_eq!(told(&answer), (id, Outcome::Done, (pages.end - pages.start) * 4096));
    }
    // Both are there: nothing was opened in between. The reader's position is its own.
    assert_eq!(resident(&reader), vec![0..64, 100..200]);
    assert_eq!(reader.stream_position().expect("position"), 12345);
    assert_eq!(told(&ask(&prefetch, fetch(3, "f00001", Extent::Ranges(vec![200..201])))).1, Outcome::Done);
    assert_eq!(resident(&reader), vec![200..201], "this store does drop pages at open");
}

#[test]
fn where_root_is_refused_the_readers_descriptor_works() {
    let remote = Remote::new(Store { owner: 1000, ..Store::default() });
    let prefetch = start(remote.point(), |_| {});
    assert_eq!(told(&ask(&prefetch, fetch(1, "f00001", whole()))), (1, Outcome::Refused, 0));
    assert_eq!(told(&ask(&prefetch, list(2, "", 9))).1, Outcome::Refused);
    let path = remote.path().join("f00001");
    let child = Shell::start(&["env"], &format!("exec 5<{}", path.display()), 1000);
    let is = FileKey { dev: remote.point().spot.dev, ino: 3 };
    let door = Door::Descriptor { tgid: child.pid() };
    for (id, extent, bytes) in
        [(3, Extent::Ranges(vec![2..4]), 8192), (4, whole(), 8 * 4096), (5, whole(), 0)]
    {
        let answer = ask(&prefetch, with_door(fetch(id, "f00001", extent), door, Some(is)));
        assert_eq!(told(&answer), (id, Outcome::Done, bytes));
    }
    let shape = Extent::Shape(vec![Anchored::End { before_end: 0, len: 8 }]);
    assert_eq!(
        told(&ask(&prefetch, with_door(fetch(6, "f00001", shape), door, Some(is)))).1,
        Outcome::Refused
    );
}

#[test]
fn files_may_change_while_they_are_prefetched() {
    let remote = Remote::new(Store { size: 8 << 20, ..Store::default() });
    let disk = Disk::new();
    let slow = start(remote.point(), |_| {});
    let fast = disk.prefetch();
    for round in 0..8 {
        let name = format!("file{round}");
        let path = disk.file(name.as_bytes(), 8 << 20);
        fast.submit(fetch(round, &name, whole()));
        slow.submit(fetch(round, format!("f{round:05}"), whole()));
        match round % 3 {
            0 => std::fs::File::options().write(true).open(&path).and_then(|file| file.set_len(5)),
            1 => std::fs::remove_file(&path),
            _ => std::fs::rename(&path, disk.path.join("renamed")),
        }
        .expect("change");
    }
    for observation in fixture::answers(&fast, 8) {
        let (id, outcome, _) = told(&observation);
        assert!(matches!(outcome, Outcome::Done | Outcome::Absent), "{id}: {outcome:?}");
    }
    // The store goes away in the middle: an error, not a hang.
    drop(remote);
    for observation in fixture::answers(&slow, 8) {
        let (id, outcome, _) = told(&observation);
        assert!(matches!(outcome, Outcome::Done | Outcome::Absent | Outcome::Failed), "{id}: {outcome:?}");
    }
}
