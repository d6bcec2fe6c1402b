//! Two small texts of /proc: the device of a mount in `mountinfo`, and what `fdinfo` says of a descriptor.

use std::os::fd::{AsRawFd, BorrowedFd};

/// The device (major << 20 | minor) of mount `id` as `mountinfo` lists it.
pub fn device_of(mountinfo: &[u8], id: u64) -> Option<u32> {
    mountinfo.split(|byte| *byte == b'\n').find_map(|line| {
        let mut words = line.split(|byte| *byte == b' ');
        if number(words.next()?, 10)? != id {
            return None;
        }
        let mut device = words.nth(1)?.split(|byte| *byte == b':');
        let major = number(device.next()?, 10)?;
        let minor = number(device.next()?, 10)?;
        u32::try_from(major << 20 | minor).ok()
    })
}

/// What /proc/PID/fdinfo/FD says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fdinfo {
    pub flags: u64,
    pub mount: u64,
    /// `inode.i_ino`, in Linux 5.14 and later.
    pub ino: Option<u64>,
    /// Holds a lock that ends with the last copy of the descriptor (flock, F_OFD_SETLK), not with the process.
    pub locked: bool,
}

impl Fdinfo {
    pub fn parse(text: &[u8]) -> Self {
        let mut info = Self::default();
        for line in text.split(|byte| *byte == b'\n') {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else {
                continue;
            };
            let (name, value) = line.split_at(colon);
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            match name {
                b"flags" => info.flags = number(value, 8).unwrap_or_default(),
                b"mnt_id" => info.mount = number(value, 10).unwrap_or_default(),
                b"ino" => info.ino = number(value, 10),
                b"lock" => {
                    let mut words = value.split(u8::is_ascii_whitespace);
                    info.locked |= words.any(|word| word == b"FLOCK" || word == b"OFDLCK");
                }
                _ => {}
            }
        }
        info
    }

    /// Of a descriptor of our own.
    pub fn of_own(file: BorrowedFd<'_>) -> Option<Self> {
        let text = std::fs::read(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
        Some(Self::parse(&text))
    }
}

fn number(text: &[u8], radix: u32) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(text).ok()?, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_is_found_by_mount_id() {
        let text =
            b"21 1 254:0 / / rw - ext4 /dev/vda rw\n45 21 0:42 /a\\040b /mnt rw - fuse x rw\nrubbish\n";
        assert_eq!(device_of(text, 45), Some(42));
        assert_eq!(device_of(text, 21), Some(254 << 20));
        assert_eq!(device_of(text, 4), None);
        assert_eq!(device_of(b"", 0), None);
    }

    #[test]
    fn fdinfo_with_and_without_ino() {
        let text = b"pos:\t0\nflags:\t02100000\nmnt_id:\t15\nino:\t2057\nlock: 1\n";
        let info = Fdinfo::parse(text);
        assert_eq!(info, Fdinfo { flags: 0o2100000, mount: 15, ino: Some(2057), locked: false });
        assert_eq!(Fdinfo::parse(b"\n:\nflags\n"), Fdinfo::default());
    }

    #[test]
    fn locks_that_a_copy_would_keep() {
        let of =
            |kind: &str| Fdinfo::parse(format!("lock:\t1: {kind}  ADVISORY  READ 7 00:0 0 EOF\n").as_bytes());
        assert!(of("FLOCK").locked && of("OFDLCK").locked);
        assert!(!of("POSIX").locked, "the process's own: our copy's end does not touch it");
    }
}
