//! Blocks to observations.
//!
//! An iterator that yields each damage once and goes on behind it: what could not be read is an error
//! value in its place, never the end of the rest.

use std::borrow::Cow;

use super::dictionary::{Dictionary, Track, unfold};
use super::encode::{ENTRY_COST, MAX_NAME_SHARED, RANGE_COST, tag};
use super::frame::{BLOCK_HEADER, FILE_HEADER, Kind, VERSION, block_header, next_block, version};
use super::varint::{Cursor, Malformed};
use super::{MAX_EXPANDED, MAX_RECORD, TraceError};
use crate::observation::{Actor, Entry, EntryKind, Observation, OrderId, Outcome, Via};
use crate::units::{MountId, Nanos};

#[derive(Debug)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    /// Where the next block is expected.
    offset: usize,
    /// Blocks passed.
    block: u64,
    good: u64,
    /// The observations of the current block, and how far they are read.
    body: Cow<'a, [u8]>,
    read: usize,
    left: u32,
    dictionary: Dictionary,
    /// Reported before anything else.
    pending: Option<TraceError>,
    /// Where the block that is being read began.
    began: usize,
    done: bool,
}

impl<'a> Decoder<'a> {
    /// Fails only where nothing can be read: a foreign file, or another version's.
    pub fn new(bytes: &'a [u8]) -> Result<Self, TraceError> {
        let (offset, pending) = match version(bytes) {
            Some(VERSION) => (FILE_HEADER, None),
            Some(found) => return Err(TraceError::Version { found }),
            None => {
                let offset = next_block(bytes, 0).ok_or(TraceError::Foreign)?;
                (offset, Some(TraceError::Header))
            }
        };
        Ok(Self {
            bytes,
            offset,
            block: 0,
            good: 0,
            body: Cow::Borrowed(&[]),
            read: 0,
            left: 0,
            dictionary: Dictionary::default(),
            pending,
            began: offset,
            done: false,
        })
    }

    /// Observations yielded so far.
    pub fn good(&self) -> u64 {
        self.good
    }

    fn damaged(&self, lost: Option<u32>, cause: &'static str) -> TraceError {
        TraceError::Damaged { block: self.block, offset: self.began, good: self.good, lost, cause }
    }

