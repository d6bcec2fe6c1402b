//! Observations to blocks.
//!
//! A block is sealed when the next observation would not fit, or on `flush`; only sealed blocks reach the
//! caller, so that what it writes can be cut at any of its own writes.

use super::dictionary::{Dictionary, Track, shared};
use super::frame::{Kind, MAX_BODY, put_block, put_header};
use super::varint::{put, put_bytes, put_delta};
use super::{MAX_EXPANDED, MAX_RECORD, TooLarge};
use crate::observation::{Actor, Entry, EntryKind, Observation, Outcome, Via};
use crate::units::Nanos;

/// Bytes that an entry of a listing is charged with beside its name.
pub(super) const ENTRY_COST: usize = size_of::<Entry>();
/// Bytes that a range of a residency is charged with.
pub(super) const RANGE_COST: usize = 16;
/// Names are 255 bytes long at most (NAME_MAX).
pub(super) const MAX_NAME_SHARED: usize = 255;

/// Kinds of record: the low four bits of a record's first byte. The high four are the kind's own.
pub(super) mod tag {
    pub const MOUNT: u8 = 0;
    pub const UNMOUNT: u8 = 1;
    pub const PROCESS: u8 = 2;
    pub const EXIT: u8 = 3;
    pub const SIGHT: u8 = 4;
    pub const ACCESS: u8 = 5;
    pub const ADDED: u8 = 6;
    pub const REMOVED: u8 = 7;
    pub const RESIDENT: u8 = 8;
    pub const MISS: u8 = 9;
    pub const LISTING: u8 = 10;
    pub const FETCHED: u8 = 11;
    pub const MEMORY: u8 = 12;
    pub const LOST: u8 = 13;
    pub const TICK: u8 = 14;
    pub const PROFILE: u8 = 15;

    /// Access: the size is the file's last one.
    pub const SAME_SIZE: u8 = 0x40;
    /// Access: one access, not several merged.
    pub const ONE: u8 = 0x80;
    /// Listing: nothing was left out. Fetched: a file is named.
    pub const HAS: u8 = 0x80;
}

#[derive(Debug, Default)]
pub struct Encoder {
    body: Vec<u8>,
    observations: u32,
    dictionary: Dictionary,
    started: bool,
}

impl Encoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an observation; blocks that are full now are appended to `out`.
    pub fn push(&mut self, at: Nanos, observation: &Observation, out: &mut Vec<u8>) -> Result<(), TooLarge> {
        let bytes = expanded(observation);
        if bytes > MAX_EXPANDED {
            return Err(TooLarge { bytes });
        }
        self.start(out);
        let before = self.body.len();
        put_record(&mut self.body, &mut self.dictionary, at, observation);
        if self.body.len() <= MAX_BODY {
            self.observations += 1;
            return Ok(());
        }
        self.body.truncate(before);
        self.flush(out);
        put_record(&mut self.body, &mut self.dictionary, at, observation);
        self.observations = 1;
        let bytes = self.body.len();
        if bytes > MAX_RECORD {
            self.reset();
            return Err(TooLarge { bytes });
        }
        if bytes > MAX_BODY {
            self.spread(out);
        }
        Ok(())
    }

    /// Seals what is there as a block.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        self.start(out);
        if self.observations > 0 {
            put_block(out, Kind::Whole, self.observations, &self.body);
        }
        self.reset();
    }

    /// Seals the last block and marks the recording as finished.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        self.flush(out);
        put_block(out, Kind::End, 0, &[]);
    }

    /// Observations taken but not yet sealed into a block.
    pub fn unsealed(&self) -> u32 {
        self.observations
    }

    fn start(&mut self, out: &mut Vec<u8>) {
        if !self.started {
            put_header(out);
            self.started = true;
        }
    }

    /// Writes the one observation in the body as a chain of blocks.
    fn spread(&mut self, out: &mut Vec<u8>) {
        let last = self.body.len().div_ceil(MAX_BODY).saturating_sub(1);
        for (number, part) in self.body.chunks(MAX_BODY).enumerate() {
            let (kind, observations) = match number {
                0 => (Kind::First, 0),
                n if n == last => (Kind::Last, 1),
                _ => (Kind::Middle, 0),
            };
            put_block(out, kind, observations, part);
        }
        self.reset();
    }

    fn reset(&mut self) {
        self.body.clear();
        // One huge listing must not keep its buffer for the rest of the recording.
        self.body.shrink_to(MAX_BODY);
        self.observations = 0;
        self.dictionary = Dictionary::default();
    }
}

/// What the decoder will charge for it.
fn expanded(observation: &Observation) -> usize {
    match observation {
        Observation::Mount { source, fstype, .. } => source.len() + fstype.len(),
        Observation::Process { workload, label, .. } => workload.len() + label.len(),
        Observation::Profile { workload, source, bytes } => workload.len() + source.len() + bytes.len(),
        Observation::Sight { path, .. } => path.len(),
        Observation::Resident { pages, .. } => pages.len() * RANGE_COST,
        Observation::Listing { dir, entries, .. } => {
            let names: usize = entries.iter().map(|entry| entry.name.len() + ENTRY_COST).sum();
            dir.len() + names
        }
        Observation::Unmount { .. }
        | Observation::Exit { .. }
        | Observation::Access { .. }
        | Observation::Added { .. }
        | Observation::Removed { .. }
        | Observation::Miss { .. }
        | Observation::Fetched { .. }
        | Observation::Memory { .. }
        | Observation::Lost { .. }
        | Observation::Tick => 0,
    }
}

