//! `--watch PATH`: the mount a person means, or the sentence that says what to pass instead.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::kind::{Kind, kind};
use super::mountinfo::{Mount, escape, trim};
use super::namespace::Namespace;
use super::table::MountTable;

#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    #[error("--watch {}: the path cannot be reached ({source}); pass the mount point of a file system that is mounted", path.display())]
    Path { path: PathBuf, source: io::Error },
    #[error(
        "--watch {}: this is no mount point; it lies on {point} ({fstype}, {source_name}). Pass --watch {point} to watch \
         that file system{rest}",
        path.display()
    )]
    NotAMount { path: PathBuf, point: String, fstype: String, source_name: String, rest: &'static str },
    #[error(
        "--watch {}: {fstype} keeps its files in memory or has none, so there is nothing to bring in ahead; \
         pass the mount point of a network, FUSE or disk file system",
        path.display()
    )]
    Memory { path: PathBuf, fstype: String },
    #[error(
        "--watch {}: {fstype} keeps its pages in the file systems beneath it; pass the mount point of the \
         file system that holds its layers",
        path.display()
    )]
    Stacked { path: PathBuf, fstype: String },
    #[error(
        "--watch {}: the path lies on no mount of this process's table; is the agent in a container? \
         Give it the host's processes (hostPID) and --mounts-of 1",
        path.display()
    )]
    Unseen { path: PathBuf },
}

/// The mount whose mount point `path` is, links in the path followed; `table` is the namespace's.
pub fn select<'a>(
    namespace: Namespace,
    table: &'a MountTable,
    path: &Path,
) -> Result<&'a Mount, SelectError> {
    let failed = |source| SelectError::Path { path: path.to_owned(), source };
    let found = std::path::absolute(path).and_then(|path| Ok(namespace.open(&path)?)).map_err(failed)?;
    // The kernel's word for it, told from the root of the namespace that it lies in.
    let real = fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).map_err(failed)?;
    let real = real.as_os_str().as_bytes();
    let path = path.to_owned();
    let Some(mount) = table.covering(real) else {
        return Err(SelectError::Unseen { path });
    };
    let fstype = mount.fstype.to_string();
    if trim(&mount.point) != trim(real) {
        return Err(SelectError::NotAMount {
            path,
            point: escape(&mount.point),
            fstype,
            source_name: mount.source.to_string(),
            rest: match kind(&mount.fstype) {
                Kind::Remote => "",
                Kind::Local => " (a local one), or check that the remote store is mounted",
                Kind::Memory | Kind::Stacked => ", or check that the remote store is mounted",
            },
        });
    }
    match kind(&mount.fstype) {
        Kind::Remote | Kind::Local => Ok(mount),
        Kind::Memory => Err(SelectError::Memory { path, fstype }),
        Kind::Stacked => Err(SelectError::Stacked { path, fstype }),
    }
}

/// What is mounted at a mount point that was selected, by the table alone: to walk a path again each time that the table
/// changes could wait for a store that is away, and has autofs mount what nobody uses any more.
pub fn selected<'a>(table: &'a MountTable, point: &Path) -> Option<&'a Mount> {
    let point = point.as_os_str().as_bytes();
    let found = |mount: &&Mount| trim(&mount.point) == trim(point);
    table
        .covering(point)
        .filter(found)
        .filter(|mount| matches!(kind(&mount.fstype), Kind::Remote | Kind::Local))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mounts::read_table;

    #[test]
    fn what_is_selected_may_go_and_come_again() {
        let point = Path::new("/net/nas");
        let table =
            |line: &str| MountTable::parse(format!("1 0 8:1 / / rw - ext4 /dev/sda rw\n{line}").as_bytes());
        let autofs = "2 1 0:9 / /net rw - autofs auto.net rw";
        let found = |lines: &str| selected(&table(lines), point).map(|mount| mount.id);
        assert_eq!(found(""), None);
        assert_eq!(found(autofs), None);
        assert_eq!(found(&format!("{autofs}\n3 2 0:9 / /net/nas rw - autofs auto.net rw")), None, "a trap");
        let mounted = format!("{autofs}\n3 2 0:50 / /net/nas rw - nfs4 nas:/ rw");
        assert_eq!(found(&mounted), Some(3));
        assert_eq!(found(&format!("{mounted}\n4 3 0:51 / /net/nas rw - tmpfs none rw")), None, "over it");
        assert_eq!(found(&format!("{mounted}\n4 3 0:51 / /net/nas/in rw - nfs4 nas:/in rw")), Some(3));
    }

    #[test]
    fn sentences_name_the_mount() {
        let table = read_table(Path::new("/proc/self/mountinfo")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let error = select(Namespace::default(), &table, dir.path()).unwrap_err();
        let SelectError::NotAMount { point, .. } = &error else {
            panic!("{error}");
        };
        assert!(dir.path().starts_with(point));
        assert!(error.to_string().contains(&format!("Pass --watch {point}")), "{error}");
        assert!(matches!(
            select(Namespace::default(), &table, Path::new("/proc")),
            Err(SelectError::Memory { .. })
        ));
        assert!(matches!(
            select(Namespace::default(), &table, Path::new("/no/such/path")),
            Err(SelectError::Path { .. })
        ));
    }

    #[test]
    fn a_mount_point_is_found_through_a_link() {
        let table = read_table(Path::new("/proc/self/mountinfo")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/proc/..", &link).unwrap();
        match select(Namespace::default(), &table, &link) {
            Ok(mount) => assert_eq!(&*mount.point, b"/"),
            Err(error) => {
                assert!(matches!(error, SelectError::Stacked { .. } | SelectError::Memory { .. }), "{error}")
            }
        }
    }
}
