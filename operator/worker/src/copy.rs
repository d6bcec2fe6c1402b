//! One file on its way: read, counted and digested, written, read back, and only then believed.
//!
//! The source is looked at before and after; where it is not the same, nothing is left at the target. A copy that
//! does not read back as it was sent is removed, and tried once more.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use tokio::sync::Semaphore;

use crate::hex::Digest;
use crate::journal::Record;
use crate::name::Name;
use crate::place::{Place, PlaceError, Reader, Written};
use crate::plan::Item;
use crate::stop::Stop;

/// Memory for bytes on their way, in MiB, of all files together.
pub const MEMORY: u32 = 256;

const MIB: u64 = 1 << 20;

/// A bit that flips once is the network's or the disk's bad day; twice, it is broken.
const TRIES: usize = 2;

#[derive(Clone, Debug)]
pub struct Ground {
    pub from: Place,
    pub to: Place,
    /// Where files lie while they have no name.
    pub temporary: Name,
    /// No other worker's.
    pub process: u64,
    pub memory: Arc<Semaphore>,
    pub stop: Stop,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    Copied {
        record: Record,
        again: bool,
    },
    /// It was there, and reads as it should.
    There(Record),
    /// The mark of an empty folder: no file.
    Mark,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    #[error("it cannot be read: {0}")]
    Read(PlaceError),
    #[error("it cannot be written: {0}")]
    Write(PlaceError),
    #[error("it changed, or went, while it was copied; whoever writes there has to be done first")]
    Changed,
    #[error(
        "what the target gives back is not what was sent (checksums differ), twice; the copy was removed. The target's \
         disk or memory, or the way to it, alters data: do not trust it before that is found"
    )]
    Altered,
    #[error("the worker was told to stop")]
    Stopped,
}

impl CopyError {
    /// Whether the next file would fare no better.
    pub fn ends_all(&self) -> bool {
        matches!(self, Self::Stopped | Self::Write(PlaceError::Full))
    }
}

/// Copies one file. `number` is nobody else's at the time.
pub async fn file(ground: &Ground, item: &Item, number: usize) -> Result<Done, CopyError> {
    let need = ground.to.memory(item.entry.seen.size).div_ceil(MIB);
    let permits = u32::try_from(need).unwrap_or(MEMORY).clamp(1, MEMORY);
    let Ok(_memory) = ground.memory.acquire_many(permits).await else { return Err(CopyError::Stopped) };
    if ground.stop.is_set() {
        return Err(CopyError::Stopped);
    }
    let mut again = false;
    if let Some(record) = &item.record {
        match is_there(ground, record).await? {
            Some(true) => return Ok(Done::There(record.clone())),
            Some(false) => again = true,
            None => {}
        }
    }
    for _ in 0..TRIES {
        match copy(ground, item, number).await {
            Ok(Some(record)) => return Ok(Done::Copied { record, again }),
            Ok(None) => return Ok(Done::Mark),
            Err(CopyError::Altered) => again = true,
            Err(error) => return Err(error),
        }
    }
    Err(CopyError::Altered)
}

/// Whether the target has what the record says; none: it has nothing of that name.
async fn is_there(ground: &Ground, record: &Record) -> Result<Option<bool>, CopyError> {
    let Some(seen) = ground.to.look(&record.name).await.map_err(CopyError::Write)? else { return Ok(None) };
    if seen.size != record.source.size {
        return Ok(Some(false));
    }
    let read = match ground.to.read(&record.name).await {
        Ok((_, reader)) => digest(reader, &ground.stop).await,
        Err(error) => Err(error),
    };
    match read {
        Ok((size, digest)) => Ok(Some((size, digest) == (record.source.size, record.digest))),
        Err(PlaceError::Stopped) => Err(CopyError::Stopped),
        Err(PlaceError::Absent) => Ok(None),
        // What cannot be read is not there; writing it tells whether the place is broken.
        Err(_) => Ok(Some(false)),
    }
}

async fn digest(mut reader: Reader, stop: &Stop) -> Result<(u64, Digest), PlaceError> {
    let (mut context, mut size) = (Context::new(&SHA256), 0u64);
    while let Some(bytes) = next(&mut reader, stop).await? {
        context.update(&bytes);
        size = size.saturating_add(bytes.len() as u64);
    }
    Ok((size, finish(context)))
}

fn finish(context: Context) -> Digest {
    // SHA-256 has 32 bytes, so the default is never used.
    context.finish().as_ref().first_chunk().copied().unwrap_or_default()
}

