//! A migration from beginning to end: what is there, what is copied, what is written down, what is said of it.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Context, SHA256};
use futures::StreamExt;
use tokio::sync::Semaphore;

use crate::copy::{self, CopyError, Done, Ground, MEMORY};
use crate::entry::Listing;
use crate::hex::{self, Digest};
use crate::journal::{self, STATE};
use crate::large;
use crate::ledger::{self, Ledger};
use crate::name::Name;
use crate::place::bucket::Patience;
use crate::place::{Place, PlaceError};
use crate::plan::{self, Item};
use crate::report::Report;
use crate::say::Say;
use crate::stop::Stop;
use crate::task::{End, Migrate};

/// Failures after which the rest is not tried: by then it is no single file's fault.
const MOST_FAILED: u64 = 32;

const NEWS: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error("the source cannot be opened: {0}")]
    From(PlaceError),
    #[error("the target cannot be opened: {0}")]
    To(PlaceError),
    #[error("the source cannot be listed: {0}")]
    List(PlaceError),
    #[error(
        "the source holds nothing at that path: nothing was copied; look at from.path, or the folder of its URL"
    )]
    Nothing,
    #[error(
        "the source is at version {found}, and version {asked} was asked for: that one is gone, or not everything of \
         it is seen here; leave from.dataset.version out to copy what is there now"
    )]
    Version { asked: String, found: String },
    #[error(
        "the source changed while it was copied: it was version {before} and is {after}; it is copied again"
    )]
    Moved { before: String, after: String },
    #[error(
        "{count} names of the source cannot be kept in a folder and were not copied: {names}; rename them at the source"
    )]
    Names { count: u64, names: String },
    #[error("the journal at the target cannot be read or written: {0}")]
    Journal(PlaceError),
    #[error("{name}: {error}{}", others(.more))]
    Files { name: String, error: CopyError, more: u64 },
    #[error("the worker was told to stop; what is copied stays, and the next try goes on from it")]
    Stopped,
}

impl MigrateError {
    /// Whether the same task would end the same way, however often it is tried: somebody has to change something.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Names { .. } | Self::List(PlaceError::Name(_)) => true,
            // Keys are granted, mounts appear, stores come back, files settle.
            Self::From(_)
            | Self::To(_)
            | Self::List(_)
            | Self::Nothing
            | Self::Version { .. }
            | Self::Moved { .. }
            | Self::Journal(_)
            | Self::Files { .. }
            | Self::Stopped => false,
        }
    }
}

fn others(more: &u64) -> String {
    match *more {
        0 => String::new(),
        MOST_FAILED.. => format!("; so did {more} more, and the rest was not tried"),
        more => format!("; {more} more files failed, see the pod's log"),
    }
}

/// Goes as far as it can. The report is true also where it did not end well.
pub async fn run(
    task: &Migrate,
    patience: Patience,
    stop: &Stop,
    say: &Say,
) -> (Report, Result<(), MigrateError>) {
    let mut report = Report::new();
    let result = attempt(task, patience, stop, say, &mut report).await;
    (report, result)
}

async fn attempt(
    task: &Migrate,
    patience: Patience,
    stop: &Stop,
    say: &Say,
    report: &mut Report,
) -> Result<(), MigrateError> {
    let from = Place::open(&task.from, false, patience).await.map_err(MigrateError::From)?;
    let only = match &task.from {
        End::Folder { path, .. } => path.clone(),
        End::Bucket { prefix, .. } => prefix.clone(),
        End::Web { file, .. } => Some(file.clone()),
    };
    let listing = look(&from, task, only.as_ref()).await?;
    let to = Place::open(&task.to, true, patience).await.map_err(MigrateError::To)?;
    let folder = journal::folder(&task.source).ok_or(MigrateError::Nothing)?;
    let process = process();
    let opened = Ledger::open(to.clone(), folder.clone(), process, say).await;
    let (mut ledger, mut journal, left) = opened.map_err(MigrateError::Journal)?;

    let plan = plan::plan(&listing, only.as_ref(), &mut journal);
    report.files_total = plan.items.len() as u64;
    report.bytes_total = plan.bytes;
    report.left_out = listing.left_out;
    let memory = Arc::new(Semaphore::new(MEMORY as usize));
    let ground = Ground {
        from: from.clone(),
        to,
        home: folder,
        process,
        memory,
        interval: ledger::INTERVAL,
        stop: stop.clone(),
    };
    large::clear(&ground, &left, &plan.items).await.map_err(MigrateError::Journal)?;
    let copied = crew(&ground, &plan.items, task.parallelism, &mut ledger, report, say).await;
    // Also after a failure: what was copied is not to be copied again.
    let flushed = ledger.flush().await;
    let digests = copied?;
    flushed.map_err(MigrateError::Journal)?;

    if task.version.is_some() {
        let before = plan::version(&listing);
        let after = plan::version(&from.list(None).await.map_err(MigrateError::List)?);
        if before != after {
            return Err(MigrateError::Moved { before, after });
        }
    }
    if listing.unsafe_count > 0 {
        return Err(MigrateError::Names {
            count: listing.unsafe_count,
            names: listing.unsafe_names.join("; "),
        });
    }
    ledger.close().await.map_err(MigrateError::Journal)?;
    report.digest = Some(hex::written(&digest(digests)));
    report.done = true;
    Ok(())
}

