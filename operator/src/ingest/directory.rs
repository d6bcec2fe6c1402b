//! Which Dataset lies on which file system, and the numbers that stand for Datasets on the wire.
//!
//! A number is given out once in this process's life and never for another Dataset, so that a report which is
//! on its way while Datasets change can be misread by nobody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use operator_api::report::v1::{Binding, Source};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::inventory::Name;

/// Folders of Datasets that one agent is told of. Each is told for each mount that shows it: a node whose pods mount a file
/// system for themselves (FUSE) names it once for each of them, and one that lies can name it 256 times.
pub const MOST_BINDINGS: usize = 4_096;

/// One mount of a Dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// `namespace/name`.
    pub dataset: Name,
    /// The store's URL as the Dataset names it, or the mount's source as mountinfo has it.
    pub source: Name,
    /// Where it lies in the Dataset; empty: the root.
    pub prefix: Name,
}

#[derive(Debug, Default)]
struct Known {
    /// By the part of a source that must be equal whatever the folder.
    folders: FxHashMap<Box<str>, Vec<Placed>>,
    datasets: FxHashMap<Name, (u32, Vec<Arc<Folder>>)>,
    next: u32,
}

/// A folder with what each agent that comes is told of it, worked out once.
#[derive(Debug)]
struct Placed {
    folder: Arc<Folder>,
    /// The source in the words of mountinfo.
    source: Box<str>,
    number: u32,
    /// Folders of its Dataset.
    all: u32,
}

/// Shared by all streams.
#[derive(Debug, Default)]
pub struct Directory {
    known: RwLock<Known>,
    revision: AtomicU64,
}

/// What an agent may speak about.
#[derive(Clone, Debug, Default)]
pub struct Bound {
    pub bindings: Vec<Binding>,
    pub names: FxHashMap<u32, Name>,
    /// Folders that were left out for want of room.
    pub left_out: usize,
}

impl Directory {
    /// Grows with each change; compared to see whether bindings must be told again.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Whole Datasets at once.
    pub fn set(&self, folders: impl IntoIterator<Item = Folder>) {
        let mut by_name: std::collections::BTreeMap<Name, Vec<Folder>> = std::collections::BTreeMap::new();
        for folder in folders {
            by_name.entry(folder.dataset.clone()).or_default().push(folder);
        }
        let gone: Vec<Name> = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            known.datasets.keys().filter(|name| !by_name.contains_key(*name)).cloned().collect()
        };
        for name in gone {
            self.remove(&name);
        }
        for (name, folders) in by_name {
            self.put(&name, folders);
        }
    }

    /// A Dataset's folders, in place of those it had.
    pub fn put(&self, dataset: &Name, folders: Vec<Folder>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let same = |(_, former): &(u32, Vec<Arc<Folder>>)| former.iter().map(|f| &**f).eq(&folders);
        if known.datasets.get(dataset).is_some_and(same) {
            return;
        }
        let number = match known.forget(dataset) {
            Some(number) => number,
            None => {
                known.next = known.next.saturating_add(1);
                known.next
            }
        };
        let folders: Vec<Arc<Folder>> = folders.into_iter().map(Arc::new).collect();
        let all = u32::try_from(folders.len()).unwrap_or(u32::MAX);
        for folder in &folders {
            let source = normal(&folder.source).into_boxed_str();
            let key = root(&source).into();
            let placed = Placed { folder: folder.clone(), source, number, all };
            known.folders.entry(key).or_default().push(placed);
        }
        known.datasets.insert(dataset.clone(), (number, folders));
        self.revision.fetch_add(1, Ordering::AcqRel);
    }

    /// A Dataset is gone; its number is never given to another.
    pub fn remove(&self, dataset: &str) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.forget(dataset).is_some() {
            self.revision.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The number of a Dataset.
    pub fn number(&self, dataset: &str) -> Option<u32> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.datasets.get(dataset).map(|(number, _)| *number)
    }

    /// The Datasets on a file system: one that is there as a whole before one that lies in a folder of it, then by name.
    pub fn found_on(&self, source: &str) -> Vec<Name> {
        let source = Source { source: source.to_owned(), ..Source::default() };
        let (bound, _) = self.bind(&[source]);
        let mut found = bound.bindings;
        found.sort_unstable_by(|a, b| (&a.path, &a.name).cmp(&(&b.path, &b.name)));
        found.into_iter().map(|binding| binding.name.into()).collect()
    }

    /// The Datasets on an agent's file systems, with the revision they are of.
    pub fn bind(&self, sources: &[Source]) -> (Bound, u64) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let revision = self.revision();
        let mut bound = Bound::default();
        for source in sources {
            let here = known.folders.get(root(&source.source)).into_iter().flatten();
            let mounted: FxHashSet<&[u8]> = source.folders.iter().map(Vec::as_slice).collect();
            for Placed { folder, source: normal, number, all } in here {
                let Some(path) = below(normal, &source.source) else { continue };
                if !is_mounted(&mounted, path) {
                    continue;
                }
                if bound.bindings.len() >= MOST_BINDINGS {
                    bound.left_out += 1;
                    continue;
                }
                bound.names.insert(*number, folder.dataset.clone());
                bound.bindings.push(Binding {
                    dataset: *number,
                    name: folder.dataset.to_string(),
                    source: source.number,
                    path: path.as_bytes().to_vec(),
                    prefix: folder.prefix.trim_matches('/').as_bytes().to_vec(),
                    folders: *all,
                });
            }
        }
        (bound, revision)
    }
}

