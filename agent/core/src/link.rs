//! What the readers leave of a store's link: how many bytes may be brought in that nobody reads, without slowing
//! those that somebody waits for.
//!
//! The link's rate is the most that it carried lately, for the readers and for us. What the readers would take of it,
//! were they never queued, is what they miss in a second, times how much longer their misses take than one on an idle
//! link where nothing was lent. The rest is lent out to guesses. Where nothing is left, a byte guessed wrong delays a
//! reader by its own time, and one guessed right gains nothing: it had to come over the same link.
//!
//! `Store::bandwidth`, by which depth is set, is what came for us alone.

use crate::units::Nanos;

/// What a window measures must outlast: the ends of some fetches that come together, and some ways to the store.
const SHORTEST: Nanos = Nanos::from_millis(20);
const LONGEST: Nanos = Nanos::from_millis(100);
const WAYS: f64 = 5.0;

/// Longer ones have a pause in them, in which the link was asked for nothing.
const PAUSE: Nanos = Nanos::from_millis(400);

/// Windows before anything is concluded: until then the link's rate is what it happened to be asked for.
const WINDOWS: u32 = 3;

/// Bytes lent out until then.
const FAITH: f64 = 8e6;

/// What is lent beyond the rate seen so far while readers hardly queue: a link that was never filled would never be
/// found wider.
const PROBE: f64 = 2.0;

/// Readers queue where their misses take so many times as long as usual.
const QUEUED: f64 = 1.5;

/// Share of their waiting by which misses may take longer by chance.
const NOISE: f64 = 0.1;

/// So many misses say how long one takes now.
const ENOUGH: u32 = 8;

/// What is ours of all bytes meanwhile is little up to a tenth.
const LITTLE: f64 = 10.0;

/// Guesses that made readers wait longer than they spared them are lent less, others more, by so much each time.
const LESS: f64 = 0.7;
const MORE: f64 = 1.5;
const LEAST: f64 = 0.02;

/// What was lost is forgotten by a tenth each time: until then no more is lent again.
const KEEP: f64 = 0.9;

/// Weight of the newest measure, and of one that may owe something to what was lent.
const NEWEST: f64 = 0.3;
const FAINT: f64 = 0.05;

/// The best rate is forgotten by so much a window: a link does not get slower in a moment.
const FORGET: f64 = 0.998;

/// The shortest way to the store is forgotten by so much a second, by half in twelve minutes.
const DRIFT: f64 = 0.001;

/// What is not lent out is kept for so long.
const KEPT: f64 = 0.1;

#[derive(Debug)]
pub struct Link {
    window: Window,
    waits: Waits,
    windows: u32,
    /// Bytes a second: the most carried, and what readers would miss if nothing delayed them.
    rate: f64,
    wanted: f64,
    /// Times as long as on an idle link that misses take: now, and where nothing of ours is on it. The latter is more than 1
    /// where readers queue behind each other, and where the store takes now longer and now shorter.
    slower: f64,
    usual: f64,
    /// Asked for during the misses before.
    lent_before: f64,
    /// Share of what is left that is lent out.
    ease: f64,
    /// Seconds that were spared lately, less those that were lost.
    balance: f64,
    /// Seconds of the shortest miss; 0 before the first.
    shortest: f64,
    lent_at: Nanos,
    /// Bytes that may be lent out; less than nothing after a large one.
    left: f64,
}

/// Bytes since a moment.
#[derive(Debug, Default)]
struct Window {
    begun: Nanos,
    carried: u64,
    missed: u64,
    asked: u64,
}

/// Seconds that some misses took, and would have taken on an idle link.
#[derive(Debug, Default)]
struct Waits {
    took: f64,
    way: f64,
    misses: u32,
    /// Files whose beginning was there.
    spared: u32,
    carried: u64,
    missed: u64,
    /// Asked for meanwhile, and may still be on its way.
    lent: f64,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            window: Window::default(),
            waits: Waits::default(),
            windows: 0,
            rate: 0.0,
            wanted: 0.0,
            slower: 1.0,
            usual: 1.0,
            lent_before: 0.0,
            ease: 1.0,
            balance: 0.0,
            shortest: 0.0,
            lent_at: Nanos(0),
            left: FAITH,
        }
    }
}

