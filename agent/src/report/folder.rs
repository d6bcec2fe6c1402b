//! Where a Dataset's folders lie on the watched file systems, and where those are mounted. Pure.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use agent_core::MountId;

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

/// As `wire::Source::folders`.
pub fn folders(seen: &[Seen]) -> Vec<Vec<u8>> {
    let roots: Vec<Vec<u8>> = seen.iter().map(|seen| trim(&seen.root).to_vec()).collect();
    if roots.iter().any(Vec::is_empty) { Vec::new() } else { roots }
}
