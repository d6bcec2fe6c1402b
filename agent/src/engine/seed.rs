//! What is in the page cache of a file when it is first seen, or after records were lost.
//!
//! Counted through a copy of the reader's own descriptor, by a thread of its own: an open of ours could
//! drop the pages, and /proc can be slow. A file that is closed already cannot be counted; what is read of
//! it shows what was there.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use agent_core::{FileKey, Nanos, Observation};
use rustix::fs::{AtFlags, StatxFlags, statx};
use tokio::sync::mpsc;

use super::now;
use crate::prefetch::{copy_of, resident};

/// Files waiting to be counted; more at once are not worth the time.
const WAITING: usize = 256;

/// Who waits, each once however often it was asked for: where records are lost all files that are being read are.
type Asked = Arc<Mutex<HashSet<(u32, FileKey)>>>;

#[derive(Debug)]
pub struct Seeds {
    wanted: SyncSender<(u32, FileKey)>,
    /// Held for a look at the set, on either side.
    asked: Asked,
    /// Files that were not counted because too many waited.
    pub skipped: u64,
}

/// What was counted, for the loop.
pub type Counted = mpsc::Receiver<(Nanos, Observation)>;

impl Seeds {
    pub fn start() -> std::io::Result<(Self, Counted)> {
        let (wanted, files) = sync_channel(WAITING);
        let (counted, results) = mpsc::channel(WAITING);
        let asked = Asked::default();
        let waiting = asked.clone();
        // Ends when the engine drops `wanted` or `results`; a store that never answers a stat may hold it,
        // and then nobody waits for it.
        std::thread::Builder::new()
            .name("headrace-seed".into())
            .spawn(move || count(&files, &waiting, &counted))?;
        Ok((Self { wanted, asked, skipped: 0 }, results))
    }

    /// Asks for a file in the hands of process `tgid`; never waits.
    pub fn ask(&mut self, tgid: u32, file: FileKey) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.insert((tgid, file)) && self.wanted.try_send((tgid, file)).is_err() {
            asked.remove(&(tgid, file));
            self.skipped += 1;
        }
    }
}

fn count(files: &Receiver<(u32, FileKey)>, asked: &Asked, counted: &mpsc::Sender<(Nanos, Observation)>) {
    for (tgid, file) in files {
        // Whoever asks from now on means what comes after this look.
        asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&(tgid, file));
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
