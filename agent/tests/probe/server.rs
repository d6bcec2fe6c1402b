//! File systems that need somebody to serve them: FUSE from a thread of this process, NFS from the very
//! kernel that reads it, over loopback.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyEntry, ReplyOpen, Request, Session, SessionACL,
};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::disk::Disk;

/// What is mounted somewhere for the length of a case.
#[derive(Debug)]
pub struct Served {
    /// What was mounted last.
    pub root: PathBuf,
    mounted: Vec<PathBuf>,
    thread: Option<JoinHandle<()>>,
    /// What NFS exports.
    _export: Option<Disk>,
    folder: tempfile::TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        for root in &self.mounted {
            let _ = rustix::mount::unmount(root, UnmountFlags::DETACH);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if self._export.is_some() {
            let _ = fs::write("/proc/fs/nfsd/threads", "0");
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
    let mounted = vec![root.clone()];
    Ok(Served { root, mounted, thread: Some(thread), _export: None, folder })
}

/// An ext4 of its own, exported by this kernel's NFS server and mounted over loopback, NFSv4.1 or later: `folder/file`.
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
        mounted.push((folder, served.mount(folder, name)?));
    }
    Ok((served, mounted))
}

/// The server asks user space who may have what through files of /proc/net/rpc and remembers the answers:
/// they are given before it asks, so that no daemon is needed (the formats are those of nfs-utils).
fn exported(export: Disk) -> Result<Served, String> {
    let write = |path: &str, text: &str| {
        fs::write(path, text).map_err(|error| format!("{path}: {error} (writing {text:?})"))
    };
    if !Path::new("/proc/fs/nfsd").exists() {
        return Err("this kernel has no NFS server".into());
    }
    if !Path::new("/proc/fs/nfsd/threads").exists() {
        rustix::mount::mount("nfsd", "/proc/fs/nfsd", "nfsd", MountFlags::empty(), c"")
            .map_err(|error| format!("mounting nfsd: {error}"))?;
    }
    let path = export.root.to_str().expect("UTF-8").to_owned();
    // Seconds since 1970; all of this is gone with the guest.
    let forever = 4_000_000_000_u64;
    // Only version 4 needs neither rpcbind nor mountd.
    write("/proc/fs/nfsd/versions", "-2 -3 +4 +4.1 +4.2\n")
        .or_else(|_| write("/proc/fs/nfsd/versions", "-3 +4 +4.1 +4.2\n"))?;
    // The least that it takes.
    write("/proc/fs/nfsd/nfsv4gracetime", "10\n")?;
    write("/proc/fs/nfsd/nfsv4leasetime", "10\n")?;
    write("/proc/net/rpc/auth.unix.ip/channel", &format!("nfsd 127.0.0.1 {forever} here\n"))?;
    // NFSEXP_INSECURE_PORT | NFSEXP_NOSUBTREECHECK | NFSEXP_FSID (include/uapi/linux/nfsd/export.h).
    let flags = 0x0002 | 0x0400 | 0x2000;
    write("/proc/net/rpc/nfsd.export/channel", &format!("here {path} {forever} {flags} 65534 65534 0\n"))?;
    // FSID_NUM, file system 0: the root of NFSv4.
    write("/proc/net/rpc/nfsd.fh/channel", &format!("here 1 \\x00000000 {forever} {path}\n"))?;
    // Newer kernels open no port by themselves; where it is open already there is nothing to do.
    let _ = write("/proc/fs/nfsd/portlist", "tcp 2049\n");
    write("/proc/fs/nfsd/threads", "2\n")?;
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder below /var/tmp");
    Ok(Served {
        root: folder.path().to_owned(),
        mounted: Vec::new(),
        thread: None,
        _export: Some(export),
        folder,
    })
}

impl Served {
    /// Mounts a folder of the export; where it is then seen.
    fn mount(&mut self, exported: &str, name: &str) -> Result<PathBuf, String> {
        let root = self.folder.path().join(name);
        fs::create_dir(&root).expect("a mount point");
        // It answers nobody's open before its grace has passed.
        let options =
            c"vers=4.1,addr=127.0.0.1,clientaddr=127.0.0.1,proto=tcp,port=2049,soft,timeo=100,retrans=3";
        let source = format!("127.0.0.1:/{exported}");
        rustix::mount::mount(&*source, &root, "nfs4", MountFlags::empty(), options)
            .map_err(|error| format!("mounting NFS: {error}"))?;
        self.mounted.push(root.clone());
        self.root = root.clone();
        Ok(root)
    }
}
