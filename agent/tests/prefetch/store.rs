//! A remote file system for the tests: FUSE, one flat directory of equal files, a latency a request and a
//! FIFO link, in a process of its own so that its CPU time is not counted as the agent's.
//!
//! The test binary starts itself again (`STORE_ENV` set) to be that process. Files named `stuck…` never get
//! an answer to a read, as in a store that has died.

use std::ffi::{CString, OsStr};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, UNIX_EPOCH};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, Request, Session, SessionACL,
};

use rustix::mount::MountFlags;

pub const STORE_ENV: &str = "HEADRACE_TEST_STORE";

#[derive(Clone, Copy, Debug)]
pub struct Store {
    pub files: u64,
    pub size: u64,
    pub latency: Duration,
    /// Bytes a second; 0 for no limit.
    pub bandwidth: u64,
    /// FOPEN_KEEP_CACHE.
    pub keep: bool,
    /// Mounted by this user without allow_other, so that root is refused; 0 for root with allow_other.
    pub owner: u32,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            files: 100,
            size: 40 << 10,
            latency: Duration::from_millis(5),
            bandwidth: 0,
            keep: true,
            owner: 0,
        }
    }
}

const TTL: Duration = Duration::from_secs(3600);
const STUCK: u64 = 1 << 20;

type Work = Box<dyn FnOnce() + Send>;

struct Served {
    store: Store,
    link: Mutex<Instant>,
    later: Sender<(Instant, Work)>,
    held: Mutex<Vec<ReplyData>>,
}

impl Served {
    fn after(&self, bytes: u64, work: impl FnOnce() + Send + 'static) {
        let now = Instant::now();
        let mut link = self.link.lock().expect("link");
        let sent = (*link).max(now)
            + Duration::from_nanos((bytes * 1_000_000_000).checked_div(self.store.bandwidth).unwrap_or(0));
        *link = sent;
        let _ = self.later.send((sent + self.store.latency, Box::new(work)));
    }

    fn attr(&self, ino: u64) -> FileAttr {
        let directory = ino == 1;
        FileAttr {
            ino: INodeNo(ino),
            size: if directory { 0 } else { self.store.size },
            blocks: self.store.size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if directory { FileType::Directory } else { FileType::RegularFile },
            perm: 0o755,
            nlink: 1,
            uid: self.store.owner,
            gid: self.store.owner,
            rdev: 0,
            flags: 0,
            blksize: 4096,
        }
    }

    fn number(&self, name: &OsStr) -> Option<u64> {
        let name = name.to_str()?;
        if let Some(n) = name.strip_prefix("stuck") {
            return Some(STUCK + n.parse::<u64>().ok()?);
        }
        let n: u64 = name.strip_prefix('f')?.parse().ok()?;
        (n < self.store.files).then_some(n + 2)
    }
}

struct Served0(Arc<Served>);

impl Filesystem for Served0 {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let _ = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
        let _ = config.set_max_background(128);
        let _ = config.set_congestion_threshold(128);
        Ok(())
    }

    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.0.number(name);
        let served = Arc::clone(&self.0);
        self.0.after(0, move || match found {
            Some(ino) => reply.entry(&TTL, &served.attr(ino), Generation(0)),
            None => reply.error(Errno::ENOENT),
        });
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.0.attr(ino.0));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let flags = if self.0.store.keep { FopenFlags::FOPEN_KEEP_CACHE } else { FopenFlags::empty() };
        reply.opened(FileHandle(0), flags);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if ino.0 >= STUCK {
            self.0.held.lock().expect("held").push(reply);
            return;
        }
        let bytes = self.0.store.size.saturating_sub(offset).min(u64::from(size));
        self.0.after(bytes, move || reply.data(&vec![b'h'; bytes as usize]));
    }

    fn readdir(&self, _: &Request, _: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let files = self.0.store.files;
        self.0.after(0, move || {
            for n in offset..files + 2 {
                let full = match n {
                    0 => reply.add(INodeNo(1), 1, FileType::Directory, "."),
                    1 => reply.add(INodeNo(1), 2, FileType::Directory, ".."),
                    n => reply.add(INodeNo(n), n + 1, FileType::RegularFile, format!("f{:05}", n - 2)),
                };
                if full {
                    break;
                }
            }
            reply.ok();
        });
    }
}

/// Serves until unmounted; the body of the store's own process.
pub fn serve(mountpoint: &Path, store: Store) {
    let (later, due) = channel::<(Instant, Work)>();
    std::thread::spawn(move || {
        for (at, work) in due {
            if let Some(wait) = at.checked_duration_since(Instant::now()) {
                std::thread::sleep(wait);
            }
            work();
        }
    });
    let served = Served { store, link: Mutex::new(Instant::now()), later, held: Mutex::default() };
    let served = Served0(Arc::new(served));
    // What mount(8) and fuser do, but for the owner: the kernel lets nobody else in, not even root.
    let device = std::fs::File::options().read(true).write(true).open("/dev/fuse").expect("open /dev/fuse");
    let owner = store.owner;
    let others = if owner == 0 { ",allow_other" } else { "" };
    let options =
        format!("fd={},rootmode=40000,user_id={owner},group_id={owner}{others}", device.as_raw_fd());
    let options = CString::new(options).expect("options");
    rustix::mount::mount("teststore", mountpoint, "fuse", MountFlags::NOSUID, &*options)
        .expect("mount FUSE: root is needed");
    let session =
        Session::from_fd(served, device.into(), SessionACL::All, Config::default()).expect("FUSE session");
    session.run().expect("FUSE session");
}

/// A mounted store; unmounted and ended when dropped.
pub struct Mounted {
    pub path: PathBuf,
    pub child: Child,
}

impl Mounted {
    /// `entry` is the test that calls `serve_if_asked`.
    pub fn start(path: &Path, store: Store, entry: &str) -> Self {
        let Store { files, size, latency, bandwidth, keep, owner } = store;
        let before = mount_id(path);
        let child = Command::new(std::env::current_exe().expect("own executable"))
            .args([entry, "--exact", "--nocapture"])
            .env(
                STORE_ENV,
                format!(
                    "{files} {size} {} {bandwidth} {keep} {owner} {}",
                    latency.as_micros(),
                    path.display()
                ),
            )
            .stdout(Stdio::null())
            .spawn()
            .expect("start the store's process");
        let mounted = Self { path: path.to_owned(), child };
        for _ in 0..500 {
            if mount_id(path) != before {
                return mounted;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the FUSE store did not mount on {} within 5 s: is /dev/fuse there?", path.display());
    }
}

/// The mount id of what is at the path; asks the file system nothing.
fn mount_id(path: &Path) -> Option<u64> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let here = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).ok()?;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", here.as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.path, rustix::mount::UnmountFlags::DETACH);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Becomes the store's process when the environment says so; returns whether it did.
pub fn serve_if_asked() -> bool {
    let Ok(asked) = std::env::var(STORE_ENV) else {
        return false;
    };
    let words: Vec<&str> = asked.splitn(7, ' ').collect();
    let number = |i: usize| words[i].parse::<u64>().expect("number");
    let store = Store {
        files: number(0),
        size: number(1),
        latency: Duration::from_micros(number(2)),
        bandwidth: number(3),
        keep: words[4] == "true",
        owner: number(5) as u32,
    };
    serve(Path::new(words[6]), store);
    true
}
