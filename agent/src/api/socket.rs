//! The unix socket: who may open it, who holds it already, and its removal.
//!
//! The socket is born with mode 0600, given to root:headrace, and only then opened to the group, so that
//! nobody slips in between. A lock on the folder keeps two agents that start at once from each taking the
//! other's socket for stale.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, Gid, Mode, flock};

/// Members may ask the agent; where the group does not exist only root may.
const GROUP: &str = "headrace";

/// A unix socket's address holds 108 bytes with its NUL (unix(7)).
const LONGEST: usize = 107;

#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error(
        "another agent (pid {pid}{name}) answers at {}: stop it first, or give this one another --socket", path.display()
    )]
    InUse { path: PathBuf, pid: u32, name: String },
    #[error("{} exists and is no socket: move it away, or choose another --socket", path.display())]
    NotASocket { path: PathBuf },
    #[error(
        "the socket's path {} has {} bytes and Linux takes {LONGEST} at the most: choose a shorter --socket",
        path.display(), path.as_os_str().len()
    )]
    TooLong { path: PathBuf },
    #[error("{step} {} failed: {source}; {advice}", path.display())]
    Step { step: &'static str, path: PathBuf, source: io::Error, advice: &'static str },
}

/// Removes the socket when dropped, unless another has taken its place, and the folder if it was made for it.
#[derive(Debug)]
pub struct SocketGuard {
    path: PathBuf,
    inode: (u64, u64),
    made: Option<PathBuf>,
}

impl Drop for SocketGuard {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.inode);
        if ours {
            let _ = std::fs::remove_file(&self.path);
            // With anything else in it, it stays.
            let _ = self.made.as_ref().map(std::fs::remove_dir);
        }
    }
}

/// Listens at `path`, with mode 0660 and the group, in a folder that is made with mode 0755 if missing.
pub fn bind(path: &Path) -> Result<(UnixListener, SocketGuard), SocketError> {
    let step = |step, advice| {
        let path = path.to_path_buf();
        move |source: io::Error| SocketError::Step { step, path, source, advice }
    };
    if path.as_os_str().len() > LONGEST {
        return Err(SocketError::TooLong { path: path.to_path_buf() });
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    const ROOT: &str = "run the agent as root, or choose a --socket in a folder that you may write";
    // Two binds at once (in tests) must not take each other's mask for the process's.
    static MASK: Mutex<()> = Mutex::new(());
    let _alone = MASK.lock().unwrap_or_else(PoisonError::into_inner);
    let made = (!folder.exists()).then(|| folder.to_path_buf());
    if made.is_some() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder)
            .map_err(step("making the folder of the socket", ROOT))?;
    }
    let lock = File::open(folder).map_err(step("opening the folder of the socket", ROOT))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .map_err(io::Error::from)
        .map_err(step("locking the folder of the socket", "another agent is starting there; try again"))?;
    clear_stale(path)?;

    // The mask is the process's, not the thread's: it is put back at once, and the agent starts nothing
    // else before it listens.
    let mask = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    rustix::process::umask(mask);
    let listener = bound.map_err(step("listening at the socket", ROOT))?;
    let meta = std::fs::symlink_metadata(path).map_err(step("looking at the socket", ROOT))?;
    let guard = SocketGuard { path: path.to_path_buf(), inode: (meta.dev(), meta.ino()), made };
    if let Some(gid) = group_id(&std::fs::read_to_string("/etc/group").unwrap_or_default(), GROUP) {
        // Without the right to give it away it stays the owner's; mode 0660 then adds nobody.
        if let Err(error) = rustix::fs::chown(path, None, Some(Gid::from_raw(gid))) {
            tracing::warn!("the socket could not be given to the group {GROUP} ({error}): only root may ask");
        }
    }
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o660))
        .map_err(step("setting the mode of the socket", ROOT))?;
    Ok((listener, guard))
}

/// Removes a socket at which nobody listens; refuses one where somebody does.
fn clear_stale(path: &Path) -> Result<(), SocketError> {
    let step = |step, advice| {
        let path = path.to_path_buf();
        move |source: io::Error| SocketError::Step { step, path, source, advice }
    };
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(step("looking at the socket", "run the agent as root")(error)),
    };
    if !meta.file_type().is_socket() {
        return Err(SocketError::NotASocket { path: path.to_path_buf() });
    }
    match UnixStream::connect(path) {
        Ok(stream) => {
            // SO_PEERCRED of a connecting socket names who called listen() (unix(7)).
            let peer = rustix::net::sockopt::socket_peercred(&stream);
            let pid = peer.map_or(0, |peer| peer.pid.as_raw_nonzero().get().unsigned_abs());
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let name = match name.trim() {
                "" => String::new(),
                name => format!(", {}", name.escape_debug()),
            };
            Err(SocketError::InUse { path: path.to_path_buf(), pid, name })
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!("removing the socket an earlier agent left at {}", path.display());
            std::fs::remove_file(path).map_err(step("removing the stale socket", "remove it by hand"))
        }
        Err(error) => Err(step(
            "asking who holds the socket",
            "see who does with: ss -xlp; or choose another --socket",
        )(error)),
    }
}

/// The group's number in the text of /etc/group (group(5)). Read as text because a static glibc cannot
/// load NSS modules.
fn group_id(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        fields.nth(1)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_name() {
        let groups = "root:x:0:\nheadrace-x:x:7:\nheadrace:x:993:alice,bob\nbroken\n";
        assert_eq!(group_id(groups, "headrace"), Some(993));
        assert_eq!(group_id(groups, "nobody"), None);
        assert_eq!(group_id("headrace:x:::", "headrace"), None);
    }

    #[test]
    fn the_socket_is_for_owner_and_group_and_goes_with_its_guard() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/agent.sock");
        let (_listener, guard) = bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o660);
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o7777, 0o755);
        drop(guard);
        assert!(!path.parent().unwrap().exists(), "the folder was made for it");
        assert!(folder.path().exists());
    }

    #[test]
    fn a_socket_in_use_is_refused_with_the_pid_of_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let (_listener, _guard) = bind(&path).unwrap();
        let refusal = bind(&path).unwrap_err().to_string();
        assert!(refusal.contains(&format!("pid {}", std::process::id())), "{refusal}");
        assert!(path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let (_listener, guard) = bind(&path).unwrap();
        drop(guard);
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path), Err(SocketError::NotASocket { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_successor_s_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let (_listener, guard) = bind(&path).unwrap();
        // Made beside it and moved over it: made anew, it might get the old one's inode number.
        let beside = folder.path().join("other.sock");
        let _other = UnixListener::bind(&beside).unwrap();
        std::fs::rename(&beside, &path).unwrap();
        drop(guard);
        assert!(path.exists());
    }

    #[test]
    fn a_path_that_is_too_long_is_refused_with_its_length() {
        let path = PathBuf::from(format!("/tmp/{}", "x".repeat(200)));
        assert!(bind(&path).unwrap_err().to_string().contains("205 bytes"));
    }
}
