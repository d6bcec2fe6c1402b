//! What the tests stand on: an ext4 of their own on a loop device, processes that hold things, the page cache
//! as mincore shows it, and a prefetch edge that is asked and awaited.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::mounts::{Namespace, Spot};
use agent::prefetch::{MountPoint, MountResolver, Prefetch, PrefetchConfig};
use agent_core::{Door, Extent, FileKey, MountId, Nanos, Observation, Order, OrderId, Outcome, Pages};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub const MOUNT: MountId = MountId(7);

/// One mount, known under some processes' eyes.
pub struct Fixed(pub Vec<(u32, MountPoint)>);

impl MountResolver for Fixed {
    fn own(&self, mount: MountId, path: &[u8]) -> Result<MountPoint, Outcome> {
        self.theirs(mount, path, 0).pop().ok_or(Outcome::Absent)
    }

    fn theirs(&self, mount: MountId, _: &[u8], via: u32) -> Vec<MountPoint> {
        let known = self.0.iter().filter(|(by, _)| *by == via && mount == MOUNT);
        known.map(|(_, point)| point.clone()).collect()
    }

    fn root_of(&self, _: BorrowedFd<'_>) -> Option<Box<[u8]>> {
        None
    }
}

/// The line of mountinfo for this mount point, in the eyes of a process ("self" or a number).
pub fn mount_point(process: &str, path: &Path) -> MountPoint {
    let text = std::fs::read_to_string(format!("/proc/{process}/mountinfo")).expect("mountinfo");
    let line = text.lines().rev().find(|line| line.split(' ').nth(4).map(Path::new) == Some(path));
    let line = line.unwrap_or_else(|| panic!("{} is not mounted", path.display()));
    let mount = agent::mounts::parse(line.as_bytes()).0.remove(0);
    let namespace = match process {
        "self" => Namespace::default(),
        number => Namespace::of(number.parse().expect("a process's number")),
    };
    MountPoint { spot: Spot::of(&mount), root: Some(mount.root), namespace }
}