    /// Steps to the next block that holds observations. `Ok(false)` is the orderly end.
    fn advance(&mut self) -> Result<bool, TraceError> {
        let mut chain: Option<Vec<u8>> = None;
        loop {
            let (header, body) = match self.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) if chain.is_some() => {
                    return Err(self.damaged(Some(1), "its continuation is missing"));
                }
                Ok(None) => {
                    return Err(TraceError::Unfinished { good: self.good });
                }
                Err(error) => return Err(error),
            };
            match (header.kind, chain.as_mut()) {
                (Kind::Whole, None) => {
                    self.enter(Cow::Borrowed(body), header.observations);
                    return Ok(true);
                }
                (Kind::First, None) => chain = Some(body.to_vec()),
                (Kind::Middle | Kind::Last, Some(parts)) => {
                    if parts.len() + body.len() > MAX_RECORD {
                        return Err(self.damaged(Some(1), "its observation is too large"));
                    }
                    parts.extend_from_slice(body);
                    if header.kind == Kind::Last {
                        let parts = chain.take().unwrap_or_default();
                        self.enter(Cow::Owned(parts), 1);
                        return Ok(true);
                    }
                }
                // Told once, at the end of the chain.
                (Kind::Middle, None) => {}
                (Kind::Last, None) => return Err(self.damaged(Some(1), "its beginning is missing")),
                (Kind::Whole | Kind::First | Kind::End, Some(_)) => {
                    // Read this block again as what it is; the broken chain is what was lost.
                    self.offset = self.began;
                    self.block = self.block.saturating_sub(1);
                    return Err(self.damaged(Some(1), "its continuation is missing"));
                }
                (Kind::End, None) => {
                    self.done = true;
                    return match self.bytes.len().saturating_sub(self.offset) {
                        0 => Ok(false),
                        _ => Err(self.damaged(None, "bytes follow the end of the recording")),
                    };
                }
            }
        }
    }

    /// The block at the offset, checked. `None` at the end of the bytes.
    fn next_frame(&mut self) -> Result<Option<(super::frame::BlockHeader, &'a [u8])>, TraceError> {
        self.began = self.offset;
        let bytes = self.bytes;
        let rest = bytes.get(self.offset..).unwrap_or_default();
        if rest.is_empty() {
            self.done = true;
            return Ok(None);
        }
        let Some(header) = block_header(rest) else {
            return match next_block(bytes, self.offset) {
                Some(found) => {
                    let error = self.damaged(None, "its header does not match its checksum");
                    self.offset = found;
                    self.block += 1;
                    Err(error)
                }
                None => {
                    self.done = true;
                    Err(TraceError::Torn { block: self.block, offset: self.offset, good: self.good })
                }
            };
        };
        let end = BLOCK_HEADER + header.len;
        let Some(body) = rest.get(BLOCK_HEADER..end) else {
            // The length is good by its checksum, so this is the end of the bytes, unless bytes were cut out
            // of the middle: then another block follows.
            let error = TraceError::Torn { block: self.block, offset: self.offset, good: self.good };
            match next_block(bytes, self.offset + BLOCK_HEADER) {
                Some(found) => self.offset = found,
                None => self.done = true,
            }
            self.block += 1;
            return Err(error);
        };
        if crc32fast::hash(body) != header.crc {
            let error = self.damaged(Some(header.observations), "its bytes do not match their checksum");
            // Bytes cut out of the body would make the length lead past the next block.
            self.offset = next_block(bytes, self.offset + BLOCK_HEADER).unwrap_or(self.offset + end);
            self.block += 1;
            return Err(error);
        }
        self.offset += end;
        self.block += 1;
        Ok(Some((header, body)))
    }

    fn enter(&mut self, body: Cow<'a, [u8]>, observations: u32) {
        self.body = body;
        self.read = 0;
        self.left = observations;
        self.dictionary = Dictionary::default();
    }

    fn record(&mut self) -> Result<(Nanos, Observation), TraceError> {
        let body = self.body.get(self.read..).unwrap_or_default();
        let mut cursor = Cursor::new(body);
        match take_record(&mut cursor, &mut self.dictionary) {
            Ok(_) if self.left == 1 && cursor.left() > 0 => {
                let lost = self.left;
                self.left = 0;
                Err(self.damaged(Some(lost), "bytes follow its last observation"))
            }
            Ok(record) => {
                self.read = self.body.len() - cursor.left();
                self.left -= 1;
                self.good += 1;
                Ok(record)
            }
            Err(Malformed(cause)) => {
                let lost = self.left;
                self.left = 0;
                Err(self.damaged(Some(lost), cause))
            }
        }
    }
}

impl Iterator for Decoder<'_> {
    type Item = Result<(Nanos, Observation), TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.pending.take() {
            return Some(Err(error));
        }
        while self.left == 0 {
            if self.done {
                return None;
            }
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
        Some(self.record())
    }
}

/// What is built from one record is paid for from this first.
struct Budget(usize);

impl Budget {
    fn spend(&mut self, bytes: usize) -> Result<(), Malformed> {
        self.0 = self.0.checked_sub(bytes).ok_or(Malformed("an observation is too large"))?;
        Ok(())
    }
}