impl Link {
    /// A reader has waited for these bytes.
    pub fn missed(&mut self, latency: Nanos, bytes: u64, now: Nanos) {
        let took = latency.as_secs_f64();
        self.shortest = if self.shortest == 0.0 { took } else { self.shortest.min(took) };
        let carrying = if self.rate > 0.0 { bytes as f64 / self.rate } else { 0.0 };
        self.window.missed = self.window.missed.saturating_add(bytes);
        self.waits.took += took;
        self.waits.way += (self.shortest + carrying).min(took);
        self.waits.misses += 1;
        self.waits.missed = self.waits.missed.saturating_add(bytes);
        self.carried(bytes, now);
        if self.waits.misses >= ENOUGH {
            self.weigh();
        }
    }

    /// A stream asks for these bytes so that its reader need not.
    pub fn asked(&mut self, bytes: u64) {
        self.window.asked = self.window.asked.saturating_add(bytes);
    }

    /// A reader has found the beginning of a file there.
    pub fn spared(&mut self) {
        self.waits.spared = self.waits.spared.saturating_add(1);
    }

    /// Whether what is lent out spares the readers more than it costs them.
    fn weigh(&mut self) {
        let waits = std::mem::take(&mut self.waits);
        self.slower = (waits.took / waits.way.max(1e-9)).max(1.0);
        let ours = waits.carried.saturating_sub(waits.missed) as f64 + waits.lent + self.lent_before;
        self.lent_before = waits.lent;
        // Where next to nothing is lent and they still take longer, it is not for what was lent. Where the least is lent, it may
        // be: that counts little, or readers' waiting would soon be taken for the store's way.
        let little = ours * LITTLE <= waits.carried as f64;
        if little || self.ease <= LEAST {
            let weight = if !little {
                FAINT
            } else if self.usual == 1.0 {
                1.0
            } else {
                NEWEST
            };
            self.usual += (self.slower - self.usual) * weight;
        }
        let gain = f64::from(waits.spared) * waits.took / f64::from(waits.misses.max(1));
        let harm = waits.took * (1.0 - NOISE) - waits.way * self.usual;
        self.balance = self.balance * KEEP + gain - harm.max(0.0);
        if harm > gain {
            self.ease = (self.ease * LESS).max(LEAST);
        } else if self.balance >= -NOISE * waits.took {
            self.ease = (self.ease * MORE).min(1.0);
        }
    }

    /// Times as long as usual that misses take now.
    fn queued(&self) -> f64 {
        (self.slower / self.usual).max(1.0)
    }

    /// Bytes have come over the link.
    pub fn carried(&mut self, bytes: u64, now: Nanos) {
        self.waits.carried = self.waits.carried.saturating_add(bytes);
        self.window.carried = self.window.carried.saturating_add(bytes);
        let span = now.since(self.window.begun);
        if span < Nanos((self.shortest * WAYS * 1e9) as u64).clamp(SHORTEST, LONGEST) {
            return;
        }
        let window = std::mem::replace(&mut self.window, Window { begun: now, ..Window::default() });
        if span < PAUSE {
            let secs = span.as_secs_f64();
            self.rate = (window.carried as f64 / secs).max(self.rate * FORGET);
            let wanted = (window.missed as f64 * self.queued() + window.asked as f64) / secs;
            self.wanted += (wanted - self.wanted) * if self.windows == 0 { 1.0 } else { NEWEST };
            self.windows = self.windows.saturating_add(1);
            self.shortest *= DRIFT.mul_add(secs, 1.0);
        }
    }

