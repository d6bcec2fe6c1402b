//! Paths as a person types and reads them, and as the agent knows them.
//!
//! The agent names files relative to the root of their file system; a person names them below a mount
//! point. Which is mounted where comes with the answer to `Node`. The two are translated byte for byte.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use operator_api::observability::v1 as wire;
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::text::printable;
use crate::mounts::{numbered, trim};

#[derive(Debug, thiserror::Error)]
pub enum PathError {
    #[error(
        "{path} is on no watched mount ({watched}): name a path below one, or watch it: headrace agent --watch {path}"
    )]
    Unwatched { path: String, watched: String },
}

/// A place in a file system, as the agent's requests take it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spot {
    pub mount: Option<u32>,
    pub path: Vec<u8>,
}

/// A file's path as a person would type it; "source:path" where its mount point is not known.
pub fn shown(mounts: &[wire::Mount], mount: u32, path: &[u8]) -> Vec<u8> {
    let Some(mount) = mounts.iter().find(|m| m.mount == mount) else {
        return path.to_vec();
    };
    let mut seen = seen(mount).filter_map(|(point, root)| Some((point, strip_folder(path, trim(root))?)));
    match seen.next() {
        None => [mount.source.as_bytes(), b":", path].concat(),
        Some((point, below)) => [trim_end(point), b"/", below].concat(),
    }
}

/// The mount points of a file system, each with the folder that is mounted there.
fn seen(mount: &wire::Mount) -> impl Iterator<Item = (&[u8], &[u8])> {
    let first = (mount.point.as_slice(), mount.root.as_slice());
    let more = mount.more.iter().map(|seen| (seen.point.as_slice(), seen.root.as_slice()));
    std::iter::once(first).chain(more).filter(|(point, _)| !point.is_empty())
}

/// Where a typed path (or the start of one) lies. A relative path that is below no watched mount is taken
/// as relative to the file system's root, for mounts that only containers see.
pub fn spot(mounts: &[wire::Mount], typed: &Path) -> Result<Spot, PathError> {
    let absolute = match typed.is_absolute() {
        true => typed.to_path_buf(),
        false => std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")).join(typed),
    };
    let bytes = lexical(absolute.as_os_str().as_bytes());
    let inside = mounts
        .iter()
        .flat_map(|mount| seen(mount).map(move |(point, root)| (mount, point, root)))
        .filter_map(|(mount, point, root)| Some((mount, point, root, strip_folder(&bytes, trim_end(point))?)))
        .max_by_key(|(_, point, ..)| point.len());
    if let Some((mount, _, root, below)) = inside {
        let root = trim(root);
        let path = if root.is_empty() { below.to_vec() } else { [root, b"/", below].concat() };
        return Ok(Spot { mount: Some(mount.mount), path });
    }
    if typed.is_absolute() {
        let points: Vec<String> = mounts.iter().flat_map(seen).map(|(point, _)| printable(point)).collect();
        let watched = if points.is_empty() { "none is watched".to_owned() } else { points.join(", ") };
        return Err(PathError::Unwatched { path: printable(&bytes), watched });
    }
    Ok(Spot { mount: None, path: typed.as_os_str().as_bytes().to_vec() })
}

/// The file as the kernel names it: statx for the inode and the mount, mountinfo for the super block's
/// device, because st_dev is another number on btrfs and overlayfs.
pub fn key(path: &Path) -> Option<wire::FileKey> {
    let want = StatxFlags::INO | StatxFlags::MNT_ID;
    let stat = statx(CWD, path, AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC, want).ok()?;
    let mountinfo = std::fs::read("/proc/self/mountinfo").ok()?;
    let dev = numbered(&mountinfo, stat.stx_mnt_id)?.dev;
    Some(wire::FileKey { dev, ino: stat.stx_ino })
}

/// `.` and `..` resolved without looking at the disk; a slash at the end stays, because it means "below".
fn lexical(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let mut out = vec![b'/'];
    out.extend(parts.join(&b'/'));
    if path.ends_with(b"/") && out.len() > 1 {
        out.push(b'/');
    }
    out
}

/// What is left of `path` below `folder`, both without a slash at the end of the folder.
fn strip_folder<'a>(path: &'a [u8], folder: &[u8]) -> Option<&'a [u8]> {
    let rest = path.strip_prefix(folder)?;
    match rest {
        [] => Some(rest),
        [b'/', below @ ..] => Some(below),
        _ if folder.is_empty() => Some(rest),
        _ => None,
    }
}

fn trim_end(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(id: u32, point: &str, root: &str) -> wire::Mount {
        wire::Mount {
            mount: id,
            source: format!("store{id}"),
            point: point.into(),
            root: root.into(),
            ..Default::default()
        }
    }

    #[test]
    fn there_and_back() {
        let mounts = [mount(1, "/mnt/data", "/"), mount(2, "/mnt/data/sub", "/export/a"), mount(3, "", "/")];
        for (typed, id, path) in [
            ("/mnt/data/x/y", 1, "x/y"),
            ("/mnt/data/", 1, ""),
            ("/mnt/data", 1, ""),
            ("/mnt/data/sub/f", 2, "export/a/f"),
            ("/mnt/./data/q/../x", 1, "x"),
            ("/mnt/data/x/", 1, "x/"),
        ] {
            let spot = spot(&mounts, Path::new(typed)).unwrap();
            assert_eq!((spot.mount, spot.path.as_slice()), (Some(id), path.as_bytes()), "{typed}");
        }
        assert_eq!(shown(&mounts, 2, b"export/a/f"), b"/mnt/data/sub/f");
        assert_eq!(shown(&mounts, 1, b"x\xff"), b"/mnt/data/x\xff");
        assert_eq!(shown(&mounts, 2, b"elsewhere/f"), b"store2:elsewhere/f");
        assert_eq!(shown(&mounts, 3, b"f"), b"store3:f");
        assert_eq!(shown(&mounts, 9, b"f"), b"f");
        assert!(spot(&mounts, Path::new("/mnt/database/x")).unwrap_err().to_string().contains("/mnt/data, "));
        assert_eq!(spot(&mounts, Path::new("train/x")).unwrap().path, b"train/x");
    }

    #[test]
    fn a_file_system_of_which_folders_are_mounted() {
        let more = vec![wire::Seen { point: b"/mnt/two".into(), root: b"/team/pvc-2".into() }];
        let mounts = [wire::Mount { more, ..mount(1, "/mnt/one", "/pvc-1") }];
        for (typed, path) in [("/mnt/one/x", "pvc-1/x"), ("/mnt/two/x", "team/pvc-2/x")] {
            let spot = spot(&mounts, Path::new(typed)).unwrap();
            assert_eq!((spot.mount, spot.path.as_slice()), (Some(1), path.as_bytes()));
            assert_eq!(shown(&mounts, 1, path.as_bytes()), typed.as_bytes());
        }
        assert_eq!(shown(&mounts, 1, b"pvc-3/x"), b"store1:pvc-3/x");
        let error = spot(&mounts, Path::new("/mnt/three")).unwrap_err().to_string();
        assert!(error.contains("/mnt/one, /mnt/two"), "{error}");
    }

    #[test]
    fn a_file_s_key_is_its_super_block_s() {
        let file = tempfile::NamedTempFile::new().unwrap();
        use std::os::unix::fs::MetadataExt;
        assert_eq!(key(file.path()).unwrap().ino, file.as_file().metadata().unwrap().ino());
    }
}
