//! An inode as the hooks hand it on: who it is, how long, and which life of its number.

use core::mem::MaybeUninit;

use agent_common::state::ident_of;

use crate::filter;
use crate::layout::at;
use crate::memory::Memory;

/// `S_IFMT` and `S_IFREG` of `i_mode`.
const FORMAT: u16 = 0o170_000;
const REGULAR: u16 = 0o100_000;

#[inline(always)]
pub fn seed() -> u64 {
    u64::from(at!(seed_high)) << 32 | u64::from(at!(seed_low))
}

#[inline(always)]
pub fn number_of(dev: u32, ino: u64) -> u64 {
    ident_of(dev, ino, seed())
}

pub struct Inode {
    pub address: *const u8,
    pub sb: *const u8,
    pub dev: u32,
    pub ino: u64,
    /// `number_of` both.
    pub number: u64,
    /// Bytes.
    pub size: u64,
    /// Seconds since the epoch.
    pub mtime: i64,
    /// Tells one life of the number from the next, and a changed or renamed file from before: made of
    /// i_ctime, which every such change moves, and i_generation, which tells a new inode made within
    /// the clock's tick. Moved by `Bucket::life` too.
    pub stamp: u64,
    pub generation: u32,
    /// `Bucket::epoch` of its device.
    pub epoch: u32,
}

impl Inode {
    /// The inode behind a mapping; `None` where its device is not watched, or for what is no regular
    /// file.
    #[inline(always)]
    pub fn watched<M: Memory>(mapping: *const u8) -> Option<Self> {
        let mut head = MaybeUninit::uninit();
        let host = M::host(mapping, &mut head);
        let sb = M::field_pointer(&head, host, at!(inode_sb));
        let dev = M::load(sb, at!(sb_dev));
        let (epoch, life) = filter::watched(dev)?;
        if M::field::<u16>(&head, host, at!(inode_mode)) & FORMAT != REGULAR {
            return None;
        }
        let ctime: u64 = M::field(&head, host, at!(inode_ctime));
        let nsec: u32 = M::field(&head, host, at!(inode_ctime_nsec));
        let generation: u32 = M::field(&head, host, at!(inode_generation));
        let ino = M::field(&head, host, at!(inode_ino));
        Some(Self {
            address: host,
            sb,
            dev,
            ino,
            number: number_of(dev, ino),
            size: M::field(&head, host, at!(inode_size)),
            mtime: M::field(&head, host, at!(inode_mtime)),
            // 30 bits of nanoseconds leave the seconds distinct for 500 years.
            stamp: ((ctime << 30) | u64::from(nsec & 0x3fff_ffff))
                ^ (u64::from(generation) << 32)
                ^ u64::from(life).wrapping_mul(seed() | 1),
            generation,
            epoch,
        })
    }

    /// `Run::ident` of an access in this way.
    #[inline(always)]
    pub fn ident(&self, how: u8) -> u64 {
        (self.number ^ self.stamp ^ u64::from(how) << 1) | 1
    }

    /// The page after the file's last.
    #[inline(always)]
    pub fn pages(&self) -> u64 {
        self.size.wrapping_add(4095) >> 12
    }
}
