//! Several walkers through one file, and which of them an access continues.
//!
//! A thread may take turns among several walks, several threads may share one, and the kernel tells a little less
//! than was read: it is here that an access is found its stream.

use std::collections::VecDeque;

use crate::bursts::{Bursts, Outlook};
use crate::ranges::RangeSet;
use crate::stream::{Pattern, STRIDE_PROOF, Stream, Terms, Want};
use crate::units::{Nanos, PAGE, Pages, Reader};

/// Walkers remembered per file: as many threads as a large node has processors.
const STREAMS: usize = 64;

/// Places remembered that readers have jumped away from, to see whether they come back: wider interleavings by one
/// thread are rare.
const PLACES: usize = 32;

/// Walks that a thread may begin before one that it has left counts as ended: as it comes back to some after more, more.
const PATIENCE: u32 = 1;

/// Pages between two faults of one walk, in a stream that has only begun: 256 KiB, two of the kernel's usual
/// read-ahead windows.
const MAPPED: u64 = 64;

/// Where a reader stood before it jumped.
#[derive(Clone, Debug)]
struct Place {
    reader: Reader,
    pages: Pages,
}

#[derive(Clone, Debug, Default)]
pub struct Streams {
    streams: Vec<Stream>,
    /// The last places that were left, newest last.
    places: VecDeque<Place>,
    /// Walks that a reader was seen to begin before it came back to one.
    most_between: u32,
}

impl Streams {
    /// Takes in one access, of reads that are `each` pages long, to a file of which this visit has read so much; returns
    /// the number of the stream that it belongs to.
    pub fn observe(
        &mut self,
        reader: Reader,
        pages: &Pages,
        each: u64,
        read: &RangeSet,
        bursts: &mut Bursts,
        now: Nanos,
    ) -> usize {
        let index = match self.find(reader, pages) {
            Some(index) => index,
            None => match self.come_back(reader, pages) {
                Some(place) => self.open(reader, &place, each, read, bursts, now),
                None => match self.jumper(reader, bursts) {
                    Some(index) => index,
                    None => {
                        self.leave(reader, read, bursts);
                        return self.open(reader, pages, each, read, bursts, now);
                    }
                },
            },
        };
        let Some(stream) = self.streams.get_mut(index) else { return index };
        stream.last = now;
        stream.longest = stream.longest.max(each);
        stream.reader = reader;
        self.most_between = self.most_between.max(std::mem::take(&mut stream.since));
        if std::mem::take(&mut stream.ended) {
            bursts.retract(stream.burst());
        }
        if pages.start <= stream.end && pages.start >= stream.start {
            if pages.end > stream.end {
                stream.rate.sample((pages.end - stream.end) * PAGE, now);
                stream.end = pages.end;
                stream.grown += 1;
            }
        } else {
            if self.places.len() == PLACES {
                self.places.pop_front();
            }
            self.places.push_back(Place { reader, pages: stream.start..stream.end });
            if ends(stream, read) {
                bursts.push(stream.burst());
            }
            stream.jump(pages, now);
        }
        index
    }

    /// The visit is over: where its walks stopped short of the file's end is the length of a burst too.
    pub fn end(&self, file_pages: u64, read: &RangeSet, bursts: &mut Bursts) {
        let walked = |stream: &&Stream| {
            stream.grown > 0 && stream.end < file_pages && !stream.ended && ends(stream, read)
        };
        for stream in self.streams.iter().filter(walked) {
            bursts.push(stream.burst());
        }
    }

    /// Pages mapped around a fault: carries the walk on that they touch, if there is one.
    pub fn carry(&mut self, reader: Reader, pages: &Pages, now: Nanos) -> Option<usize> {
        let index = self.streams.iter().position(|stream| {
            stream.reader == reader && pages.start <= stream.end && pages.end >= stream.start
        })?;
        let stream = self.streams.get_mut(index)?;
        stream.last = now;
        stream.start = stream.start.min(pages.start);
        if pages.end > stream.end {
            stream.rate.sample((pages.end - stream.end) * PAGE, now);
            stream.end = pages.end;
            stream.grown += 1;
        }
        Some(index)
    }

    /// The stream this access continues.
    fn find(&self, reader: Reader, pages: &Pages) -> Option<usize> {
        let position = |test: &dyn Fn(&Stream) -> bool| {
            let own = self.streams.iter().position(|stream| stream.reader == reader && test(stream));
            own.or_else(|| self.streams.iter().position(test))
        };
        position(&|stream| (stream.start..=stream.end).contains(&pages.start))
            .or_else(|| position(&|stream| stream.proof > 0 && stream.steps_to(pages.start).is_some()))
    }

    /// The place this access goes on from: a thread that takes turns among several walks has jumped away from each
    /// of them before any was long.
    fn come_back(&mut self, reader: Reader, pages: &Pages) -> Option<Pages> {
        let at =
            self.places.iter().rposition(|place| place.reader == reader && place.pages.end == pages.start)?;
        self.places.remove(at).map(|place| place.pages)
    }

