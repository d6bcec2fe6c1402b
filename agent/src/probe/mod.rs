//! The kernel's side of the agent: BPF programs that see every read of watched file systems, loaded by
//! the best plan that this kernel accepts.
//!
//! `Probe::start` reads the kernel's own type description (`btf`, `layout`, `prototype`), tries the
//! plans (`plan`), and says how it went (`report`). From then on `drain` turns the ring buffer's records
//! into `ReadEvent`s and `flush` asks after runs that have grown in silence (`told`). Nothing is pinned:
//! dropping the `Probe` detaches everything.

mod btf;

mod event;

mod layout;

mod release;

mod prototype;

mod report;

mod error;

mod trouble;

mod object;

mod calibrate;

mod lockdown;

mod refusal;

mod plan;

mod told;

mod moments;

mod names;

mod asker;

use std::borrow::Cow;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use agent_common::plain::Plain as _;
use agent_common::record::{
    FLAG_TRUNCATED, KIND_ACCESS, KIND_ADDED, KIND_EXIT, KIND_HIT, KIND_MISS, KIND_SIGHT, Record, Sight,
};
use agent_common::state::{
    ACCESS_SLOTS, BURST, Bucket, COUNT_LOST, QUIET, SETS, Set, bucket_of, ident_of, set_of,
};
use agent_core::units::{FileKey, Nanos, Reader};
use operator_api::causes::chain;
use rustc_hash::FxHashSet;
use rustix::param::page_size;
use rustix::process::{Resource, Rlimit, setrlimit};
use tracing::debug;

pub use asker::{AskError, Asker};
pub use error::ProbeError;
pub use event::ReadEvent;
pub use lockdown::{LOCKDOWN_PATH, is_confidential, lockdown_mode};
pub use release::{running as running_kernel, version as kernel_version};
pub use report::{Case, Outcome, Plan, PlanReport, Seen};

use btf::Btf;
use calibrate::Calibration;
use moments::Moments;
use object::{Maps, Sizes, map_error};
use told::Told;
use trouble::{Trouble, Wanted};

const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

#[derive(Clone, Debug, Default)]
pub struct ProbeConfig {
    /// Only this plan; otherwise the best one.
    pub plan: Option<Plan>,
    /// Instead of the kernel's own BTF, for the offsets and prototypes: how tests damage it.
    pub btf: Option<Vec<u8>>,
    /// Instead of the BPF object inside this binary: how tests have one refused.
    pub object: Option<Vec<u8>>,
    /// Bytes of the ring buffer, a power of two of at least a page; otherwise 1 to 4 MiB by memory.
    pub ring_bytes: Option<u32>,
    /// Sets of inodes that names are kept for, a power of two; otherwise `SETS`: how tests fill them.
    pub sets: Option<u32>,
    /// The process whose reads are the agent's own; otherwise this one. Tests read in this one.
    pub own_tgid: Option<u32>,
}

pub struct Probe {
    maps: Maps,
    told: Told,
    moments: Moments,
    lost: u64,
    watched: usize,
    /// Drains since the drops were last counted.
    drains: u32,
    batch: Vec<ReadEvent>,
    trouble: Option<Trouble>,
    asker: Arc<Asker>,
    sets: u32,
    seed: u64,
    // Last: the programs go after the maps' handles, the kernel keeps what they use.
    ebpf: aya::Ebpf,
    plan: Plan,
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe")
            .field("plan", &self.plan)
            .field("watched", &self.watched)
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        plan::detach(&mut self.ebpf, self.plan);
    }
}

/// Looks at silent threads in one flush: a bound on its time, about a microsecond each.
const LOOKS: usize = 1024;

/// The kernel prototypes that are not as the programs expect them, by the BTF of a kernel of this version: a sentence
/// for each. One that is absent counts where such a kernel is known to have it.
pub fn changed_prototypes(btf: Vec<u8>, kernel: (u32, u32)) -> Result<Vec<String>, ProbeError> {
    let btf = Btf::parse(btf).map_err(|source| ProbeError::BadBtf { source })?;
    Ok(prototype::changed(&btf, kernel))
}

/// The kernel's functions that plans hook: each has its prototype here, or could not be hooked.
pub fn hooked_functions() -> impl Iterator<Item = &'static str> {
    prototype::FUNCTIONS.iter().map(|prototype| prototype.name)
}

