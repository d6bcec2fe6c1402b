//! Profiles on their way to disk: written by a thread of their own, so that the loop never waits for fsync.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use crate::metrics::{Metrics, ProfileOutcome};
use crate::profiles::ProfileStore;

/// Profiles waiting to be written; when the disk is slower, the next periodic saving brings them again.
const WAITING: usize = 64;

type Profile = (Box<str>, Box<str>, Vec<u8>);

#[derive(Debug)]
pub struct Keeper {
    store: ProfileStore,
    sender: Option<SyncSender<Profile>>,
    writer: Option<JoinHandle<()>>,
    metrics: Metrics,
}

impl Keeper {
    /// Two views of one directory: what the loop reads must not wait for what the writer syncs.
    pub fn start(store: ProfileStore, written: ProfileStore, metrics: Metrics) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        let writer = {
            let metrics = metrics.clone();
            std::thread::Builder::new()
                .name("headrace-keeper".into())
                .spawn(move || write(&receiver, written, &metrics))?
        };
        Ok(Self { store, sender: Some(sender), writer: Some(writer), metrics })
    }

    pub fn load(&mut self, workload: &str, source: &str) -> Option<Vec<u8>> {
        self.store.load(workload, source)
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

fn write(receiver: &Receiver<Profile>, mut store: ProfileStore, metrics: &Metrics) {
    for (workload, source, bytes) in receiver {
        match store.save(&workload, &source, &bytes) {
            Ok(()) => metrics.profile(ProfileOutcome::Stored),
            Err(error) => {
                metrics.profile(ProfileOutcome::Failed);
                tracing::warn!("what was learned of a workload is not kept: {error}");
            }
        }
    }
}
