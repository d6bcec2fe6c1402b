//! When a record was made. The programs look at the clock once in a tick of the kernel's (1 to 10 ms) for all records
//! of a thread that measure nothing, so what they say may be as much too early; the order of the ring and the agent's
//! own looks say better.

use agent_core::units::Nanos;

#[derive(Debug, Default)]
pub struct Moments {
    /// When the look began that left the ring empty last: what lies there now is younger.
    emptied: Nanos,
    /// Of the records so far.
    latest: Nanos,
}

impl Moments {
    /// The moment of the ring's next record, which says `at`.
    pub fn of(&mut self, at: Nanos) -> Nanos {
        self.latest = at.max(self.emptied).max(self.latest);
        self.latest
    }

    /// A look that began at `now` has left nothing.
    pub fn emptied(&mut self, now: Nanos) {
        self.emptied = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_younger_than_the_look_that_left_nothing_and_than_the_record_before() {
        let mut moments = Moments::default();
        assert_eq!(moments.of(Nanos(1_000)), Nanos(1_000));
        assert_eq!(moments.of(Nanos(900)), Nanos(1_000), "after the one before it");
        moments.emptied(Nanos(5_000));
        assert_eq!(moments.of(Nanos(1_000)), Nanos(5_000), "the tick's first look at the clock");
        assert_eq!(moments.of(Nanos(6_000)), Nanos(6_000));
    }
}
