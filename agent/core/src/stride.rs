//! A constant distance between bursts, in bytes, of which only the pages are seen.
//!
//! Records of 150,528 bytes, every sixth of them: 220 pages from one to the next, then 221, and so on. Whoever goes
//! on from either of them is ten pages off after twenty steps. Each start that is seen says within which bounds the
//! distance lies, over all the steps since the first, so that the bounds narrow as the steps add up.

/// Steps from one burst to the next at most: a reader may leave out some.
const SKIPS: f64 = 4.0;

/// Distances, in pages, from which on starts may be off by one: closer ones are the kernel's to read ahead.
const LOOSE: f64 = 4.0;

#[derive(Clone, Copy, Debug)]
pub struct Stride {
    /// A start, and the steps taken since.
    origin: u64,
    taken: i64,
    /// The last start, and the number of its step. Numbers go on where the origin is another.
    at: u64,
    step: i64,
    /// The distance, where whole pages explain all that was seen.
    whole: Option<i64>,
    /// Bounds of the distance in pages.
    least: f64,
    most: f64,
    /// The starts nearest to the beginning of their page and to its end, each with the steps taken then: from them
    /// the others are told most closely.
    high: (u64, i64),
    low: (u64, i64),
}

fn distance(from: u64, to: u64) -> i64 {
    i64::try_from(to).unwrap_or(i64::MAX).saturating_sub(i64::try_from(from).unwrap_or(i64::MAX))
}

impl Stride {
    /// From one start to another; `None` where they are the same.
    pub fn between(from: u64, to: u64) -> Option<Self> {
        let whole = distance(from, to);
        let far = whole as f64;
        (whole != 0).then_some(Self {
            origin: from,
            taken: 1,
            at: to,
            step: 1,
            whole: Some(whole),
            least: far - 1.0,
            most: far + 1.0,
            high: (from, 0),
            low: (from, 0),
        })
    }

    /// The likeliest distance.
    fn likely(&self) -> f64 {
        self.whole.map_or(f64::midpoint(self.least, self.most), |whole| whole as f64)
    }

    /// The distance in pages, the nearest.
    pub fn pages(&self) -> i64 {
        self.likely().round() as i64
    }

    /// The number of the last step.
    pub fn step(&self) -> i64 {
        self.step
    }

    /// How many strides lie between the last start and this one: 1 to 4 (a reader may skip some).
    pub fn steps_to(&self, start: u64) -> Option<i64> {
        let (far, likely) = (distance(self.at, start) as f64, self.likely());
        let steps = (far / likely).round();
        let loose = if likely.abs() > LOOSE { 1.0 } else { 0.0 };
        ((1.0..=SKIPS).contains(&steps) && (far - steps * likely).abs() <= loose).then_some(steps as i64)
    }

    /// A burst has begun so many steps on.
    pub fn go_on(&mut self, steps: i64, start: u64) {
        let from = self.at;
        let bounded = self.ahead(steps).filter(|_| self.whole.is_none());
        let contradicts = bounded.is_some_and(|(first, last)| !(first..=last).contains(&start));
        self.at = start;
        self.step = self.step.saturating_add(steps);
        self.taken = self.taken.saturating_add(steps);
        if !self.narrow() || contradicts {
            // Nearly constant at best: the last distance is as good as any.
            (self.origin, self.taken) = (from, steps);
            (self.least, self.most) = (f64::NEG_INFINITY, f64::INFINITY);
            self.whole = Some(distance(from, start) / steps.max(1));
            (self.high, self.low) = ((from, 0), (from, 0));
            self.narrow();
        }
        let (likely, taken, at) = (self.likely(), self.taken, start as f64);
        let from = |(start, then): (u64, i64)| start as f64 + (taken - then) as f64 * likely;
        if at > from(self.low) {
            self.low = (start, taken);
        }
        if at < from(self.high) {
            self.high = (start, taken);
        }
    }

    /// Takes in the last start; false where it contradicts those before.
    fn narrow(&mut self) -> bool {
        let far = distance(self.origin, self.at);
        self.whole = self.whole.filter(|whole| whole.checked_mul(self.taken) == Some(far));
        // Each start lies somewhere in its page.
        let (far, taken) = (far as f64, self.taken.max(1) as f64);
        self.least = self.least.max((far - 1.0) / taken);
        self.most = self.most.min((far + 1.0) / taken);
        self.least <= self.most
    }

