//! File systems that need somebody to serve them: FUSE from a thread of this process, NFS from the very
//! kernel that reads it, over loopback.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyEntry, ReplyOpen, Request, Session, SessionACL,
};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::disk::Disk;
use crate::nfs::Export;

/// What is mounted somewhere for the length of a case.
#[derive(Debug)]
pub struct Served {
    /// What was mounted last.
    pub root: PathBuf,
    thread: Option<JoinHandle<()>>,
    /// Of NFS: the server goes before what it exports.
    export: Option<(Export, Disk)>,
    folder: tempfile::TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        if self.export.is_none() {
            let _ = rustix::mount::unmount(&self.root, UnmountFlags::DETACH);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

const BYTES: u64 = 1 << 20;
const TTL: Duration = Duration::from_secs(3600);

/// One folder, number 2, with one file, number 3. Each answer to a read takes so long, one after the other.
struct Store {
    delay: Duration,
}

impl Store {
    fn attr(ino: INodeNo) -> FileAttr {
        let file = ino.0 == 3;
        FileAttr {
            ino,
            size: if file { BYTES } else { 0 },
            blocks: BYTES / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if file { FileType::RegularFile } else { FileType::Directory },
            perm: 0o755,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: 4096,
        }
    }
}

impl Filesystem for Store {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match (parent.0, name.to_str()) {
            (1, Some("folder")) => reply.entry(&TTL, &Self::attr(INodeNo(2)), Generation(0)),
            (2, Some("file")) => reply.entry(&TTL, &Self::attr(INodeNo(3)), Generation(0)),
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &Self::attr(ino));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        std::thread::sleep(self.delay);
        reply.data(&vec![7; BYTES.saturating_sub(offset).min(u64::from(size)) as usize]);
    }
}

/// A FUSE mount with `folder/file` of 1 MiB.
pub fn fuse() -> Result<Served, String> {
    mounted(Store { delay: Duration::ZERO }, 1 << 17)
}

/// The same from far away, page by page: who reads two of them finds the first filled and the second not.
pub fn far_fuse() -> Result<Served, String> {
    mounted(Store { delay: Duration::from_millis(5) }, 4096)
}

fn mounted(store: Store, max_read: u32) -> Result<Served, String> {
    let device = File::options().read(true).write(true).open("/dev/fuse");
    let device = device.map_err(|error| format!("/dev/fuse: {error}"))?;
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder below /var/tmp");
    let root = folder.path().join("fuse");
    fs::create_dir(&root).expect("a mount point");
    let fd = device.as_raw_fd();
    let options = format!("fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other,max_read={max_read}");
    let options = CString::new(options).expect("options");
    rustix::mount::mount("acceptance", &root, "fuse", MountFlags::NOSUID, &*options)
        .map_err(|error| format!("mounting FUSE: {error}"))?;
    let session = Session::from_fd(store, device.into(), SessionACL::All, Config::default());
    let session = session.expect("a FUSE session");
    let thread = std::thread::spawn(move || {
        // Its end is the unmount.
        let _ = session.run();
    });
    Ok(Served { root, thread: Some(thread), export: None, folder })
}

/// An ext4 of its own, exported by this kernel's NFS server and mounted over loopback: `folder/file`.
pub fn nfs() -> Result<Served, String> {
    let export = Disk::make();
    export.file("folder/file", BYTES as usize);
    let mut served = exported(export)?;
    served.mount("", "nfs")?;
    Ok(served)
}

/// A folder of an export, and where it is mounted.
pub type Folder = (&'static str, PathBuf);

/// The same with two folders of the export mounted side by side, each with a `file`, and never the export as a whole:
/// a cluster's volumes look like this.
pub fn nfs_folders() -> Result<(Served, Vec<Folder>), String> {
    let export = Disk::make();
    let folders = ["pvc-1", "team/pvc-2"];
    for folder in folders {
        export.file(format!("{folder}/file"), BYTES as usize);
    }
    let mut served = exported(export)?;
    let mut mounted = Vec::new();
    for (folder, name) in folders.into_iter().zip(["one", "two"]) {
        served.mount(folder, name)?;
        mounted.push((folder, served.root.clone()));
    }
    Ok((served, mounted))
}

fn exported(export: Disk) -> Result<Served, String> {
    let server = Export::of(&export.root)?;
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder below /var/tmp");
    let root = folder.path().to_owned();
    Ok(Served { root, thread: None, export: Some((server, export)), folder })
}

impl Served {
    /// Mounts a folder of the export in one of this name.
    fn mount(&mut self, exported: &str, name: &str) -> Result<(), String> {
        let Some((server, _)) = &mut self.export else { return Err("nothing is exported".into()) };
        self.root = self.folder.path().join(name);
        fs::create_dir(&self.root).expect("a mount point");
        server.mount(exported, &self.root)
    }
}