impl Known {
    fn forget(&mut self, dataset: &str) -> Option<u32> {
        let (number, folders) = self.datasets.remove(dataset)?;
        for folder in folders {
            let key = normal(&folder.source);
            let key = root(&key);
            if let Some(here) = self.folders.get_mut(key) {
                here.retain(|other| !Arc::ptr_eq(&other.folder, &folder));
                if here.is_empty() {
                    self.folders.remove(key);
                }
            }
        }
        Some(number)
    }
}

/// What the cluster says of a mount (`watch::facts::mounts`, in the words of mountinfo where a node can mount it), without
/// a slash at its end; `local:///data` is `/data`.
fn normal(source: &str) -> String {
    let local = source.strip_prefix("local://").map(|rest| format!("/{}", rest.trim_start_matches('/')));
    let source = local.as_deref().unwrap_or(source);
    let short = source.trim_end_matches('/');
    // The root of an NFS server: its slash tells it from a word.
    if short.ends_with(':') && short != source { format!("{short}/") } else { short.to_owned() }
}

/// What two sources must share if one lies below the other: everything before the first folder.
fn root(source: &str) -> &str {
    match source.split_once(":/") {
        Some((host, rest)) if !rest.starts_with('/') => host,
        // A URL of a scheme that mountinfo does not speak is one word.
        Some(_) => source.trim_end_matches('/'),
        None => {
            let slash = source.get(1..).and_then(|rest| rest.find('/')).map(|at| at + 1);
            source.get(..slash.unwrap_or(source.len())).unwrap_or(source)
        }
    }
}

/// Whether a node that has mounted these folders of a source sees all of this one. Asked for each Dataset of each source: it
/// looks at the folders above this one, not at all that are mounted.
fn is_mounted(mounted: &FxHashSet<&[u8]>, path: &str) -> bool {
    let shows = |folder: &str| mounted.contains(folder.as_bytes());
    let mut above = path.match_indices('/').filter_map(|(end, _)| path.get(..end));
    mounted.is_empty() || shows("") || shows(path) || above.any(shows)
}

