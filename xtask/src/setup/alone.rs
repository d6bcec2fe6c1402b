//! One build of a tool at a time, whichever checkout wants it, and nothing half-made where it ends up.

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::console;

/// The lock file stays behind on purpose: removing it would let two builders hold two different ones.
pub fn lock(path: &Path, what: &str, limit: Duration) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let started = Instant::now();
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        if started.elapsed() > limit {
            bail!(
                "another build has held {} for {}: end it, then retry",
                path.display(),
                console::span(limit)
            );
        }
        if !told {
            console::note(&format!("  {what}: another checkout is building it, waiting for that"));
            told = true;
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// Removes what begins with `prefix`.
pub fn sweep(folder: &Path, prefix: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let paths = entries.flatten().map(|e| e.path());
    let prefix = prefix.as_os_str().as_encoded_bytes();
    paths.filter(|p| p.as_os_str().as_encoded_bytes().starts_with(prefix)).try_for_each(|p| remove(&p))
}

/// Removes a folder that may not be there.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
