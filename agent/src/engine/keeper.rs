//! Profiles on their way to disk: written by a thread of their own, so that the loop never waits for fsync.
//!
//! A folder that cannot be used never stops the agent: it is said once and shown by `headrace doctor`, what
//! could not be written waits in memory, bounded, and is tried again until it can. Loading has a view of the
//! folder of its own, so that it does not wait for a save under way.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::doctor::Check;
use crate::metrics::{Metrics, ProfileOutcome};
use crate::profiles::{ProfileError, ProfileStore};

/// Profiles on their way to the writer; it takes them at once unless the disk hangs.
const WAITING: usize = 64;

/// Bytes of profiles kept while they cannot be written: the largest four, hundreds of a usual size.
const UNSAVED: usize = 16 << 20;

/// How often a folder that failed is tried again when nothing new is to be written.
const AGAIN: Duration = Duration::from_secs(30);

type Profile = (Box<str>, Box<str>, Vec<u8>);

/// Why nothing can be saved at the moment.
type Trouble = Arc<Mutex<Option<String>>>;

#[derive(Debug)]
pub struct Keeper {
    folder: PathBuf,
    /// None where the folder cannot be used, since the start.
    loaded: Option<ProfileStore>,
    sender: Option<SyncSender<Profile>>,
    writer: Option<JoinHandle<()>>,
    trouble: Trouble,
    metrics: Metrics,
}

impl Keeper {
    pub fn start(folder: &Path, metrics: Metrics) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        let writer = Writer {
            folder: folder.to_owned(),
            store: None,
            unsaved: VecDeque::new(),
            trouble: Trouble::default(),
            metrics: metrics.clone(),
        };
        let trouble = writer.trouble.clone();
        let loaded = match ProfileStore::open(folder) {
            Ok(store) => Some(store),
            Err(error) => {
                writer.failed(&error);
                None
            }
        };
        let writer = std::thread::Builder::new()
            .name("headrace-keeper".into())
            .spawn(move || writer.run(&receiver))?;
        Ok(Self {
            folder: folder.to_owned(),
            loaded,
            sender: Some(sender),
            writer: Some(writer),
            trouble,
            metrics,
        })
    }

    pub fn load(&mut self, workload: &str, source: &str) -> Option<Vec<u8>> {
        if self.loaded.is_none() && self.trouble.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            // Somebody has mended it, and the writer has opened it since: what has lain there from before is of use again.
            self.loaded = Some(ProfileStore::beside(&self.folder));
        }
        self.loaded.as_mut()?.load(workload, source)
    }

    pub fn save(&self, profiles: Vec<Profile>) {
        let Some(sender) = &self.sender else { return };
        for profile in profiles {
            match sender.try_send(profile) {
                Ok(()) => {}
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                    self.metrics.profile(ProfileOutcome::Failed);
                }
            }
        }
    }

    /// What `headrace doctor` says of the folder; nothing while all is well.
    pub fn check(&self) -> Option<Check> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let advice = "the agent goes on and tries again by itself; it starts from nothing if it is restarted before \
                      that succeeds";
        trouble.as_ref().map(|trouble| Check::warn("learned profiles", trouble.as_str(), advice))
    }

    /// Writes what is waiting and ends.
    pub fn close(mut self) {
        self.sender = None;
        if let Some(writer) = self.writer.take() {
            // It holds no lock that this thread has, and ends with the channel.
            let _ = writer.join();
        }
    }
}

#[derive(Debug)]
struct Writer {
    folder: PathBuf,
    store: Option<ProfileStore>,
    /// Oldest first, one for each workload and source.
    unsaved: VecDeque<Profile>,
    trouble: Trouble,
    metrics: Metrics,
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Profile>) {
        loop {
            match receiver.recv_timeout(AGAIN) {
                Ok(profile) => self.keep(profile),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            for profile in receiver.try_iter() {
                self.keep(profile);
            }
            self.save();
        }
        self.save();
        if !self.unsaved.is_empty() {
            tracing::warn!(
                "{}: what was learned of {} workloads could not be saved and ends with this agent",
                self.folder.display(),
                self.unsaved.len()
            );
        }
    }

    fn keep(&mut self, profile: Profile) {
        self.unsaved.retain(|(workload, source, _)| (workload, source) != (&profile.0, &profile.1));
        self.unsaved.push_back(profile);
        let size =
            |unsaved: &VecDeque<Profile>| unsaved.iter().map(|(_, _, bytes)| bytes.len()).sum::<usize>();
        while self.unsaved.len() > WAITING || size(&self.unsaved) > UNSAVED {
            self.unsaved.pop_front();
            self.metrics.profile(ProfileOutcome::Failed);
        }
    }

    /// Writes until nothing is left or the folder fails.
    fn save(&mut self) {
        while let Some((workload, source, bytes)) = self.unsaved.front() {
            let saved = match &mut self.store {
                Some(store) => store.save(workload, source, bytes),
                None => match ProfileStore::open(&self.folder) {
                    Ok(store) => self.store.insert(store).save(workload, source, bytes),
                    Err(error) => Err(error),
                },
            };
            match saved {
                Ok(()) => {
                    self.metrics.profile(ProfileOutcome::Stored);
                    self.recovered();
                }
                Err(error @ ProfileError::TooLarge { .. }) => {
                    self.metrics.profile(ProfileOutcome::Failed);
                    tracing::warn!("{error}");
                }
                Err(error) => {
                    self.metrics.profile(ProfileOutcome::Failed);
                    self.failed(&error);
                    return;
                }
            }
            self.unsaved.pop_front();
        }
    }

    /// Says it the first time only.
    fn failed(&self, error: &ProfileError) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.is_none() {
            tracing::warn!("{error}");
        }
        *trouble = Some(error.to_string());
    }

    fn recovered(&self) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.take().is_some() {
            tracing::info!("{}: what is learned is saved again", self.folder.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_folder_that_was_mended_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |mode| fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        ProfileStore::open(dir.path()).unwrap().save("before", "s", b"learned").unwrap();
        fs::write(dir.path().join("another's"), "").unwrap();
        mode(0o777);
        let mut keeper = Keeper::start(dir.path(), Metrics::noop()).unwrap();
        assert!(keeper.check().is_some(), "others may write there");
        assert_eq!(keeper.load("before", "s"), None);
        mode(0o755);
        assert_eq!(keeper.load("before", "s"), None, "nobody has looked since");
        keeper.save(vec![("now".into(), "s".into(), b"more".to_vec())]);
        let begin = Instant::now();
        while keeper.check().is_some() {
            assert!(begin.elapsed() < Duration::from_secs(20), "the writer does not find that it was mended");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(keeper.load("before", "s").as_deref(), Some(&b"learned"[..]));
        assert_eq!(keeper.load("now", "s").as_deref(), Some(&b"more"[..]));
        keeper.close();
    }
}
