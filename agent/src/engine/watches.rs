//! The file systems being watched: which they are, their numbers, and where they can be reached.
//!
//! One `MountId` for each `s_dev`, given out in the order of discovery and never again for another. The
//! table is shared with the prefetch threads, which ask it where a mount is.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use agent_core::{MountId, Observation};
use tokio::sync::mpsc;

use super::roots::{Found, Roots};
use crate::api::query::{Place, Seen};
use crate::doctor::Check;
use crate::mounts::{
    DEFAULT_READ_AHEAD, FileSystem, Mount, MountTable, Namespace, SelectError, read_ahead_bytes, select,
};
use crate::prefetch::{MountPoint, MountResolver};
use crate::probe::Asker;

/// File systems watched at once: a node with more has them from pods that come and go, and the probe's
/// filter holds no more.
pub const MOST: usize = 256;

/// Mounts of a process that are tried for one path.
const TRIED: usize = 8;

/// What to watch: everything remote, or what was named.
#[derive(Clone, Debug)]
pub enum Wish {
    Remote,
    Named(Vec<PathBuf>),
}

#[derive(Debug, Default)]
struct Shared {
    by_id: BTreeMap<MountId, FileSystem>,
}

/// Answers the prefetch threads.
#[derive(Clone, Debug, Default)]
pub struct Places {
    namespace: Namespace,
    asker: Option<Arc<Asker>>,
    shared: Arc<RwLock<Shared>>,
}

impl MountResolver for Places {
    fn own(&self, mount: MountId, path: &[u8]) -> Option<MountPoint> {
        let shared = self.shared.read().unwrap_or_else(PoisonError::into_inner);
        let mount = shared.by_id.get(&mount)?.showing(path)?;
        Some(point_of(mount, self.namespace, Some(mount.root.clone())))
    }

    fn theirs(&self, mount: MountId, path: &[u8], via: u32) -> Vec<MountPoint> {
        let dev = {
            let shared = self.shared.read().unwrap_or_else(PoisonError::into_inner);
            shared.by_id.get(&mount).map(|known| known.dev)
        };
        let Some(dev) = dev else { return Vec::new() };
        let namespace = Namespace::of(via);
        // A process that has ended shows nothing.
        let Ok(table) = namespace.table() else { return Vec::new() };
        let asked = |mount: &&Mount| mount.hides_root() && self.asker.is_some();
        let mounts = table.of_device(dev).into_iter();
        let mounts = mounts.filter(|mount| asked(mount) || mount.outside(path).is_some());
        let point = |mount: &Mount| point_of(mount, namespace, (!asked(&mount)).then(|| mount.root.clone()));
        mounts.take(TRIED).map(point).collect()
    }

    fn root_of(&self, directory: BorrowedFd<'_>) -> Option<Box<[u8]>> {
        self.asker.as_ref()?.path(directory).ok()
    }
}

/// The named mounts must be there at the start; later they may come and go.
pub fn check(wish: &Wish, namespace: Namespace, table: &MountTable) -> Result<(), SelectError> {
    if let Wish::Named(paths) = wish {
        for path in paths {
            select(namespace, table, path)?;
        }
    }
    Ok(())
}

fn point_of(mount: &Mount, namespace: Namespace, root: Option<Box<[u8]>>) -> MountPoint {
    let path = PathBuf::from(OsString::from_vec(mount.point.to_vec()));
    MountPoint { path, root, dev: mount.dev, namespace }
}

#[derive(Debug)]
pub struct Watches {
    wish: Wish,
    places: Places,
    roots: Roots,
    by_dev: BTreeMap<u32, MountId>,
    next: u32,
    /// Remote file systems beyond `MOST`, not watched.
    pub left_out: usize,
}

/// What a new reading of the mount table changes.
#[derive(Debug, Default)]
pub struct Change {
    pub observations: Vec<Observation>,
    pub watch: Vec<u32>,
    pub unwatch: Vec<(MountId, u32)>,
}

