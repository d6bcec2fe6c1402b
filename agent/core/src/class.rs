//! Kinds of file within a workload: what is learned of one file and applied to the next of its kind.

use crate::bursts::Bursts;
use crate::order::{Anchored, Extent};
use crate::ranges::RangeSet;
use crate::shape::Shape;

/// A file of which nothing is known yet but its kind is fetched no further than this: the kernel's own
/// largest read-ahead on most devices.
const FIRST_LIMIT: u64 = 128 << 10;

/// The kind of a file: what follows the last dot of its name, as far as it looks like a suffix.
pub fn kind_of(name: &[u8]) -> Box<[u8]> {
    match name.iter().rposition(|byte| *byte == b'.') {
        Some(dot) if dot > 0 && name.len() - dot <= 12 => {
            let suffix = &name[dot + 1..];
            // part.00017 and the like are no kinds of their own.
            if suffix.iter().any(|byte| !byte.is_ascii_digit()) { suffix.into() } else { Box::default() }
        }
        _ => Box::default(),
    }
}

/// What a visit taught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesson {
    Whole,
    /// So many bytes of the file.
    Part {
        bytes: u64,
    },
}

#[derive(Clone, Debug, Default)]
pub struct Class {
    pub bursts: Bursts,
    /// Files read whole, and files read in part.
    pub whole: u32,
    pub part: u32,
    pub largest: u64,
    pub bytes: u64,
    /// The last shape, and what it had in common with the one before.
    last: Option<Shape>,
    pub common: Option<Vec<Anchored>>,
}

impl Class {
    /// What a profile tells of a kind.
    pub fn recalled(whole: u32, part: u32, largest: u64, bytes: u64, common: Option<Vec<Anchored>>) -> Self {
        Self { whole, part, largest, bytes, common, ..Self::default() }
    }

    /// A visit to a file of this kind has ended, with this read of it.
    pub fn finished(&mut self, read: &RangeSet, size: u64) -> Option<Lesson> {
        let shape = Shape::of(read, size)?;
        let bytes = read.pages() * crate::units::PAGE;
        let lesson = if shape == Shape::Whole { Lesson::Whole } else { Lesson::Part { bytes } };
        self.bytes += bytes;
        self.largest = self.largest.max(size);
        match &shape {
            Shape::Whole => self.whole = self.whole.saturating_add(1),
            Shape::Part { .. } => self.part = self.part.saturating_add(1),
        }
        // Without a file of this run to compare with, what a profile says of the shape stands.
        if let (Some(last), Shape::Part { .. }) = (&self.last, &shape) {
            self.common = last.common(&shape);
        }
        self.last = Some(shape);
        Some(lesson)
    }

    /// The visit had not ended: what was taught is taken back. The shapes and bursts it was
    /// compared with are gone: the next files must agree anew.
    pub fn retract(&mut self, lesson: Lesson) {
        if let Lesson::Part { bytes } = lesson {
            self.part = self.part.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(bytes);
            self.last = None;
            self.common = None;
            self.bursts = Bursts::default();
        }
    }

    pub fn finished_files(&self) -> u32 {
        self.whole.saturating_add(self.part)
    }

    /// Bytes that a visit to a file of this kind reads on average.
    pub fn average(&self) -> u64 {
        self.bytes / u64::from(self.finished_files().max(1))
    }

    /// What the next file of this kind will be read of; `None` while that cannot be said.
    pub fn extent(&self) -> Option<Extent> {
        if self.finished_files() == 0 {
            return None;
        }
        if self.whole >= self.part {
            return Some(Extent::Whole { limit: (self.largest * 2).max(FIRST_LIMIT) });
        }
        self.common.clone().map(Extent::Shape)
    }

    /// Whether files of this kind are read in the same few places.
    pub fn is_shaped(&self) -> bool {
        self.whole < self.part && self.common.is_some()
    }
}