    /// The stream of this thread that jumps. One that leaves a long sequential walk has begun another one beside it,
    /// unless walks like it end there.
    fn jumper(&self, reader: Reader, bursts: &Bursts) -> Option<usize> {
        let jumps = |stream: &Stream| !stream.is_long() || bursts.outlook(stream.burst()) == Outlook::Ends;
        let own =
            self.streams.iter().enumerate().filter(|(_, stream)| stream.reader == reader && jumps(stream));
        own.max_by_key(|(_, stream)| stream.last).map(|(index, _)| index)
    }

    /// A thread begins a walk beside those it has. One that it has not come back to for longer than it ever did
    /// has ended, and its length is that of a burst.
    fn leave(&mut self, reader: Reader, read: &RangeSet, bursts: &mut Bursts) {
        let patience = PATIENCE.max(self.most_between.saturating_mul(2));
        for stream in self.streams.iter_mut().filter(|stream| stream.reader == reader) {
            stream.since = stream.since.saturating_add(1);
            if stream.since > patience && stream.is_long() && !stream.ended && ends(stream, read) {
                stream.ended = true;
                bursts.push(stream.burst());
            }
        }
    }

    fn open(
        &mut self,
        reader: Reader,
        pages: &Pages,
        each: u64,
        read: &RangeSet,
        bursts: &mut Bursts,
        now: Nanos,
    ) -> usize {
        let stream = Stream::new(reader, pages, each, now);
        if self.streams.len() < STREAMS {
            self.streams.push(stream);
            return self.streams.len() - 1;
        }
        let oldest = self.streams.iter().enumerate().min_by_key(|(_, stream)| stream.last);
        let index = oldest.map_or(0, |(index, _)| index);
        if let Some(slot) = self.streams.get_mut(index) {
            if slot.is_long() && !slot.ended && ends(slot, read) {
                bursts.push(slot.burst());
            }
            *slot = stream;
        }
        index
    }

    pub fn pattern(&self, index: usize) -> Pattern {
        self.streams.get(index).map_or(Pattern::New, Stream::pattern)
    }

    /// The pattern of the stream that moved last.
    pub fn latest(&self) -> Pattern {
        self.streams.iter().max_by_key(|stream| stream.last).map_or(Pattern::New, Stream::pattern)
    }

    /// Streams that walk, each by its pattern and position.
    pub fn walking(&self) -> impl Iterator<Item = (Pattern, u64)> + '_ {
        self.streams.iter().map(|stream| (stream.pattern(), stream.end))
    }

    /// Where a read that is told to begin at `told.start` really began: the kernel tells nothing of a batch of
    /// pages whose last one it had to wait for (`filemap_get_pages` leaves by another door), so that a read
    /// that met a fetch on its way lacks its head. What is told of it ends where it ended: with its head, it is
    /// no longer than this reader's reads are. A reader that skips a part comes with a whole read. The caller
    /// knows whether the pages between were there.
    pub fn head_of(&self, reader: Reader, told: &Pages, count: u32) -> Option<u64> {
        let lacks = |stream: &&Stream| {
            stream.reader == reader
                && stream.proof < STRIDE_PROOF
                && stream.end < told.start
                && told.end - stream.end <= stream.longest.saturating_mul(u64::from(count))
        };
        self.streams.iter().filter(lacks).map(|stream| stream.end).max()
    }

    /// Where the walk stood that goes on at `start`, over pages that were not read or not told. Of reads these are
    /// few: a third of what is fetched at the worst. Of faults they were mapped around faults before, which may be
    /// told after this one. The caller knows whether they were there.
    pub fn walk_to(&self, reader: Reader, start: u64, fault: bool) -> Option<u64> {
        let near = |stream: &&Stream| {
            let most = if fault { MAPPED.max(stream.burst().min(8 * MAPPED)) } else { stream.longest / 2 };
            stream.reader == reader
                && stream.proof < STRIDE_PROOF
                && stream.end < start
                && start - stream.end <= most
        };
        self.streams.iter().filter(near).map(|stream| stream.end).max()
    }

    /// Pages that were asked for and have not come: they may be asked for again.
    pub fn retreat(&mut self, range: &Pages) {
        for stream in &mut self.streams {
            // What is there by then is not asked for twice.
            (stream.asked, stream.asked_of_next) = (0, 0);
            if stream.proof >= STRIDE_PROOF {
                stream.retreat_strides(range);
            } else if let Some(front) = stream.front
                && range.start < front
                && range.end > stream.end
            {
                stream.front = Some(range.start.max(stream.end));
            }
        }
    }

    /// What to fetch now so that the stream stays as far ahead as its terms ask.
    pub fn want(&mut self, index: usize, bursts: &Bursts, terms: Terms) -> Option<Want> {
        let stream = self.streams.get_mut(index)?;
        let pattern = stream.pattern();
        let ranges = match pattern {
            Pattern::Sequential => stream.want_ahead(bursts, terms),
            Pattern::Strided { pages, .. } | Pattern::Reverse { pages } => stream.want_strides(pages, terms),
            Pattern::Random { .. } | Pattern::New => stream.want_burst(bursts, terms),
        };
        (!ranges.is_empty()).then_some(Want { pattern, ranges })
    }
}

/// Whether reading ended where this walk did. What lies behind may have been another's part, or read before: workers
/// that take blocks of a file from a queue read all of it, and where a block ends tells where the next begins.
fn ends(stream: &Stream, read: &RangeSet) -> bool {
    read.overlap(&(stream.end..stream.end.saturating_add(1))) == 0
}
