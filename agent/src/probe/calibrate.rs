//! One read at start, to see which end this kernel's `mm_filemap_get_pages` reports: the last page
//! (6.18, and stable kernels with the correction) or the page after it (6.12 as released). And who this thread is
//! to the kernel, which is what the programs compare: in a container with processes of its own it has another number.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use agent_common::state::OWN;
use aya::Ebpf;
use aya::maps::HashMap;
use aya::maps::MapData;
use aya::programs::{Program, RawTracePointRunOptions, TestRun as _};
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

#[derive(Clone, Copy, Debug)]
pub struct Calibration {
    /// This process by the kernel's own numbers.
    pub tgid: u32,
    /// `Some(true)` where the reported end is exclusive; `None` where no read was seen (no such tracepoint, or nothing
    /// but tmpfs).
    pub last_is_exclusive: Option<bool>,
}

pub fn calibrate(object: &[u8], offsets: &Offsets) -> Result<Calibration, ProbeError> {
    let mut ebpf = object::load(object, offsets, Sizes::SMALL)?;
    let map = object::take(&mut ebpf, "CALIBRATION")?;
    let mut seen: HashMap<_, u32, u64> = HashMap::try_from(map).map_err(map_error("CALIBRATION"))?;
    let id = own(&mut ebpf, &seen).unwrap_or_else(|| {
        let tid = gettid().as_raw_nonzero().get().unsigned_abs();
        u64::from(std::process::id()) << 32 | u64::from(tid)
    });
    let last_is_exclusive = last_is_exclusive(&mut ebpf, &mut seen, id as u32)?;
    Ok(Calibration { tgid: (id >> 32) as u32, last_is_exclusive })
}

/// tgid << 32 | tid of this thread; `None` where the kernel does not say, which then refuses more than this.
fn own(ebpf: &mut Ebpf, seen: &HashMap<MapData, u32, u64>) -> Option<u64> {
    let Some(Program::RawTracePoint(program)) = ebpf.program_mut("ask_self") else {
        return None;
    };
    let run = program.load().and_then(|()| program.test_run(RawTracePointRunOptions::new()).map(|_| ()));
    if let Err(error) = run {
        debug!("the kernel does not say which process this is: {error}");
        return None;
    }
    seen.get(&OWN, 0).ok()
}

fn last_is_exclusive(
    ebpf: &mut Ebpf,
    seen: &mut HashMap<MapData, u32, u64>,
    tid: u32,
) -> Result<Option<bool>, ProbeError> {
    let Some(Program::RawTracePoint(program)) = ebpf.program_mut("calibrate_get_pages") else {
        return Ok(None);
    };
    if let Err(error) = program.load().and_then(|()| program.attach("mm_filemap_get_pages").map(|_| ())) {
        debug!("no calibration of mm_filemap_get_pages: {error}");
        return Ok(None);
    }
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
