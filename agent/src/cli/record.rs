//! `record`: writes the agent's recording to a file.
//!
//! The agent streams whole blocks; a file that ends between two blocks is a good recording. So whatever
//! ends the command (time, Ctrl-C, a full disk, the agent's end) the file is cut after the last whole
//! block and kept.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use operator_api::observability::v1 as wire;
use operator_api::observability::v1::record_block::What;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::client::{ClientError, connect};
use super::text::{count, printable, size};
use super::{CliError, show, tell};
use crate::config::Output;

/// The agent flushes within one of its ticks; this is many.
const TAIL: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("{path} exists: choose another name, or overwrite it with --force")]
    Exists { path: String },
    #[error("{path} could not be made: {source}; choose a file in a folder that you may write")]
    Create { path: String, source: io::Error },
    #[error(
        "the disk is full: {kept} of the recording are kept in {path}, whole up to there; free some space, or record to another disk"
    )]
    Full { path: String, kept: String },
    #[error("writing {path} failed: {source}; {kept} of the recording are kept in it, whole up to there")]
    Write { path: String, kept: String, source: io::Error },
    #[error("the recording ended early ({reason}); {kept} of it are kept in {path}, whole up to there")]
    Cut { path: String, kept: String, reason: ClientError },
    #[error("listening for Ctrl-C failed: {0}")]
    Signals(io::Error),
}

pub async fn record(
    socket: &Path,
    output: Output,
    path: &Path,
    seconds: Option<u32>,
    force: bool,
) -> Result<(), CliError> {
    // Said before the agent is asked; `Recording::create` makes sure of it.
    if !force && path.symlink_metadata().is_ok() {
        return Err(RecordError::Exists { path: name(path) }.into());
    }
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RecordError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(RecordError::Signals)?;
    let mut client = connect(socket).await?;
    let (requests, to_agent) = mpsc::channel(1);
    // Has room for one, so this cannot fail.
    let _ = requests.try_send(wire::RecordRequest {});
    let mut stream = client.record(ReceiverStream::new(to_agent)).await?.into_inner();
    let mut recording = Recording::create(path, force)?;
    if output == Output::Text {
        tell(&format!("recording to {}; Ctrl-C ends it", name(path)));
    }

    let started = Instant::now();
    let mut asking = Some(requests);
    let end = tokio::time::sleep(seconds.map_or(Duration::MAX, |s| Duration::from_secs(s.into())));
    tokio::pin!(end);
    let reason = loop {
        let stopping = asking.is_none();
        tokio::select! {
            block = stream.message() => match block {
                Ok(Some(block)) => recording.take(block)?,
                Ok(None) if stopping => break None,
                Ok(None) => break Some(ClientError::Ended),
                Err(status) => break Some(status.into()),
            },
            // The same timer bounds the recording first, then the wait for its tail.
            () = &mut end => {
                if asking.take().is_none() {
                    break Some(ClientError::Refused("the agent did not flush the rest in time".to_owned()));
                }
                end.as_mut().reset(tokio::time::Instant::now() + TAIL);
            }
            _ = interrupt.recv() => {
                if asking.take().is_none() {
                    break Some(ClientError::Refused("interrupted twice".to_owned()));
                }
                end.as_mut().reset(tokio::time::Instant::now() + TAIL);
            }
            _ = terminate.recv() => {
                asking = None;
                end.as_mut().reset(tokio::time::Instant::now() + TAIL);
            }
        }
    };
    let (bytes, lost) = recording.finish()?;
    if let Some(reason) = reason {
        let (path, kept) = (name(path), size(bytes));
        return Err(RecordError::Cut { path, kept, reason }.into());
    }
    let took = started.elapsed().as_secs_f64();
    show(
        output,
        || json!({"file": name(path), "bytes": bytes, "seconds": took, "lost_observations": lost}),
        || {
            let mut text = format!("{} in {took:.1} s, kept in {}\n", size(bytes), name(path));
            if lost > 0 {
                let lost = count(lost);
                text.push_str(&format!("{lost} observations are missing: this disk was too slow for them\n"));
            }
            text
        },
    )
}

fn name(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    printable(path.as_os_str().as_bytes())
}

/// The file, always cut after a whole block.
struct Recording {
    path: PathBuf,
    file: File,
    /// Bytes of whole blocks.
    whole: u64,
    lost: u64,
}

impl Recording {
    fn create(path: &Path, force: bool) -> Result<Self, RecordError> {
        let mut options = OpenOptions::new();
        options.write(true);
        if force {
            options.create(true).truncate(true);
        } else {
            options.create_new(true);
        }
        let file = options.open(path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => RecordError::Exists { path: name(path) },
            _ => RecordError::Create { path: name(path), source },
        })?;
        Ok(Self { path: path.to_path_buf(), file, whole: 0, lost: 0 })
    }

    fn take(&mut self, block: wire::RecordBlock) -> Result<(), RecordError> {
        match block.what {
            Some(What::Data(data)) => match self.file.write_all(&data) {
                Ok(()) => self.whole += data.len() as u64,
                Err(source) => return Err(self.failed(source)),
            },
            Some(What::LostObservations(lost)) => self.lost = self.lost.saturating_add(lost),
            // A word of a newer agent about the recording; the blocks are what counts.
            None => {}
        }
        Ok(())
    }

    /// Cuts a torn block off and says what is left.
    fn failed(&self, source: io::Error) -> RecordError {
        // Devices and pipes cannot be cut; there the torn block stays and replay's checksum finds it.
        let _ = self.file.set_len(self.whole);
        let (path, kept) = (name(&self.path), size(self.whole));
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => RecordError::Full { path, kept },
            _ => RecordError::Write { path, kept, source },
        }
    }

    fn finish(self) -> Result<(u64, u64), RecordError> {
        match self.file.sync_all() {
            // EINVAL: what cannot be synchronised (a pipe, /dev/null) need not be.
            Err(source) if source.kind() != io::ErrorKind::InvalidInput => Err(self.failed(source)),
            Ok(()) | Err(_) => Ok((self.whole, self.lost)),
        }
    }
}