/// The folder of `dataset` below the mounted `source`, where it lies there.
fn below<'a>(dataset: &'a str, source: &str) -> Option<&'a str> {
    let rest = dataset.strip_prefix(source.trim_end_matches('/'))?;
    let inner = rest.strip_prefix('/').or((rest.is_empty()).then_some(""))?;
    Some(inner.trim_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u32, text: &str) -> Source {
        Source { number, source: text.into(), ..Source::default() }
    }

    fn folder(dataset: &str, source: &str, prefix: &str) -> Folder {
        Folder { dataset: dataset.into(), source: source.into(), prefix: prefix.into() }
    }

    #[test]
    fn datasets_are_found_by_source_and_folder() {
        let directory = Directory::default();
        directory.set([
            folder("a/whole", "nas:/export", ""),
            folder("a/server", "efs:/", ""),
            folder("a/part", "nas:/export/part/", "/in/"),
            folder("a/other", "nas:/exports", ""),
            folder("a/juice", "JuiceFS:data", ""),
            folder("a/local", "local:///srv/data/x", ""),
            folder("a/bucket", "s3://bucket/x", ""),
        ]);
        let bind = |text: &str| {
            let (bound, _) = directory.bind(&[source(7, text)]);
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let all = bound.bindings.iter().map(|b| (b.name.clone(), text(&b.path), text(&b.prefix)));
            let mut all = all.collect::<Vec<_>>();
            all.sort();
            all
        };
        let of = |name: &str, path: &str, prefix: &str| (name.to_owned(), path.to_owned(), prefix.to_owned());
        assert_eq!(bind("nas:/export"), [of("a/part", "part", "in"), of("a/whole", "", "")]);
        assert_eq!(bind("nas:/export/part"), [of("a/part", "", "in")]);
        assert_eq!(
            bind("nas:/"),
            [of("a/other", "exports", ""), of("a/part", "export/part", "in"), of("a/whole", "export", "")]
        );
        assert_eq!(bind("efs:/"), [of("a/server", "", "")]);
        assert_eq!(bind("efs:/within"), []);
        assert_eq!(bind("JuiceFS:data"), [of("a/juice", "", "")]);
        assert_eq!(bind("/srv/data"), [of("a/local", "x", "")]);
        assert_eq!(bind("s3://bucket/x"), [of("a/bucket", "", "")]);
        assert_eq!(bind("nas"), []);
        assert_eq!(bind(""), []);
        assert_eq!(directory.found_on("nas:/export"), ["a/whole".into(), "a/part".into()]);
        assert_eq!(directory.found_on("nas:/").first(), Some(&"a/whole".into()));
        assert_eq!(directory.found_on("nas:/none"), []);
    }

    #[test]
    fn of_a_source_only_the_folders_that_are_mounted_count() {
        let directory = Directory::default();
        directory.set([
            folder("a/whole", "nas:/export", ""),
            folder("a/one", "nas:/export/pvc-1", ""),
            folder("a/within", "nas:/export/pvc-1/train", ""),
            folder("a/ten", "nas:/export/pvc-10", ""),
            folder("a/two", "nas:/export/team/pvc-2", ""),
        ]);
        let bind = |folders: &[&str]| {
            let folders = folders.iter().map(|folder| folder.as_bytes().to_vec()).collect();
            let (bound, _) = directory.bind(&[Source { folders, ..source(7, "nas:/export") }]);
            let mut all: Vec<_> = bound.bindings.into_iter().map(|binding| binding.name).collect();
            all.sort();
            all
        };
        assert_eq!(bind(&["pvc-1", "team/pvc-2"]), ["a/one", "a/two", "a/within"]);
        assert_eq!(bind(&["pvc-3"]), Vec::<String>::new());
        assert_eq!(bind(&[]).len(), 5);
        assert_eq!(bind(&[""]).len(), 5);
    }

    #[test]
    fn a_source_that_is_named_again_and_again_is_told_of_as_far_as_there_is_room() {
        let directory = Directory::default();
        directory.set((0..64).map(|n| folder(&format!("a/{n:02}"), &format!("nas:/export/{n:02}"), "")));
        let sources: Vec<Source> = (0..256).map(|number| source(number, "nas:/export")).collect();
        let (bound, _) = directory.bind(&sources);
        assert_eq!((bound.bindings.len(), bound.names.len()), (MOST_BINDINGS, 64));
        assert_eq!(bound.left_out, 256 * 64 - MOST_BINDINGS);
        let (bound, _) = directory.bind(&sources[..64]);
        assert_eq!((bound.bindings.len(), bound.left_out), (64 * 64, 0), "each pod may mount it for itself");
    }

    #[test]
    fn a_number_is_never_given_to_another() {
        let directory = Directory::default();
        directory.set([folder("a/one", "x:/1", ""), folder("a/two", "x:/2", "")]);
        let two = directory.number("a/two").unwrap();
        directory.set([folder("a/two", "x:/2", "")]);
        assert_eq!(directory.number("a/two"), Some(two));
        directory.set([folder("a/one", "x:/1", ""), folder("a/two", "x:/2", "")]);
        assert!(directory.number("a/one").unwrap() > two);
        assert_eq!(directory.number("a/none"), None);
    }
}
