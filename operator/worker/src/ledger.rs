//! The journal at the target: read when a task begins, added to while it goes on, made small when it is done.

use std::time::{Duration, Instant};

use crate::journal::{self, Journal, MOST_BYTES, MOST_RECORDS, Record};
use crate::name::Name;
use crate::parts;
use crate::place::{Place, PlaceError};
use crate::say::Say;

/// A killed worker copies again what it did in so long, or after so many files or bytes, or in the last fiftieth of
/// its work, whichever is most: so a task of any length writes some hundred documents.
pub const INTERVAL: Duration = Duration::from_secs(2);
const BYTES: u64 = 256 << 20;
const SHARE: u32 = 50;

/// Records that one document of a task under way holds at most.
const RECORDS: usize = 1_000;

/// Documents that many tries left are made few again when there are more than this.
const DOCUMENTS: usize = 512;

#[derive(Debug)]
pub struct Ledger {
    place: Place,
    folder: Name,
    process: u64,
    number: u64,
    /// Documents that are there.
    documents: Vec<Name>,
    damaged: usize,
    fresh: Vec<Record>,
    fresh_bytes: u64,
    /// All of this task so far, for the last document.
    all: Vec<Record>,
    all_bytes: u64,
    began: Instant,
    since: Instant,
}

impl Ledger {
    /// Reads what is there. What is damaged is told, and counts for nothing. The names are of what earlier tries left
    /// of large files.
    pub async fn open(
        place: Place,
        folder: Name,
        process: u64,
        say: &Say,
    ) -> Result<(Self, Journal, Vec<Name>), PlaceError> {
        let (mut documents, mut left) = (Vec::new(), Vec::new());
        let mut journal = Journal::default();
        let found = match place.list(Some(&folder)).await {
            Ok(listing) => listing.entries,
            Err(PlaceError::Absent) => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut found: Vec<_> = found.into_iter().map(|entry| entry.name).collect();
        found.sort_unstable();
        let (mut number, mut damaged) = (0, 0);
        for name in found {
            if parts::stem_of(&name).is_some() {
                left.push(name);
                continue;
            }
            let Some(its) = journal::number(&name) else {
                // What a killed worker was writing.
                place.remove(&name).await?;
                continue;
            };
            number = number.max(its);
            match place.whole(&name, MOST_BYTES).await {
                Ok(bytes) => match journal::read(&bytes) {
                    Ok(records) => journal.add(records),
                    Err(why) => {
                        damaged += 1;
                        say.line(&format!(
                            "the journal {name} is not used: {why}; what it told of is copied again"
                        ));
                    }
                },
                Err(PlaceError::Absent) => continue,
                Err(why @ PlaceError::Large { .. }) => {
                    damaged += 1;
                    say.line(&format!(
                        "the journal {name} is not used: {why}; what it told of is copied again"
                    ));
                }
                Err(error) => return Err(error),
            }
            documents.push(name);
        }
        let mut ledger = Self {
            place,
            folder,
            process,
            number,
            documents,
            damaged,
            fresh: Vec::new(),
            fresh_bytes: 0,
            all: Vec::new(),
            all_bytes: 0,
            began: Instant::now(),
            since: Instant::now(),
        };
        if ledger.documents.len() > DOCUMENTS {
            ledger.rewrite(&journal.records()).await?;
        }
        Ok((ledger, journal, left))
    }

    /// What was found to be there needs no new word.
    pub fn known(&mut self, record: Record) {
        self.all.push(record);
    }

    pub async fn add(&mut self, record: Record) -> Result<(), PlaceError> {
        self.fresh_bytes = self.fresh_bytes.saturating_add(record.source.size);
        self.all_bytes = self.all_bytes.saturating_add(record.source.size);
        self.all.push(record.clone());
        self.fresh.push(record);
        let bytes = BYTES.max(self.all_bytes / u64::from(SHARE));
        let time = INTERVAL.max(self.began.elapsed() / SHARE);
        let due = self.fresh.len() >= RECORDS || self.fresh_bytes >= bytes || self.since.elapsed() >= time;
        if due { self.flush().await } else { Ok(()) }
    }

    pub async fn flush(&mut self) -> Result<(), PlaceError> {
        self.since = Instant::now();
        self.fresh_bytes = 0;
        let fresh = std::mem::take(&mut self.fresh);
        if fresh.is_empty() { Ok(()) } else { self.write(&fresh).await }
    }

    /// Called when everything is copied: one journal of exactly that is left, and nothing of what went before.
    pub async fn close(&mut self) -> Result<(), PlaceError> {
        self.flush().await?;
        if self.documents.len() <= 1 && self.damaged == 0 {
            return Ok(());
        }
        let all = std::mem::take(&mut self.all);
        self.rewrite(&all).await
    }

    /// Writes these anew and removes the rest, in this order: whenever it is interrupted, all is told of.
    async fn rewrite(&mut self, records: &[Record]) -> Result<(), PlaceError> {
        let before = std::mem::take(&mut self.documents);
        for part in records.chunks(MOST_RECORDS) {
            self.write(part).await?;
        }
        for old in before {
            self.place.remove(&old).await?;
        }
        self.damaged = 0;
        Ok(())
    }

    async fn write(&mut self, records: &[Record]) -> Result<(), PlaceError> {
        self.number = self.number.saturating_add(1);
        let name = journal::document(&self.folder, self.number, self.process);
        let temporary = Name::parse(b"journal.tmp").ok().map(|name| self.folder.below(&name));
        let (Some(name), Some(temporary)) = (name, temporary) else { return Err(PlaceError::Stopped) };
        self.place.put(&name, &temporary, journal::written(records)).await?;
        self.documents.push(name);
        Ok(())
    }
}
