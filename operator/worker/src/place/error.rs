//! What can be wrong with a place: one vocabulary for file systems and stores of objects.

use rustix::io::Errno;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    #[error("it is not there")]
    Absent,
    #[error("it changed, or went, while it was read; whoever writes there has to be done first")]
    Changed,
    #[error(
        "the target is full: make room, or choose another target; what is there already stays and is used"
    )]
    Full,
    #[error("access is denied ({0}): check the keys, and what they may do")]
    Denied(String),
    #[error(
        "a link, or something else that is no {0}, stands where a {0} is needed; it is not followed, and not replaced"
    )]
    InTheWay(&'static str),
    #[error("the store cannot hold this name: {0}")]
    Name(String),
    #[error("it has {found} bytes, and at most {most} are read")]
    Large { found: u64, most: u64 },
    #[error(
        "the server says neither ETag nor Last-Modified, so nobody could tell whether the file changes while it is \
         copied: have it say one of them, or copy from somewhere else"
    )]
    Untold,
    #[error("the store does not answer as it should, after several tries: {0}")]
    Store(String),
    #[error("{0}")]
    Io(Errno),
    #[error("the worker was told to stop")]
    Stopped,
}

impl From<Errno> for PlaceError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT => Self::Absent,
            Errno::NOSPC | Errno::DQUOT | Errno::FBIG => Self::Full,
            Errno::ACCESS | Errno::PERM | Errno::ROFS => Self::Denied(errno.to_string()),
            Errno::LOOP | Errno::NOTDIR => Self::InTheWay("folder"),
            Errno::ISDIR | Errno::NXIO => Self::InTheWay("file"),
            Errno::NAMETOOLONG => Self::Name(errno.to_string()),
            other => Self::Io(other),
        }
    }
}

impl From<std::io::Error> for PlaceError {
    fn from(error: std::io::Error) -> Self {
        Errno::from_io_error(&error).map_or_else(|| Self::Store(error.to_string()), Self::from)
    }
}

impl From<object_store::Error> for PlaceError {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as E;
        match error {
            E::NotFound { .. } => Self::Absent,
            E::Precondition { .. } | E::NotModified { .. } => Self::Changed,
            E::PermissionDenied { source, .. } | E::Unauthenticated { source, .. } => {
                Self::Denied(source.to_string())
            }
            E::InvalidPath { source } => Self::Name(source.to_string()),
            other => {
                let text = other.to_string();
                let has = |words: [&str; 2]| words.iter().any(|word| text.contains(word));
                // Lists have no class for these, and full is none at all: S3 is never, but some that speak it are.
                if has(["403 Forbidden", "401 Unauthorized"]) {
                    Self::Denied(text)
                } else if has(["<Code>NoSuchBucket<", "<Code>NoSuchKey<"])
                    || has(["<Code>NoSuchUpload<", "<Code>InvalidPart<"])
                {
                    Self::Absent
                } else if has(["507 Insufficient", "QuotaExceeded"]) {
                    Self::Full
                } else {
                    Self::Store(text)
                }
            }
        }
    }
}
