//! The cluster of `cargo xtask cluster up`: it outlives the command, and `down` finds it again by what was
//! written down: each program's number and the moment it started, so that nobody else's is ever ended.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::programs::{self, Absent};

const RECORD: &str = "running.json";

#[derive(Debug, Error)]
pub enum StandingError {
    #[error(transparent)]
    Absent(#[from] Absent),
    #[error("cannot use {}: {error}", .path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("{} is damaged ({error}): end what runs from that folder, then remove it", .path.display())]
    Damaged { path: PathBuf, error: serde_json::Error },
    #[error("{name} (process {id}) does not end: end it by hand")]
    Stuck { name: String, id: u32 },
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub version: String,
    pub server: String,
    pub programs: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub name: String,
    pub id: u32,
    /// Clock ticks from boot to its start (proc(5)): with the number it names one process for good.
    pub started: u64,
}

impl Entry {
    /// None when there is no such process.
    pub fn of(name: &str, id: u32) -> Option<Self> {
        Some(Self { name: name.to_owned(), id, started: started(id)? })
    }

    pub fn runs(&self) -> bool {
        started(self.id) == Some(self.started)
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.id).ok().and_then(Pid::from_raw).filter(|_| self.runs()) {
            // It may end in this very moment.
            let _ = kill_process(pid, signal);
        }
    }
}

/// The 22nd field of /proc/ID/stat; None for what is gone or only waited for.
fn started(id: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    // state was the 3rd.
    fields.nth(18)?.parse().ok()
}

/// The one place where a standing cluster of this user is.
pub fn folder() -> Result<PathBuf, StandingError> {
    Ok(programs::cache()?.join("cluster"))
}

pub fn read(folder: &Path) -> Result<Option<Record>, StandingError> {
    let path = folder.join(RECORD);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StandingError::File { path, error }),
    };
    match serde_json::from_slice(&text) {
        Ok(record) => Ok(Some(record)),
        Err(error) => Err(StandingError::Damaged { path, error }),
    }
}

/// Written whole, so that `down` never reads half of it.
pub fn write(folder: &Path, record: &Record) -> Result<(), StandingError> {
    let (path, beside) = (folder.join(RECORD), folder.join("running.json.new"));
    let text = serde_json::to_string_pretty(record)
        .map_err(|error| StandingError::Damaged { path: path.clone(), error })?;
    fs::write(&beside, text)
        .and_then(|()| fs::rename(&beside, &path))
        .map_err(|error| StandingError::File { path, error })
}

/// Ends everything, the last started first, and removes the folder. True when there was anything.
pub fn end(folder: &Path) -> Result<bool, StandingError> {
    let record = read(folder)?;
    let programs = record.map(|record| record.programs).unwrap_or_default();
    for entry in programs.iter().rev() {
        // Nothing of it is kept, so nothing is asked first.
        entry.signal(Signal::KILL);
    }
    let given_up = Instant::now() + Duration::from_secs(10);
    while let Some(entry) = programs.iter().find(|entry| entry.runs()) {
        if Instant::now() > given_up {
            return Err(StandingError::Stuck { name: entry.name.clone(), id: entry.id });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    match fs::remove_dir_all(folder) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StandingError::File { path: folder.to_owned(), error }),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_was_written_down_is_ended_and_nobody_else() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("cluster");
        fs::create_dir(&folder).unwrap();
        let mut sleeper = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let ours = Entry::of("sleep", sleeper.id()).unwrap();
        let mut other = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        // Its number was used before by a program that started at another time.
        let reused = Entry { started: 1, ..Entry::of("sleep", other.id()).unwrap() };
        let record = Record { version: "v".into(), server: "s".into(), programs: vec![ours, reused] };
        write(&folder, &record).unwrap();
        assert_eq!(read(&folder).unwrap(), Some(record));
        assert!(end(&folder).unwrap());
        assert!(!folder.exists());
        assert!(!sleeper.wait().unwrap().success());
        assert!(matches!(other.try_wait(), Ok(None)), "another's process was ended");
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(!end(&folder).unwrap(), "there is nothing the second time");
    }
}
