//! The file systems being watched: which they are, their numbers, and where they can be reached.
//!
//! One `MountId` for each `s_dev`, given out in the order of discovery and never again for another. The
//! table is shared with the prefetch threads, which ask it where a mount is.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use agent_core::{MountId, Observation, Outcome};

use super::roots::{Roots, Without};
use crate::api::query::{Place, Seen};
use crate::doctor::Check;
use crate::mounts::{
    DEFAULT_READ_AHEAD, FileSystem, MOST_MOUNTS, Mount, MountTable, Namespace, SelectError, Spot,
    read_ahead_bytes, select, selected,
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
    fn own(&self, mount: MountId, path: &[u8]) -> Result<MountPoint, Outcome> {
        let shared = self.shared.read().unwrap_or_else(PoisonError::into_inner);
        let system = shared.by_id.get(&mount).ok_or(Outcome::Absent)?;
        match system.showing(path) {
            Some(mount) => Ok(point_of(mount, self.namespace, Some(mount.root.clone()))),
            // It is being found out where: its files are not gone, and none of them would be tried again.
            None if system.mounts.is_empty() => Err(Outcome::Failed),
            None => Err(Outcome::Absent),
        }
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

/// How much of a device is seen without one of its mounts.
fn without(places: &Places, by_dev: &BTreeMap<u32, MountId>, dev: u32) -> Without {
    let shared = places.shared.read().unwrap_or_else(PoisonError::into_inner);
    match by_dev.get(&dev).and_then(|id| shared.by_id.get(id)) {
        None => Without::Nothing,
        Some(system) if system.showing(b"").is_some() => Without::All,
        Some(_) => Without::Parts,
    }
}

/// The wish by its mount points, links in paths followed: they must be there at the start; later they may come and go.
pub fn by_points(wish: Wish, namespace: Namespace, table: &MountTable) -> Result<Wish, SelectError> {
    let Wish::Named(paths) = wish else { return Ok(wish) };
    let point = |path: &PathBuf| {
        let mount = select(namespace, table, path)?;
        Ok(PathBuf::from(OsStr::from_bytes(&mount.point)))
    };
    Ok(Wish::Named(paths.iter().map(point).collect::<Result<_, _>>()?))
}

fn point_of(mount: &Mount, namespace: Namespace, root: Option<Box<[u8]>>) -> MountPoint {
    MountPoint { spot: Spot::of(mount), root, namespace }
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
    /// File systems with more folders than are kept, which had not before.
    pub crowded: Vec<Box<str>>,
}

impl Watches {
    pub fn new(wish: Wish, namespace: Namespace, asker: Option<Arc<Asker>>) -> Self {
        let roots = Roots::new(namespace, asker.clone());
        let places = Places { namespace, asker, shared: Arc::default() };
        Self { wish, places, roots, by_dev: BTreeMap::new(), next: 1, left_out: 0 }
    }

    /// Takes over what was found out about mounts; whether the table is then to be taken over anew.
    pub fn take(&mut self) -> bool {
        let Self { roots, places, by_dev, .. } = self;
        roots.take(|dev| without(places, by_dev, dev))
    }

    /// What `headrace doctor` says of mounts that are not watched yet, or not as they should be.
    pub fn checks(&self) -> Vec<Check> {
        let shared = self.places.shared.read().unwrap_or_else(PoisonError::into_inner);
        let crowded = shared.by_id.values().filter(|system| system.left_out > 0).map(|system| {
            Check::warn(
                "mounted folders",
                format!(
                    "{}: {} folders of it beyond the {MOST_MOUNTS} of a file system that an agent tells of",
                    system.source, system.left_out
                ),
                "reads there are seen, but Datasets that lie there are not known to be on this node; run fewer pods with \
                 volumes of it here, or mount the export as a whole",
            )
        });
        let mut checks: Vec<Check> = crowded.collect();
        drop(shared);
        checks.extend(self.roots.check(|dev| without(&self.places, &self.by_dev, dev)));
        checks
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
        let wanted: Vec<&Mount> = match &self.wish {
            Wish::Remote => table.remote().collect(),
            Wish::Named(points) => points.iter().filter_map(|point| selected(table, point)).collect(),
        };
        // What lies under another mount is reached by nobody who comes now; where nothing else shows its file system, files
        // that are open there are still worth watching.
        let ways = table.ways();
        let wanted: Vec<(&Mount, bool)> =
            wanted.into_iter().map(|mount| (mount, ways.is_hidden(mount))).collect();
        let shown: HashSet<u32> =
            wanted.iter().filter(|(_, hidden)| !hidden).map(|(mount, _)| mount.dev).collect();
        let wanted = wanted.into_iter().filter(|(mount, hidden)| !hidden || !shown.contains(&mount.dev));
        let wanted: Vec<&Mount> = wanted.map(|(mount, _)| mount).collect();
        self.roots.keep(&wanted);
        let (mut known, mut asked) = (Vec::new(), Vec::new());
        for mount in wanted {
            match self.roots.resolve(mount) {
                Some(mount) => known.push(mount),
                None => asked.push(mount),
            }
        }
        let shared = self.places.shared.read().unwrap_or_else(PoisonError::into_inner);
        let former = |dev| self.by_dev.get(&dev).and_then(|id| shared.by_id.get(id));
        let mut wanted = FileSystem::all(known, &asked, former);
        let crowded = wanted.iter().filter(|system| {
            system.left_out > 0 && former(system.dev).is_none_or(|former| former.left_out == 0)
        });
        let mut change =
            Change { crowded: crowded.map(|system| system.source.clone()).collect(), ..Change::default() };
        drop(shared);
        self.left_out = wanted.len().saturating_sub(MOST);
        wanted.truncate(MOST);
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
        let seen = |mount: &Mount, spot| Seen { point: mount.point.clone(), root: mount.root.clone(), spot };
        let place = |(id, system): (&MountId, &FileSystem)| {
            let there = system.mounts.iter().map(|mount| seen(mount, Some(Spot::of(mount))));
            let left = system.left.iter().map(|mount| seen(mount, None));
            Place { mount: *id, dev: system.dev, seen: there.chain(left).collect() }
        };
        shared.by_id.iter().map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mounts::escape;

    const ROOT: &str = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n";

    fn table(lines: &str) -> MountTable {
        MountTable::parse(format!("{ROOT}{lines}").as_bytes())
    }

    #[test]
    fn a_mount_is_reached_where_the_agent_looks_or_through_its_reader() {
        let (host, own) = (Namespace::of(7), std::process::id());
        let mut watches = Watches::new(Wish::Remote, host, None);
        let table = crate::mounts::read_table(Path::new("/proc/self/mountinfo")).unwrap();
        let real = table.covering(b"/proc").unwrap();
        let (major, minor) = (real.major(), real.minor());
        watches.update(&MountTable::parse(
            format!("{ROOT}2 1 {major}:{minor} / /data rw - nfs4 nas:/a rw\n").as_bytes(),
        ));
        let found = watches.places().own(MountId(1), b"x").unwrap();
        assert_eq!((&*found.spot.point, found.namespace), (&b"/data"[..], host));
        let found = watches.places().theirs(MountId(1), b"x", own).remove(0);
        assert_eq!((&*found.spot.point, found.namespace), (&b"/proc"[..], Namespace::of(own)));
    }

    #[test]
    fn what_lies_under_another_mount_is_not_taken_for_where_a_file_system_is_seen() {
        let mut watches = Watches::new(Wish::Remote, Namespace::default(), None);
        let hidden = "2 1 0:50 / /a rw - fuse.x store rw\n3 2 0:60 / /a rw - fuse.y other rw\n";
        watches.update(&table(&format!("{hidden}4 1 0:50 / /longer rw - fuse.x store rw\n")));
        let seen =
            |watches: &Watches| watches.places().own(watches.id(50).unwrap(), b"x").unwrap().spot.point;
        assert_eq!(&*seen(&watches), b"/longer");
        watches.update(&table(hidden));
        assert_eq!(&*seen(&watches), b"/a", "files that are open there are still read");
    }

    #[test]
    fn file_systems_come_and_go_under_numbers_of_their_own() {
        let mut watches = Watches::new(Wish::Remote, Namespace::default(), None);
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

    /// Answers that each wait for a word, by the folder that the source names.
    fn answering(watches: &mut Watches) -> std::sync::mpsc::Sender<()> {
        let (go, wait) = std::sync::mpsc::channel();
        watches.roots = Roots::answered(move |spot| {
            wait.recv().map_err(|_| "the server is away".to_owned())?;
            Ok(spot.source.strip_prefix("nas:/e").unwrap_or("/").as_bytes().into())
        });
        go
    }

    fn taken(watches: &mut Watches) {
        let begin = std::time::Instant::now();
        while !watches.take() {
            assert!(begin.elapsed().as_secs() < 20, "no answer");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Has one mount answered for, and takes the table over when that has come.
    fn answered(watches: &mut Watches, go: &std::sync::mpsc::Sender<()>, table: &MountTable) -> Change {
        go.send(()).unwrap();
        taken(watches);
        watches.update(table)
    }

    #[test]
    fn a_file_system_lives_on_while_its_next_mount_is_asked_about() {
        let mut watches = Watches::new(Wish::Remote, Namespace::default(), None);
        let go = answering(&mut watches);
        let one = "2 1 0:50 / /pods/1 rw - nfs4 nas:/e/pvc-1 rw\n";
        let two = "3 1 0:50 / /pods/2 rw - nfs4 nas:/e/pvc-2 rw\n";
        let other = "3 1 0:50 / /pods/2 rw - nfs4 nas:/other/pvc-2 rw\n";
        assert!(watches.update(&table(one)).observations.is_empty(), "nothing is known yet");
        assert!(watches.checks()[0].finding.starts_with("not watched yet: /pods/1"));
        assert_eq!(answered(&mut watches, &go, &table(one)).watch, [50]);
        let own = |watches: &Watches, path: &[u8]| watches.places().own(MountId(1), path);
        assert!(own(&watches, b"pvc-1/x").is_ok() && watches.checks().is_empty());

        let change = watches.update(&table(two));
        assert!(change.observations.is_empty() && change.unwatch.is_empty() && change.watch.is_empty());
        assert_eq!(own(&watches, b"pvc-1/x"), Err(Outcome::Failed), "it is not gone, and nothing is opened");
        let seen = |watches: &Watches| {
            let seen = watches.list().remove(0).seen;
            seen.iter().map(|seen| (escape(&seen.root), seen.spot.is_some())).collect::<Vec<_>>()
        };
        assert_eq!(seen(&watches), [("/pvc-1".to_owned(), false)], "what is told of it stays");
        assert!(watches.checks()[0].finding.starts_with("reads are seen, "), "{:?}", watches.checks());

        let change = answered(&mut watches, &go, &table(two));
        assert!(change.observations.is_empty() && watches.checks().is_empty());
        assert_eq!(seen(&watches), [("/pvc-2".to_owned(), true)]);
        assert!(own(&watches, b"pvc-2/x").is_ok());
        assert_eq!(own(&watches, b"pvc-1/x"), Err(Outcome::Absent));
        assert_eq!(watches.update(&table(other)).unwatch, [(MountId(1), 50)], "another store's");
        assert!(watches.update(&table("")).unwatch.is_empty());
    }

    #[test]
    fn a_mount_that_nobody_wants_any_more_is_asked_about_no_more() {
        let mut watches = Watches::new(Wish::Remote, Namespace::default(), None);
        // Nobody is there to give the word.
        drop(answering(&mut watches));
        let hidden = "2 1 0:50 / /a rw - nfs4 nas:/e/a rw\n3 2 0:60 / /a rw - tmpfs x rw\n";
        let both = table(&format!("{hidden}4 1 0:50 / /b rw - nfs4 nas:/e/b rw\n"));
        let failed = |watches: &mut Watches, table: &MountTable| {
            watches.update(table);
            taken(watches);
            watches.update(table);
        };
        failed(&mut watches, &table(hidden));
        assert!(watches.checks()[0].finding.contains("/a (the question failed: the server is away)"));
        watches.roots.age();
        assert!(watches.due());
        failed(&mut watches, &both);
        assert!(!watches.due());
        let finding = watches.checks().remove(0).finding;
        assert!(finding.contains("/b (") && !finding.contains("/a ("), "{finding}");
    }

    #[test]
    fn folders_that_are_left_out_are_told_of() {
        let mut watches = Watches::new(Wish::Remote, Namespace::default(), None);
        let of = |count: usize| {
            let line = |n| format!("{} 1 0:50 /{n} /m/{n} rw - fuse.x store rw\n", n + 2);
            table(&(0..count).map(line).collect::<String>())
        };
        assert!(watches.update(&of(MOST_MOUNTS)).crowded.is_empty() && watches.checks().is_empty());
        assert_eq!(watches.update(&of(MOST_MOUNTS + 2)).crowded, ["store".into()]);
        assert!(watches.checks()[0].finding.starts_with("store: 2 folders"));
        assert!(watches.update(&of(MOST_MOUNTS + 3)).crowded.is_empty(), "said once");
        watches.update(&of(MOST_MOUNTS));
        assert!(watches.checks().is_empty());
    }
}