/// The tracepoints that they hook.
pub fn hooked_tracepoints() -> impl Iterator<Item = &'static str> {
    prototype::TRACEPOINTS.iter().map(|prototype| prototype.name)
}

impl Probe {
    /// Loads and attaches the best plan. Nothing is told until a device is watched.
    pub fn start(config: ProbeConfig) -> Result<(Self, PlanReport), ProbeError> {
        let ProbeConfig { plan: wanted, btf, object, ring_bytes, sets, own_tgid } = config;
        let object: Cow<'static, [u8]> = object.map_or(Cow::Borrowed(object::OBJECT), Cow::Owned);
        raise_memlock();
        object::may_load()?;
        let bytes = match btf {
            Some(bytes) => bytes,
            None => std::fs::read(BTF_PATH).map_err(|source| ProbeError::NoBtf { path: BTF_PATH, source })?,
        };
        let btf = Btf::parse(bytes).map_err(|source| ProbeError::BadBtf { source })?;
        let aya_btf =
            aya::Btf::from_sys_fs().map_err(|error| ProbeError::Object { reason: chain(&error) })?;
        let words = Wanted::by_log_level();
        let ring = ring_bytes.unwrap_or_else(ring_size);
        let sets = sets.unwrap_or(SETS);
        let sizes = Sizes { ring, threads: 4096, sets, words };
        let mut offsets = layout::find(&btf, page_size() as u64);
        offsets.layout.ring_quarter = sizes.ring / 4;
        offsets.layout.sets = sets;
        // The standard library's random keys.
        let seed = RandomState::new().build_hasher().finish();
        (offsets.layout.seed_low, offsets.layout.seed_high) = (seed as u32, (seed >> 32) as u32);
        let mut report = PlanReport::default();
        let Calibration { tgid, last_is_exclusive } = calibrate::calibrate(&object, &offsets)?;
        offsets.layout.agent_tgid = own_tgid.unwrap_or(tgid);
        if tgid != std::process::id() {
            report.notes.push(format!(
                "This process has the number {tgid} on the machine and {} for itself, so it runs in a container with \
                 processes of its own: which processes read cannot be found out there; run the agent among the \
                 host's processes (hostPID: true, or docker's --pid=host)",
                std::process::id()
            ));
        }
        match last_is_exclusive {
            Some(exclusive) => offsets.layout.last_exclusive = u32::from(exclusive),
            None => report.notes.push(
                "No read could be measured at start: the end that mm_filemap_get_pages reports is taken as \
                 the last page, which is true from Linux 6.18 on"
                    .into(),
            ),
        }
        let mut ebpf = object::load(&object, &offsets, sizes)?;
        let maps = Maps::take(&mut ebpf)?;
        let trouble = words.listen(&mut ebpf);
        let mut chosen = None;
        for plan in plan::by_preference(&btf) {
            let tried = wanted.is_none_or(|wanted| wanted == plan) && chosen.is_none();
            let outcome = if !tried {
                Outcome::NotTried
            } else {
                match plan::attach(&mut ebpf, plan, &btf, &aya_btf, &offsets) {
                    Ok(attached) => {
                        report.cases = plan::sees(plan, &attached);
                        report.notes.extend(attached.notes());
                        chosen = Some(plan);
                        Outcome::Chosen
                    }
                    Err(reason) => Outcome::FellOut(reason),
                }
            };
            report.plans.push((plan, outcome));
        }
        let Some(plan) = chosen else {
            return Err(ProbeError::NothingAttachable { report: Box::new(report) });
        };
        let probe = Self {
            maps,
            told: Told::default(),
            moments: Moments::default(),
            lost: 0,
            watched: 0,
            drains: 0,
            batch: Vec::new(),
            trouble,
            asker: Arc::new(Asker::new(object, offsets)),
            sets,
            seed,
            ebpf,
            plan,
        };
        Ok((probe, report))
    }

    /// Who tells where an open directory lies in its file system.
    pub fn asker(&self) -> Arc<Asker> {
        self.asker.clone()
    }

    /// Watches a device, as `super_block.s_dev` numbers it: major << 20 | minor.
    pub fn watch(&mut self, dev: u32) -> Result<(), ProbeError> {
        let mut bucket = self.bucket(dev)?;
        if bucket.devs.contains(&dev) {
            return Ok(());
        }
        let Some(free) = bucket.devs.iter_mut().find(|place| **place == 0) else {
            return Err(ProbeError::TooManyDevices { dev, watched: self.watched });
        };
        *free = dev;
        self.set_bucket(dev, bucket)?;
        self.watched += 1;
        Ok(())
    }