/// Runs a program that must succeed.
pub fn run(program: &str, args: &[&OsStr]) {
    let output = Command::new(program).args(args).output();
    let output =
        output.unwrap_or_else(|error| panic!("{program} is needed (apt install e2fsprogs mount): {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An ext4 with strictatime, unmounted when dropped.
pub struct Disk {
    pub path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Disk {
    pub fn new() -> Self {
        let directory =
            tempfile::Builder::new().prefix("headrace-prefetch").tempdir().expect("temporary directory");
        let image = directory.path().join("image");
        let path = directory.path().join("mount");
        std::fs::create_dir(&path).expect("mount point");
        File::create(&image).and_then(|file| file.set_len(64 << 20)).expect("image");
        run("/usr/sbin/mkfs.ext4", &["-q".as_ref(), image.as_ref()]);
        run("mount", &["-o".as_ref(), "loop,strictatime".as_ref(), image.as_ref(), path.as_ref()]);
        Self { path, _directory: directory }
    }

    pub fn prefetch(&self) -> Prefetch {
        start(mount_point("self", &self.path), |_| {})
    }

    /// A file of this size whose pages are on disk and not in memory.
    pub fn file(&self, name: &[u8], size: usize) -> PathBuf {
        let path = self.path.join(OsStr::from_bytes(name));
        std::fs::write(&path, vec![b'h'; size]).expect("file");
        evict(&path);
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.path, rustix::mount::UnmountFlags::DETACH);
    }
}

pub fn start(point: MountPoint, change: impl FnOnce(&mut PrefetchConfig)) -> Prefetch {
    let mut config = PrefetchConfig::new(Arc::new(Fixed(vec![(0, point)])));
    change(&mut config);
    Prefetch::start(config).expect("prefetch")
}

pub fn evict(path: &Path) {
    let file = quietly(path);
    file.sync_all().expect("sync");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("evict");
    assert_eq!(resident(&file), vec![], "{} cannot be evicted", path.display());
}

/// Opened without touching its atime.
pub fn quietly(path: &Path) -> File {
    std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NOATIME).open(path).expect("open")
}

/// The pages of a file that are in memory and filled.
pub fn resident(file: impl AsFd) -> Vec<Pages> {
    let len = file_size(&file);
    if len == 0 {
        return vec![];
    }
    let pages = len.div_ceil(4096) as usize;
    let mut flags = vec![0u8; pages];
    // SAFETY: a fresh mapping that is never touched, its byte vector has a byte a page.
    unsafe {
        let fd = file.as_fd().as_raw_fd();
        let map = libc::mmap(std::ptr::null_mut(), pages * 4096, libc::PROT_READ, libc::MAP_PRIVATE, fd, 0);
        assert_ne!(map, libc::MAP_FAILED);
        assert_eq!(libc::mincore(map, pages * 4096, flags.as_mut_ptr()), 0);
        libc::munmap(map, pages * 4096);
    }
    let mut ranges: Vec<Pages> = Vec::new();
    for (page, _) in flags.iter().enumerate().filter(|(_, flag)| **flag & 1 == 1) {
        let page = page as u64;
        match ranges.last_mut() {
            Some(last) if last.end == page => last.end += 1,
            _ => ranges.push(page..page + 1),
        }
    }
    ranges
}

fn file_size(file: &impl AsFd) -> u64 {
    // lseek would move a shared position; where stat is refused the tests' files have this size.
    rustix::fs::fstat(file).map_or(40 << 10, |found| found.st_size as u64)
}

pub fn key(path: &Path, point: &MountPoint) -> FileKey {
    FileKey { dev: point.spot.dev, ino: std::fs::symlink_metadata(path).expect("stat").ino() }
}

pub fn fetch(id: u64, path: impl AsRef<[u8]>, extent: Extent) -> Order {
    Order::Fetch {
        id: OrderId(id),
        mount: MOUNT,
        path: path.as_ref().into(),
        file: None,
        door: Door::Open,
        via: 0,
        extent,
        deadline: Nanos(id),
    }
}

pub fn whole() -> Extent {
    Extent::Whole { limit: u64::MAX }
}

pub fn list(id: u64, dir: impl AsRef<[u8]>, limit: usize) -> Order {
    Order::List { id: OrderId(id), mount: MOUNT, dir: dir.as_ref().into(), limit, via: 0 }
}

/// Waits for this many answers, in the order in which they were given.
pub fn answers(prefetch: &Prefetch, count: usize) -> Vec<Observation> {
    let mut given = Vec::new();
    let end = Instant::now() + Duration::from_secs(60);
    while given.len() < count {
        assert!(
            Instant::now() < end,
            "{} of {count} answers after 60 s: {:?}",
            given.len(),
            prefetch.statistics()
        );
        let mut fds = [PollFd::new(prefetch, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 1, tv_nsec: 0 })).expect("poll");
        prefetch.drain(&mut given);
    }
    assert_eq!(given.len(), count, "more answers than orders");
    given.into_iter().map(|(_, observation)| observation).collect()
}

/// Submits one order and returns its answer.
pub fn ask(prefetch: &Prefetch, order: Order) -> Observation {
    prefetch.submit(order);
    answers(prefetch, 1).remove(0)
}

/// (id, outcome, bytes) of an answer.
pub fn told(observation: &Observation) -> (u64, Outcome, u64) {
    match observation {
        Observation::Fetched { id, outcome, bytes, .. } => (id.0, *outcome, *bytes),
        Observation::Listing { id, outcome, .. } => (id.0, *outcome, 0),
        other => panic!("not an answer: {other:?}"),
    }
}

/// A shell that says "ready" once its first command is done, and then waits; ended when dropped.
pub struct Shell {
    child: Child,
}

impl Shell {
    pub fn start(program: &[&str], script: &str, user: u32) -> Self {
        use std::os::unix::process::CommandExt;
        let script = format!("{script} && echo ready && exec sleep 120");
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).args(["sh", "-c", &script]).stdout(Stdio::piped());
        if user != 0 {
            command.uid(user).gid(user);
        }
        let mut child = command.spawn().expect("shell");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout");
        BufReader::new(stdout).read_line(&mut line).expect("read");
        assert_eq!(line.trim(), "ready", "{script} failed");
        Self { child }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor seconds this process has used, kernel time and all threads included.
pub fn cpu() -> f64 {
    // SAFETY: plain data, filled by the call.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}
