//! How much is under way for instructions, at each mount and in all, and whether there is room for more. Pure.

use agent_core::MountId;
use rustc_hash::FxHashMap;

/// Orders under way at one mount for all instructions together: enough to keep a store busy, few enough that readers'
/// own predictions, which come first, never wait for long. And in all: mounts whose readers leave instructions no
/// turn, or whose stores stand still, hold nobody else up until there are eight of them, four where files are large.
pub const AT_MOUNT: usize = 32;
pub const UNDER_WAY: usize = 8 * AT_MOUNT;

/// And no more bytes than these, at one mount and in all: when memory gets scarce, what of a pin is under way comes in still.
pub const BYTES_AT_MOUNT: u64 = 128 << 20;
pub const BYTES_UNDER_WAY: u64 = 4 * BYTES_AT_MOUNT;

#[derive(Debug, Default)]
pub struct Busy {
    mounts: FxHashMap<MountId, (usize, u64)>,
    orders: usize,
    bytes: u64,
}

impl Busy {
    /// An order more, with the bytes that it brings in if it does.
    pub fn add(&mut self, mount: MountId, brings: Option<u64>) {
        let bytes = brings.unwrap_or(0);
        let here = self.mounts.entry(mount).or_default();
        *here = (here.0 + 1, here.1.saturating_add(bytes));
        self.orders += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub fn has_room(&self, mount: MountId) -> bool {
        let (orders, bytes) = self.mounts.get(&mount).copied().unwrap_or_default();
        let here = orders < AT_MOUNT && bytes < BYTES_AT_MOUNT;
        here && self.orders < UNDER_WAY && self.bytes < BYTES_UNDER_WAY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_that_is_full_leaves_room_at_others() {
        let [one, other] = [MountId(1), MountId(2)];
        let mut busy = Busy::default();
        (0..AT_MOUNT).for_each(|_| busy.add(one, Some(1)));
        assert!(!busy.has_room(one) && busy.has_room(other), "by orders");
        busy.add(other, Some(BYTES_AT_MOUNT));
        assert!(!busy.has_room(other) && busy.has_room(MountId(3)), "by bytes");
        // What is let go of brings nothing in.
        busy.add(MountId(3), None);
        assert!(busy.has_room(MountId(3)));
        (4..7).for_each(|mount| busy.add(MountId(mount), Some(BYTES_AT_MOUNT)));
        assert!(!busy.has_room(MountId(3)), "as many bytes as may be in all");
    }
}
