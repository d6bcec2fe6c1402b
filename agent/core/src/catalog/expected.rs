//! What may be there and was not seen yet: where a directory is listed only what is known.

use super::{Catalog, DirId, FileId};

impl Catalog {
    /// The file of this name in a directory, if there may be one.
    pub fn expected_in(&mut self, dir: DirId, name: &[u8]) -> Option<FileId> {
        let listed = self.listing(dir).is_some();
        if listed { self.known_file(dir, name) } else { Some(self.file_in(dir, name)) }
    }

    /// The file of this name in a directory, if it is known.
    pub fn known_file(&self, dir: DirId, name: &[u8]) -> Option<FileId> {
        self.look_up(dir, name).ok()
    }

    /// The directory of this name in another, if it is known.
    pub fn known_dir(&self, parent: DirId, name: &[u8]) -> Option<DirId> {
        let mount = self.dir(parent)?.mount;
        self.dir_names.get(&(mount, Some(parent), name.into())).copied()
    }

    /// The directory of this name in another, if there may be one.
    pub fn expected_dir(&mut self, parent: DirId, name: &[u8]) -> Option<DirId> {
        let known = self.known_dir(parent, name);
        if known.is_some() || self.listing(parent).is_some() {
            return known;
        }
        let mount = self.dir(parent)?.mount;
        Some(self.child_dir(mount, Some(parent), name))
    }
}