fn take_record(from: &mut Cursor<'_>, known: &mut Dictionary) -> Result<(Nanos, Observation), Malformed> {
    let head = from.byte()?;
    let at = known.time(from)?;
    let mut budget = Budget(MAX_EXPANDED);
    let observation = match head & 0x0f {
        tag::MOUNT => Observation::Mount {
            mount: MountId(from.number32()?),
            dev: from.number32()?,
            source: known.string(from)?,
            fstype: known.string(from)?,
            read_ahead_bytes: from.number()?,
        },
        tag::UNMOUNT => Observation::Unmount { mount: MountId(from.number32()?) },
        tag::PROCESS => Observation::Process {
            tgid: from.number32()?,
            workload: known.string(from)?,
            label: known.string(from)?,
        },
        tag::PROFILE => Observation::Profile {
            workload: known.string(from)?,
            source: known.string(from)?,
            bytes: from.bytes()?.into(),
        },
        tag::EXIT => Observation::Exit { tgid: from.number32()? },
        tag::SIGHT => {
            let file = known.file(from)?;
            let mount = MountId(from.number32()?);
            let path = known.path(from)?;
            let size = from.number()?;
            known.set_size(size);
            let mtime = known.mtime(from)?;
            Observation::Sight { file, mount, path, size, mtime }
        }
        tag::ACCESS => {
            let file = known.file(from)?;
            let reader = known.reader(from)?;
            let pages = known.pages(from, Track::Read)?;
            let count = if head & tag::ONE != 0 { 1 } else { from.number32()? };
            let size = if head & tag::SAME_SIZE != 0 {
                known.size().ok_or(Malformed("a size was not told"))?
            } else {
                from.number()?
            };
            known.set_size(size);
            Observation::Access { file, reader, pages, via: via(head >> 4), count, size }
        }
        tag::ADDED => Observation::Added {
            file: known.file(from)?,
            pages: known.pages(from, Track::Cache)?,
            by: actor(from, known, head >> 4)?,
        },
        tag::REMOVED => Observation::Removed {
            file: known.file(from)?,
            pages: known.pages(from, Track::Cache)?,
            by: actor(from, known, head >> 4)?,
        },
        tag::RESIDENT => {
            let file = known.file(from)?;
            let mut pages = Vec::new();
            for _ in 0..from.length()? {
                budget.spend(RANGE_COST)?;
                pages.push(known.pages(from, Track::Cache)?);
            }
            Observation::Resident { file, pages }
        }
        tag::MISS => Observation::Miss {
            file: known.file(from)?,
            latency: Nanos(from.number()?),
            bytes: from.number()?,
        },
        tag::LISTING => Observation::Listing {
            id: OrderId(known.order(from)?),
            mount: MountId(from.number32()?),
            dir: known.path(from)?,
            outcome: outcome(head >> 4 & 7)?,
            complete: head & tag::HAS != 0,
            entries: entries(from, &mut budget)?,
        },
        tag::FETCHED => Observation::Fetched {
            id: OrderId(known.order(from)?),
            size: from.number()?,
            bytes: from.number()?,
            took: Nanos(from.number()?),
            outcome: outcome(head >> 4 & 7)?,
            file: match head & tag::HAS {
                0 => None,
                _ => Some(known.file(from)?),
            },
        },
        tag::MEMORY => {
            Observation::Memory { available: from.number()?, total: from.number()?, psi: from.number32()? }
        }
        tag::LOST => Observation::Lost { records: from.number()? },
        tag::TICK => Observation::Tick,
        _ => return Err(Malformed("a kind of observation is unknown")),
    };
    Ok((at, observation))
}

fn entries(from: &mut Cursor<'_>, budget: &mut Budget) -> Result<Vec<Entry>, Malformed> {
    let (mut before, mut base) = (Vec::new(), 0);
    let mut entries = Vec::new();
    for _ in 0..from.length()? {
        let head = from.number()?;
        let same = usize::try_from(head >> 2).map_err(|_| Malformed("a length is out of range"))?;
        let kind = match head & 3 {
            0 => EntryKind::File,
            1 => EntryKind::Directory,
            2 => EntryKind::Other,
            _ => return Err(Malformed("a kind of directory entry is unknown")),
        };
        let name = unfold(from, &mut before, same, MAX_NAME_SHARED)?;
        budget.spend(name.len() + ENTRY_COST)?;
        base = from.delta(base)?;
        entries.push(Entry { name, kind, ino: base });
    }
    Ok(entries)
}

fn actor(from: &mut Cursor<'_>, known: &mut Dictionary, code: u8) -> Result<Actor, Malformed> {
    match code {
        0 => Ok(Actor::Agent),
        1 => Ok(Actor::Thread(known.reader(from)?)),
        2 => Ok(Actor::Reclaim),
        _ => Err(Malformed("an actor is unknown")),
    }
}

const fn via(code: u8) -> Via {
    match code & 3 {
        0 => Via::Read,
        1 => Via::Fault,
        2 => Via::Mapped,
        _ => Via::Direct,
    }
}

const fn outcome(code: u8) -> Result<Outcome, Malformed> {
    match code {
        0 => Ok(Outcome::Done),
        1 => Ok(Outcome::Absent),
        2 => Ok(Outcome::Refused),
        3 => Ok(Outcome::Failed),
        4 => Ok(Outcome::Dropped),
        _ => Err(Malformed("an outcome is unknown")),
    }
}
