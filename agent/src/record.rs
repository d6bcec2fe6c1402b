//! `headrace record` and `headrace replay`: the file around the core's codec.
//!
//! Recording must never hold up the event loop: observations are encoded where they arise (tens of
//! nanoseconds each), and sealed blocks go through a bounded queue to a thread that writes them. Where the
//! disk is slower than the queue is long, or full, whole blocks are left out; the recording itself then
//! says how many observations are missing, and the file always ends at a whole block.
//!
//! A recording is read into memory, not mapped: a file that is cut short under a mapping kills the process
//! with SIGBUS (as a copy on NFS that is replaced would), where reading only finds fewer bytes.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use agent_core::replay::Replay;
use agent_core::trace::{Encoder, TraceError};
use agent_core::{Limits, Nanos, Observation};

/// Blocks waiting to be written, 64 KiB each: 16 MiB, some seconds of a busy node's observations.
const QUEUE: usize = 256;

/// Bytes waiting: a huge listing is many blocks in one.
const MAX_QUEUED: u64 = 32 << 20;

/// How long the end of a recording may wait for the disk.
const PATIENCE: Duration = Duration::from_secs(10);

/// A hundred million observations; larger ones are recorded in parts.
const MAX_RECORDING: u64 = 1 << 30;

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error(
        "{}: there is a file already, and it is left as it is; pass another name, or --force to overwrite it",
        path.display()
    )]
    Exists { path: PathBuf },
    #[error("{}: the recording cannot be made ({source}); pass a file in a folder that can be written", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error(
        "the thread that writes the recording cannot be started ({source}); try again with fewer processes running"
    )]
    Thread { source: io::Error },
    #[error(
        "{}: the disk has not taken the end of the recording within {} s; the file can be replayed up to what \
         was written. Check the disk it is on",
        path.display(),
        PATIENCE.as_secs()
    )]
    Stuck { path: PathBuf },
    #[error(
        "{}: the end of the recording could not be written ({source}); the file can be replayed up to it. Free \
         some space, or record to another disk",
        path.display()
    )]
    End { path: PathBuf, source: io::Error },
    #[error("{}: the recording cannot be read ({source}); check the name and the rights", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: this is no file; pass one that `headrace record` wrote", path.display())]
    NotAFile { path: PathBuf },
    #[error(
        "{}: a recording of {bytes} bytes is larger than a replay takes ({MAX_RECORDING}); record for a shorter time",
        path.display()
    )]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error("{}: {source}", path.display())]
    Trace { path: PathBuf, source: TraceError },
}

/// What a finished recording holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    pub observations: u64,
    pub bytes: u64,
    /// Left out because the disk was full or too slow; the recording says where.
    pub lost: u64,
}

#[derive(Debug, Default)]
struct Shared {
    queued: AtomicU64,
    lost: AtomicU64,
    /// Of the lost, those that the recording does not tell of yet.
    untold: AtomicU64,
    observations: AtomicU64,
    bytes: AtomicU64,
    said: AtomicBool,
}

impl Shared {
    /// Counts what is left out, and says so the first time.
    fn lose(&self, path: &Path, observations: u64, telling: u64, cause: &dyn std::fmt::Display) {
        self.lost.fetch_add(observations, Ordering::Relaxed);
        self.untold.fetch_add(observations + telling, Ordering::Relaxed);
        if !self.said.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "{}: observations are left out of the recording ({cause}); it goes on and says how many are \
                 missing. Free some space or record to a faster disk",
                path.display()
            );
        }
    }
}

#[derive(Debug)]
struct Batch {
    blocks: Vec<u8>,
    observations: u64,
    /// Earlier losses that these blocks tell of: to be told again if they are lost too.
    telling: u64,
}

#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    encoder: Encoder,
    /// Sealed, not yet sent.
    blocks: Vec<u8>,
    /// Taken since the last batch was sent.
    taken: u64,
    telling: u64,
    last: Nanos,
    queue: SyncSender<Batch>,
    ended: Receiver<io::Result<()>>,
    shared: Arc<Shared>,
}

