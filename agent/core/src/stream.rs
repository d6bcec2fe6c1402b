//! Patterns within one file: sequential, reverse, strided, blocks, random; several readers at once.
//!
//! A stream is one walker through the file. Its accesses form bursts (contiguous pages); the distance
//! between the starts of bursts is the stride. A burst that keeps growing is sequential; bursts at a
//! constant distance are strided (reverse where the distance is one burst backwards); all else is random,
//! of which only the usual length of a burst can be foreseen.

use crate::bursts::{Bursts, Outlook};
use crate::rate::Rate;
use crate::stride::Stride;
use crate::units::{Nanos, PAGE, Pages, Reader};

/// Walkers remembered per file: more than the readers that usually share one.
const STREAMS: usize = 16;

/// Equal distances in a row that make a stride: two could be chance in a file read at random.
const STRIDE_PROOF: u32 = 3;

/// Pages ahead before anything is known of the speed: 128 KiB, the kernel's own first guess.
const FIRST_WINDOW: u64 = 32;

/// Bytes one stream may be ahead of its reader, whatever its speed: a tenth of a second of a 40 Gbit/s link.
pub const STREAM_LIMIT: u64 = 512 << 20;

/// Pages of one request, as most devices' read_ahead_kb cut it.
pub const PIECE: u64 = 32;

/// Pages of strided bursts that are worth an order: 512 KiB.
const BATCH: u64 = 128;

/// Pages between two faults of one walk, in a stream that has only begun: 256 KiB, two of the kernel's usual
/// read-ahead windows.
const MAPPED: u64 = 64;

/// Bytes of one order: large enough to be cheap, small enough that a later, more urgent order does not
/// wait long behind it.
const ORDER_BYTES: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Too little was seen.
    New,
    Sequential,
    Reverse {
        pages: u64,
    },
    Strided {
        stride: i64,
        pages: u64,
    },
    /// Jumps without order; bursts of `pages` where they are alike.
    Random {
        pages: Option<u64>,
    },
}

#[derive(Clone, Debug)]
struct Stream {
    reader: Reader,
    /// The burst under way.
    start: u64,
    end: u64,
    /// Accesses that made the burst grow.
    grown: u32,
    /// Pages of its longest read.
    longest: u64,
    stride: Option<Stride>,
    /// How many times in a row the stride held.
    proof: u32,
    jumps: u32,
    pages: u64,
    rate: Rate,
    /// Sequential: fetched up to here.
    front: Option<u64>,
    /// Strided: the step of the next burst to fetch.
    due: i64,
    last: Nanos,
}

#[derive(Clone, Debug, Default)]
pub struct Streams {
    streams: Vec<Stream>,
}

/// What is wanted of a file, in one stream's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    pub pattern: Pattern,
    pub ranges: Vec<Pages>,
}

/// What a decision of a stream rests on besides itself.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// From an order to its last byte.
    pub lead: Nanos,
    pub file_pages: u64,
    /// Bytes this stream may be ahead at most (memory, and the predictor's record).
    pub limit: u64,
    /// Bytes that may be asked for now: what the link does not hold already.
    pub open: u64,
    /// Requests that the store's queue takes now, each of a piece at most.
    pub requests: u64,
}

impl Streams {
    /// Takes in one access, of reads that are `each` pages long; returns the number of the stream that it
    /// belongs to.
    pub fn observe(
        &mut self,
        reader: Reader,
        pages: &Pages,
        each: u64,
        bursts: &mut Bursts,
        now: Nanos,
    ) -> usize {
        let at = self.find(reader, pages);
        let Some(stream) = at.and_then(|index| self.streams.get_mut(index)) else {
            return self.open(reader, pages, each, now);
        };
        stream.last = now;
        stream.longest = stream.longest.max(each);
        stream.reader = reader;
        if pages.start <= stream.end && pages.start >= stream.start {
            if pages.end > stream.end {
                stream.rate.sample((pages.end - stream.end) * PAGE, now);
                stream.end = pages.end;
                stream.grown += 1;
            }
        } else {
            stream.jump(pages, bursts, now);
        }
        at.unwrap_or_default()
    }

