//! Readers of cached files, for what watching costs.
//!
//! `Hot` reads one cached file at random aligned places as fast as it can and gives the time of a read in
//! each slice of its time, so that the time before a pattern is recognised stands apart from the time after,
//! and the time beside an agent from the time without.
//! `Paced` reads at a set rate in short runs that each end in a jump to another place, so that about one
//! record comes of every run however well the kernel side merges.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use memmap2::{Advice, MmapMut};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::quantity;
use crate::reader::itinerary::Draws;

/// Length of a slice of `HotOutcome`: shorter than a turn of the scheduler, so that on a busy machine some
/// slices are left undisturbed.
pub const SLICE: Duration = Duration::from_millis(10);

#[derive(Clone, Debug, Args)]
pub struct Hot {
    /// The file, read whole once before the clock starts.
    #[arg(long)]
    pub file: PathBuf,
    /// Bytes a read.
    #[arg(long, value_parser = quantity::bytes)]
    pub size: u64,
    #[arg(long, value_parser = quantity::duration)]
    pub last: Duration,
    /// End also when standard input does.
    #[arg(long)]
    pub until_input_ends: bool,
}

/// The largest read.
const MOST: usize = 16 << 20;

/// A huge page on x86_64 and most arm64 kernels.
const HUGE: usize = 2 << 20;

/// A buffer in huge pages where the kernel has them: with scattered pages the caches' luck made the same
/// 1 MiB reads 75 µs in one process and 90 µs in the next.
struct OnePiece {
    map: MmapMut,
    start: usize,
    size: usize,
}

impl OnePiece {
    fn new(size: usize) -> io::Result<Self> {
        let map = MmapMut::map_anon(size.next_multiple_of(HUGE) + HUGE)?;
        // A kernel without transparent huge pages gives small ones.
        let _ = map.advise(Advice::HugePage);
        let start = map.as_ptr().align_offset(HUGE);
        Ok(Self { map, start, size })
    }

    fn buffer(&mut self) -> &mut [u8] {
        &mut self.map[self.start..self.start + self.size]
    }
}

/// What a read took in one slice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// When it began (`clock::now`).
    pub begun: u64,
    /// Nanoseconds a read.
    pub read: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HotOutcome {
    pub slices: Vec<Slice>,
    /// All of them, those before the clock started included.
    pub reads: u64,
}

impl Hot {
    pub fn run(&self) -> io::Result<HotOutcome> {
        let file = File::open(&self.file)?;
        let mut memory = OnePiece::new((self.size.max(1) as usize).min(MOST))?;
        let buffer = memory.buffer();
        let length = file.metadata()?.len();
        let places = (length / self.size.max(1)).max(1);
        for place in 0..places {
            file.read_at(buffer, place * self.size)?;
        }
        let mut draws = Draws::new(length);
        let mut outcome = HotOutcome { reads: places, ..HotOutcome::default() };
        let slice = SLICE.as_nanos() as u64;
        // A look at the clock every so many reads: 1 MiB reads take 100 µs, 4 KiB reads below 1 µs.
        let batch = ((256 << 10) / self.size.max(1)).max(1);
        let ended = Arc::new(AtomicBool::new(false));
        if self.until_input_ends {
            let ended = ended.clone();
            std::thread::spawn(move || {
                let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
                ended.store(true, Ordering::Relaxed);
            });
        }
        for _ in 0..self.last.as_nanos() as u64 / slice {
            if ended.load(Ordering::Relaxed) {
                break;
            }
            let begun = clock::now();
            let mut reads = 0u64;
            let spent = loop {
                for _ in 0..batch {
                    file.read_at(buffer, draws.below(places) * self.size)?;
                }
                reads += batch;
                let spent = clock::now().saturating_sub(begun);
                if spent >= slice {
                    break spent;
                }
            };
            outcome.reads += reads;
            outcome.slices.push(Slice { begun, read: spent as f64 / reads as f64 });
        }
        Ok(outcome)
    }
}

#[derive(Clone, Debug, Args)]
pub struct Paced {
    /// The file, read whole once before the clock starts.
    #[arg(long)]
    pub file: PathBuf,
    /// Reads of 4 KiB a second.
    #[arg(long, default_value_t = 50_000)]
    pub rate: u64,
    /// Consecutive reads before a jump.
    #[arg(long, default_value_t = 10)]
    pub run: u64,
    #[arg(long, value_parser = quantity::duration)]
    pub last: Duration,
}

/// What `Paced` managed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PacedOutcome {
    pub reads: u64,
    pub runs: u64,
    pub seconds: f64,
}

impl Paced {
    pub fn run(&self) -> io::Result<PacedOutcome> {
        let file = File::open(&self.file)?;
        let mut page = [0; 4096];
        let run = self.run.max(1);
        let places = (file.metadata()?.len() / 4096 / run).max(1);
        for at in 0..places * run {
            file.read_at(&mut page, at * 4096)?;
        }
        let mut draws = Draws::new(places);
        let mut outcome = PacedOutcome::default();
        let begun = clock::now();
        let end = begun + self.last.as_nanos() as u64;
        loop {
            let now = clock::now();
            if now >= end {
                outcome.seconds = now.saturating_sub(begun) as f64 / 1e9;
                return Ok(outcome);
            }
            let due = (u128::from(now - begun) * u128::from(self.rate) / 1_000_000_000) as u64;
            while outcome.reads < due {
                let start = draws.below(places) * run;
                for at in start..start + run {
                    file.read_at(&mut page, at * 4096)?;
                }
                outcome.reads += run;
                outcome.runs += 1;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