    /// Watches it no more. What is known of its inodes stays, should it be watched again.
    pub fn unwatch(&mut self, dev: u32) -> Result<(), ProbeError> {
        let mut bucket = self.bucket(dev)?;
        if let Some(place) = bucket.devs.iter_mut().find(|place| **place == dev) {
            *place = 0;
            self.set_bucket(dev, bucket)?;
            self.watched = self.watched.saturating_sub(1);
        }
        Ok(())
    }

    /// Unwatches a device and forgets its inodes: they are named anew at the next sight (a device number
    /// is given to the next file system that is mounted). So are those of devices in the same bucket, which costs
    /// a record for each.
    pub fn forget(&mut self, dev: u32) -> Result<(), ProbeError> {
        self.unwatch(dev)?;
        let mut bucket = self.bucket(dev)?;
        bucket.life = bucket.life.wrapping_add(1);
        self.set_bucket(dev, bucket)?;
        self.told.forget_device(dev);
        Ok(())
    }

    /// Whether single accesses of a file are wanted, or counters (told every megabyte) are enough. No
    /// effect on a file that has not been seen.
    pub fn detail(&mut self, file: FileKey, wanted: bool) -> Result<(), ProbeError> {
        let (dev, ino) = (file.dev, file.ino);
        let index = set_of(dev, ino, self.sets);
        let bytes = self.maps.known.get(&index, 0).map_err(map_error("KNOWN"))?;
        let mut set = Set::from_bytes(&bytes).unwrap_or_default();
        let ident = ident_of(dev, ino, self.seed);
        if let Some(known) = set.known.iter_mut().find(|known| known.ident == ident)
            && wanted == (known.allowance == QUIET)
        {
            known.allowance = if wanted { BURST } else { QUIET };
            let mut bytes = [0; size_of::<Set>()];
            bytes.copy_from_slice(set.as_bytes());
            // A neighbour that was named in this moment is named again: the programs write here as well.
            self.maps.known.set(index, bytes, 0).map_err(map_error("KNOWN"))?;
        }
        // What the programs took over is asked for again, whatever the register says: an inode that was pushed out has
        // lost its wish, and runs from before have not.
        let mut bucket = self.bucket(dev)?;
        bucket.epoch = bucket.epoch.wrapping_add(1);
        self.set_bucket(dev, bucket)
    }

    /// Readable when a reader is about to wait, has ended, or the ring fills. Poll it only when a drain
    /// found nothing; while anything flows, drain every millisecond: ordinary records wake nobody.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.maps.ring.as_fd()
    }

    /// Takes up to `max` records from the ring; returns how many there were. `now` is CLOCK_MONOTONIC's: what comes after
    /// a look that left nothing is said to be younger.
    pub fn drain(&mut self, now: Nanos, max: usize, mut sink: impl FnMut(ReadEvent)) -> usize {
        let mut batch = std::mem::take(&mut self.batch);
        let mut taken = 0;
        let mut accessed = FxHashSet::default();
        while taken < max {
            let Some(item) = self.maps.ring.next() else {
                self.moments.emptied(now);
                break;
            };
            taken += 1;
            let Some(mut record) = Record::from_bytes(&item) else { continue };
            record.head.at = self.moments.of(Nanos(record.head.at)).0;
            batch.extend(sight(&item, &record));
            let event = decode(record, &mut self.told, now);
            if let Some(ReadEvent::Access { file, .. }) = &event {
                accessed.insert(*file);
            }
            batch.extend(event);
        }
        // Pages that another thread has added but not told yet belong before the read that met them.
        for file in accessed {
            for tid in self.told.adders(file) {
                let state = self.maps.thread(tid);
                state.and_then(|state| self.told.added(tid, &state, now)).into_iter().for_each(&mut sink);
            }
        }
        batch.drain(..).for_each(&mut sink);
        self.batch = batch;
        self.drains = self.drains.wrapping_add(1);
        if self.drains.is_multiple_of(16) {
            self.count_lost(&mut sink);
        }
        taken
    }

    /// Tells what runs have grown by in silence, for threads that have been silent for 20 ms: call it
    /// from every tick.
    pub fn flush(&mut self, now: Nanos, mut sink: impl FnMut(ReadEvent)) {
        let mut grown = Vec::new();
        for tid in self.told.due(now, LOOKS) {
            self.told.state(tid, self.maps.thread(tid).as_ref(), now, &mut grown);
        }
        grown.into_iter().for_each(&mut sink);
        self.count_lost(&mut sink);
        if let Some(trouble) = &mut self.trouble {
            trouble.say();
        }
    }

    /// Records that found no room, since the start.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The same, indexed by CPU.
    pub fn lost_per_cpu(&self) -> Vec<u64> {
        self.maps
            .counts
            .get(&COUNT_LOST, 0)
            .map(|values| values.iter().copied().collect())
            .unwrap_or_default()
    }

    fn count_lost(&mut self, sink: &mut impl FnMut(ReadEvent)) {
        let Ok(values) = self.maps.counts.get(&COUNT_LOST, 0) else {
            return;
        };
        let total: u64 = values.iter().sum();
        let records = total.saturating_sub(self.lost);
        if records > 0 {
            self.lost = total;
            sink(ReadEvent::Lost { records });
        }
    }

    fn bucket(&self, dev: u32) -> Result<Bucket, ProbeError> {
        let bytes = self.maps.devices.get(&bucket_of(dev), 0).map_err(map_error("DEVICES"))?;
        Ok(Bucket::from_bytes(&bytes).unwrap_or_default())
    }

    fn set_bucket(&mut self, dev: u32, bucket: Bucket) -> Result<(), ProbeError> {
        let mut bytes = [0; size_of::<Bucket>()];
        bytes.copy_from_slice(bucket.as_bytes());
        self.maps.devices.set(bucket_of(dev), bytes, 0).map_err(map_error("DEVICES"))
    }
}

