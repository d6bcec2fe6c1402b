//! Profiles on their way to disk: written by a thread of their own, so that the loop never waits for fsync.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::metrics::{Metrics, ProfileOutcome};
use crate::profiles::ProfileStore;

/// Profiles waiting to be written; when the disk is slower, the next periodic saving brings them again.
const WAITING: usize = 64;

type Profile = (Box<str>, Box<str>, Vec<u8>);

#[derive(Debug)]
pub struct Keeper {
    store: Arc<Mutex<ProfileStore>>,
    sender: Option<SyncSender<Profile>>,
    writer: Option<JoinHandle<()>>,
    metrics: Metrics,
}

impl Keeper {
    pub fn start(store: ProfileStore, metrics: Metrics) -> std::io::Result<Self> {
        let store = Arc::new(Mutex::new(store));
        let (sender, receiver) = sync_channel(WAITING);
        let writer = {
            let (store, metrics) = (store.clone(), metrics.clone());
            std::thread::Builder::new()
                .name("headrace-keeper".into())
                .spawn(move || write(&receiver, &store, &metrics))?
        };
        Ok(Self { store, sender: Some(sender), writer: Some(writer), metrics })
    }

    pub fn load(&self, workload: &str, source: &str) -> Option<Vec<u8>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).load(workload, source)
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

    /// Writes what is waiting and ends.
    pub fn close(mut self) {
        self.sender = None;
        if let Some(writer) = self.writer.take() {
            // It holds no lock that this thread has, and ends with the channel.
            let _ = writer.join();
        }
    }
}

fn write(receiver: &Receiver<Profile>, store: &Mutex<ProfileStore>, metrics: &Metrics) {
    for (workload, source, bytes) in receiver {
        let saved = store.lock().unwrap_or_else(PoisonError::into_inner).save(&workload, &source, &bytes);
        match saved {
            Ok(()) => metrics.profile(ProfileOutcome::Stored),
            Err(error) => {
                metrics.profile(ProfileOutcome::Failed);
                tracing::warn!("what was learned of a workload is not kept: {error}");
            }
        }
    }
}
