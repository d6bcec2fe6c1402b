//! The adapter to fuser: a request becomes an answer, the link says when, the delay thread sends it.
//!
//! Names and attributes are valid for an hour and listings come by plain READDIR, as a network file system
//! with unchanged files. A store that keeps pages and does not charge for open says ENOSYS to open: the
//! kernel then opens by itself and keeps pages, and warm opens cost no round trip, as on NFS or CephFS.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyStatfs, Request as Header,
};

use crate::clock;
use crate::store::content::Content;
use crate::store::delay::{Answer, Delay};
use crate::store::journal::{Entry, Journal, Request};
use crate::store::link::Link;
use crate::store::requester::Requesters;
use crate::store::tree::{Kind, Node, NodeId, Tree};

/// How long the kernel may believe names and attributes.
const VALID: Duration = Duration::from_secs(3600);

/// Modification time of everything: 2020-09-13, so that two mounts of one specification look unchanged.
const MODIFIED: Duration = Duration::from_secs(1_600_000_000);

/// The kernel asks for no more bytes at once than this (256 pages, its default limit).
const LARGEST_READ: u32 = 1 << 20;

/// Behaviour beyond timing; see `StoreConfig` for what each is for.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    pub keep_pages: bool,
    pub charge_open: bool,
    pub parallel_dirops: bool,
    pub max_background: u16,
}

/// What the session, the delay thread and the control socket share.
#[derive(Debug)]
pub struct Shelf {
    pub tree: Tree,
    pub content: Content,
    journal: Mutex<Journal>,
    requesters: Mutex<Requesters>,
}

impl Shelf {
    pub fn new(tree: Tree, seed: u64) -> Self {
        Self { tree, content: Content::new(seed), journal: Mutex::default(), requesters: Mutex::default() }
    }

    pub fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn reset(&self) {
        self.journal().reset();
        self.requesters.lock().unwrap_or_else(PoisonError::into_inner).forget();
    }

    fn arrived(&self, header: &Header, request: Request, ino: INodeNo) -> Entry {
        let arrived = clock::now();
        let by = self.requesters.lock().unwrap_or_else(PoisonError::into_inner).process(header.pid());
        self.journal().arrived();
        Entry { request, by, ino: ino.0, offset: 0, bytes: 0, arrived, answered: 0 }
    }

    fn answered(&self, entry: Entry) {
        self.journal().answered(Entry { answered: clock::now(), ..entry });
    }

    fn read(&self, id: NodeId, offset: u64, len: usize, reply: ReplyData) {
        match self.tree.node(id).map(|node| &node.kind) {
            Some(Kind::Made { salt, .. }) => reply.data(self.content.slice(*salt, offset, len)),
            Some(Kind::Local { path, .. }) => {
                let mut buffer = vec![0; len];
                let read = File::open(path).and_then(|file| fill(&file, &mut buffer, offset));
                match read {
                    Ok(filled) => reply.data(buffer.get(..filled).unwrap_or_default()),
                    Err(error) => reply.error(error.into()),
                }
            }
            Some(Kind::Directory { .. }) => reply.error(Errno::EISDIR),
            None => reply.error(Errno::ENOENT),
        }
    }
}

