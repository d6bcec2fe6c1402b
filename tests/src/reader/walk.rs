//! Reading an itinerary: one thread, one file at a time, a sample of every read verified.
//!
//! The clock runs from before the first open to after the last close. A read notes when it began, so that
//! the benchmark can tell from the store's journal whether its bytes were in memory by then.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, FileExt};
use std::path::{Path, PathBuf};

use crate::clock;
use crate::reader::itinerary::{BLOCK, Ranges, Visit};
use crate::reader::outcome::{Access, Outcome};
use crate::store::content::{Content, Salt};
use crate::store::tree::{Kind, NodeId, Tree, below};

/// Bytes compared at the start, in the middle and at the end of each read.
const SAMPLE: usize = 64;

#[derive(Debug)]
pub struct Walk<'a> {
    mount: &'a Path,
    tree: &'a Tree,
    content: Content,
    buffer: Vec<u8>,
    outcome: Outcome,
}

impl<'a> Walk<'a> {
    pub fn new(mount: &'a Path, tree: &'a Tree, seed: u64) -> Self {
        Self {
            mount,
            tree,
            content: Content::new(seed),
            buffer: vec![0; 1 << 20],
            outcome: Outcome { processes: vec![std::process::id()], ..Outcome::default() },
        }
    }

    /// Visits every file in order.
    pub fn visits<'v>(&mut self, visits: impl IntoIterator<Item = &'v Visit>) -> io::Result<()> {
        self.begin();
        for Visit { file, ranges } in visits {
            let path = below(self.mount, &self.tree.path(*file));
            self.visit(*file, &path, ranges).map_err(|error| failed(&path, &error))?;
        }
        self.end();
        Ok(())
    }

    /// Visits every file below the mount point, folder by folder, in the order of the listings.
    pub fn listings(&mut self) -> io::Result<()> {
        self.begin();
        let mut folders = vec![self.mount.to_path_buf()];
        while let Some(folder) = folders.pop() {
            self.folder(&folder, &mut folders).map_err(|error| failed(&folder, &error))?;
        }
        self.end();
        Ok(())
    }

    /// What has been read since the last call.
    pub fn outcome(&mut self) -> Outcome {
        let fresh = Outcome { processes: vec![std::process::id()], ..Outcome::default() };
        std::mem::replace(&mut self.outcome, fresh)
    }

    fn begin(&mut self) {
        self.outcome.begun = clock::now();
    }

    fn end(&mut self) {
        self.outcome.ended = clock::now();
        self.outcome.seconds = self.outcome.ended.saturating_sub(self.outcome.begun) as f64 / 1e9;
    }

    fn folder(&mut self, folder: &Path, folders: &mut Vec<PathBuf>) -> io::Result<()> {
        let mut inner = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                inner.push(entry.path());
            } else if let Some(file) = NodeId::of_ino(entry.ino()) {
                self.visit(file, &entry.path(), &Ranges::Whole)?;
            }
        }
        // The stack hands out the last one first.
        folders.extend(inner.into_iter().rev());
        Ok(())
    }

    fn visit(&mut self, id: NodeId, path: &Path, ranges: &Ranges) -> io::Result<()> {
        self.outcome.opened.push(clock::now());
        self.outcome.files += 1;
        let file = File::open(path)?;
        match ranges {
            Ranges::Whole => self.whole(id, &file),
            Ranges::Mapped => self.mapped(id, &file),
            Ranges::Some(ranges) => ranges.iter().try_for_each(|range| {
                let mut buffer = std::mem::take(&mut self.buffer);
                let begun = clock::now();
                let wanted = buffer.len().min((range.end - range.start) as usize);
                let read = file.read_exact_at(buffer.get_mut(..wanted).unwrap_or_default(), range.start);
                self.read(
                    Access { ino: id.ino(), offset: range.start, bytes: wanted as u64, begun },
                    &buffer,
                );
                self.buffer = buffer;
                read
            }),
        }
    }

    fn whole(&mut self, id: NodeId, mut file: &File) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut offset = 0;
        loop {
            let begun = clock::now();
            let count = file.read(buffer.get_mut(..BLOCK).unwrap_or_default())? as u64;
            if count == 0 {
                break;
            }
            self.read(Access { ino: id.ino(), offset, bytes: count, begun }, &buffer);
            offset += count;
        }
        self.buffer = buffer;
        Ok(())
    }

    fn mapped(&mut self, id: NodeId, file: &File) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        // SAFETY: the store is read-only and its files never shrink, so no page of the mapping can go away
        // under the reader short of an unmount, which ends the test with SIGBUS as it would any reader.
        let map = unsafe { memmap2::Mmap::map(file)? };
        for (chunk, offset) in map.chunks(BLOCK).zip((0u64..).step_by(BLOCK)) {
            let begun = clock::now();
            if let Some(copy) = buffer.get_mut(..chunk.len()) {
                copy.copy_from_slice(chunk);
            }
            self.read(Access { ino: id.ino(), offset, bytes: chunk.len() as u64, begun }, &buffer);
        }
        self.buffer = buffer;
        Ok(())
    }

    fn read(&mut self, access: Access, buffer: &[u8]) {
        self.outcome.bytes += access.bytes;
        self.outcome.accesses.push(access);
        let read = buffer.get(..access.bytes as usize).unwrap_or_default();
        // A local directory's bytes are its own affair: only made contents can be verified.
        if let Some(Kind::Made { salt, .. }) =
            NodeId::of_ino(access.ino).and_then(|id| self.tree.node(id)).map(|node| &node.kind)
            && !sample_holds(&self.content, *salt, access.offset, read)
        {
            self.outcome.wrong += 1;
        }
    }
}

fn sample_holds(content: &Content, salt: Salt, offset: u64, read: &[u8]) -> bool {
    let last = read.len().saturating_sub(SAMPLE);
    [0, last / 2, last].into_iter().all(|at| {
        let sample = read.get(at..read.len().min(at + SAMPLE)).unwrap_or_default();
        content.holds(salt, offset + at as u64, sample)
    })
}

fn failed(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("reading {}: {error}", OsStr::from_bytes(path.as_os_str().as_bytes()).display()),
    )
}
