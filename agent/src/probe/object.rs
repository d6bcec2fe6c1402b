//! The BPF object inside this binary, loaded: its maps under their types. The only file, with `plan`,
//! that speaks aya.

use agent_common::plain::Plain as _;
use agent_common::state::{Bucket, Set, ThreadState, seat_of};
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::{ProgramError, ProgramType};
use aya::{Ebpf, EbpfError, EbpfLoader, VerifierLogLevel};
use operator_api::causes::chain;

use super::error::ProbeError;
use super::layout::Offsets;
use super::trouble::Wanted;

/// The programs that this binary was built with.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/headrace-ebpf"));

type ThreadBytes = [u8; size_of::<ThreadState>()];
type SetBytes = [u8; size_of::<Set>()];
type BucketBytes = [u8; size_of::<Bucket>()];

/// Sizes of what is allocated at load.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub ring: u32,
    pub threads: u32,
    /// Of inodes, as `Layout::sets`.
    pub sets: u32,
    pub words: Wanted,
}

impl Sizes {
    /// For the short moment of calibration.
    pub const SMALL: Self = Self { ring: 4096, threads: 64, sets: 1, words: Wanted::NO };
}

pub struct Maps {
    pub ring: RingBuf<MapData>,
    pub devices: Array<MapData, BucketBytes>,
    pub seated: Array<MapData, ThreadBytes>,
    pub threads: HashMap<MapData, u32, ThreadBytes>,
    pub known: Array<MapData, SetBytes>,
    pub counts: PerCpuArray<MapData, u64>,
}

/// Whether programs can be loaded at all. Asked first: where they cannot, aya takes this for a kernel without
/// read-only globals, and then complains about the object.
pub fn may_load() -> Result<(), ProbeError> {
    match aya::sys::is_program_supported(ProgramType::RawTracePoint) {
        Ok(_) => Ok(()),
        Err(ProgramError::SyscallError(error)) if denied(&error.io_error) => {
            Err(ProbeError::NotAllowed { source: error.io_error })
        }
        Err(other) => Err(ProbeError::Object { reason: chain(&other) }),
    }
}

pub fn load(object: &[u8], offsets: &Offsets, sizes: Sizes) -> Result<Ebpf, ProbeError> {
    EbpfLoader::new()
        .verifier_log_level(VerifierLogLevel::DEBUG)
        .override_global("LAYOUT", offsets.layout.as_bytes(), true)
        .override_global(aya_log::LEVEL, &sizes.words.level(), true)
        .map_max_entries("AYA_LOGS", sizes.words.ring())
        .map_max_entries("RING", sizes.ring)
        .map_max_entries("THREADS", sizes.threads)
        .map_max_entries("READERS", sizes.threads * 4)
        .map_max_entries("KNOWN", sizes.sets)
        .load(object)
        .map_err(|error| match error {
            EbpfError::MapError(MapError::CreateError { io_error, .. }) if denied(&io_error) => {
                ProbeError::NotAllowed { source: io_error }
            }
            EbpfError::MapError(MapError::CreateError { io_error, .. }) if full(&io_error) => {
                ProbeError::TooManyFiles { source: io_error }
            }
            EbpfError::MapError(MapError::SyscallError(error)) if denied(&error.io_error) => {
                ProbeError::NotAllowed { source: error.io_error }
            }
            other => ProbeError::Object { reason: chain(&other) },
        })
}

fn denied(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::PermissionDenied
}

/// This process has as many open files as it may.
fn full(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMFILE)
}

pub fn take(ebpf: &mut Ebpf, map: &'static str) -> Result<aya::maps::Map, ProbeError> {
    ebpf.take_map(map).ok_or(ProbeError::Map { map, reason: "the object has none of that name".into() })
}

pub fn map_error(map: &'static str) -> impl Fn(MapError) -> ProbeError {
    move |error| ProbeError::Map { map, reason: chain(&error) }
}

impl Maps {
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, ProbeError> {
        Ok(Self {
            ring: RingBuf::try_from(take(ebpf, "RING")?).map_err(map_error("RING"))?,
            devices: Array::try_from(take(ebpf, "DEVICES")?).map_err(map_error("DEVICES"))?,
            seated: Array::try_from(take(ebpf, "SEATED")?).map_err(map_error("SEATED"))?,
            threads: HashMap::try_from(take(ebpf, "THREADS")?).map_err(map_error("THREADS"))?,
            known: Array::try_from(take(ebpf, "KNOWN")?).map_err(map_error("KNOWN"))?,
            counts: PerCpuArray::try_from(take(ebpf, "COUNTS")?).map_err(map_error("COUNTS"))?,
        })
    }

    /// A thread's state, read until two readings agree: its thread may be writing.
    pub fn thread(&self, tid: u32) -> Option<ThreadState> {
        let mut before = self.thread_once(tid)?;
        for _ in 0..3 {
            let again = self.thread_once(tid)?;
            if again == before {
                return Some(again);
            }
            before = again;
        }
        // Busy: it tells its runs by itself.
        Some(ThreadState::zeroed())
    }

    fn thread_once(&self, tid: u32) -> Option<ThreadState> {
        let seat = self.seated.get(&seat_of(tid), 0).ok()?;
        let state = ThreadState::from_bytes(&seat)?;
        if state.tid() == tid {
            return Some(state);
        }
        ThreadState::from_bytes(&self.threads.get(&tid, 0).ok()?)
    }
}
