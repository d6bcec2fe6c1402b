//! Where a Dataset's folders lie on the watched file systems, and where those are mounted. Pure.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use agent_core::MountId;
use operator_api::report::v1 as wire;
use prost::Message;

use super::survey::Root;
use crate::api::query::Seen;
use crate::mounts::{below, trim};

/// A watched file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    pub mount: MountId,
    pub source: Box<str>,
    pub fstype: Box<str>,
    /// As `FileKey::dev`.
    pub dev: u32,
    /// What of it is mounted where.
    pub seen: Vec<Seen>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    pub mount: MountId,
    /// From the root of the file system.
    pub path: Box<[u8]>,
    pub prefix: Box<[u8]>,
}

impl Folder {
    /// Where it is seen here; `None` when only a part of it is, or nothing just now.
    pub fn root(&self, mounts: &[Mounted]) -> Option<Root> {
        let mounted = mounts.iter().find(|mounted| mounted.mount == self.mount)?;
        let seen = mounted.seen.iter();
        let mut shown = seen.filter_map(|seen| Some((seen.spot.as_ref()?, below(&seen.root, &self.path)?)));
        let (spot, inner) = shown.next()?;
        let inner = PathBuf::from(std::ffi::OsStr::from_bytes(inner));
        Some(Root { spot: spot.clone(), inner, prefix: self.prefix.clone() })
    }
}

/// What a folder or a source takes beside itself in a message: a field's number and a length, and how much longer the lengths
/// around it become.
const FRAME: usize = 8;

/// What the operator is told of the watched file systems, in so many bytes at most, and how many folders do not fit. A message
/// that is too large would end each stream, and nothing of the node would be known. Every file system has its turn for one
/// folder before any has it for a second; one of which no folder fits is not told of, as none means that all of it is here.
pub fn sources(mounts: &[Mounted], bytes: usize) -> (wire::Sources, usize) {
    let folders: Vec<Vec<Vec<u8>>> = mounts.iter().map(|mounted| folders(&mounted.seen)).collect();
    let turns = folders.iter().map(Vec::len).max().unwrap_or_default().max(1);
    let mut told: Vec<Option<wire::Source>> = vec![None; mounts.len()];
    let (mut room, mut left_out) = (bytes, 0);
    let mut fits = |bytes: usize| {
        let left = room.checked_sub(bytes + FRAME);
        left_out += usize::from(left.is_none());
        room = left.unwrap_or(room);
        left.is_some()
    };
    for turn in 0..turns {
        for ((mounted, folders), told) in mounts.iter().zip(&folders).zip(&mut told) {
            match (told, folders.get(turn)) {
                (Some(source), Some(folder)) => {
                    if fits(folder.len()) {
                        source.folders.push(folder.clone());
                    }
                }
                (told @ None, folder) if turn == 0 || folder.is_some() => {
                    let source = wire::Source {
                        number: mounted.mount.0,
                        source: mounted.source.to_string(),
                        fstype: mounted.fstype.to_string(),
                        folders: folder.into_iter().cloned().collect(),
                    };
                    *told = fits(source.encoded_len()).then_some(source);
                }
                (Some(_) | None, None) | (None, Some(_)) => {}
            }
        }
    }
    (wire::Sources { sources: told.into_iter().flatten().collect() }, left_out)
}

/// As `wire::Source::folders`.
fn folders(seen: &[Seen]) -> Vec<Vec<u8>> {
    let roots: Vec<Vec<u8>> = seen.iter().map(|seen| trim(&seen.root).to_vec()).collect();
    if roots.iter().any(Vec::is_empty) { Vec::new() } else { roots }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// File systems of which so many folders are mounted, with names of so many bytes.
    fn mounts(folders: &[(usize, usize)]) -> Vec<Mounted> {
        let mounted = |(number, (folders, bytes)): (u32, &(usize, usize))| Mounted {
            mount: MountId(number),
            source: "nas:/export".into(),
            fstype: "nfs4".into(),
            dev: number,
            seen: (0..*folders)
                .map(|folder| Seen {
                    point: b"/mnt"[..].into(),
                    root: format!("/{folder:0>bytes$}").into_bytes().into(),
                    spot: None,
                })
                .collect(),
        };
        (0..).zip(folders).map(mounted).collect()
    }

    fn told(sources: &wire::Sources) -> Vec<(u32, usize)> {
        sources.sources.iter().map(|source| (source.number, source.folders.len())).collect()
    }

    #[test]
    fn what_the_operator_is_told_fits_into_a_message() {
        for bytes in [0, 100, 16 << 10, 128 << 10] {
            let (sources, left_out) = sources(&mounts(&[(128, 4_000); 256]), bytes);
            assert!(sources.encoded_len() <= bytes, "{} of {bytes}", sources.encoded_len());
            let there: usize = told(&sources).iter().map(|(_, folders)| folders).sum();
            assert!(told(&sources).iter().all(|(_, folders)| *folders > 0), "no folder means all of it");
            assert!(there >= bytes / 4_200 && left_out > 0, "{there} of {left_out} more");
        }
        let all = mounts(&[(128, 20), (1, 20), (0, 0)]);
        let (sources, left_out) = sources(&all, 128 << 10);
        assert_eq!((told(&sources), left_out), (vec![(0, 128), (1, 1), (2, 0)], 0));
    }

    #[test]
    fn one_with_many_long_folders_leaves_the_others_their_place() {
        let (sources, left_out) = sources(&mounts(&[(128, 4_000), (2, 20), (0, 0), (1, 13_000)]), 16 << 10);
        assert_eq!(told(&sources), [(0, 4), (1, 2), (2, 0)]);
        assert_eq!(left_out, 124 + 1);
    }
}
