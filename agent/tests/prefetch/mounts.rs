//! Mounts that are let go of, and mounts that only another process sees.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::mounts::Spot;
use agent::prefetch::{MountPoint, MountResolver, Prefetch, PrefetchConfig};
use agent_core::{MountId, Order, Outcome};

use crate::fixture::{
    Disk, Fixed, MOUNT, Shell, ask, fetch, mount_point, quietly, resident, start, told, whole,
};

#[test]
fn a_mount_is_let_go_of() {
    let disk = Disk::new();
    let prefetch = disk.prefetch();
    disk.file(b"file", 1 << 20);
    let unmount = || rustix::mount::unmount(&disk.path, rustix::mount::UnmountFlags::empty());
    assert_eq!(told(&ask(&prefetch, fetch(1, "file", whole()))).1, Outcome::Done);
    let begin = Instant::now();
    while unmount().is_err() {
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "the mount is still busy 20 s after the last order"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("umount worked {:?} after the last order", begin.elapsed());
    assert_eq!(told(&ask(&prefetch, fetch(2, "file", whole()))).1, Outcome::Absent);

    let disk = Disk::new();
    let prefetch = disk.prefetch();
    disk.file(b"file", 4096);
    assert_eq!(told(&ask(&prefetch, fetch(1, "file", whole()))).1, Outcome::Done);
    prefetch.forget(MOUNT);
    // Closed on a thread of its own, well before the two seconds that an unused root is kept.
    let begin = Instant::now();
    while rustix::mount::unmount(&disk.path, rustix::mount::UnmountFlags::empty()).is_err() {
        assert!(
            begin.elapsed() < Duration::from_millis(1_500),
            "the root is kept after its mount was let go of"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_mount_of_another_namespace_is_reached_through_its_process() {
    let disk = Disk::new();
    let other = tempfile::tempdir().expect("temporary directory");
    std::fs::create_dir_all(disk.path.join("sub/dir")).expect("mkdir");
    let path = disk.file(b"sub/dir/file", 40_000);
    disk.file(b"outside", 40_000);
    // Only the child sees this bind mount of a part of the file system.
    let script = format!("mount --bind {}/sub {}", disk.path.display(), other.path().display());
    let child = Shell::start(&["unshare", "-m", "--propagation", "private"], &script, 0);
    let point = mount_point(&child.pid().to_string(), other.path());
    assert_eq!(point.root.as_deref(), Some(&b"/sub"[..]));
    let mut config = PrefetchConfig::new(Arc::new(Fixed(vec![(child.pid(), point.clone())])));
    config.threads = 2;
    let prefetch = Prefetch::start(config).expect("prefetch");
    let through = |id, path: &str, pid| {
        let mut order = fetch(id, path, whole());
        if let Order::Fetch { via, .. } = &mut order {
            *via = pid;
        }
        told(&ask(&prefetch, order)).1
    };
    // The process that has no such mount first: nothing is learned of the mount by that.
    assert_eq!(through(1, "sub/dir/file", std::process::id()), Outcome::Absent);
    assert_eq!(through(2, "sub/dir/file", child.pid()), Outcome::Done);
    assert_eq!(resident(quietly(&path)), vec![0..10]);
    assert_eq!(through(3, "outside", child.pid()), Outcome::Absent);
    assert_eq!(through(4, "subdir/file", child.pid()), Outcome::Absent);
    drop(child);
    prefetch.forget(MOUNT);
    assert_eq!(through(5, "sub/dir/file", point.spot.dev), Outcome::Absent);

    // Something else than the mount is found there: not believed.
    let wrong = MountPoint { spot: Spot { point: b"/"[..].into(), ..point.spot }, ..point };
    let prefetch = start(wrong, |_| {});
    assert_eq!(told(&ask(&prefetch, fetch(6, "etc/passwd", whole()))).1, Outcome::Absent);
}

/// Knows the ways of processes alone, while its own is being found out.
struct Waiting(Vec<MountPoint>);

impl MountResolver for Waiting {
    fn own(&self, _: MountId, _: &[u8]) -> Result<MountPoint, Outcome> {
        Err(Outcome::Failed)
    }

    fn theirs(&self, _: MountId, _: &[u8], via: u32) -> Vec<MountPoint> {
        let mut theirs = self.0.clone();
        if via != std::process::id() {
            theirs.iter_mut().for_each(|point| point.spot.point = b"/"[..].into());
        }
        theirs
    }

    fn root_of(&self, _: BorrowedFd<'_>) -> Option<Box<[u8]>> {
        None
    }
}

#[test]
fn what_takes_the_place_of_a_mount_is_not_taken_for_it() {
    let disk = Disk::new();
    let other = tempfile::tempdir().expect("temporary directory");
    for name in ["a", "b"] {
        std::fs::create_dir(disk.path.join(name)).expect("mkdir");
    }
    disk.file(b"a/file", 40_000);
    let wrong = disk.file(b"b/file", 40_000);
    let bind = |name: &str| rustix::mount::mount_bind(disk.path.join(name), other.path()).expect("mount");
    let unmount = || rustix::mount::unmount(other.path(), rustix::mount::UnmountFlags::empty());
    bind("a");
    let point = mount_point("self", other.path());
    // Where the agent looks it is being found out, and a process that still has it helps.
    let prefetch =
        Prefetch::start(PrefetchConfig::new(Arc::new(Waiting(vec![point.clone()])))).expect("prefetch");
    let through = |via| {
        let mut order = fetch(1, "a/file", whole());
        if let Order::Fetch { via: by, .. } = &mut order {
            *by = via;
        }
        told(&ask(&prefetch, order)).1
    };
    assert_eq!((through(0), through(1)), (Outcome::Failed, Outcome::Failed), "it is not gone");
    assert_eq!(through(std::process::id()), Outcome::Done);
    drop(prefetch);
    unmount().expect("umount");
    // Most often with the number that is free again.
    bind("b");
    let prefetch = start(point, |_| {});
    let outcome = told(&ask(&prefetch, fetch(1, "a/file", whole()))).1;
    drop(prefetch);
    unmount().expect("umount");
    assert_eq!((outcome, resident(quietly(&wrong))), (Outcome::Absent, vec![]));
}
