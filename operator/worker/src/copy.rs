//! One file on its way: read, counted and digested, written, read back, and only then believed.
//!
//! The source is looked at before and after; where it is not the same, nothing is left at the target. A copy that
//! does not read back as it was sent is removed, and tried once more. Large files go in parts ([`large`]).

use aws_lc_rs::digest::{Context, SHA256};

pub use crate::ground::{CopyError, Ground, MEMORY};
use crate::ground::{digest, finish, next, read_error, write_error};
use crate::hex::Digest;
use crate::journal::Record;
use crate::large;
use crate::parts::LARGE;
use crate::place::{PlaceError, Reader, Writer, Written, committed};
use crate::plan::Item;

const MIB: u64 = 1 << 20;

/// A bit that flips once is the network's or the disk's bad day; twice, it is broken.
const TRIES: usize = 2;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    Copied {
        record: Record,
        again: bool,
        /// Bytes of it that an earlier try had copied.
        kept: u64,
    },
    /// It was there, and reads as it should.
    There(Record),
    /// The mark of an empty folder: no file.
    Mark,
}

/// Copies one file. `number` is nobody else's at the time.
pub async fn file(ground: &Ground, item: &Item, number: usize) -> Result<Done, CopyError> {
    let size = item.entry.seen.size;
    let need = ground.to.memory(size).div_ceil(MIB);
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
        let copied = if size > LARGE {
            large::copy(ground, item, number).await.map(Some)
        } else {
            small(ground, item, number).await.map(|record| record.map(|record| (record, 0)))
        };
        match copied {
            Ok(Some((record, kept))) => return Ok(Done::Copied { record, again, kept }),
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

/// None: it is the mark of an empty folder.
async fn small(ground: &Ground, item: &Item, number: usize) -> Result<Option<Record>, CopyError> {
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
    let temporary = ground.temporary(number)?;
    let writer = ground.to.write(&item.target, &temporary).await.map_err(CopyError::Write)?;
    // A writer that is dropped leaves nothing behind.
    let (digest, writer) = send(ground, &mut reader, writer, seen.size).await?;
    ground.unchanged(item).await?;
    let written = writer.finish().await.map_err(write_error)?;
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
        committed(staged, &item.target, seen.modified).await.map_err(write_error)?;
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

/// Everything from the reader to the writer.
async fn send(
    ground: &Ground,
    reader: &mut Reader,
    mut writer: Writer,
    size: u64,
) -> Result<(Digest, Writer), CopyError> {
    let (mut context, mut count) = (Context::new(&SHA256), 0u64);
    while let Some(bytes) = next(reader, &ground.stop).await.map_err(read_error)? {
        context.update(&bytes);
        count = count.saturating_add(bytes.len() as u64);
        if count > size {
            return Err(CopyError::Changed);
        }
        writer = writer.write(bytes).await.map_err(write_error)?;
    }
    if count == size { Ok((finish(context), writer)) } else { Err(CopyError::Changed) }
}
