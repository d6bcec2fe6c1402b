//! One read at start, to see which end this kernel's `mm_filemap_get_pages` reports: the last page
//! (6.18, and stable kernels with the correction) or the page after it (6.12 as released).

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use aya::maps::HashMap;
use aya::programs::Program;
use rustix::thread::gettid;
use tracing::debug;

use super::error::ProbeError;
use super::layout::Offsets;
use super::object::{self, Sizes, map_error};

/// Files to read a byte of, until one lies on a file system with a page cache (tmpfs has none that this
/// tracepoint sees).
const FILES: [&str; 5] = ["/proc/self/exe", "/bin/sh", "/etc/passwd", "/etc/os-release", "/sbin/init"];

/// What the map holds until the tracepoint has fired.
const UNSEEN: u64 = u64::MAX;

/// `Some(true)` where the reported end is exclusive; `None` where no read was seen (no such tracepoint,
/// or nothing but tmpfs).
pub fn last_is_exclusive(object: &[u8], offsets: &Offsets) -> Result<Option<bool>, ProbeError> {
    let mut ebpf = object::load(object, offsets, Sizes::SMALL)?;
    let map = object::take(&mut ebpf, "CALIBRATION")?;
    let mut seen: HashMap<_, u32, u64> = HashMap::try_from(map).map_err(map_error("CALIBRATION"))?;
    let Some(Program::RawTracePoint(program)) = ebpf.program_mut("calibrate_get_pages") else {
        return Ok(None);
    };
    if let Err(error) = program.load().and_then(|()| program.attach("mm_filemap_get_pages").map(|_| ())) {
        debug!("no calibration of mm_filemap_get_pages: {error}");
        return Ok(None);
    }
    let tid = gettid().as_raw_nonzero().get().unsigned_abs();
    for path in FILES {
        seen.insert(tid, UNSEEN, 0).map_err(map_error("CALIBRATION"))?;
        let read = File::open(path).and_then(|file| file.read_at(&mut [0], 0));
        if !matches!(read, Ok(1)) {
            continue;
        }
        match seen.get(&tid, 0) {
            Ok(0) => return Ok(Some(false)),
            Ok(1) => return Ok(Some(true)),
            _ => {}
        }
    }
    Ok(None)
}