impl Watches {
    /// With what is found out about mounts, for `found`.
    pub fn new(wish: Wish, namespace: Namespace, asker: Option<Arc<Asker>>) -> (Self, mpsc::Receiver<Found>) {
        let (roots, found) = Roots::new(namespace, asker.clone());
        let places = Places { namespace, asker, shared: Arc::default() };
        (Self { wish, places, roots, by_dev: BTreeMap::new(), next: 1, left_out: 0 }, found)
    }

    /// Takes over what was found out about a mount; the table is then to be taken over anew.
    pub fn found(&mut self, found: Found) {
        self.roots.found(found);
    }

    /// What `headrace doctor` says of mounts that are not watched yet.
    pub fn check(&self) -> Option<Check> {
        self.roots.check()
    }

    /// Whether the table is to be taken over anew, though it has not changed.
    pub fn due(&self) -> bool {
        self.roots.due()
    }

    pub fn places(&self) -> Places {
        self.places.clone()
    }

    pub fn id(&self, dev: u32) -> Option<MountId> {
        self.by_dev.get(&dev).copied()
    }

    pub fn dev(&self, mount: MountId) -> Option<u32> {
        let shared = self.places.shared.read().unwrap_or_else(PoisonError::into_inner);
        shared.by_id.get(&mount).map(|mount| mount.dev)
    }

    pub fn source(&self, mount: MountId) -> Option<Box<str>> {
        let shared = self.places.shared.read().unwrap_or_else(PoisonError::into_inner);
        shared.by_id.get(&mount).map(|mount| mount.source.clone())
    }

    /// Takes over a mount table: what is wanted now and was not, and the reverse.
    pub fn update(&mut self, table: &MountTable) -> Change {
        let mut wanted: Vec<&Mount> = match &self.wish {
            Wish::Remote => table.remote().collect(),
            Wish::Named(paths) => {
                paths.iter().filter_map(|path| select(self.places.namespace, table, path).ok()).collect()
            }
        };
        self.roots.keep(table);
        // What lies under another mount is reached by nobody who comes now; where nothing else shows its file system, files
        // that are open there are still worth watching.
        let mut mounts_of: BTreeMap<u32, Vec<&Mount>> = BTreeMap::new();
        for mount in &wanted {
            mounts_of.entry(mount.dev).or_default().push(mount);
        }
        let shadowed = |mount: &&Mount| {
            let all = mounts_of.get(&mount.dev).map_or(&[][..], Vec::as_slice);
            all.len() > 1 && table.is_hidden(mount) && all.iter().any(|other| !table.is_hidden(other))
        };
        wanted.retain(|mount| !shadowed(mount));
        let known: Vec<Mount> = wanted.into_iter().filter_map(|mount| self.roots.resolve(mount)).collect();
        let former = |dev| self.id(dev).and_then(|id| self.source(id));
        let mut wanted = FileSystem::all(known, former);
        self.left_out = wanted.len().saturating_sub(MOST);
        wanted.truncate(MOST);
        let mut change = Change::default();
        let mut shared = self.places.shared.write().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<u32> = self
            .by_dev
            .iter()
            .filter(|(dev, id)| {
                // The same number with another store behind it is another file system.
                !wanted.iter().any(|system| {
                    system.dev == **dev
                        && shared.by_id.get(id).is_some_and(|known| {
                            known.source == system.source && known.fstype == system.fstype
                        })
                })
            })
            .map(|(dev, _)| *dev)
            .collect();
        for dev in gone {
            if let Some(mount) = self.by_dev.remove(&dev) {
                shared.by_id.remove(&mount);
                change.observations.push(Observation::Unmount { mount });
                change.unwatch.push((mount, dev));
            }
        }
        for system in wanted {
            if let Some(id) = self.by_dev.get(&system.dev) {
                // It may have moved to other mount points.
                shared.by_id.insert(*id, system);
                continue;
            }
            let id = MountId(self.next);
            self.next = self.next.saturating_add(1);
            change.observations.push(Observation::Mount {
                mount: id,
                dev: system.dev,
                source: system.source.clone(),
                fstype: system.fstype.clone(),
                read_ahead_bytes: system
                    .mounts
                    .first()
                    .map_or(DEFAULT_READ_AHEAD, |mount| read_ahead_bytes(Path::new("/sys"), mount)),
            });
            change.watch.push(system.dev);
            self.by_dev.insert(system.dev, id);
            shared.by_id.insert(id, system);
        }
        change
    }

