//! CLOCK_MONOTONIC in nanoseconds: the one clock that the store, the readers and the benchmarks share,
//! so that moments noted in different processes can be compared.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}
