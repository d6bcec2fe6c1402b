//! What is known of a watched file system: how slow it is, how many fetches fill its link, and whether
//! pages brought in survive a reader's open.

use hdrhistogram::Histogram;

use crate::link::Link;
use crate::units::{MountId, Nanos};
use crate::view::Survival;

/// Fetches under way before anything is measured: enough to see the link's rate within two round trips.
pub const FIRST_DEPTH: u32 = 16;

/// Bytes of one file in flight before the link's rate is known.
const FIRST_FLIGHT: u64 = 3 << 20;

/// Requests of one file's ranges in flight at most on FUSE: under three quarters of what servers usually let
/// the kernel queue (max_background 64), where FUSE begins to turn read-ahead away; less where that is less.
const FUSE_REQUESTS: f64 = 40.0;

/// Elsewhere read-ahead waits its turn: only memory bounds it. 64 MiB of the usual 128 KiB pieces fill
/// 10 Gbit/s at 50 ms.
const REQUESTS: f64 = 512.0;

/// Fetches under way at most: four fifths of the threads that carry them out, so that a store that hangs
/// does not take them all.
const MAX_DEPTH: u32 = 300;

/// Fetches under way, as a multiple of what the link holds at its shortest round trip. Two would do on a
/// quiet machine; measured with a shuffled reader, 24 / 64 / 128 in flight gave 0.78 / 0.83 / 0.88 of the
/// link where it holds 16.
const GAIN: f64 = 8.0;

/// Whole files that may be fetched at a mount before it is known whether they survive an open.
pub const UNPROVEN: u32 = 64;

/// How long a store whose fetches fail is given no files that are not open yet: as long as the core's clock
/// ticks at first, then twice as long after each fetch that was tried and failed too. At the longest, a minute's
/// outage is found over within 3 % of its length.
const PAUSE: Nanos = Nanos::from_millis(100);
const PAUSE_MAX: Nanos = Nanos::from_millis(1_600);

/// Fetches have failed, and none has ended well since.
#[derive(Debug)]
struct Trouble {
    until: Nanos,
    pause: Nanos,
}

/// Refusals in a row before a mount where opens succeeded is taken to refuse them all: as many as may be asked of
/// one of which nothing is known. Fewer would let a folder of private files speak for everybody's.
const REFUSALS: u32 = UNPROVEN;

/// How long a mount that refuses is left alone before it is tried again, at first and, doubled at each refusal
/// of the try, at last: a minute is nothing to a run of hours, and an hour's one open is nothing to a server.
const LEFT_ALONE: Nanos = Nanos::from_millis(60_000);
const LEFT_ALONE_MOST: Nanos = Nanos::from_millis(3_600_000);

#[derive(Debug)]
pub struct Store {
    pub mount: MountId,
    pub dev: u32,
    pub source: Box<str>,
    pub fstype: Box<str>,
    pub read_ahead_bytes: u64,
    pub survival: Survival,
    /// Whole files fetched while `survival` was unknown.
    pub unproven: u32,
    /// Whether the second open of a warmed file has been tried.
    pub tried: bool,
    /// Warmed files in a row that lost their pages at a reader's open.
    losses: u32,
    trouble: Option<Trouble>,
    /// Opens of ours in a row that were refused.
    refusals: u32,
    /// Since when opens are taken to be refused, and how long that stands.
    refused: Nanos,
    left_alone: Nanos,
    pub outstanding: u32,
    /// Bytes that are on their way.
    pub flying: u64,
    /// Of these, what streams of files that are being read have asked for.
    pub streaming: u64,
    pub requests: u64,
    most_requests: f64,
    /// What of the usual in-flight bytes this store takes; less after it turned requests away.
    ease: f64,
    eased: Nanos,
    pub depth: u32,
    misses: Option<Histogram<u64>>,
    shortest: [u64; 32],
    samples: usize,
    window: Nanos,
    window_bytes: u64,
    window_orders: u64,
    bandwidth: f64,
    order_bytes: f64,
    shortest_order: u64,
    /// Smoothed duration of a fetch, queueing included.
    usual_order: f64,
    pub link: Link,
}