impl Recorder {
    /// Starts a recording; never over another file unless `force` is set.
    pub fn create(path: &Path, force: bool) -> Result<Self, RecordError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => RecordError::Exists {
                path: path.to_owned(),
            },
            _ => RecordError::Create {
                path: path.to_owned(),
                source,
            },
        };
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600);
        match force {
            true => options.create(true).truncate(true),
            false => options.create_new(true),
        };
        let mut file = options.open(path).map_err(failed)?;
        if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            // Paths and workloads are for root only, in a file that was there before as well.
            file.set_permissions(Permissions::from_mode(0o600))
                .map_err(failed)?;
        }
        let (mut encoder, mut header) = (Encoder::new(), Vec::new());
        encoder.flush(&mut header);
        file.write_all(&header).map_err(failed)?;

        let shared = Arc::new(Shared::default());
        shared.bytes.store(header.len() as u64, Ordering::Relaxed);
        let (queue, blocks) = sync_channel(QUEUE);
        let (end, ended) = channel();
        let mut writer = Writer {
            path: path.to_owned(),
            file,
            good: header.len() as u64,
            shared: shared.clone(),
        };
        thread::Builder::new()
            .name("record".into())
            .spawn(move || {
                let result = writer.run(&blocks);
                // Nobody waits for it where the recorder was dropped without its end.
                let _ = end.send(result);
            })
            .map_err(|source| RecordError::Thread { source })?;
        Ok(Self {
            path: path.to_owned(),
            encoder,
            blocks: Vec::new(),
            taken: 0,
            telling: 0,
            last: Nanos::default(),
            queue,
            ended,
            shared,
        })
    }

    /// Takes an observation; never waits.
    pub fn take(&mut self, at: Nanos, observation: &Observation) {
        self.last = at;
        self.tell();
        match self.encoder.push(at, observation, &mut self.blocks) {
            Ok(()) => self.taken += 1,
            Err(too_large) => self.shared.lose(&self.path, 1, 0, &too_large),
        }
        if !self.blocks.is_empty() {
            self.send();
        }
    }

    /// Lets the disk have what was taken so far; called about once a second, so that a killed agent leaves
    /// all but the last second.
    pub fn flush(&mut self) {
        self.encoder.flush(&mut self.blocks);
        self.send();
    }

    /// Observations left out so far.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Writes the end and waits, a bounded time, until the disk has everything.
    pub fn finish(mut self) -> Result<Recorded, RecordError> {
        let until = Instant::now() + PATIENCE;
        self.tell();
        let mut blocks = std::mem::take(&mut self.blocks);
        std::mem::take(&mut self.encoder).finish(&mut blocks);
        let mut batch = Batch {
            blocks,
            observations: self.taken,
            telling: self.telling,
        };
        self.shared
            .queued
            .fetch_add(batch.blocks.len() as u64, Ordering::Relaxed);
        loop {
            match self.queue.try_send(batch) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < until => {
                    batch = back;
                    thread::sleep(Duration::from_millis(5));
                }
                Err(_) => return Err(RecordError::Stuck { path: self.path }),
            }
        }
        let Self {
            path,
            queue,
            ended,
            shared,
            ..
        } = self;
        drop(queue);
        match ended.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Ok(())) => Ok(Recorded {
                observations: shared.observations.load(Ordering::Relaxed),
                bytes: shared.bytes.load(Ordering::Relaxed),
                lost: shared.lost.load(Ordering::Relaxed),
            }),
            Ok(Err(source)) => Err(RecordError::End { path, source }),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                Err(RecordError::Stuck { path })
            }
        }
    }

    /// Puts what was lost into the recording, in a block of its own with what came before.
    fn tell(&mut self) {
        let records = self.shared.untold.swap(0, Ordering::Relaxed);
        if records > 0 {
            let lost = Observation::Lost { records };
            if self.encoder.push(self.last, &lost, &mut self.blocks).is_ok() {
                self.telling += records;
            }
            self.encoder.flush(&mut self.blocks);
        }
    }

    fn send(&mut self) {
        let blocks = std::mem::take(&mut self.blocks);
        let unsealed = u64::from(self.encoder.unsealed());
        let observations = self.taken.saturating_sub(unsealed);
        self.taken = unsealed;
        let telling = std::mem::take(&mut self.telling);
        if blocks.is_empty() {
            return;
        }
        let len = blocks.len() as u64;
        let batch = Batch {
            blocks,
            observations,
            telling,
        };
        let fits = self.shared.queued.load(Ordering::Relaxed).saturating_add(len) <= MAX_QUEUED;
        if fits {
            self.shared.queued.fetch_add(len, Ordering::Relaxed);
        }
        if !fits || self.queue.try_send(batch).is_err() {
            if fits {
                self.shared.queued.fetch_sub(len, Ordering::Relaxed);
            }
            self.shared.lose(
                &self.path,
                observations,
                telling,
                &"the disk is slower than what is recorded",
            );
        }
    }
}

#[derive(Debug)]
struct Writer {
    path: PathBuf,
    file: File,
    /// Where the last whole block ends.
    good: u64,
    shared: Arc<Shared>,
}

impl Writer {
    /// Ends when the recorder lets go of the queue; the result is that of the last write and the sync.
    fn run(&mut self, batches: &Receiver<Batch>) -> io::Result<()> {
        let mut last = Ok(());
        while let Ok(Batch {
            blocks,
            observations,
            telling,
        }) = batches.recv()
        {
            let len = blocks.len() as u64;
            last = self.file.write_all(&blocks);
            self.shared.queued.fetch_sub(len, Ordering::Relaxed);
            match &last {
                Ok(()) => {
                    self.good += len;
                    self.shared.bytes.store(self.good, Ordering::Relaxed);
                    self.shared
                        .observations
                        .fetch_add(observations, Ordering::Relaxed);
                }
                Err(error) => {
                    self.shared.lose(&self.path, observations, telling, error);
                    // Back to the end of the last whole block; what is not a file has no end to go back to.
                    let _ = self.file.set_len(self.good);
                    let _ = self.file.seek(SeekFrom::Start(self.good));
                }
            }
        }
        last?;
        match self.file.sync_all() {
            // A pipe or a device cannot be synced.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            result => result,
        }
    }
}

/// Runs a recording through a new core; what it returns prints as the ledger.
pub fn replay(path: &Path, limits: Limits) -> Result<Replay, RecordError> {
    let recording = read(path)?;
    agent_core::replay::replay(&recording, limits).map_err(|source| RecordError::Trace {
        path: path.to_owned(),
        source,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, RecordError> {
    let failed = |source| RecordError::Read {
        path: path.to_owned(),
        source,
    };
    // NONBLOCK: opening a pipe must not wait for its other end.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(RecordError::NotAFile {
            path: path.to_owned(),
        });
    }
    let bytes = metadata.len();
    if bytes > MAX_RECORDING {
        return Err(RecordError::TooLarge {
            path: path.to_owned(),
            bytes,
        });
    }
    let mut recording = Vec::new();
    let room = usize::try_from(bytes).unwrap_or(usize::MAX);
    recording
        .try_reserve_exact(room)
        .map_err(|_| failed(io::ErrorKind::OutOfMemory.into()))?;
    // One that still grows is read up to where it ended when it was opened.
    file.take(bytes).read_to_end(&mut recording).map_err(failed)?;
    Ok(recording)
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
