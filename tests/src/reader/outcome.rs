//! What a reader says when it is done: one JSON line on its standard output.

use serde::{Deserialize, Serialize};

/// One read call, or one stretch of a mapping: which bytes, and when the reader asked for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    pub ino: u64,
    pub offset: u64,
    pub bytes: u64,
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub begun: u64,
}

/// One epoch, or the share of one that a worker had.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Before the first open and after the last close, in nanoseconds of CLOCK_MONOTONIC.
    pub begun: u64,
    pub ended: u64,
    pub seconds: f64,
    pub bytes: u64,
    pub files: u64,
    /// Samples that did not hold what the store serves; always 0 unless something is broken.
    pub wrong: u64,
    /// The processes that read.
    pub processes: Vec<u32>,
    /// When each file was opened, in order.
    pub opened: Vec<u64>,
    pub accesses: Vec<Access>,
}

impl Outcome {
    /// Several workers' outcomes as one: from the first open to the last close.
    pub fn merged(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut whole =
            parts.into_iter().fold(Self { begun: u64::MAX, ..Self::default() }, |mut whole, part| {
                let Self { begun, ended, seconds: _, bytes, files, wrong, processes, opened, accesses } =
                    part;
                whole.begun = whole.begun.min(begun);
                whole.ended = whole.ended.max(ended);
                whole.bytes += bytes;
                whole.files += files;
                whole.wrong += wrong;
                whole.processes.extend(processes);
                whole.opened.extend(opened);
                whole.accesses.extend(accesses);
                whole
            });
        whole.begun = whole.begun.min(whole.ended);
        whole.opened.sort_unstable();
        whole.seconds = whole.ended.saturating_sub(whole.begun) as f64 / 1e9;
        whole
    }

    /// Seconds from the opening of the file numbered `first` (from 0) to the end.
    pub fn seconds_from(&self, first: usize) -> f64 {
        let begun = self.opened.get(first).copied().unwrap_or(self.begun);
        self.ended.saturating_sub(begun) as f64 / 1e9
    }
}
