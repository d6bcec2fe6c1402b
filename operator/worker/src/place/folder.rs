//! A folder of a file system: a mounted claim, or a Dataset.
//!
//! Every path is walked part by part from the folder's own descriptor, and no link is followed on the way: neither
//! what a store names nor what lies in a folder leads out of it. Files come into being whole: written beside, brought
//! to the disk, read back, and only then given their name. All of this blocks; [`super::Place`] calls it where that
//! may be.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{
    self, Advice, AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, Stat, Timespec, Timestamps,
};
use rustix::io::Errno;

use super::error::PlaceError;
use crate::entry::{Entry, Listing, Seen};
use crate::name::Name;

/// Entries of one listing: names and records of so many fit into the memory that a small pod has.
pub const MOST: usize = 1_000_000;

/// Bytes read at once.
pub const CHUNK: usize = 1 << 20;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

#[derive(Clone, Debug)]
pub struct Folder(Arc<OwnedFd>);

impl Folder {
    /// `make`: also where it is not there yet.
    pub fn open(at: &Path, below: Option<&Name>, make: bool) -> Result<Self, PlaceError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // The mount's own path is the operator's word, and may have links.
        let top = Self(Arc::new(fs::openat(CWD, at, flags, Mode::empty())?));
        match below {
            None => Ok(top),
            Some(below) => Ok(Self(Arc::new(top.descend(Some(below), make)?))),
        }
    }

    fn descend(&self, folder: Option<&Name>, make: bool) -> Result<OwnedFd, PlaceError> {
        let mut at = fs::openat(&*self.0, ".", FOLDER, Mode::empty())?;
        for part in folder.into_iter().flat_map(Name::parts) {
            at = match fs::openat(&at, part, FOLDER, Mode::empty()) {
                Err(Errno::NOENT) if make => {
                    match fs::mkdirat(&at, part, Mode::from_raw_mode(0o755)) {
                        Ok(()) => fs::fsync(&at)?,
                        Err(Errno::EXIST) => {}
                        Err(errno) => return Err(errno.into()),
                    }
                    fs::openat(&at, part, FOLDER, Mode::empty())?
                }
                opened => opened?,
            };
        }
        Ok(at)
    }

    /// All files of it, or below `only`, or that file. Links and special files are counted, not followed.
    pub fn list(&self, only: Option<&Name>) -> Result<Listing, PlaceError> {
        let mut listing = Listing::default();
        let mut folders = vec![only.cloned()];
        if let Some(name) = only
            && let Some(seen) = self.look(name)?
        {
            listing.entries.push(Entry { name: name.clone(), seen });
            return Ok(listing);
        }
        while let Some(folder) = folders.pop() {
            let opened = self.descend(folder.as_ref(), false)?;
            for entry in Dir::read_from(&opened)? {
                let entry = entry?;
                let part = entry.file_name().to_bytes();
                if part == b"." || part == b".." {
                    continue;
                }
                let name = match Name::parse(part) {
                    Ok(name) => folder.as_ref().map_or_else(|| name.clone(), |folder| folder.below(&name)),
                    Err(why) => {
                        listing.refuse(part, &why);
                        continue;
                    }
                };
                let stat = match fs::statat(&opened, part, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => stat,
                    Err(Errno::NOENT) => return Err(PlaceError::Changed),
                    Err(errno) => return Err(errno.into()),
                };
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => folders.push(Some(name)),
                    FileType::RegularFile => listing.entries.push(Entry { name, seen: seen(&stat) }),
                    _ => listing.left_out += 1,
                }
                let found = listing.entries.len().saturating_add(folders.len());
                if found > MOST {
                    return Err(PlaceError::Large { found: found as u64, most: MOST as u64 });
                }
            }
        }
        Ok(listing)
    }

    /// A regular file as it is now; none where there is none of that name.
    pub fn look(&self, name: &Name) -> Result<Option<Seen>, PlaceError> {
        let parent = match self.descend(name.folder().as_ref(), false) {
            Err(PlaceError::Absent | PlaceError::InTheWay(_)) => return Ok(None),
            opened => opened?,
        };
        match fs::statat(&parent, name.last().bytes(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                Ok(Some(seen(&stat)))
            }
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// From this byte on.
    pub fn read(&self, name: &Name, from: u64) -> Result<(Seen, Reading), PlaceError> {
        let parent = self.descend(name.folder().as_ref(), false)?;
        let (seen, reading) = reading(&parent, name.last().bytes())?;
        Ok((seen, Reading { at: from, ..reading }))
    }

    /// A new file under a temporary name; what had that name before, by an earlier try, goes.
    pub fn stage(&self, temporary: &Name) -> Result<Staged, PlaceError> {
        let folder = self.descend(temporary.folder().as_ref(), true)?;
        let name = temporary.last();
        match fs::unlinkat(&folder, name.bytes(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = fs::openat(&folder, name.bytes(), flags, Mode::from_raw_mode(0o644))?;
        Ok(Staged { home: self.clone(), folder, name, file: file.into(), open: true })
    }

    /// As [`Self::stage`], under a name that a later try finds again: what lies there is kept and gone on with. None
    /// where another worker is at it, or where the file system has no locks to know that by.
    pub fn resume(&self, temporary: &Name) -> Result<Option<Staged>, PlaceError> {
        let folder = self.descend(temporary.folder().as_ref(), true)?;
        let name = temporary.last();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match fs::openat(&folder, name.bytes(), flags, Mode::from_raw_mode(0o644)) {
            // Whatever stands there is none of ours.
            Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Ok(None),
            opened => opened?,
        };
        if fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        // Who held the lock before may have given the file its name, or taken it away.
        let stat = fs::fstat(&file)?;
        let ours = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink == 1;
        let staged = Staged { home: self.clone(), folder, name, file: file.into(), open: true };
        if ours && staged.is_there()? {
            Ok(Some(staged))
        } else {
            staged.keep();
            Ok(None)
        }
    }

    pub fn remove(&self, name: &Name) -> Result<(), PlaceError> {
        let parent = match self.descend(name.folder().as_ref(), false) {
            Err(PlaceError::Absent) => return Ok(()),
            opened => opened?,
        };
        match fs::unlinkat(&parent, name.last().bytes(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn seen(stat: &Stat) -> Seen {
    // The types differ from one architecture to another.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    let (seconds, nanos) = (i64::from(stat.st_mtime), stat.st_mtime_nsec as i64);
    let modified = seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
    Seen { size: u64::try_from(stat.st_size).unwrap_or(0), modified, tag: None }
}

fn reading(folder: &OwnedFd, name: &[u8]) -> Result<(Seen, Reading), PlaceError> {
    // A pipe of that name must not hold us up.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match fs::openat(folder, name, flags, Mode::empty()) {
        Err(Errno::LOOP) => return Err(PlaceError::InTheWay("file")),
        opened => opened?,
    };
    let stat = fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(PlaceError::InTheWay("file"));
    }
    Ok((seen(&stat), Reading { file: Arc::new(file.into()), at: 0 }))
}

/// A file that is being read.
#[derive(Clone, Debug)]
pub struct Reading {
    file: Arc<File>,
    at: u64,
}

impl Reading {
    /// The next bytes; none at the end.
    pub fn more(&mut self) -> Result<Vec<u8>, PlaceError> {
        let mut bytes = vec![0; CHUNK];
        loop {
            match self.file.read_at(&mut bytes, self.at) {
                Ok(count) => {
                    bytes.truncate(count);
                    self.at = self.at.saturating_add(count as u64);
                    return Ok(bytes);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// All of it, at most so many bytes.
    pub fn whole(&self, most: u64) -> Result<Vec<u8>, PlaceError> {
        let mut bytes = Vec::new();
        let file = &*self.file;
        file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most {
            return Err(PlaceError::Large { found: bytes.len() as u64, most });
        }
        Ok(bytes)
    }
}

/// A file that has no name yet. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Staged {
    home: Folder,
    folder: OwnedFd,
    name: Name,
    file: File,
    open: bool,
}

impl Staged {
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), PlaceError> {
        Ok(self.file.write_all(bytes)?)
    }

    /// Leaves so many bytes of it, or all where it has fewer, and goes on behind them.
    pub fn cut(&mut self, length: u64) -> Result<(), PlaceError> {
        // Where locks hold on one node only, another may have given it its name meanwhile: that is not shortened.
        if !self.is_there()? {
            self.open = false;
            return Err(PlaceError::Changed);
        }
        if self.file.metadata()?.len() > length {
            self.file.set_len(length)?;
        }
        self.file.seek(SeekFrom::End(0))?;
        Ok(())
    }

    /// Whether the file of its name is still this one.
    fn is_there(&self) -> Result<bool, PlaceError> {
        let own = fs::fstat(&self.file)?;
        match fs::statat(&self.folder, self.name.bytes(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => Ok((there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Lets go of it as it is, for a later try.
    pub fn keep(mut self) {
        self.open = false;
    }

    /// Brings it to the disk and lets go of what memory holds of it, so that reading it back reads the disk.
    pub fn settle(&mut self) -> Result<(), PlaceError> {
        fs::fsync(&self.file)?;
        // Advice only: where it is not taken, memory is read back.
        let _ = fs::fadvise(&self.file, 0, None, Advice::DontNeed);
        Ok(())
    }

    pub fn read_back(&self) -> Result<Reading, PlaceError> {
        Ok(reading(&self.folder, self.name.bytes())?.1)
    }

    /// Gives it its name and time. From here on it is there, also after a power cut.
    pub fn commit(mut self, name: &Name, modified: Option<i64>) -> Result<Seen, PlaceError> {
        if let Some(modified) = modified {
            let time = Timespec {
                tv_sec: modified.div_euclid(1_000_000_000),
                tv_nsec: modified.rem_euclid(1_000_000_000),
            };
            fs::futimens(&self.file, &Timestamps { last_access: time, last_modification: time })?;
            fs::fsync(&self.file)?;
        }
        // Somebody took it away, and may have put another there: that one nobody has read.
        if !self.is_there()? {
            self.open = false;
            return Err(PlaceError::Changed);
        }
        let parent = self.home.descend(name.folder().as_ref(), true)?;
        fs::renameat(&self.folder, self.name.bytes(), &parent, name.last().bytes())?;
        self.open = false;
        fs::fsync(&parent)?;
        Ok(seen(&fs::fstat(&self.file)?))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.open {
            // The next try removes what is left here.
            let _ = fs::unlinkat(&self.folder, self.name.bytes(), AtFlags::empty());
        }
    }
}

/// For names in messages.
pub fn path_shown(path: &Path) -> String {
    crate::name::shown(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text.as_bytes()).unwrap()
    }

    fn put(folder: &Folder, at: &str, bytes: &[u8]) -> Result<Seen, PlaceError> {
        let mut staged = folder.stage(&name(".headrace-worker/tmp"))?;
        staged.write(bytes)?;
        staged.settle()?;
        assert_eq!(staged.read_back()?.more()?, bytes);
        staged.commit(&name(at), Some(-1))
    }

    #[test]
    fn files_come_into_being_whole_and_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path(), None, false).unwrap();
        let seen = put(&folder, "a/b\n/c", b"abc").unwrap();
        assert_eq!((seen.size, seen.modified), (3, -1));
        assert_eq!(folder.look(&name("a/b\n/c")).unwrap(), Some(seen));
        put(&folder, "empty", b"").unwrap();
        std::fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"\xff")), "x").unwrap();
        symlink("/etc", dir.path().join("etc")).unwrap();
        symlink("/etc/passwd", dir.path().join("passwd")).unwrap();
        let listing = folder.list(None).unwrap();
        assert_eq!((listing.entries.len(), listing.left_out, listing.unsafe_count), (3, 2, 0));
        assert_eq!(folder.list(Some(&name("a"))).unwrap().entries.len(), 1);
        assert_eq!(folder.list(Some(&name("a/b\n/c"))).unwrap().entries.len(), 1);
        assert_eq!(folder.list(Some(&name("none"))).unwrap_err(), PlaceError::Absent);
        drop(folder.stage(&name(".headrace-worker/tmp")).unwrap());
        assert!(!dir.path().join(".headrace-worker/tmp").exists());
    }

    #[test]
    fn what_is_kept_is_gone_on_with_by_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path(), None, false).unwrap();
        let at = name(".headrace-worker/x.bytes");
        let mut staged = folder.resume(&at).unwrap().unwrap();
        staged.write(b"abcdef").unwrap();
        assert!(folder.resume(&at).unwrap().is_none(), "another is at it");
        staged.keep();
        let mut staged = folder.resume(&at).unwrap().unwrap();
        staged.cut(4).unwrap();
        staged.write(b"X").unwrap();
        assert_eq!(staged.read_back().unwrap().more().unwrap(), b"abcdX");
        // Taken away under its hands: what has the name now is not given a better one.
        std::fs::remove_file(dir.path().join(".headrace-worker/x.bytes")).unwrap();
        let other = folder.resume(&at).unwrap().unwrap();
        assert_eq!(staged.commit(&name("x"), None), Err(PlaceError::Changed));
        assert!(!dir.path().join("x").exists() && dir.path().join(".headrace-worker/x.bytes").exists());
        drop(other);
        assert!(!dir.path().join(".headrace-worker/x.bytes").exists());
        symlink("/etc/passwd", dir.path().join(".headrace-worker/x.bytes")).unwrap();
        assert!(folder.resume(&at).unwrap().is_none());
        let outside = tempfile::NamedTempFile::new_in(dir.path()).unwrap();
        std::fs::hard_link(outside.path(), dir.path().join(".headrace-worker/y.bytes")).unwrap();
        assert!(folder.resume(&name(".headrace-worker/y.bytes")).unwrap().is_none(), "it has another name");
    }

    #[test]
    fn links_lead_nowhere() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("victim"), "safe").unwrap();
        symlink(outside.path(), dir.path().join("out")).unwrap();
        symlink(outside.path().join("victim"), dir.path().join("file")).unwrap();
        let folder = Folder::open(dir.path(), None, false).unwrap();
        assert_eq!(put(&folder, "out/new", b"x").unwrap_err(), PlaceError::InTheWay("folder"));
        assert!(matches!(folder.read(&name("file"), 0), Err(PlaceError::InTheWay("file"))));
        assert!(folder.read(&name("out/victim"), 0).is_err());
        assert_eq!(folder.look(&name("out/victim")).unwrap(), None);
        // A link of the target's name is replaced, what it names is not.
        put(&folder, "file", b"x").unwrap();
        assert_eq!(std::fs::read(outside.path().join("victim")).unwrap(), b"safe");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
        rustix::fs::mknodat(CWD, dir.path().join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .unwrap();
        assert!(matches!(folder.read(&name("pipe"), 0), Err(PlaceError::InTheWay("file"))));
    }
}
