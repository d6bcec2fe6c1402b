//! The first question of every hook: is this device watched? Four compares in an array map, which the
//! verifier inlines; no hash, no call.

use agent_common::state::bucket_of;

use crate::maps::DEVICES;

#[inline(always)]
pub fn watched(dev: u32) -> bool {
    let Some(bucket) = DEVICES.get_ptr(bucket_of(dev)) else {
        return false;
    };
    // SAFETY: an array map's values live as long as the program; the agent writes them word by word.
    let devs = unsafe { &(*bucket).devs };
    dev != 0 && (devs[0] == dev || devs[1] == dev || devs[2] == dev || devs[3] == dev)
}