impl Store {
    pub fn new(mount: MountId, dev: u32, source: &str, fstype: &str, read_ahead_bytes: u64) -> Self {
        Self {
            mount,
            dev,
            source: source.into(),
            fstype: fstype.into(),
            read_ahead_bytes,
            survival: Survival::Unknown,
            unproven: 0,
            tried: false,
            losses: 0,
            refusals: 0,
            refused: Nanos(0),
            left_alone: LEFT_ALONE,
            flying: 0,
            streaming: 0,
            requests: 0,
            most_requests: if fstype.starts_with("fuse") { FUSE_REQUESTS } else { REQUESTS },
            ease: 1.0,
            eased: Nanos(0),
            trouble: None,
            outstanding: 0,
            depth: FIRST_DEPTH,
            // From 1 µs to 100 s with two digits: 10 KiB.
            misses: Histogram::new_with_bounds(1_000, 100_000_000_000, 2).ok(),
            shortest: [u64::MAX; 32],
            samples: 0,
            window: Nanos(0),
            window_bytes: 0,
            window_orders: 0,
            bandwidth: 0.0,
            order_bytes: 0.0,
            shortest_order: u64::MAX,
            usual_order: 0.0,
            link: Link::default(),
        }
    }

    /// A warmed file met its reader: were its pages still there? Returns whether they must be taken to be
    /// dropped at open here: two in a row while nothing was known, sixteen where they used to survive (a
    /// file that changes in the store loses its pages too).
    pub fn met_open(&mut self, survived: bool) -> bool {
        if survived {
            self.losses = 0;
            if self.survival == Survival::Unknown {
                self.survival = Survival::Kept;
            }
            return false;
        }
        self.losses += 1;
        self.losses >= if self.survival == Survival::Kept { 16 } else { 2 }
    }

    /// An open of ours was refused: returns whether all of them must be taken to be. One private file says
    /// nothing of a mount where others were opened.
    pub fn met_refusal(&mut self, now: Nanos) -> bool {
        self.refusals = self.refusals.saturating_add(1);
        let refuses = match self.survival {
            Survival::Unknown => true,
            Survival::Kept => self.refusals >= REFUSALS,
            // Known already, or worse.
            Survival::Dropped | Survival::Refused => false,
        };
        if refuses {
            self.refused = now;
        }
        refuses
    }

    pub fn met_entry(&mut self) {
        self.refusals = 0;
        self.left_alone = LEFT_ALONE;
    }

    /// Whether a mount that refuses is to be tried anew: it may have been one user's files that were met first,
    /// and what the server allows can change.
    pub fn tries_again(&mut self, now: Nanos) -> bool {
        if self.survival != Survival::Refused || now.since(self.refused) < self.left_alone {
            return false;
        }
        self.left_alone = Nanos(self.left_alone.0 * 2).min(LEFT_ALONE_MOST);
        self.refusals = 0;
        self.unproven = 0;
        self.tried = false;
        true
    }

    pub fn missed(&mut self, latency: Nanos, bytes: u64, now: Nanos) {
        self.link.missed(latency, bytes, now);
        if let Some(misses) = &mut self.misses {
            misses.saturating_record(latency.0.max(1_000));
        }
        self.shortest[self.samples % self.shortest.len()] = latency.0;
        self.samples = self.samples.wrapping_add(1);
    }

    /// Latency of a miss without queueing: the shortest of the last ones. Before any was seen, 5 ms.
    pub fn latency(&self) -> Nanos {
        match self.shortest.iter().min() {
            Some(&shortest) if shortest != u64::MAX => Nanos(shortest),
            _ => Nanos::from_millis(5),
        }
    }

    /// How long a fetch takes from its order to its last byte, with what is queued before it now.
    pub fn lead(&self) -> Nanos {
        Nanos((self.usual_order as u64).max(self.latency().0.saturating_mul(2)))
    }

    pub fn median_miss(&self) -> Nanos {
        Nanos(
            self.misses.as_ref().filter(|misses| !misses.is_empty()).map_or(0, |m| m.value_at_quantile(0.5)),
        )
    }

    pub fn misses(&self) -> Option<&Histogram<u64>> {
        self.misses.as_ref()
    }

    /// Bytes that fill the link and no more: some of its round trips' worth.
    fn full(&self) -> u64 {
        let held = self.bandwidth * self.latency().as_secs_f64() * GAIN;
        (held.max(FIRST_FLIGHT as f64) * self.ease) as u64
    }