    /// Whether bytes that may turn out unread can be asked for now.
    pub fn lends(&mut self, now: Nanos) -> bool {
        let secs = now.since(self.lent_at).as_secs_f64();
        self.lent_at = now;
        if self.windows < WINDOWS {
            return self.left > 0.0;
        }
        let probe = if self.queued() > QUEUED { 1.0 } else { PROBE };
        let spare = (self.rate * probe - self.wanted).max(0.0) * self.ease;
        self.left = (self.left + spare * secs).min(spare * KEPT);
        self.left > 0.0
    }

    /// So many bytes were asked for, of which this share is expected to be read.
    pub fn lend(&mut self, bytes: u64, read: f64) {
        let unread = bytes as f64 * (1.0 - read);
        self.left -= unread;
        self.waits.lent += unread;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Readers that read one thing after another over a link of 60 MB a second with a way of 4 ms, and what is lent
    /// beside them, which stands before what they ask for.
    struct Road {
        link: Link,
        readers: f64,
        bytes: f64,
        /// Whether what is lent is what they read.
        spares: bool,
        step: u64,
        ours: f64,
    }

    impl Road {
        fn new(readers: f64, bytes: f64, spares: bool) -> Self {
            Self { link: Link::default(), readers, bytes, spares, step: 0, ours: 0.0 }
        }

        /// Bytes lent in so many seconds, a second.
        fn goes(&mut self, seconds: u64) -> f64 {
            const RATE: f64 = 60e6;
            let (mut lent, mut part) = (0.0, 0.0);
            for _ in 0..seconds * 100 {
                self.step += 1;
                let now = Nanos(self.step * 10 * MS);
                let room = (RATE - self.ours * 100.0).max(RATE / 20.0);
                let free = self.readers * self.bytes / (0.004 + self.bytes / RATE);
                let took = if free > room {
                    self.readers * self.bytes / room
                } else {
                    0.004 + self.bytes / RATE + self.ours / RATE
                };
                part += free.min(room) / 100.0 / self.bytes;
                while part >= 1.0 {
                    part -= 1.0;
                    self.link.missed(Nanos((took * 1e9) as u64), self.bytes as u64, now);
                }
                self.link.carried(self.ours as u64, now);
                self.ours = 0.0;
                while self.ours < 600_000.0 && self.link.lends(now) {
                    self.link.lend(40_000, 0.0);
                    self.ours += 40_000.0;
                    if self.spares {
                        self.link.spared();
                    }
                }
                lent += self.ours;
            }
            lent / seconds as f64
        }
    }

    #[test]
    fn readers_who_fill_the_link_leave_nothing() {
        let mut road = Road::new(12.0, 131_072.0, false);
        // The first of them finds it free.
        road.link.missed(Nanos(6 * MS), 131_072, Nanos(MS));
        road.goes(1);
        let lent = road.goes(4);
        // What is tried again and again whether it still costs them anything.
        assert!(lent < 12e6, "{lent} of 60,000,000");
    }

    #[test]
    fn one_reader_who_waits_for_the_way_leaves_the_link() {
        let mut road = Road::new(1.0, 40_000.0, true);
        road.goes(1);
        let lent = road.goes(4);
        assert!(lent > 20e6, "{lent}: the reader takes some 8 MB");
    }

    #[test]
    fn guesses_that_cost_more_waiting_than_they_spare_are_lent_less() {
        let mut road = Road::new(3.0, 131_072.0, true);
        road.goes(2);
        let good = road.goes(4);
        road.spares = false;
        road.goes(2);
        let bad = road.goes(4);
        assert!(bad * 2.0 < good, "{bad} of {good}");
    }

    #[test]
    fn a_store_that_takes_now_longer_and_now_shorter_is_not_a_full_link() {
        let mut link = Link::default();
        let mut lent = 0;
        for at in 0..3_000u64 {
            let now = Nanos(at * 20 * MS);
            link.missed(Nanos((10 + at * 7 % 31) * MS), 5_000, now);
            for _ in 0..4 {
                if link.lends(now) {
                    link.lend(5_000, 0.0);
                    link.carried(5_000, now);
                    lent += if at >= 2_000 { 5_000 } else { 0 };
                }
            }
        }
        assert!(lent > 5_000 * 1_000, "{lent}");
    }

    #[test]
    fn queued_readers_are_left_the_link_even_where_guesses_spare_them_much() {
        let mut link = Link::default();
        let mut lent = 0;
        // The way of 4 ms is known from a small one. Then 400 kB are missed each 10 ms in 60 MB a second: by themselves
        // they take 10.7 ms, and from the third second on twice that.
        link.missed(Nanos(4 * MS), 4_096, Nanos(MS));
        for at in 0..600u64 {
            let now = Nanos(at * 10 * MS);
            link.missed(Nanos(if at < 200 { 10_700_000 } else { 21_400_000 }), 400_000, now);
            link.carried(200_000, now);
            for _ in 0..10 {
                link.spared();
            }
            // As much as the link has room for, and more than there is room for.
            for _ in 0..16 {
                if at >= 200 && link.lends(now) {
                    link.lend(50_000, 0.0);
                    lent += if at >= 300 { 50_000 } else { 0 };
                }
            }
        }
        assert!(lent < 3_000_000, "{lent} in 3 s");
    }

    #[test]
    fn what_was_lost_is_not_lent_again_at_the_first_quiet_moment() {
        let mut link = Link::default();
        let mut at = 0;
        let mut misses = |link: &mut Link, ms: u64, ours: u64| {
            for _ in 0..ENOUGH {
                at += 10 * MS;
                link.missed(Nanos(ms * MS), 60_000, Nanos(at));
                link.carried(ours, Nanos(at));
            }
            link.ease
        };
        misses(&mut link, 4, 0);
        assert_eq!(misses(&mut link, 4, 60_000).to_bits(), 1f64.to_bits());
        // Guesses that spare nothing make readers wait five times as long.
        let eased = misses(&mut link, 20, 60_000);
        assert!(eased < 1.0);
        for _ in 0..3 {
            assert!(misses(&mut link, 4, 60_000) <= eased);
        }
        for _ in 0..60 {
            misses(&mut link, 4, 60_000);
        }
        assert_eq!(link.ease.to_bits(), 1f64.to_bits());
    }

    #[test]
    fn what_streams_ask_for_is_not_lent() {
        let lent = |asked: u64| {
            let mut link = Link::default();
            let mut lent = 0;
            for at in 0..300u64 {
                let now = Nanos(at * 10 * MS);
                link.asked(asked);
                link.carried(600_000, now);
                for _ in 0..40 {
                    if link.lends(now) {
                        link.lend(50_000, 0.0);
                        lent += 50_000u64;
                    }
                }
            }
            lent
        };
        // Of a link that is tried with twice of what it has carried.
        let (none, all) = (lent(0), lent(600_000));
        assert!(all * 10 < none * 7, "{all} of {none}");
    }

    #[test]
    fn a_debt_is_paid_back_by_a_pause() {
        let mut link = Link::default();
        for at in 0..100u64 {
            link.missed(Nanos(6 * MS), 60_000, Nanos(at * 10 * MS));
        }
        let now = Nanos(1_000 * MS);
        assert!(link.lends(now));
        // A second of what is left: the rate of 6 MB a second, probed twice, without what is missed.
        link.lend(6_000_000, 0.0);
        assert!(!link.lends(now));
        assert!(link.lends(Nanos(3_000 * MS)));
    }

    #[test]
    fn before_anything_is_known_little_is_lent() {
        let mut link = Link::default();
        let mut lent = 0.0;
        for _ in 0..100 {
            if link.lends(Nanos(1)) {
                link.lend(1_000_000, 0.0);
                lent += 1e6;
            }
        }
        assert!(lent <= FAITH + 1e6, "{lent}");
        link.lend(u64::MAX, 0.0);
        assert!(!link.lends(Nanos(u64::MAX)));
    }
}
