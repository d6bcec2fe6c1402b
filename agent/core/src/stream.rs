//! Patterns within one file: sequential, reverse, strided, blocks, random; several readers at once.
//!
//! A stream is one walker through the file. Its accesses form bursts (contiguous pages); the distance
//! between the starts of bursts is the stride. A burst that keeps growing is sequential; bursts at a
//! constant distance are strided (reverse where the distance is one burst backwards); all else is random,
//! of which only the usual length of a burst can be foreseen.

use crate::bursts::{Bursts, Outlook};
use crate::rate::Rate;
use crate::stride::Stride;
use crate::turns::{Turn, Turns};
use crate::units::{Nanos, PAGE, Pages, Reader};

/// Equal distances in a row that make a stride: two could be chance in a file read at random.
pub const STRIDE_PROOF: u32 = 3;

/// Pages ahead before anything is known of the speed: 128 KiB, the kernel's own first guess.
const FIRST_WINDOW: u64 = 32;

/// Bytes one stream may be ahead of its reader, whatever its speed: a tenth of a second of a 40 Gbit/s link.
pub const STREAM_LIMIT: u64 = 512 << 20;

/// Pages of one request, as most devices' read_ahead_kb cut it.
pub const PIECE: u64 = 32;

/// Pages of strided bursts that are worth an order: 512 KiB.
const BATCH: u64 = 128;

/// Bursts that take turns are gone through one by one at each read, so no more of them, however short they are.
const TURNS_AHEAD: usize = 256;

/// Bytes of one order: large enough to be cheap, small enough that a later, more urgent order does not
/// wait long behind it.
pub const ORDER_BYTES: u64 = 1 << 20;

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
pub struct Stream {
    pub reader: Reader,
    /// The burst under way.
    pub start: u64,
    pub end: u64,
    /// Accesses that made the burst grow.
    pub grown: u32,
    /// Pages of its longest read.
    pub longest: u64,
    pub stride: Option<Stride>,
    /// How many times in a row the stride held.
    pub proof: u32,
    pub jumps: u32,
    pub pages: u64,
    pub rate: Rate,
    /// Sequential: fetched up to here.
    pub front: Option<u64>,
    /// Strided: the step of the next burst to fetch, and how many pages of it have been asked for.
    pub due: i64,
    pub part: u64,
    /// Bursts that take turns, and how many ahead of the one under way have been asked for.
    pub turns: Turns,
    pub asked: usize,
    /// Pages of the next one that have been.
    pub asked_of_next: u64,
    /// Walks that its reader has begun since it was here, and whether this one counts as ended for them.
    pub since: u32,
    pub ended: bool,
    pub last: Nanos,
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

impl Stream {
    pub fn new(reader: Reader, pages: &Pages, each: u64, now: Nanos) -> Self {
        let mut stream = Self {
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
            part: 0,
            turns: Turns::default(),
            asked: 0,
            asked_of_next: 0,
            since: 0,
            ended: false,
            last: now,
        };
        stream.rate.sample(0, now);
        stream
    }

    pub fn burst(&self) -> u64 {
        self.end - self.start
    }

    pub fn is_long(&self) -> bool {
        self.grown >= 4 && self.proof < STRIDE_PROOF
    }

    pub fn steps_to(&self, start: u64) -> Option<i64> {
        self.stride.and_then(|stride| stride.steps_to(start))
    }

    /// The burst that holds the first of these pages is the next to be asked for, if it is still to come.
    pub fn retreat_strides(&mut self, range: &Pages) {
        if let Some(step) = self.stride.and_then(|stride| stride.step_at(range.start))
            && step <= self.due
        {
            (self.due, self.part) = (step, 0);
        }
    }

