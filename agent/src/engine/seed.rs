//! What is in the page cache of a file when it is first seen, or after records were lost.
//!
//! Counted through a copy of the reader's own descriptor, by a thread of its own: an open of ours could
//! drop the pages, and /proc can be slow. A file that is closed already cannot be counted; what is read of
//! it shows what was there.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use agent_core::{FileKey, Nanos, Observation};
use rustix::fs::{AtFlags, StatxFlags, statx};
use tokio::sync::mpsc;

use super::now;
use crate::prefetch::{copy_of, resident};

/// Files waiting to be counted; more at once are not worth the time.
const WAITING: usize = 256;

#[derive(Debug)]
pub struct Seeds {
    wanted: SyncSender<(u32, FileKey)>,
    /// Files that were not counted because too many waited.
    pub skipped: u64,
}

/// What was counted, for the loop.
pub type Counted = mpsc::Receiver<(Nanos, Observation)>;

impl Seeds {
    pub fn start() -> std::io::Result<(Self, Counted)> {
        let (wanted, files) = sync_channel(WAITING);
        let (counted, results) = mpsc::channel(WAITING);
        // Ends when the engine drops `wanted` or `results`; a store that never answers a stat may hold it,
        // and then nobody waits for it.
        std::thread::Builder::new().name("headrace-seed".into()).spawn(move || count(&files, &counted))?;
        Ok((Self { wanted, skipped: 0 }, results))
    }

    /// Asks for a file in the hands of process `tgid`; never waits.
    pub fn ask(&mut self, tgid: u32, file: FileKey) {
        if self.wanted.try_send((tgid, file)).is_err() {
            self.skipped += 1;
        }
    }
}

fn count(files: &Receiver<(u32, FileKey)>, counted: &mpsc::Sender<(Nanos, Observation)>) {
    for (tgid, file) in files {
        // Closed, or the process gone: nothing to count.
        let Ok(copy) = copy_of(tgid, file) else { continue };
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let Ok(found) = statx(&copy, c"", flags, StatxFlags::SIZE) else { continue };
        let at = now();
        let Ok(pages) = resident(std::os::fd::AsFd::as_fd(&copy), found.stx_size) else { continue };
        if counted.blocking_send((at, Observation::Resident { file, pages })).is_err() {
            return;
        }
    }
}
