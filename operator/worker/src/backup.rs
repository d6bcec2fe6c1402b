//! A backup on its way: written whole, read back, compared.

use aws_lc_rs::digest::{SHA256, digest};

use crate::archive::{self, ArchiveError, MOST_BYTES};
use crate::hex;
use crate::migrate::process;
use crate::name::Name;
use crate::place::bucket::Patience;
use crate::place::{Place, PlaceError};
use crate::report::Report;
use crate::say::Say;
use crate::task::Backup;

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("{variable} is not set, although the task names it: operator and worker must be of one release")]
    Missing { variable: String },
    #[error("the target cannot be opened: {0}")]
    To(PlaceError),
    #[error("{name} cannot be written: {error}")]
    Write { name: Name, error: PlaceError },
    #[error(
        "{name} does not read back as it was written and was removed: do not trust that target before that is found"
    )]
    Altered { name: Name },
    #[error("the name of the backup cannot be made: {0}")]
    Name(#[from] crate::name::NameError),
}

impl BackupError {
    /// Whether the same task would end the same way, however often it is tried.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Archive(_) | Self::Missing { .. } | Self::Name(_) => true,
            Self::To(_) | Self::Write { .. } | Self::Altered { .. } => false,
        }
    }
}

/// `made` is the time, as RFC 3339 in UTC.
pub async fn run(
    task: &Backup,
    variable: &dyn Fn(&str) -> Option<String>,
    made: &str,
    patience: Patience,
    say: &Say,
) -> Result<Report, BackupError> {
    let profiles = match &task.profiles {
        None => None,
        Some(names) => {
            let mut text = String::new();
            for name in names {
                let missing = || BackupError::Missing { variable: crate::name::shown(name.as_bytes()) };
                text.push_str(&variable(name).ok_or_else(missing)?);
            }
            Some(if names.is_empty() { "[]".to_owned() } else { text })
        }
    };
    let (bytes, count) = archive::write(task, profiles.as_deref(), made)?;
    let to = Place::open(&task.to, true, patience).await.map_err(BackupError::To)?;
    let time: String = made.chars().filter(char::is_ascii_alphanumeric).collect();
    // Two of one second are two: what another is writing is neither replaced nor read back, or removed, as one's own.
    let stem = format!("{}.{}.{time}.{:016x}.headrace-backup", task.namespace, task.name, process());
    let name = Name::parse(stem.as_bytes())?;
    let temporary = Name::parse(format!(".{stem}.tmp").as_bytes())?;
    let failed = |error| BackupError::Write { name: name.clone(), error };
    to.put(&name, &temporary, bytes.clone()).await.map_err(failed)?;
    let back = to.whole(&name, MOST_BYTES).await.map_err(failed)?;
    if back != bytes {
        to.remove(&name).await.map_err(failed)?;
        return Err(BackupError::Altered { name });
    }
    say.line(&format!("{name}: {} bytes, {count} AccessProfiles, read back", bytes.len()));
    let note = (task.left_out > 0).then(|| {
        format!("{} AccessProfiles did not fit and are not in it: they are learned anew", task.left_out)
    });
    Ok(Report {
        done: true,
        files: 1,
        files_total: 1,
        bytes: bytes.len() as u64,
        bytes_total: bytes.len() as u64,
        digest: Some(hex::written(digest(&SHA256, &bytes).as_ref())),
        note,
        ..Report::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{self, Task};

    #[tokio::test]
    async fn two_of_one_second_are_two_files() {
        let folder = tempfile::tempdir().unwrap();
        let text = serde_json::json!({"task": 1, "do": "backup", "to": {"folder": folder.path()},
            "dataset": {"name": "d", "namespace": "n", "spec": {}, "versions": []}});
        let Task::Backup(task) = task::parse(&text.to_string(), &|_| None).unwrap() else {
            panic!("another task")
        };
        let say = Say::default();
        for _ in 0..2 {
            let made = "2026-11-24T03:00:00Z";
            let report = run(&task, &|_| None, made, Patience::default(), &say).await.unwrap();
            assert!(report.done);
        }
        let names = std::fs::read_dir(folder.path()).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(names.iter().all(|name| name.starts_with("n.d.20261124T030000Z.")), "{names:?}");
    }
}