fn put_record(out: &mut Vec<u8>, known: &mut Dictionary, at: Nanos, observation: &Observation) {
    let first = out.len();
    out.push(0);
    known.put_time(out, at);
    let head = match observation {
        Observation::Mount { mount, dev, source, fstype, read_ahead_bytes } => {
            put(out, u64::from(mount.0));
            put(out, u64::from(*dev));
            known.put_string(out, source);
            known.put_string(out, fstype);
            put(out, *read_ahead_bytes);
            tag::MOUNT
        }
        Observation::Unmount { mount } => {
            put(out, u64::from(mount.0));
            tag::UNMOUNT
        }
        Observation::Process { tgid, workload, label } => {
            put(out, u64::from(*tgid));
            known.put_string(out, workload);
            known.put_string(out, label);
            tag::PROCESS
        }
        Observation::Profile { workload, source, bytes } => {
            known.put_string(out, workload);
            known.put_string(out, source);
            put(out, bytes.len() as u64);
            out.extend_from_slice(bytes);
            tag::PROFILE
        }
        Observation::Exit { tgid } => {
            put(out, u64::from(*tgid));
            tag::EXIT
        }
        Observation::Sight { file, mount, path, size, mtime } => {
            known.put_file(out, *file);
            put(out, u64::from(mount.0));
            known.put_path(out, path);
            put(out, *size);
            known.set_size(*size);
            known.put_mtime(out, *mtime);
            tag::SIGHT
        }
        Observation::Access { file, reader, pages, via, count, size } => {
            known.put_file(out, *file);
            known.put_reader(out, *reader);
            known.put_pages(out, Track::Read, pages);
            let mut head = tag::ACCESS | via_code(*via) << 4;
            match *count {
                1 => head |= tag::ONE,
                count => put(out, u64::from(count)),
            }
            if known.size() == Some(*size) {
                head |= tag::SAME_SIZE;
            } else {
                put(out, *size);
                known.set_size(*size);
            }
            head
        }
        Observation::Added { file, pages, by } => {
            known.put_file(out, *file);
            known.put_pages(out, Track::Cache, pages);
            tag::ADDED | put_actor(out, known, *by) << 4
        }
        Observation::Removed { file, pages, by } => {
            known.put_file(out, *file);
            known.put_pages(out, Track::Cache, pages);
            tag::REMOVED | put_actor(out, known, *by) << 4
        }
        Observation::Resident { file, pages } => {
            known.put_file(out, *file);
            put(out, pages.len() as u64);
            for range in pages {
                known.put_pages(out, Track::Cache, range);
            }
            tag::RESIDENT
        }
        Observation::Miss { file, latency, bytes } => {
            known.put_file(out, *file);
            put(out, latency.0);
            put(out, *bytes);
            tag::MISS
        }
        Observation::Listing { id, mount, dir, outcome, complete, entries } => {
            known.put_order(out, id.0);
            put(out, u64::from(mount.0));
            known.put_path(out, dir);
            put_entries(out, entries);
            let complete = if *complete { tag::HAS } else { 0 };
            tag::LISTING | outcome_code(*outcome) << 4 | complete
        }
        Observation::Fetched { id, outcome, file, size, bytes, took } => {
            known.put_order(out, id.0);
            put(out, *size);
            put(out, *bytes);
            put(out, took.0);
            let named = match file {
                Some(file) => {
                    known.put_file(out, *file);
                    tag::HAS
                }
                None => 0,
            };
            tag::FETCHED | outcome_code(*outcome) << 4 | named
        }
        Observation::Memory { available, total, psi } => {
            put(out, *available);
            put(out, *total);
            put(out, u64::from(*psi));
            tag::MEMORY
        }
        Observation::Lost { records } => {
            put(out, *records);
            tag::LOST
        }
        Observation::Tick => tag::TICK,
    };
    if let Some(byte) = out.get_mut(first) {
        *byte = head;
    }
}

/// Names share with the name before, inode numbers are told from the one before.
fn put_entries(out: &mut Vec<u8>, entries: &[Entry]) {
    put(out, entries.len() as u64);
    let (mut before, mut base): (&[u8], u64) = (&[], 0);
    for Entry { name, kind, ino } in entries {
        let kind = match kind {
            EntryKind::File => 0,
            EntryKind::Directory => 1,
            EntryKind::Other => 2,
        };
        let same = shared(before, name, MAX_NAME_SHARED);
        put(out, (same as u64) << 2 | kind);
        put_bytes(out, name.get(same..).unwrap_or_default());
        put_delta(out, base, *ino);
        (before, base) = (name, *ino);
    }
}

fn put_actor(out: &mut Vec<u8>, known: &mut Dictionary, by: Actor) -> u8 {
    match by {
        Actor::Agent => 0,
        Actor::Thread(reader) => {
            known.put_reader(out, reader);
            1
        }
        Actor::Reclaim => 2,
    }
}

const fn via_code(via: Via) -> u8 {
    match via {
        Via::Read => 0,
        Via::Fault => 1,
        Via::Mapped => 2,
        Via::Direct => 3,
    }
}

const fn outcome_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Done => 0,
        Outcome::Absent => 1,
        Outcome::Refused => 2,
        Outcome::Failed => 3,
        Outcome::Dropped => 4,
    }
}