    /// The visit is over: where its walks stopped short of the file's end is the length of a burst too.
    pub fn end(&self, file_pages: u64, bursts: &mut Bursts) {
        for stream in self.streams.iter().filter(|stream| stream.grown > 0 && stream.end < file_pages) {
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

    /// The stream this access continues, or the one of this thread that jumps.
    fn find(&self, reader: Reader, pages: &Pages) -> Option<usize> {
        let position = |test: &dyn Fn(&Stream) -> bool| {
            let own = self.streams.iter().position(|stream| stream.reader == reader && test(stream));
            own.or_else(|| self.streams.iter().position(test))
        };
        position(&|stream| (stream.start..=stream.end).contains(&pages.start))
            .or_else(|| position(&|stream| stream.proof > 0 && stream.steps_to(pages.start).is_some()))
            .or_else(|| {
                // A thread that leaves a long sequential walk has begun another one beside it.
                self.streams.iter().position(|stream| stream.reader == reader && !stream.is_long())
            })
    }

    fn open(&mut self, reader: Reader, pages: &Pages, each: u64, now: Nanos) -> usize {
        let mut stream = Stream {
            reader,
            start: pages.start,
            end: pages.end,
            grown: 0,
            longest: each,
            stride: None,
            proof: 0,
            jumps: 0,
            pages: 0,
            rate: Rate::default(),
            front: None,
            due: 0,
            last: now,
        };
        stream.rate.sample(0, now);
        if self.streams.len() < STREAMS {
            self.streams.push(stream);
            return self.streams.len() - 1;
        }
        let oldest = self.streams.iter().enumerate().min_by_key(|(_, stream)| stream.last);
        let index = oldest.map_or(0, |(index, _)| index);
        if let Some(slot) = self.streams.get_mut(index) {
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

impl Stream {
    fn burst(&self) -> u64 {
        self.end - self.start
    }

    fn is_long(&self) -> bool {
        self.grown >= 4 && self.proof < STRIDE_PROOF
    }

    fn steps_to(&self, start: u64) -> Option<i64> {
        self.stride.and_then(|stride| stride.steps_to(start))
    }

    /// The burst that holds the first of these pages is the next to be asked for, if it is still to come.
    fn retreat_strides(&mut self, range: &Pages) {
        if let Some(step) = self.stride.and_then(|stride| stride.step_at(range.start)) {
            self.due = self.due.min(step);
        }
    }

    fn jump(&mut self, pages: &Pages, bursts: &mut Bursts, now: Nanos) {
        bursts.push(self.burst());
        match (self.steps_to(pages.start), &mut self.stride) {
            (Some(steps), Some(stride)) => {
                stride.go_on(steps, pages.start);
                self.proof += 1;
                self.rate.sample(self.burst() * PAGE * steps.unsigned_abs(), now);
            }
            _ => {
                self.stride = Stride::between(self.start, pages.start);
                self.proof = 1;
                self.due = 0;
                self.rate.sample(self.burst() * PAGE, now);
            }
        }
        self.front = None;
        self.jumps += 1;
        self.pages = self.pages.max(self.burst()).min(self.burst().max(1) * 2);
        self.start = pages.start;
        self.end = pages.end;
        self.grown = 0;
    }

    fn pattern(&self) -> Pattern {
        if self.proof >= STRIDE_PROOF {
            let pages = self.pages.max(self.burst());
            let stride = self.stride.map_or(0, |stride| stride.pages());
            if stride < 0 && stride.unsigned_abs() <= pages + 1 {
                return Pattern::Reverse { pages };
            }
            return Pattern::Strided { stride, pages };
        }
        if self.grown >= 1 && self.jumps < 2 || self.grown >= 3 {
            return Pattern::Sequential;
        }
        if self.jumps >= 2 {
            return Pattern::Random { pages: (self.pages > 0).then_some(self.pages) };
        }
        Pattern::New
    }

    /// Sequential: as far ahead as the speed asks, but no further than the walk is long by now, so that a
    /// reader that stops has cost at most as much again as it read.
    fn want_ahead(&mut self, bursts: &Bursts, terms: Terms) -> Vec<Pages> {
        let done = self.burst();
        let target = match bursts.outlook(done) {
            Outlook::Till(length) => length - done,
            Outlook::Ends => 0,
            Outlook::Unknown => {
                (self.rate.ahead(terms.lead) / PAGE).max(FIRST_WINDOW).min(done.max(FIRST_WINDOW))
            }
        };
        let target = target.min(terms.limit / PAGE);
        let front = self.front.map_or(self.end, |front| front.max(self.end));
        let till = (self.end + target)
            .min(terms.file_pages)
            .min(front + terms.open / PAGE)
            .min(front + terms.requests * PIECE);
        // Small steps cost an order each; wait until a piece as the kernel reads it is open.
        if till <= front || (till - front < (target / 4).min(FIRST_WINDOW) && till < terms.file_pages) {
            return Vec::new();
        }
        self.front = Some(till);
        pieces(front..till)
    }

    fn want_strides(&mut self, pages: u64, terms: Terms) -> Vec<Pages> {
        let mut ranges = Vec::new();
        let Some(stride) = self.stride else { return ranges };
        let bytes = pages * PAGE;
        // A stride has proven itself `proof` times: stay ahead by no more bursts than twice that.
        let ahead = (self.rate.ahead(terms.lead).min(terms.limit) / bytes.max(1))
            .clamp(2, u64::from(self.proof) * 2)
            .min(4096) as i64;
        // The reader may have overtaken what was planned.
        let mut next = self.due.max(stride.step() + 1) - stride.step();
        // One order for several bursts, as long as half of the distance is still ahead.
        let due = u64::try_from(ahead - next).unwrap_or(0);
        if due * pages < BATCH && next * 2 > ahead {
            return ranges;
        }
        let mut open = (terms.open / bytes.max(1)).min(terms.requests / pages.div_ceil(PIECE).max(1));
        while next <= ahead && open > 0 {
            let Some((first, last)) = stride.ahead(next).filter(|(first, _)| *first < terms.file_pages)
            else {
                break;
            };
            // Where the burst begins is not known yet to a page, or to a quarter of what it brings.
            if next > 2 && last - first > (pages / 4).max(1) {
                break;
            }
            open -= 1;
            ranges.push(first..(last + pages).min(terms.file_pages));
            next += 1;
        }
        self.due = stride.step() + next;
        ranges
    }

    /// Nothing is known of where the next burst begins; the rest of this one is known where bursts are alike.
    fn want_burst(&mut self, bursts: &Bursts, terms: Terms) -> Vec<Pages> {
        let Some(usual) = bursts.usual() else {
            return Vec::new();
        };
        let front = self.front.map_or(self.end, |front| front.max(self.end));
        let till = (self.start + usual)
            .min(terms.file_pages)
            .min(self.end + terms.limit / PAGE)
            .min(front + terms.open / PAGE)
            .min(front + terms.requests * PIECE);
        if till <= front || self.burst() == usual {
            return Vec::new();
        }
        self.front = Some(till);
        pieces(front..till)
    }
}

fn pieces(range: Pages) -> Vec<Pages> {
    let step = ORDER_BYTES / PAGE;
    let mut pieces = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let end = ((at / step + 1) * step).min(range.end);
        pieces.push(at..end);
        at = end;
    }
    pieces
}
