//! The first question of every hook: is this device watched? Four compares in an array map, which the
//! verifier inlines; no hash, no call.

use agent_common::state::{Bucket, bucket_of};

use crate::maps::DEVICES;

/// `Bucket::epoch` and `Bucket::life` where the device is watched.
#[inline(always)]
pub fn watched(dev: u32) -> Option<(u32, u32)> {
    let bucket = DEVICES.get_ptr(bucket_of(dev))?;
    // SAFETY: an array map's values live as long as the program; the agent writes them word by word.
    let Bucket { devs, epoch, life, reserved: _ } = unsafe { &*bucket };
    let watched = dev != 0 && (devs[0] == dev || devs[1] == dev || devs[2] == dev || devs[3] == dev);
    watched.then_some((*epoch, *life))
}