    /// Bytes that a stream may ask for now. Its reader waits for them: what files that are not open yet have asked for
    /// leaves it no less.
    pub fn open_bytes(&self) -> u64 {
        self.full().saturating_sub(self.streaming)
    }

    /// Bytes that may be asked for now of files that nobody reads yet: beside a stream no more than keeps the link busy. Where
    /// nothing of that kind is on its way it is never too little.
    pub fn spare_bytes(&self) -> u64 {
        let ahead = self.flying.saturating_sub(self.streaming);
        if ahead == 0 {
            return u64::MAX;
        }
        let most = if self.streaming > 0 { self.full() / 2 } else { self.full() };
        most.saturating_sub(ahead)
    }

    /// Requests that may be sent now without filling the kernel's queue for this mount.
    pub fn open_requests(&self) -> u64 {
        ((self.most_requests * self.ease) as u64).saturating_sub(self.requests)
    }

    /// The kernel let pages of ours go unread from the store: its queue for this mount was full (FUSE does
    /// that above three quarters of max_background). Eases off at most once a round trip.
    pub fn turned_away(&mut self, now: Nanos) {
        if now.since(self.eased) > self.latency() {
            self.eased = now;
            self.ease = (self.ease * 0.8).max(0.25);
        }
    }

    /// Fetches of files that are not open yet which may be ordered now. While the store is in trouble one at a
    /// time is tried.
    pub fn free_places(&self, now: Nanos) -> u32 {
        let depth = match &self.trouble {
            Some(trouble) if now < trouble.until => 0,
            Some(_) => 1,
            None => self.depth,
        };
        let free = depth.saturating_sub(self.outstanding);
        match self.survival {
            Survival::Kept => free,
            Survival::Unknown => free.min(UNPROVEN.saturating_sub(self.unproven)),
            // Nothing that is not open already can be warmed here.
            Survival::Dropped | Survival::Refused => 0,
        }
    }

    /// A fetch came to nothing, through no fault of its file.
    pub fn failed(&mut self, now: Nanos) {
        match &mut self.trouble {
            None => self.trouble = Some(Trouble { until: now.plus(PAUSE), pause: PAUSE }),
            Some(trouble) if now >= trouble.until => {
                trouble.pause = Nanos(trouble.pause.0 * 2).min(PAUSE_MAX);
                trouble.until = now.plus(trouble.pause);
            }
            // It was ordered before the pause began.
            Some(_) => {}
        }
    }

    /// The store has answered.
    pub fn answered(&mut self) {
        self.trouble = None;
    }

    /// A fetch has ended: adapts the depth. Returns the new depth when it changed.
    pub fn delivered(&mut self, bytes: u64, took: Nanos, now: Nanos) -> Option<u32> {
        if bytes == 0 {
            return None;
        }
        self.link.carried(bytes, now);
        self.ease = (self.ease + 0.02).min(1.0);
        let sample = took.0 as f64;
        self.usual_order += (sample - self.usual_order) / if self.usual_order == 0.0 { 1.0 } else { 16.0 };
        self.shortest_order = self.shortest_order.min(took.0.max(1));
        self.window_bytes += bytes;
        self.window_orders += 1;
        let span = now.since(self.window);
        if span < Nanos::from_millis(20) {
            return None;
        }
        // A window that began before a pause says nothing of the link.
        if span < Nanos::from_millis(200) {
            let rate = self.window_bytes as f64 / span.as_secs_f64();
            // The best of the recent past, forgotten slowly: a link does not get slower in a moment.
            self.bandwidth = rate.max(self.bandwidth * 0.98);
            self.order_bytes = self.window_bytes as f64 / self.window_orders as f64;
        }
        self.window = now;
        self.window_bytes = 0;
        self.window_orders = 0;
        // A fetch that found part of its pages there is shorter than any way to the store.
        let way = self.shortest_order.max(self.latency().0) as f64 / 1e9;
        let held = self.bandwidth * way / self.order_bytes.max(1.0);
        let depth = ((held * GAIN) as u32).clamp(FIRST_DEPTH, MAX_DEPTH);
        (depth != self.depth).then(|| {
            self.depth = depth;
            depth
        })
    }
}
