//! A backup on its way: written whole, read back, compared.

use aws_lc_rs::digest::{SHA256, digest};

use crate::archive::{self, ArchiveError, MOST_BYTES};
use crate::hex;
use crate::manifest::Lines;
use crate::migrate::process;
use crate::mounts::{self, Mount};
use crate::name::Name;
use crate::place::bucket::Patience;
use crate::place::{Place, PlaceError};
use crate::report::Report;
use crate::say::Say;
use crate::stock;
use crate::task::Backup;

/// Mounts without a manifest that the result names.
const NAMED: usize = 3;

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
    #[error("no mount of the Dataset can be listed, and manifests are asked for in include: {why}")]
    Unlisted { why: String, is_final: bool },
    #[error("the name of the backup cannot be made: {0}")]
    Name(#[from] crate::name::NameError),
}

impl BackupError {
    /// Whether the same task would end the same way, however often it is tried.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Archive(_) | Self::Missing { .. } | Self::Name(_) => true,
            Self::Unlisted { is_final, .. } => *is_final,
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
    let Listed { lines, missing, files } = listed(task, variable, patience, say).await?;
    let (bytes, count) = archive::write(task, profiles.as_deref(), lines.into_lines(), made)?;
    let to = Place::open(&task.to, true, patience).await.map_err(BackupError::To)?;
    let time: String = made.chars().filter(char::is_ascii_alphanumeric).collect();
    // Two of one second are two: what another is writing is neither replaced nor read back, or removed, as one's own.
    let stem = format!("{}.{}.{time}.{:016x}.headrace-backup", task.namespace, task.name, process());
    let name = Name::parse(stem.as_bytes())?;
    let temporary = Name::parse(format!(".{stem}.tmp").as_bytes())?;
    let failed = |error| BackupError::Write { name: name.clone(), error };
    // The digest stands for the bytes, which are many: both need not be in memory.
    let (size, sum) = (bytes.len() as u64, digest(&SHA256, &bytes));
    to.put(&name, &temporary, bytes).await.map_err(failed)?;
    let back = to.whole(&name, MOST_BYTES).await.map_err(failed)?;
    if digest(&SHA256, &back).as_ref() != sum.as_ref() {
        to.remove(&name).await.map_err(failed)?;
        return Err(BackupError::Altered { name });
    }
    say.line(&format!("{name}: {size} bytes, {count} AccessProfiles, {files} files in manifests, read back"));
    let mut notes = missing;
    if task.left_out > 0 {
        notes.insert(
            0,
            format!("{} AccessProfiles did not fit and are not in it: they are learned anew", task.left_out),
        );
    }
    Ok(Report {
        done: true,
        files: 1,
        files_total: 1,
        bytes: size,
        bytes_total: size,
        digest: Some(hex::written(sum.as_ref())),
        note: (!notes.is_empty()).then(|| say.0.clean(&notes.join("; "))),
        ..Report::new()
    })
}

/// The Dataset's mounts as manifests.
#[derive(Default)]
struct Listed {
    lines: Lines,
    /// Sentences about those without one.
    missing: Vec<String>,
    files: u64,
}

/// Lists the mounts one after another, so that one list is in memory. What cannot be listed is told, and the rest is
/// kept: a store that is away must not cost what no store has.
async fn listed(
    task: &Backup,
    variable: &dyn Fn(&str) -> Option<String>,
    patience: Patience,
    say: &Say,
) -> Result<Listed, BackupError> {
    let mut found = Listed::default();
    if !task.manifests {
        return Ok(found);
    }
    let mounts = mounts::of(task, variable);
    let (mut left_out, mut is_final) = (Vec::new(), true);
    let count = mounts.len();
    for Mount { at, url, end } in mounts {
        let added = match end {
            Err(why) => Err(why),
            Ok(end) => match stock::take(&end, patience).await {
                Ok((listing, version)) => {
                    let added = found.lines.add(&at, &url, version, &listing);
                    if added.is_ok() {
                        found.files += listing.entries.len() as u64;
                    }
                    added
                }
                Err(error) => {
                    is_final = false;
                    Err(error.to_string())
                }
            },
        };
        if let Err(why) = added {
            // Stores quote what they were sent, and the archive is for others to read.
            let why = say.0.clean(&why);
            found.lines.leave_out(&at, &url, &why);
            left_out.push(format!("{}: {why}", crate::name::shown(at.as_bytes())));
        }
    }
    left_out.iter().for_each(|why| say.line(&format!("no manifest of {why}")));
    let all = left_out.len();
    let told = left_out.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    let more = if all > NAMED { format!("; and {} more", all - NAMED) } else { String::new() };
    if task.named && all == count {
        return Err(BackupError::Unlisted { why: format!("{told}{more}"), is_final });
    }
    if all > 0 {
        found.missing.push(format!("{all} of {count} mounts have no manifest: {told}{more}"));
    }
    Ok(found)
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
