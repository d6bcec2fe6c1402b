//! The one place where an errno becomes an `Outcome`.

use agent_core::Outcome;
use rustix::io::Errno;

/// How an order ends that met this error while its path was resolved, opened, listed or read.
pub fn outcome_of(errno: Errno) -> Outcome {
    match errno {
        // Gone, renamed away, or no longer the kind of thing that was ordered (a link: ELOOP; a way out of
        // the mount: EXDEV; a socket: ENXIO). ESRCH: the process that held it has ended.
        Errno::NOENT
        | Errno::NOTDIR
        | Errno::STALE
        | Errno::LOOP
        | Errno::XDEV
        | Errno::NXIO
        | Errno::NODEV
        | Errno::ISDIR
        | Errno::NAMETOOLONG
        | Errno::INVAL
        | Errno::SRCH
        | Errno::NOTCONN => Outcome::Absent,
        Errno::ACCESS | Errno::PERM => Outcome::Refused,
        _ => Outcome::Failed,
    }
}