/// A short answer would be taken for the end of the file, so a local file is read until full or its end.
fn fill(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

fn attributes(id: NodeId, node: &Node) -> FileAttr {
    let modified: SystemTime = UNIX_EPOCH + MODIFIED;
    let directory = matches!(node.kind, Kind::Directory { .. });
    FileAttr {
        ino: INodeNo(id.ino()),
        size: node.size(),
        blocks: node.size().div_ceil(512),
        atime: modified,
        mtime: modified,
        ctime: modified,
        crtime: modified,
        kind: if directory { FileType::Directory } else { FileType::RegularFile },
        perm: if directory { 0o755 } else { 0o644 },
        nlink: if directory { 2 } else { 1 },
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

#[derive(Debug)]
pub struct SlowFilesystem {
    shelf: Arc<Shelf>,
    link: Mutex<Link>,
    delay: Delay,
    manners: Manners,
}

impl SlowFilesystem {
    pub fn new(shelf: Arc<Shelf>, link: Link, manners: Manners) -> io::Result<Self> {
        Ok(Self { shelf, link: Mutex::new(link), delay: Delay::start()?, manners })
    }

    fn node(&self, ino: INodeNo) -> Option<(NodeId, &Node)> {
        let id = NodeId::of_ino(ino.0)?;
        Some((id, self.shelf.tree.node(id)?))
    }

    /// Sends `answer` when the link lets `entry.bytes` through.
    fn charge(&self, entry: Entry, answer: impl FnOnce(&Shelf) + Send + 'static) {
        let shelf = Arc::clone(&self.shelf);
        let answer: Answer = Box::new(move || {
            answer(&shelf);
            shelf.answered(entry);
        });
        // Held over both, so that two session threads cannot queue their answers the other way round.
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        let due = link.leave(entry.arrived, entry.bytes);
        self.delay.send(due, answer);
    }

    fn free(&self, header: &Header, request: Request, ino: INodeNo) {
        let entry = self.shelf.arrived(header, request, ino);
        self.shelf.answered(entry);
    }
}

impl Filesystem for SlowFilesystem {
    fn init(&mut self, _header: &Header, config: &mut KernelConfig) -> io::Result<()> {
        if self.manners.parallel_dirops {
            config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS).map_err(|_| {
                io::Error::other("this kernel's FUSE has no FUSE_PARALLEL_DIROPS: use Linux 4.7 or newer")
            })?;
        }
        // Each returns the nearest value that would do; all of these are within the kernel's limits.
        let _ = config.set_max_write(LARGEST_READ);
        let _ = config.set_max_background(self.manners.max_background);
        Ok(())
    }

    fn lookup(&self, header: &Header, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let entry = self.shelf.arrived(header, Request::Lookup, parent);
        let found = NodeId::of_ino(parent.0).and_then(|id| self.shelf.tree.child(id, name.as_bytes()));
        self.charge(entry, move |shelf| match found.zip(found.and_then(|id| shelf.tree.node(id))) {
            Some((id, node)) => reply.entry(&VALID, &attributes(id, node), Generation(0)),
            None => reply.error(Errno::ENOENT),
        });
    }

    fn getattr(&self, header: &Header, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.node(ino) {
            Some((id, node)) => reply.attr(&VALID, &attributes(id, node)),
            None => reply.error(Errno::ENOENT),
        }
        self.free(header, Request::Other, ino);
    }

    fn open(&self, header: &Header, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let Manners { keep_pages, charge_open, .. } = self.manners;
        if keep_pages && !charge_open {
            return reply.error(Errno::ENOSYS);
        }
        let flags = if keep_pages { FopenFlags::FOPEN_KEEP_CACHE } else { FopenFlags::empty() };
        if charge_open {
            let entry = self.shelf.arrived(header, Request::Open, ino);
            self.charge(entry, move |_| reply.opened(FileHandle(0), flags));
        } else {
            reply.opened(FileHandle(0), flags);
            self.free(header, Request::Open, ino);
        }
    }

    fn read(
        &self,
        header: &Header,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some((id, node)) = self.node(ino) else {
            return reply.error(Errno::ENOENT);
        };
        let bytes = node.size().saturating_sub(offset).min(u64::from(size.min(LARGEST_READ)));
        let entry = Entry { offset, bytes, ..self.shelf.arrived(header, Request::Read, ino) };
        self.charge(entry, move |shelf| shelf.read(id, offset, bytes as usize, reply));
    }

    fn readdir(
        &self,
        header: &Header,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let Some((id, Node { kind: Kind::Directory { listing, .. }, parent, .. })) = self.node(ino) else {
            return reply.error(Errno::ENOTDIR);
        };
        let dots = [(id, &b"."[..]), (*parent, &b".."[..])].into_iter();
        let names = listing.iter().filter_map(|id| Some((*id, &*self.shelf.tree.node(*id)?.name)));
        let mut bytes = 0;
        for (next, (id, name)) in (1u64..).zip(dots.chain(names)).skip(offset as usize) {
            let file =
                self.shelf.tree.node(id).is_some_and(|node| !matches!(node.kind, Kind::Directory { .. }));
            let kind = if file { FileType::RegularFile } else { FileType::Directory };
            if reply.add(INodeNo(id.ino()), next, kind, OsStr::from_bytes(name)) {
                break;
            }
            // struct fuse_dirent and its name, padded to eight bytes.
            bytes += 24 + name.len().next_multiple_of(8) as u64;
        }
        let entry = Entry { offset, bytes, ..self.shelf.arrived(header, Request::List, ino) };
        self.charge(entry, move |_| reply.ok());
    }

    fn opendir(&self, header: &Header, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
        self.free(header, Request::Other, ino);
    }

    fn flush(&self, _: &Header, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // Once: the kernel then stops asking.
        reply.error(Errno::ENOSYS);
    }

    fn statfs(&self, header: &Header, ino: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 30, 1 << 29, 1 << 29, self.shelf.tree.len() as u64, 0, 4096, 255, 4096);
        self.free(header, Request::Other, ino);
    }

    fn getxattr(&self, _: &Header, _: INodeNo, _: &OsStr, _: u32, reply: fuser::ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _: &Header, _: INodeNo, _: u32, reply: fuser::ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn access(&self, _: &Header, _: INodeNo, _: fuser::AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }
}
