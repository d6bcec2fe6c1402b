//! Reading mountinfo.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::table::MountTable;

/// A node with 100,000 mounts (fs.mount-max) has about 20 MB of it.
const MAX_MOUNTINFO: u64 = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("{}: cannot be read ({source}); is /proc mounted, and does the process still run?", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: larger than {MAX_MOUNTINFO} bytes; unmount what is not needed (see `findmnt`)", path.display())]
    TooLarge { path: PathBuf },
    #[error(
        "--mounts-of {tgid}: {why}. In a container the agent needs the host's processes (hostPID: true) and may look into them \
         (privileged, or CAP_SYS_PTRACE beside CAP_SYS_ADMIN)"
    )]
    Namespace { tgid: u32, why: String },
    #[error("{}: cannot be watched for changes ({source}); mounts made from now on are not seen until a restart", path.display())]
    Poll { path: PathBuf, source: io::Error },
}

pub fn read_table(path: &Path) -> Result<MountTable, MountError> {
    let failed = |source| MountError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_MOUNTINFO + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_MOUNTINFO {
        return Err(MountError::TooLarge { path: path.to_owned() });
    }
    Ok(MountTable::parse(&bytes))
}
