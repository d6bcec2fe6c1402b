//! The page cache as the kernel shows it: which pages of a file are there, ask for some, read into nowhere.
//!
//! Pages here are `agent_core::PAGE` bytes (4 KiB); the kernel's own may be larger, so counts that come from
//! cachestat(2) and mincore(2) are scaled by `kernel_page`.

use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use agent_core::{MAX_SPANS, PAGE, Pages};
use rustix::fs::Advice;
use rustix::io::Errno;

/// Bytes the sink holds: one page that stays in the processor's first cache while everything is read into it.
const SINK: usize = PAGE as usize;
/// The largest piece: `SINK` bytes for each of the iovecs below.
pub const PIECE_MAX: u64 = SINKS as u64 * PAGE;
const SINKS: usize = 256;

/// Pages looked at with one mincore: its answer takes a byte for each, 256 KiB, and it takes as long for a page that is not
/// there as for one that is, so that fewer are looked at where few are.
const LOOK: u64 = 1 << 18;
const LEAST_LOOK: u64 = 1 << 12;

/// Pages looked at where there is no cachestat: 256 GiB, more than there is memory for, in a second or two.
const BLIND: u64 = 1 << 26;

/// cachestat(2) is in Linux 6.5 and later; once refused it is not asked again.
static CACHESTAT: AtomicBool = AtomicBool::new(true);

/// The same number on every architecture but alpha; libc has it for musl only.
const SYS_CACHESTAT: libc::c_long = 451;

#[repr(C)]
struct CachestatRange {
    off: u64,
    len: u64,
}

#[repr(C)]
#[derive(Default)]
struct Cachestat {
    nr_cache: u64,
    nr_dirty: u64,
    nr_writeback: u64,
    nr_evicted: u64,
    nr_recently_evicted: u64,
}

fn kernel_page() -> u64 {
    rustix::param::page_size() as u64
}

/// Pages of the range that are in the page cache, being filled or filled. `None` where the kernel has no
/// cachestat or refuses it.
pub fn present(file: BorrowedFd<'_>, pages: &Pages) -> Option<u64> {
    if !CACHESTAT.load(Ordering::Relaxed) {
        return None;
    }
    let range = CachestatRange {
        off: pages.start.checked_mul(PAGE)?,
        // A length of 0 would mean "to the end".
        len: pages.end.checked_sub(pages.start)?.checked_mul(PAGE).filter(|len| *len > 0)?,
    };
    let mut counts = Cachestat::default();
    // SAFETY: both structures live across the call and have the layout of linux/mman.h's cachestat_range and
    // cachestat; the descriptor is borrowed for as long.
    let result =
        unsafe { libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), &raw const range, &raw mut counts, 0u32) };
    if result != 0 {
        let errno = std::io::Error::last_os_error().raw_os_error();
        if errno == Some(libc::ENOSYS) {
            CACHESTAT.store(false, Ordering::Relaxed);
        }
        return None;
    }
    Some(counts.nr_cache * (kernel_page() / PAGE).max(1))
}

/// Pages of the range that are in the page cache and filled, by mincore(2) on a mapping that is never
/// touched. Leaves position, flags and read-ahead state of the open file as they are.
pub fn filled(file: BorrowedFd<'_>, pages: &Pages) -> Result<u64, Errno> {
    let page = kernel_page();
    let resident = mincore(file, pages)?;
    Ok(resident.iter().filter(|byte| **byte & 1 == 1).count() as u64 * (page / PAGE).max(1))
}

/// The filled pages of a whole file, as ranges, as many of the first as are kept apart. Whoever owns the file says how large
/// it is, and 8 EiB cost nothing: what holds no page is passed over in halves, and where cachestat cannot tell of it only
/// the file's first `BLIND` pages are looked at.
pub fn resident(file: BorrowedFd<'_>, size: u64) -> Result<Vec<Pages>, Errno> {
    let scale = (kernel_page() / PAGE).max(1);
    let end = size.div_ceil(PAGE);
    let mut ranges: Vec<Pages> = Vec::new();
    // The first part last.
    let mut parts: Vec<Pages> = std::iter::once(0..end).filter(|all| !all.is_empty()).collect();
    while let Some(part) = parts.pop() {
        let len = part.end - part.start;
        let present = present(file, &part);
        let is_dense = |count: u64| count >= len / 4;
        let whole = len <= LEAST_LOOK || len <= LOOK && present.is_none_or(is_dense);
        if present == Some(0) {
            continue;
        }
        if !whole {
            let first = match present {
                Some(_) => (len / 2).next_multiple_of(LEAST_LOOK),
                None => LOOK,
            };
            let (first, rest) = (part.start..part.start + first, part.start + first..part.end);
            parts.extend([rest, first].into_iter().filter(|part| !part.is_empty()));
            continue;
        }
        if present.is_none() && part.start >= BLIND {
            break;
        }
        for (index, byte) in (0u64..).zip(mincore(file, &part)?) {
            if byte & 1 == 0 {
                continue;
            }
            let found = part.start + index * scale..(part.start + (index + 1) * scale).min(end);
            match ranges.last_mut() {
                Some(last) if last.end == found.start => last.end = found.end,
                _ => ranges.push(found),
            }
        }
        // A look adds half as many at most.
        if ranges.len() >= MAX_SPANS {
            ranges.truncate(MAX_SPANS);
            break;
        }
    }
    Ok(ranges)
}