/// The source as it is; all of it where a version has to be found.
async fn look(from: &Place, task: &Migrate, only: Option<&Name>) -> Result<Listing, MigrateError> {
    let part = if task.version.is_some() { None } else { only };
    let listing = match from.list(part).await {
        Err(PlaceError::Absent) if part.is_some() => return Err(MigrateError::Nothing),
        listing => listing.map_err(MigrateError::List)?,
    };
    if let Some(asked) = &task.version {
        let found = plan::version(&listing);
        if !found.eq_ignore_ascii_case(asked) {
            return Err(MigrateError::Version { asked: crate::name::shown(asked.as_bytes()), found });
        }
    }
    let ours = |name: &Name| name.is_in(STATE.as_bytes());
    let inside = |name: &Name| only.is_none_or(|only| name == only || plan::below(name, only).is_some());
    let any = listing.entries.iter().any(|entry| !ours(&entry.name) && inside(&entry.name));
    if !any && listing.unsafe_count == 0 && (only.is_some() || matches!(task.from, End::Bucket { .. })) {
        return Err(MigrateError::Nothing);
    }
    Ok(listing)
}

/// Copies all items, so many at once, and writes down each that is done.
async fn crew(
    ground: &Ground,
    items: &[Item],
    parallelism: usize,
    ledger: &mut Ledger,
    report: &mut Report,
    say: &Say,
) -> Result<Vec<(Name, Digest)>, MigrateError> {
    let mut digests = Vec::with_capacity(items.len());
    let mut first: Option<(String, CopyError)> = None;
    let mut told = Instant::now();
    // Whatever ends it, what is under way comes to its own end: it is written down, or leaves nothing behind.
    let halted = Cell::new(false);
    let goes_on = |_: &(usize, &Item)| !halted.get() && !ground.stop.is_set();
    let under_way = items.iter().enumerate().take_while(goes_on);
    let under_way =
        under_way.map(|(number, item)| async move { (item, copy::file(ground, item, number).await) });
    let mut done = futures::stream::iter(under_way).buffer_unordered(parallelism);
    while let Some((item, result)) = done.next().await {
        let size = item.entry.seen.size;
        match result {
            Ok(Done::Copied { record, again, kept }) => {
                report.files += 1;
                report.bytes += size;
                report.bytes_kept += kept;
                if kept > 0 {
                    say.line(&format!("{}: gone on with behind {kept} bytes of an earlier try", item.target));
                }
                if again {
                    report.files_again += 1;
                    say.line(&format!(
                        "{}: what was at the target was not what it should be; copied again",
                        item.target
                    ));
                }
                digests.push((record.name.clone(), record.digest));
                ledger.add(record).await.map_err(MigrateError::Journal)?;
            }
            Ok(Done::There(record)) => {
                report.files_there += 1;
                report.bytes_there += size;
                digests.push((record.name.clone(), record.digest));
                ledger.known(record);
            }
            Ok(Done::Mark) => {
                report.left_out += 1;
                report.files_total = report.files_total.saturating_sub(1);
            }
            Err(CopyError::Stopped) => halted.set(true),
            Err(error) => {
                report.files_failed += 1;
                say.line(&format!("{}: {error}", item.entry.name));
                if error.ends_all() || report.files_failed > MOST_FAILED {
                    halted.set(true);
                }
                first.get_or_insert((item.entry.name.to_string(), error));
            }
        }
        if told.elapsed() > NEWS {
            told = Instant::now();
            say.line(&format!("so far: {}", report.words()));
        }
    }
    match first {
        None if ground.stop.is_set() && digests.len() as u64 != report.files_total => {
            Err(MigrateError::Stopped)
        }
        None => Ok(digests),
        Some((name, error)) => {
            Err(MigrateError::Files { name, error, more: report.files_failed.saturating_sub(1) })
        }
    }
}

/// Over all names and digests in their order: two targets with the same files have the same.
fn digest(mut digests: Vec<(Name, Digest)>) -> Digest {
    digests.sort_unstable();
    let mut context = Context::new(&SHA256);
    for (name, digest) in digests {
        context.update(&(name.bytes().len() as u64).to_le_bytes());
        context.update(name.bytes());
        context.update(&digest);
    }
    context.finish().as_ref().first_chunk().copied().unwrap_or_default()
}

/// A number that no other worker has.
pub(crate) fn process() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}
