//! What the simulated store holds: gathered from the whole recording before it is replayed.
//!
//! Files are those that were seen, with the size they had; directories are the recorded listings, and
//! where none was recorded, the names that were seen below, in byte order. That tells a core less than the
//! real directory would: a name that nobody touched and no listing showed does not exist here.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::observation::{Entry, EntryKind, Observation, Outcome};
use crate::trace::{Decoder, TraceError};
use crate::units::{FileKey, MountId, Nanos};

/// Bytes of names kept; a million files have about 100 MB.
const MAX_NAMES: usize = 256 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub key: FileKey,
    pub size: u64,
    pub mtime: i64,
}

type Place = (MountId, Box<[u8]>);

/// Names in byte order.
type Folder = BTreeMap<Box<[u8]>, (EntryKind, u64)>;

#[derive(Debug, Default)]
pub(super) struct Catalog {
    devices: FxHashMap<MountId, u32>,
    files: FxHashMap<Place, Item>,
    seen: FxHashMap<Place, Folder>,
    listed: FxHashMap<Place, Vec<Entry>>,
    names: usize,
}

impl Catalog {
    pub fn gather(recording: Decoder<'_>) -> Self {
        let mut catalog = Self::default();
        for item in recording {
            catalog.add(item);
        }
        catalog
    }

    fn add(&mut self, item: Result<(Nanos, Observation), TraceError>) {
        match item {
            Ok((_, Observation::Mount { mount, dev, .. })) => {
                self.devices.insert(mount, dev);
            }
            Ok((_, Observation::Sight { file, mount, path, size, mtime })) => {
                let item = Item { key: file, size, mtime };
                self.add_file(mount, path, item);
            }
            Ok((_, Observation::Listing { mount, dir, outcome: Outcome::Done, entries, .. })) => {
                let bytes = entries.iter().map(|entry| entry.name.len() + size_of::<Entry>()).sum();
                let known = self.listed.get(&(mount, dir.clone())).map_or(0, Vec::len);
                if entries.len() > known && self.pay(bytes) {
                    self.listed.insert((mount, dir), entries);
                }
            }
            // Everything else says nothing of what the store holds.
            Ok(_) | Err(_) => {}
        }
    }

    fn add_file(&mut self, mount: MountId, path: Box<[u8]>, item: Item) {
        let (mut kind, mut ino) = (EntryKind::File, item.key.ino);
        let mut below = &*path;
        // The names on the way down to it; above a folder that is known all are.
        loop {
            let (dir, name) = split(below);
            if name.is_empty() || !self.pay(2 * below.len() + size_of::<Entry>()) {
                break;
            }
            let known = self.seen.contains_key(&(mount, dir.into()));
            let folder = self.seen.entry((mount, dir.into())).or_default();
            folder.entry(name.into()).or_insert((kind, ino));
            if known || dir.is_empty() {
                break;
            }
            // The number of a folder that was never listed is not known.
            (below, kind, ino) = (dir, EntryKind::Directory, 0);
        }
        self.files.insert((mount, path), item);
    }

    fn pay(&mut self, bytes: usize) -> bool {
        self.names = self.names.saturating_add(bytes);
        self.names <= MAX_NAMES
    }

    /// A file of the store. Of one that was only listed the size is taken from those beside it.
    pub fn file(&self, mount: MountId, path: &[u8]) -> Option<Item> {
        if let Some(item) = self.files.get(&(mount, path.into())) {
            return Some(*item);
        }
        let (dir, name) = split(path);
        let place = (mount, dir.into());
        let is_it = |entry: &&Entry| *entry.name == *name && entry.kind == EntryKind::File;
        let entry = self.listed.get(&place)?.iter().find(is_it)?;
        let dev = *self.devices.get(&mount)?;
        let sizes = self.seen.get(&place)?.keys().filter_map(|name| {
            let path = [dir, name].join(&b"/"[..dir.len().min(1)]);
            self.files.get(&(mount, path.into())).map(|item| item.size)
        });
        let (count, sum) =
            sizes.fold((0u64, 0u128), |(count, sum), size| (count + 1, sum + u128::from(size)));
        Some(Item {
            key: FileKey { dev, ino: entry.ino },
            size: u64::try_from(sum.checked_div(u128::from(count))?).ok()?,
            mtime: 0,
        })
    }

    /// The names of a directory, if there is one.
    pub fn listing(&self, mount: MountId, dir: &[u8]) -> Option<Vec<Entry>> {
        let place = (mount, dir.into());
        if let Some(entries) = self.listed.get(&place) {
            return Some(entries.clone());
        }
        let entries =
            self.seen.get(&place)?.iter().map(|(name, &(kind, ino))| Entry { name: name.clone(), kind, ino });
        Some(entries.collect())
    }
}

/// Folder and name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default()),
        None => (&[], path),
    }
}