/// One record of the ring; `None` for what is no news.
fn decode(mut record: Record, told: &mut Told, now: Nanos) -> Option<ReadEvent> {
    if record.head.kind == KIND_SIGHT {
        let met_by_access = usize::from(record.head.slot) < ACCESS_SLOTS;
        record.head.kind = if met_by_access { KIND_ACCESS } else { KIND_ADDED };
    }
    let head = record.head;
    let file = FileKey { dev: head.dev, ino: head.ino };
    let reader = Reader { tgid: head.tgid, tid: head.tid };
    match head.kind {
        KIND_MISS => Some(ReadEvent::Miss {
            file,
            reader,
            latency: Nanos(record.start),
            bytes: record.end,
            at: Nanos(head.at),
        }),
        KIND_HIT => Some(ReadEvent::Hit {
            file,
            reader,
            latency: Nanos(record.start),
            bytes: record.end,
            at: Nanos(head.at),
        }),
        KIND_EXIT => {
            told.forget_process(head.tgid);
            Some(ReadEvent::Exit { tgid: head.tgid, at: Nanos(head.at) })
        }
        _ => told.record(&record, now),
    }
}

/// The name that comes with a record, if one does. Names come the file's own first, each ended by NULs.
fn sight(bytes: &[u8], record: &Record) -> Option<ReadEvent> {
    let head = record.head;
    if head.kind != KIND_SIGHT {
        return None;
    }
    let sight = Sight::from_bytes(bytes)?;
    let names = bytes.get(size_of::<Sight>()..)?.get(..sight.len as usize)?;
    Some(ReadEvent::Sight {
        file: FileKey { dev: head.dev, ino: head.ino },
        path: names::path(names),
        size: record.size,
        mtime: sight.mtime,
        truncated: head.flags & FLAG_TRUNCATED != 0,
        reader: Reader { tgid: head.tgid, tid: head.tid },
        at: Nanos(head.at),
    })
}

/// 1 MiB of ring for every 4 GiB of memory, between 1 and 4 MiB: at 80 bytes a record 4 MiB last for
/// 50,000 records. It is mapped twice, so it counts double in the agent's resident memory.
fn ring_size() -> u32 {
    let info = rustix::system::sysinfo();
    let memory = info.totalram as u64 * u64::from(info.mem_unit.max(1));
    let mib = (memory >> 32).clamp(1, 4) as u32;
    (1 << mib.ilog2()) << 20
}

/// Before 5.11 maps count as locked memory, of which a process has 64 KiB by default.
fn raise_memlock() {
    let limit = Rlimit { current: None, maximum: None };
    if let Err(error) = setrlimit(Resource::Memlock, limit) {
        debug!("RLIMIT_MEMLOCK stays as it is ({error}): no matter from Linux 5.11 on");
    }
}
