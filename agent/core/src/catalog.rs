//! The names the core knows: directories and files of the watched file systems, by dense numbers.
//!
//! A file is known by its path from the first sight or from a listing, and by its inode once it has been
//! seen. The catalog only grows until `Core` drops it whole at its limit: numbers are never used again
//! for another name, so that whoever holds one may trust it.

use std::hash::{Hash, Hasher};

use rustc_hash::{FxHashMap, FxHasher};

use crate::observation::{Entry, EntryKind};
use crate::ranking::Ranking;
use crate::residency::{Residency, Settled};
use crate::units::{FileKey, MountId};

mod expected;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirId(pub u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// A directory as it was listed.
#[derive(Debug)]
pub struct Listed {
    pub files: Vec<FileId>,
    pub dirs: Vec<DirId>,
    pub by_name: Ranking,
    /// `None` where it is the same as by name.
    pub by_number: Option<Ranking>,
    /// By inode number, a guess at creation order.
    pub by_ino: Ranking,
    pub dirs_by_name: Ranking,
    pub dirs_by_number: Option<Ranking>,
}

/// What is known of a directory's contents.
#[derive(Debug, Default)]
pub enum Listing {
    #[default]
    Unknown,
    Asked,
    Known(Box<Listed>),
    /// It could not be listed (gone, refused, failed, turned away, too large); asked again when files of it have been read since.
    Closed,
}

/// Files read in a directory that could not be listed before it is asked again, the first time; twice as many each time it
/// fails, so that one that never can be is asked a few times in its life.
const PATIENCE: u32 = 16;
const MAX_DOUBLINGS: u8 = 16;

#[derive(Debug)]
pub struct Dir {
    pub mount: MountId,
    pub parent: Option<DirId>,
    pub name: Box<[u8]>,
    pub listing: Listing,
    /// Position in its parent's listing.
    pub slot: u32,
    /// Files visited that the listing does not have.
    strangers: u32,
    /// How often in a row it could not be listed.
    failures: u8,
}

#[derive(Debug)]
pub struct File {
    pub dir: DirId,
    pub name: Box<[u8]>,
    /// Bytes; 0 while unknown.
    pub size: u64,
    /// 0 while unknown.
    pub ino: u64,
    /// Position in its directory's listing.
    pub slot: u32,
    pub key: Option<FileKey>,
    /// Its name has been looked up ahead of a reader.
    pub looked_up: bool,
    /// Fetches of it in a row that came to nothing.
    pub failures: u8,
    pub reads: u32,
    pub read_bytes: u64,
    pub covered_bytes: u64,
    /// The probe only counts for this file, until its pages come or go or it is named anew: whoever reads it by then may be
    /// another.
    pub quiet: bool,
    pub residency: Option<Box<Residency>>,
}

impl File {
    /// What was known of its pages is void; returns whose claims end.
    fn forget_pages(&mut self) -> Settled {
        self.quiet = false;
        self.residency.take().map_or_else(Settled::new, |mut residency| residency.removed(&(0..u64::MAX)))
    }
}

/// A directory by its parent and name.
type DirName = (MountId, Option<DirId>, Box<[u8]>);

#[derive(Debug, Default)]
pub struct Catalog {
    dirs: Vec<Dir>,
    files: Vec<File>,
    /// Hash of (directory, name) → file; a collision moves on to the next number.
    names: FxHashMap<u64, FileId>,
    dir_names: FxHashMap<DirName, DirId>,
    keys: FxHashMap<FileKey, FileId>,
}

/// Names in the order of their bytes, and by the numbers in them where that is another.
fn rankings<'a>(names: impl Iterator<Item = Option<&'a [u8]>>) -> (Ranking, Option<Ranking>) {
    let names: Vec<&[u8]> = names.map(Option::unwrap_or_default).collect();
    (Ranking::by(names.len(), |one, other| names.get(one).cmp(&names.get(other))), Ranking::by_number(&names))
}

fn name_hash(dir: DirId, name: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    (dir.0, name).hash(&mut hasher);
    hasher.finish()
}

impl Catalog {
    /// Names held, of files and directories.
    pub fn names(&self) -> usize {
        self.files.len() + self.dirs.len()
    }

    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    pub fn files(&self) -> impl Iterator<Item = (FileId, &File)> {
        (0u32..).map(FileId).zip(&self.files)
    }