async fn next(reader: &mut Reader, stop: &Stop) -> Result<Option<bytes::Bytes>, PlaceError> {
    tokio::select! {
        biased;
        () = stop.wait() => Err(PlaceError::Stopped),
        bytes = reader.more() => bytes,
    }
}

fn read_error(error: PlaceError) -> CopyError {
    match error {
        PlaceError::Stopped => CopyError::Stopped,
        PlaceError::Absent | PlaceError::Changed => CopyError::Changed,
        other => CopyError::Read(other),
    }
}

/// None: it is the mark of an empty folder.
async fn copy(ground: &Ground, item: &Item, number: usize) -> Result<Option<Record>, CopyError> {
    let name = &item.entry.name;
    let (seen, mut reader) = match ground.from.read(name).await {
        Ok(opened) => opened,
        Err(PlaceError::Absent) if item.entry.seen.size == 0 => {
            let is_mark = ground.from.is_mark(name).await.map_err(CopyError::Read)?;
            return if is_mark { Ok(None) } else { Err(CopyError::Changed) };
        }
        Err(error) => return Err(read_error(error)),
    };
    if seen != item.entry.seen {
        return Err(CopyError::Changed);
    }
    let part = Name::parse(format!("{:016x}-{number}", ground.process).as_bytes())
        .map_err(|_| CopyError::Changed)?;
    let temporary = ground.temporary.below(&part);
    let writer = ground.to.write(&item.target, &temporary, seen.size).await.map_err(CopyError::Write)?;
    let mut writer = Some(writer);
    let sent = send(ground, &mut reader, &mut writer, seen.size).await;
    let unchanged = async || match ground.from.look(name).await {
        Ok(Some(after)) if after == seen => Ok(()),
        Ok(_) => Err(CopyError::Changed),
        Err(error) => Err(read_error(error)),
    };
    let sent = match sent {
        Ok(digest) => unchanged().await.map(|()| digest),
        Err(error) => Err(error),
    };
    let (digest, writer) = match (sent, writer) {
        (Ok(digest), Some(writer)) => (digest, writer),
        (sent, writer) => {
            if let Some(writer) = writer {
                writer.abort().await;
            }
            return Err(sent.err().unwrap_or(CopyError::Stopped));
        }
    };
    let written = writer.finish().await.map_err(CopyError::Write)?;
    let back = match &written {
        Written::File(staged) => staged.read_back().map(Reader::File),
        Written::Object => ground.to.read(&item.target).await.map(|(_, reader)| reader),
    };
    let back = match back {
        Ok(reader) => self::digest(reader, &ground.stop).await,
        Err(error) => Err(error),
    };
    match back {
        Ok(back) if back == (seen.size, digest) => {}
        Ok(_) => {
            discard(ground, item, written).await?;
            return Err(CopyError::Altered);
        }
        // It is whole as far as the store says, but nobody has seen it: it counts when it was read.
        Err(PlaceError::Stopped) => return Err(CopyError::Stopped),
        Err(error) => {
            discard(ground, item, written).await?;
            return Err(CopyError::Write(error));
        }
    }
    if let Written::File(staged) = written {
        let (target, modified) = (item.target.clone(), seen.modified);
        let done = tokio::task::spawn_blocking(move || staged.commit(&target, Some(modified)));
        done.await.map_err(|_| CopyError::Stopped)?.map_err(CopyError::Write)?;
    }
    Ok(Some(Record { name: item.target.clone(), source: seen, digest }))
}

async fn discard(ground: &Ground, item: &Item, written: Written) -> Result<(), CopyError> {
    match written {
        Written::File(staged) => drop(staged),
        Written::Object => ground.to.remove(&item.target).await.map_err(CopyError::Write)?,
    }
    Ok(())
}

/// Everything from the reader to the writer, which is none when it was lost on the way.
async fn send(
    ground: &Ground,
    reader: &mut Reader,
    writer: &mut Option<crate::place::Writer>,
    size: u64,
) -> Result<Digest, CopyError> {
    let (mut context, mut count) = (Context::new(&SHA256), 0u64);
    while let Some(bytes) = next(reader, &ground.stop).await.map_err(read_error)? {
        context.update(&bytes);
        count = count.saturating_add(bytes.len() as u64);
        if count > size {
            return Err(CopyError::Changed);
        }
        let Some(open) = writer.take() else { return Err(CopyError::Stopped) };
        match open.write(bytes).await {
            Ok(open) => *writer = Some(open),
            Err((open, error)) => {
                *writer = open;
                return Err(if error == PlaceError::Stopped {
                    CopyError::Stopped
                } else {
                    CopyError::Write(error)
                });
            }
        }
    }
    if count == size { Ok(finish(context)) } else { Err(CopyError::Changed) }
}
