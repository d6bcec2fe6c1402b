//! A Dataset's survey on a store that fails in the middle of it: no version comes of a part of the files.

use std::ffi::{CString, OsStr};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use agent::mounts::{Namespace, Spot};
use agent::report::survey::{Job, Root, SurveyError, Surveyed, Surveyor};
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, OpenFlags,
    ReplyAttr, ReplyDirectory, ReplyEntry, ReplyOpen, Request, Session, SessionACL,
};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// What fails with which error.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// The folder `d` cannot be opened, or be listed once it is open; the file `b` cannot be looked up.
    Open(Errno),
    List(Errno),
    Look(Errno),
}

/// A file `a`, a folder `d` with a file `c`, a file `b`.
struct Tree(Arc<Mutex<Fault>>);

const NAMES: [(u64, &str, FileType); 4] = [
    (2, "a", FileType::RegularFile),
    (3, "d", FileType::Directory),
    (4, "b", FileType::RegularFile),
    (5, "c", FileType::RegularFile),
];

fn attr(ino: u64) -> FileAttr {
    let kind = if matches!(ino, 1 | 3) { FileType::Directory } else { FileType::RegularFile };
    FileAttr {
        ino: INodeNo(ino),
        size: 7,
        blocks: 1,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm: 0o755,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        flags: 0,
        blksize: 4096,
    }
}

impl Filesystem for Tree {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match (*self.0.lock().unwrap(), NAMES.iter().find(|known| known.1 == name)) {
            (Fault::Look(errno), Some((_, "b", _))) => reply.error(errno),
            (_, Some((ino, ..))) => reply.entry(&Duration::ZERO, &attr(*ino), Generation(0)),
            (_, None) => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&Duration::ZERO, &attr(ino.0));
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match *self.0.lock().unwrap() {
            Fault::Open(errno) if ino.0 == 3 => reply.error(errno),
            _ => reply.opened(FileHandle(0), FopenFlags::empty()),
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        if let Fault::List(errno) = *self.0.lock().unwrap()
            && ino.0 == 3
        {
            return reply.error(errno);
        }
        let here = if ino.0 == 1 { &NAMES[..3] } else { &NAMES[3..] };
        for (at, (ino, name, kind)) in (1u64..).zip(here).skip(offset as usize) {
            let _ = reply.add(INodeNo(*ino), at, *kind, name);
        }
        reply.ok();
    }
}

/// Unmounts it, however the test ends.
struct Served(PathBuf);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn serve(point: &Path, fault: Arc<Mutex<Fault>>) -> Served {
    let device = std::fs::File::options().read(true).write(true).open("/dev/fuse").unwrap();
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
    let options = CString::new(options).unwrap();
    mount("tree", point, "fuse", MountFlags::NOSUID, &*options).expect("mount FUSE: root is needed");
    let served = Served(point.to_owned());
    let session =
        Session::from_fd(Tree(fault), device.into(), SessionACL::All, Config::default()).expect("session");
    std::thread::spawn(move || drop(session.run()));
    served
}

#[test]
fn what_a_failing_store_hides_is_no_other_version() {
    let folder = tempfile::tempdir().unwrap();
    let point = folder.path().canonicalize().unwrap();
    let fault = Arc::new(Mutex::new(Fault::None));
    let _served = serve(&point, fault.clone());
    let table = Namespace::default().table().unwrap();
    let spot = Spot::of(table.covering(point.as_os_str().as_bytes()).unwrap());
    let (surveyor, mut results) = Surveyor::start(Namespace::default()).unwrap();
    let mut survey = |now: Fault| {
        *fault.lock().unwrap() = now;
        let root = Root { spot: spot.clone(), inner: "".into(), prefix: b""[..].into() };
        assert!(surveyor.ask(Job { dataset: "a/b".into(), number: 1, parts: vec![vec![root]] }));
        let Surveyed { manifest, .. } = results.blocking_recv().unwrap();
        manifest.map(|manifest| manifest.len())
    };
    assert_eq!(survey(Fault::None).unwrap(), 3);
    for errno in [Errno::EIO, Errno::ENOTCONN, Errno::ETIMEDOUT, Errno::EMFILE] {
        for (fault, at) in [(Fault::Open(errno), "d"), (Fault::List(errno), "d"), (Fault::Look(errno), "b")] {
            match survey(fault) {
                Err(SurveyError::Look { at: told, .. }) => assert_eq!(told, point.join(at), "{fault:?}"),
                other => panic!("{fault:?}: {other:?}"),
            }
        }
    }
    for errno in [Errno::ENOENT, Errno::EACCES, Errno::ESTALE] {
        for fault in [Fault::Open(errno), Fault::List(errno), Fault::Look(errno)] {
            assert_eq!(survey(fault).unwrap(), 2, "{fault:?}: it has gone, the rest is there");
        }
    }
}