    pub fn jump(&mut self, pages: &Pages, now: Nanos) {
        let step =
            i64::try_from(pages.start).unwrap_or(i64::MAX) - i64::try_from(self.start).unwrap_or(i64::MAX);
        let foreseen = self.turns.push(Turn { pages: self.burst(), step });
        if !foreseen || self.asked == 0 {
            self.asked_of_next = 0;
        }
        self.asked = if foreseen { self.asked.saturating_sub(1) } else { 0 };
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
                self.part = 0;
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

    pub fn pattern(&self) -> Pattern {
        if self.proof >= STRIDE_PROOF {
            let pages = self.pages.max(self.burst());
            let stride = self.stride.map_or(0, |stride| stride.pages());
            if stride < 0 && stride.unsigned_abs() <= pages + 1 {
                return Pattern::Reverse { pages };
            }
            return Pattern::Strided { stride, pages };
        }
        if let Some((stride, pages)) = self.turns.round() {
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
    pub fn want_ahead(&mut self, bursts: &Bursts, terms: Terms) -> Vec<Pages> {
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

    /// Bursts that take turns: as many ahead as have come in turns, and as the speed asks.
    fn want_turns(&mut self, terms: Terms) -> Vec<Pages> {
        let mut ranges: Vec<Pages> = Vec::new();
        let most = self.turns.proof().map_or(0, |proof| (proof as usize).min(TURNS_AHEAD));
        let wanted = self.rate.ahead(terms.lead).min(terms.limit) / PAGE;
        let (mut start, mut pages) = (self.start, 0);
        let (mut open, mut requests) = (terms.open / PAGE, terms.requests);
        for ahead in 0..=most {
            let Some((turn, off)) = self.turns.ahead(ahead) else { break };
            if start >= terms.file_pages || pages >= wanted && ahead > 2 {
                break;
            }
            // Where it begins is not known to a quarter of what it brings.
            if off > 1 && off > turn.pages / 4 {
                break;
            }
            pages += turn.pages;
            if ahead > self.asked || ahead == 0 && self.asked == 0 {
                let end = start.saturating_add(turn.pages + off).min(terms.file_pages);
                let from = if ahead == 0 { self.end } else { start.saturating_sub(off) + self.asked_of_next };
                // A long burst is asked for in parts, as the link takes them.
                let till = end.min(from.saturating_add(open.min(requests.saturating_mul(PIECE))));
                let bytes = till.saturating_sub(from);
                (open, requests) = (open - bytes, requests.saturating_sub(bytes.div_ceil(PIECE)));
                if bytes > 0 {
                    ranges.extend(pieces(from..till));
                }
                if till < end {
                    self.asked_of_next += if ahead == 0 { 0 } else { bytes };
                    break;
                }
                if ahead > 0 {
                    (self.asked, self.asked_of_next) = (ahead, 0);
                }
            }
            let Some(next) = start.checked_add_signed(turn.step) else { break };
            start = next;
        }
        ranges
    }

    pub fn want_strides(&mut self, pages: u64, terms: Terms) -> Vec<Pages> {
        if self.proof < STRIDE_PROOF {
            return self.want_turns(terms);
        }
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
        let mut asked = if next + stride.step() == self.due { self.part } else { 0 };
        let (mut open, mut requests) = (terms.open / PAGE, terms.requests);
        while next <= ahead && open > 0 && requests > 0 {
            let Some((first, last)) = stride.ahead(next).filter(|(first, _)| *first < terms.file_pages)
            else {
                break;
            };
            // Where the burst begins is not known yet to a page, or to a quarter of what it brings.
            if next > 2 && last - first > (pages / 4).max(1) {
                break;
            }
            // A long burst is asked for in parts, as the link takes them.
            let end = (last + pages).min(terms.file_pages);
            let from = (first + asked).min(end);
            let till = from.saturating_add(open.min(requests.saturating_mul(PIECE))).min(end);
            if (till - from) * PAGE > ORDER_BYTES {
                ranges.extend(pieces(from..till));
            } else if till > from {
                ranges.push(from..till);
            }
            open -= till - from;
            requests = requests.saturating_sub((till - from).div_ceil(PIECE).max(1));
            if till < end {
                asked += till - from;
                break;
            }
            asked = 0;
            next += 1;
        }
        self.due = stride.step() + next;
        self.part = asked;
        ranges
    }

    /// Nothing is known of where the next burst begins; the rest of this one is known where bursts are alike.
    pub fn want_burst(&mut self, bursts: &Bursts, terms: Terms) -> Vec<Pages> {
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