    /// The pages in which the burst so many steps on begins, the first and the last of them; `None` before the
    /// file's start.
    pub fn ahead(&self, steps: i64) -> Option<(u64, u64)> {
        if let Some(whole) = self.whole {
            let start = self.at.checked_add_signed(whole.checked_mul(steps)?)?;
            return Some((start, start));
        }
        // Each start that was seen lies between the beginning of its page and the next one's.
        let all = self.taken.saturating_add(steps);
        let from = |(start, then): (u64, i64), stride: f64| start as f64 + (all - then) as f64 * stride;
        let (at, origin) = ((self.at, self.taken), (self.origin, 0));
        let first =
            [at, origin, self.low].map(|seen| from(seen, self.least)).into_iter().fold(f64::MIN, f64::max);
        let last =
            [at, origin, self.high].map(|seen| from(seen, self.most)).into_iter().fold(f64::MAX, f64::min);
        let (first, last) = (first.floor(), last.ceil());
        (first >= 0.0).then_some((first as u64, last.max(first) as u64))
    }

    /// The number of the step whose burst holds this page, where it is still to come.
    pub fn step_at(&self, page: u64) -> Option<i64> {
        let steps = (distance(self.at, page) as f64 / self.likely()).floor() as i64;
        (self.likely() > 0.0 && steps >= 1).then(|| self.step.saturating_add(steps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::PAGE;

    #[test]
    fn starts_far_ahead_are_foreseen_whatever_the_bytes() {
        for bytes in [903_168i64, 24_000, 24_584, 80_000, 200_000, 6_400_000, -903_168, 1 << 20, -(1 << 16)] {
            let origin = 4 << 30;
            let start = |step: i64| (origin + step * bytes) as u64 / PAGE;
            let mut stride = Stride::between(start(0), start(1)).unwrap();
            for step in 2..200 {
                assert_eq!(stride.steps_to(start(step)), Some(1), "{bytes} at {step}");
                stride.go_on(1, start(step));
                if bytes % PAGE as i64 != 0 && stride.whole.is_some() {
                    continue;
                }
                let mut width = 0;
                for ahead in 1..step {
                    let (first, last) = stride.ahead(ahead).unwrap();
                    let real = start(step + ahead);
                    assert!((first..=last).contains(&real), "{bytes}: {real} not in {first} to {last}");
                    width = width.max(last - first);
                }
                assert!(width <= if step < 8 { 4 } else { 2 }, "{bytes} at {step}: {width}");
                assert!(bytes % PAGE as i64 != 0 || width == 0, "{bytes}");
            }
        }
    }

    #[test]
    fn distances_that_differ_by_a_page_without_rule_are_followed() {
        let mut stride = Stride::between(100, 200).unwrap();
        let mut at = 200;
        for step in [101, 100, 101, 101, 101, 101, 101, 101, 100, 100, 100, 100, 100, 101, 100, 101] {
            at += step;
            let steps = stride.steps_to(at).unwrap();
            stride.go_on(steps, at);
            let (first, last) = stride.ahead(1).unwrap();
            assert!(
                first <= at + 101 && last >= at + 100 && last - first <= 2,
                "{first} to {last} from {at}"
            );
        }
        assert_eq!(stride.steps_to(at + 150), None);
        assert_eq!(stride.steps_to(at), None);
        assert_eq!(stride.steps_to(at - 100), None);
    }

    #[test]
    fn nothing_lies_before_the_file_or_overflows() {
        assert!(Stride::between(7, 7).is_none());
        let back = Stride::between(30, 20).unwrap();
        assert_eq!([back.ahead(1), back.ahead(2), back.ahead(3)], [Some((10, 10)), Some((0, 0)), None]);
        let mut far = Stride::between(0, u64::MAX).unwrap();
        for start in [0, u64::MAX, 5, u64::MAX - 1] {
            let _ = (far.steps_to(start), far.ahead(i64::MAX), far.step_at(start), far.pages());
            far.go_on(i64::MAX, start);
        }
    }
}