    /// Numbers come only from this catalog, so the look-up cannot fail; `None` keeps the proof local.
    pub fn file(&self, id: FileId) -> Option<&File> {
        self.files.get(id.0 as usize)
    }

    pub fn file_mut(&mut self, id: FileId) -> Option<&mut File> {
        self.files.get_mut(id.0 as usize)
    }

    pub fn dir(&self, id: DirId) -> Option<&Dir> {
        self.dirs.get(id.0 as usize)
    }

    /// A directory's listing, where it is known.
    pub fn listing(&self, id: DirId) -> Option<&Listed> {
        match &self.dir(id)?.listing {
            Listing::Known(listed) => Some(listed),
            Listing::Unknown | Listing::Asked | Listing::Closed => None,
        }
    }

    pub fn by_key(&self, key: FileKey) -> Option<FileId> {
        self.keys.get(&key).copied()
    }

    pub fn mount_of(&self, file: FileId) -> Option<MountId> {
        Some(self.dir(self.file(file)?.dir)?.mount)
    }

    /// The directory at a path, made when it is new.
    pub fn dir_at(&mut self, mount: MountId, path: &[u8]) -> DirId {
        let mut at = self.child_dir(mount, None, b"");
        for component in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            at = self.child_dir(mount, Some(at), component);
        }
        at
    }

    fn child_dir(&mut self, mount: MountId, parent: Option<DirId>, name: &[u8]) -> DirId {
        let next = DirId(u32::try_from(self.dirs.len()).unwrap_or(u32::MAX));
        let id = *self.dir_names.entry((mount, parent, name.into())).or_insert(next);
        if id == next {
            self.dirs.push(Dir {
                mount,
                parent,
                name: name.into(),
                listing: Listing::Unknown,
                slot: 0,
                strangers: 0,
                failures: 0,
            });
        }
        id
    }

    /// The file of this name in a directory, or the number by which it would be found.
    fn look_up(&self, dir: DirId, name: &[u8]) -> Result<FileId, u64> {
        let mut hash = name_hash(dir, name);
        while let Some(&id) = self.names.get(&hash) {
            if self.file(id).is_some_and(|file| file.dir == dir && *file.name == *name) {
                return Ok(id);
            }
            hash = hash.wrapping_add(1);
        }
        Err(hash)
    }

    /// The file of this name in a directory, made when it is new.
    pub fn file_in(&mut self, dir: DirId, name: &[u8]) -> FileId {
        let hash = match self.look_up(dir, name) {
            Ok(id) => return id,
            Err(hash) => hash,
        };
        let id = FileId(u32::try_from(self.files.len()).unwrap_or(u32::MAX));
        self.names.insert(hash, id);
        self.files.push(File {
            dir,
            name: name.into(),
            size: 0,
            ino: 0,
            slot: 0,
            key: None,
            looked_up: false,
            failures: 0,
            reads: 0,
            read_bytes: 0,
            covered_bytes: 0,
            quiet: false,
            residency: None,
        });
        id
    }

    pub fn file_at(&mut self, mount: MountId, path: &[u8]) -> FileId {
        let (dir, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b""[..], path),
        };
        let dir = self.dir_at(mount, dir);
        self.file_in(dir, name)
    }

    /// The file at a path, of any mount where none is given, if it is known; makes nothing.
    pub fn find(&self, mount: Option<MountId>, path: &[u8]) -> Option<FileId> {
        let on = |id| mount.is_none_or(|mount| self.mount_of(id) == Some(mount));
        self.files().find(|(id, file)| self.is_at(file, path) && on(*id)).map(|(id, _)| id)
    }

    /// Whether this is the file's path: compared from its end, so that most files need no more than a look.
    fn is_at(&self, file: &File, path: &[u8]) -> bool {
        let Some(mut rest) = path.strip_suffix(&*file.name) else {
            return false;
        };
        let mut at = Some(file.dir);
        while let Some(dir) = at.and_then(|id| self.dir(id)) {
            if !dir.name.is_empty() {
                let before = rest.strip_suffix(b"/").and_then(|rest| rest.strip_suffix(&*dir.name));
                let Some(before) = before else { return false };
                rest = before;
            }
            at = dir.parent;
        }
        rest.is_empty()
    }

    /// Joins a name and an inode. A name that has become another inode starts afresh, and a name whose inode has gone
    /// to another has none; returns the claims that went with either, for the ledger.
    #[must_use]
    pub fn bind(&mut self, id: FileId, key: FileKey, size: u64) -> Settled {
        let mut lost = Settled::new();
        let Some(file) = self.files.get_mut(id.0 as usize) else {
            return lost;
        };
        if let Some(old) = file.key
            && old != key
        {
            // After a rename the old inode may have another name by now.
            if self.keys.get(&old) == Some(&id) {
                self.keys.remove(&old);
            }
            lost = file.forget_pages();
        }
        file.key = Some(key);
        file.size = size;
        if file.ino == 0 {
            file.ino = key.ino;
        }
        let former = self.keys.insert(key, id).filter(|former| *former != id);
        let Some(former) = former.and_then(|former| self.files.get_mut(former.0 as usize)) else {
            return lost;
        };
        // Renamed, or a hard link: what is the inode's goes with it. Claims are settled by name.
        former.key = None;
        let (quiet, mut pages) = (std::mem::take(&mut former.quiet), former.residency.take());
        if let Some(pages) = &mut pages {
            lost.extend(pages.unclaim());
        }
        if let Some(file) = self.files.get_mut(id.0 as usize) {
            file.quiet = quiet;
            file.residency = pages.filter(|pages| !pages.is_empty()).or(file.residency.take());
        }
        lost
    }

    /// Path of a file, relative to the root of its file system.
    pub fn path(&self, id: FileId) -> Box<[u8]> {
        let Some(file) = self.file(id) else {
            return Box::default();
        };
        let mut path = self.dir_path(file.dir).into_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&file.name);
        path.into()
    }

    pub fn dir_path(&self, id: DirId) -> Box<[u8]> {
        let mut names = Vec::new();
        let mut at = Some(id);
        while let Some(dir) = at.and_then(|id| self.dir(id)) {
            if !dir.name.is_empty() {
                names.push(&*dir.name);
            }
            at = dir.parent;
        }
        names.reverse();
        names.join(&b'/').into()
    }

    /// Marks a directory as being listed; `false` when there is nothing to ask.
    pub fn ask(&mut self, id: DirId) -> bool {
        match self.dirs.get_mut(id.0 as usize) {
            Some(dir) if matches!(dir.listing, Listing::Unknown) => {
                dir.listing = Listing::Asked;
                true
            }
            _ => false,
        }
    }

    /// A file was visited that its directory's listing does not have: it came later. Returns the directory
    /// when so many did, an eighth of those listed, that it should be listed anew; one that could not be listed
    /// when enough of it was read since to try again.
    pub fn outgrown(&mut self, id: FileId) -> Option<DirId> {
        let (dir, slot) = self.file(id).map(|file| (file.dir, file.slot as usize))?;
        let known = self.dirs.get_mut(dir.0 as usize)?;
        let enough = match &known.listing {
            Listing::Unknown | Listing::Asked => return None,
            Listing::Known(listed) if listed.files.get(slot) == Some(&id) => return None,
            Listing::Known(listed) => listed.files.len().div_ceil(8) + 1,
            Listing::Closed => (PATIENCE << known.failures.saturating_sub(1).min(MAX_DOUBLINGS)) as usize,
        };
        known.strangers += 1;
        if (known.strangers as usize) < enough {
            return None;
        }
        known.strangers = 0;
        known.listing = Listing::Unknown;
        Some(dir)
    }

    /// Takes over a listing; `None` when it failed.
    pub fn listed(&mut self, id: DirId, entries: Option<&[Entry]>) {
        let Some(mount) = self.dir(id).map(|dir| dir.mount) else {
            return;
        };
        let listing = match entries {
            None => Listing::Closed,
            Some(entries) => {
                let (mut files, mut dirs) = (Vec::new(), Vec::new());
                for entry in entries {
                    match entry.kind {
                        EntryKind::File => {
                            let file = self.file_in(id, &entry.name);
                            if let Some(known) = self.files.get_mut(file.0 as usize) {
                                known.ino = entry.ino;
                                known.slot = u32::try_from(files.len()).unwrap_or(u32::MAX);
                            }
                            files.push(file);
                        }
                        EntryKind::Directory => {
                            let dir = self.child_dir(mount, Some(id), &entry.name);
                            if let Some(known) = self.dirs.get_mut(dir.0 as usize) {
                                known.slot = u32::try_from(dirs.len()).unwrap_or(u32::MAX);
                            }
                            dirs.push(dir);
                        }
                        EntryKind::Other => {}
                    }
                }
                let (by_name, by_number) =
                    rankings(files.iter().map(|id| self.file(*id).map(|file| &*file.name)));
                let ino = |slot: usize| files.get(slot).and_then(|id| self.file(*id)).map(|file| file.ino);
                let by_ino = Ranking::by(files.len(), |one, other| ino(one).cmp(&ino(other)));
                let (dirs_by_name, dirs_by_number) =
                    rankings(dirs.iter().map(|id| self.dir(*id).map(|dir| &*dir.name)));
                Listing::Known(Box::new(Listed {
                    files,
                    dirs,
                    by_name,
                    by_number,
                    by_ino,
                    dirs_by_name,
                    dirs_by_number,
                }))
            }
        };
        if let Some(dir) = self.dirs.get_mut(id.0 as usize) {
            dir.failures = match listing {
                Listing::Closed => dir.failures.saturating_add(1),
                _ => 0,
            };
            dir.strangers = 0;
            dir.listing = listing;
        }
    }

    /// Forgets what a mount's inodes were (it has gone); the names stay. Returns the claims on their pages.
    #[must_use]
    pub fn unbind_mount(&mut self, mount: MountId) -> Settled {
        let mut lost = Settled::new();
        for file in &mut self.files {
            if self.dirs.get(file.dir.0 as usize).is_some_and(|dir| dir.mount == mount) {
                if let Some(key) = file.key.take() {
                    self.keys.remove(&key);
                }
                lost.extend(file.forget_pages());
            }
        }
        for dir in self.dirs.iter_mut().filter(|dir| dir.mount == mount) {
            dir.listing = Listing::Unknown;
            dir.failures = 0;
        }
        lost
    }

    /// Forgets everything; returns the claims on any page.
    #[must_use]
    pub fn start_over(&mut self) -> Settled {
        let lost = self.files.iter_mut().flat_map(File::forget_pages).collect();
        *self = Self::default();
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::residency::Residency;

    const MOUNT: MountId = MountId(1);

    fn key(ino: u64) -> FileKey {
        FileKey { dev: 5, ino }
    }

    #[test]
    fn a_name_that_gets_a_new_inode_leaves_the_old_one_to_who_has_it_now() {
        let mut catalog = Catalog::default();
        let (written, renamed) = (catalog.file_at(MOUNT, b"x.tmp"), catalog.file_at(MOUNT, b"x"));
        assert!(catalog.bind(written, key(7), 4096).is_empty());
        let mut residency = Residency::default();
        let _ = residency.added_by_thread(&(0..1));
        let file = catalog.file_mut(written).unwrap();
        (file.quiet, file.residency) = (true, Some(residency.into()));
        assert!(catalog.bind(renamed, key(7), 4096).is_empty());
        assert_eq!(catalog.by_key(key(7)), Some(renamed));
        assert!(catalog.file(written).unwrap().key.is_none());
        let pages =
            |id| catalog.file(id).unwrap().residency.as_ref().map_or(0, |residency| residency.pages());
        assert_eq!((pages(written), pages(renamed)), (0, 1), "pages are the inode's");
        let quiet = |id| catalog.file(id).unwrap().quiet;
        assert_eq!((quiet(written), quiet(renamed)), (false, true), "and what the probe tells of it");
        let _ = catalog.bind(written, key(8), 4096);
        assert_eq!(catalog.by_key(key(7)), Some(renamed), "written again under its first name");
        assert_eq!(catalog.by_key(key(8)), Some(written));
    }

    #[test]
    fn a_path_finds_its_file_and_no_other() {
        let mut catalog = Catalog::default();
        let ids: Vec<FileId> = ["a", "xa", "d/a", "d/e/a", "e/a"]
            .iter()
            .map(|path| catalog.file_at(MOUNT, path.as_bytes()))
            .collect();
        let find = |path: &str| catalog.find(Some(MOUNT), path.as_bytes());
        for (id, path) in ids.iter().zip(["a", "xa", "d/a", "d/e/a", "e/a"]) {
            assert_eq!(find(path), Some(*id), "{path}");
        }
        for path in ["", "/a", "a/", "d", "d/", "x/a", "d/e", "e/d/a", "da"] {
            assert_eq!(find(path), None, "{path}");
        }
        assert_eq!(catalog.find(Some(MountId(2)), b"a"), None);
        assert_eq!(catalog.find(None, b"d/a"), Some(ids[2]));
    }
}