    /// Where the watched file systems are, for people.
    pub fn list(&self) -> Vec<Place> {
        let shared = self.places.shared.read().unwrap_or_else(PoisonError::into_inner);
        let seen = |mount: &Mount| Seen { point: mount.point.clone(), root: mount.root.clone() };
        let place = |(id, system): (&MountId, &FileSystem)| Place {
            mount: *id,
            dev: system.dev,
            seen: system.mounts.iter().map(seen).collect(),
        };
        shared.by_id.iter().map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n";

    fn table(lines: &str) -> MountTable {
        MountTable::parse(format!("{ROOT}{lines}").as_bytes())
    }

    #[test]
    fn a_mount_is_reached_where_the_agent_looks_or_through_its_reader() {
        let (host, own) = (Namespace::of(7), std::process::id());
        let (mut watches, _found) = Watches::new(Wish::Remote, host, None);
        let table = crate::mounts::read_table(Path::new("/proc/self/mountinfo")).unwrap();
        let real = table.covering(b"/proc").unwrap();
        let (major, minor) = (real.major(), real.minor());
        watches.update(&MountTable::parse(
            format!("{ROOT}2 1 {major}:{minor} / /data rw - nfs4 nas:/a rw\n").as_bytes(),
        ));
        let found = watches.places().own(MountId(1), b"x").unwrap();
        assert_eq!((&*found.path, found.namespace), (Path::new("/data"), host));
        let found = watches.places().theirs(MountId(1), b"x", own).remove(0);
        assert_eq!((&*found.path, found.namespace), (Path::new("/proc"), Namespace::of(own)));
    }

    #[test]
    fn what_lies_under_another_mount_is_not_taken_for_where_a_file_system_is_seen() {
        let (mut watches, _found) = Watches::new(Wish::Remote, Namespace::default(), None);
        let hidden = "2 1 0:50 / /a rw - fuse.x store rw\n3 2 0:60 / /a rw - fuse.y other rw\n";
        watches.update(&table(&format!("{hidden}4 1 0:50 / /longer rw - fuse.x store rw\n")));
        let seen = |watches: &Watches| watches.places().own(watches.id(50).unwrap(), b"x").unwrap().path;
        assert_eq!(seen(&watches), Path::new("/longer"));
        watches.update(&table(hidden));
        assert_eq!(seen(&watches), Path::new("/a"), "files that are open there are still read");
    }

    #[test]
    fn file_systems_come_and_go_under_numbers_of_their_own() {
        let (mut watches, _found) = Watches::new(Wish::Remote, Namespace::default(), None);
        assert!(watches.update(&table("")).observations.is_empty());
        let change = watches.update(&table("2 1 0:50 / /data rw - nfs4 nas:/a rw\n"));
        assert_eq!((change.watch, change.unwatch), (vec![50], vec![]));
        assert_eq!(watches.id(50), Some(MountId(1)));
        // Another store under the same device number.
        let change = watches.update(&table("2 1 0:50 / /data rw - nfs4 nas:/b rw\n"));
        assert_eq!((change.watch, change.unwatch), (vec![50], vec![(MountId(1), 50)]));
        assert_eq!(watches.id(50), Some(MountId(2)));
        let change = watches.update(&table(""));
        assert_eq!(change.unwatch, [(MountId(2), 50)]);
        assert!(watches.list().is_empty());
        assert_eq!(watches.id(50), None);
    }
}
