//! What bad input gets, end to end: the real `headrace agent` on the real kernel, with slow stores and disks
//! that come, break and go.
//!
//! Needs root, /dev/fuse, a loop device, mkfs.ext4 and util-linux.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

#[path = "../prefetch/store.rs"]
mod store;

#[path = "../refusals/damage.rs"]
#[expect(dead_code, reason = "the tests of the probe use the rest")]
mod damage;

mod files;

mod flood;

mod mounts;

mod refusals;

mod rights;

mod state;

mod stops;

mod survey;

/// The body of the FUSE store's process; does nothing when run as a test.
#[test]
fn store_process() {
    store::serve_if_asked();
}