/// A byte for each of the kernel's pages that the range touches, its lowest bit set where it is filled.
fn mincore(file: BorrowedFd<'_>, pages: &Pages) -> Result<Vec<u8>, Errno> {
    let page = kernel_page();
    let start = pages.start.saturating_mul(PAGE) / page * page;
    let len = pages.end.saturating_mul(PAGE).saturating_sub(start).next_multiple_of(page) as usize;
    if len == 0 {
        return Ok(Vec::new());
    }
    // Raw: nothing is ever read through it, so a file truncated meanwhile cannot raise SIGBUS.
    let map = memmap2::MmapOptions::new()
        .offset(start)
        .len(len)
        .map_raw_read_only(&file)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let mut found = vec![0u8; len / page as usize];
    // SAFETY: `map` is `len` bytes long and page-aligned, and `found` has a byte for each of its pages.
    let result = unsafe { libc::mincore(map.as_mut_ptr().cast(), len, found.as_mut_ptr()) };
    if result != 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    Ok(found)
}

/// Tells the kernel to add nothing of its own to what is asked through this open file. Only for open files
/// of our own: the mode belongs to the open file, not to the descriptor.
pub fn expect_random(file: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::fs::fadvise(file, 0, None, Advice::Random)
}

/// Asks for the pages and does not wait for them, as readahead(2). At most read_ahead_kb a call comes in.
///
/// Goes through force_page_cache_ra (mm/readahead.c), which uses nothing of the open file but its mapping and
/// its limit: position and read-ahead state of a descriptor shared with a reader stay as they are.
pub fn ask(file: BorrowedFd<'_>, pages: &Pages) -> Result<(), Errno> {
    let Some(len) = NonZeroU64::new(pages.end.saturating_sub(pages.start).saturating_mul(PAGE)) else {
        return Ok(());
    };
    rustix::fs::fadvise(file, pages.start.saturating_mul(PAGE), Some(len), Advice::WillNeed)
}

/// Where reads go whose bytes nobody wants: every iovec names the same page.
pub struct Nowhere {
    page: [u8; SINK],
}

impl std::fmt::Debug for Nowhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Nowhere")
    }
}

impl Nowhere {
    pub const fn new() -> Self {
        Self { page: [0; SINK] }
    }

    /// Reads the pages, at most `PIECE_MAX` bytes a call to the kernel, as far as the file goes.
    pub fn read(&mut self, file: BorrowedFd<'_>, pages: &Pages) -> Result<(), Errno> {
        let mut at = pages.start.saturating_mul(PAGE);
        let end = pages.end.saturating_mul(PAGE);
        while at < end {
            let count = (end - at).div_ceil(PAGE).min(SINKS as u64) as usize;
            match self.read_once(file, at, count) {
                Ok(0) => return Ok(()),
                Ok(got) => at += got,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn read_once(&mut self, file: BorrowedFd<'_>, at: u64, count: usize) -> Result<u64, Errno> {
        let sink = libc::iovec { iov_base: self.page.as_mut_ptr().cast(), iov_len: SINK };
        let iovecs = [sink; SINKS];
        let count = count.min(SINKS);
        // SAFETY: every iovec names the same `SINK` bytes, which are exclusively borrowed through `self` and
        // whose content nobody reads; `count` is no more than the array holds.
        let got = unsafe {
            libc::preadv(file.as_fd().as_raw_fd(), iovecs.as_ptr(), count as libc::c_int, at as libc::off_t)
        };
        if got < 0 {
            let errno = std::io::Error::last_os_error().raw_os_error();
            return Err(Errno::from_raw_os_error(errno.unwrap_or(libc::EIO)));
        }
        Ok(got as u64)
    }
}

impl Default for Nowhere {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn few_pages_of_a_huge_file_are_found_and_the_rest_is_passed_over() {
        let file = tempfile::tempfile().unwrap();
        let size = 8 << 40;
        file.set_len(size).unwrap();
        assert_eq!(resident(file.as_fd(), size), Ok(vec![]));
        for page in [3, LOOK - 1, LOOK, 1 << 30] {
            file.write_all_at(&[7; PAGE as usize], page * PAGE).unwrap();
        }
        let scale = kernel_page() / PAGE;
        let around = |page: u64| page / scale * scale..page / scale * scale + scale;
        let far = around(1 << 30);
        let both = around(LOOK - 1).start..around(LOOK).end;
        assert_eq!(resident(file.as_fd(), size), Ok(vec![around(3), both, far]));
        assert_eq!(resident(file.as_fd(), 0), Ok(vec![]));
    }

    #[test]
    fn no_more_ranges_are_told_than_are_kept_apart() {
        let file = tempfile::tempfile().unwrap();
        let apart = 2 * (kernel_page() / PAGE);
        let count = MAX_SPANS as u64 + 100;
        for number in 0..count {
            file.write_all_at(&[7], number * apart * PAGE).unwrap();
        }
        assert_eq!(resident(file.as_fd(), count * apart * PAGE).map(|ranges| ranges.len()), Ok(MAX_SPANS));
    }
}
