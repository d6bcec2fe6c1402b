//! The four plans as data: which programs each loads, onto what, and what it then sees; and the trying.
//!
//! A plan's hooks are needed or optional. One that is needed and refused takes the plan out, with the
//! kernel's reason in one sentence; the verifier's last lines go to the debug log.

use aya::Ebpf;
use aya::programs::{Program, ProgramError};
use tracing::debug;

use super::btf::Btf;
use super::layout::Offsets;
use super::lockdown;
use super::prototype::{self, Check, FUNCTIONS, Prototype, TRACEPOINTS};
use super::refusal::{describe, last_lines};
use super::release;
use super::report::{Case, Plan, Seen};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tracepoint,
    Function,
}

/// One program of a plan.
#[derive(Clone, Copy, Debug)]
struct Hook {
    program: &'static str,
    target: &'static str,
    kind: Kind,
    /// Hooks of the same group stand in for each other, first come; a group with none attached takes the
    /// plan out if it is needed.
    group: &'static str,
    needed: bool,
}

const fn hook(
    program: &'static str,
    target: &'static str,
    kind: Kind,
    group: &'static str,
    needed: bool,
) -> Hook {
    Hook { program, target, kind, group, needed }
}

use Kind::{Function, Tracepoint};

const BTF_TRACEPOINT: [Hook; 6] = [
    hook("btf_added", "mm_filemap_add_to_page_cache", Tracepoint, "added", true),
    hook("btf_removed", "mm_filemap_delete_from_page_cache", Tracepoint, "removed", true),
    hook("btf_exit", "sched_process_exit", Tracepoint, "exit", true),
    hook("btf_get_pages", "mm_filemap_get_pages", Tracepoint, "read", false),
    hook("btf_fault", "mm_filemap_fault", Tracepoint, "fault", false),
    hook("btf_map_pages", "mm_filemap_map_pages", Tracepoint, "mapped", false),
];

const RAW_TRACEPOINT: [Hook; 6] = [
    hook("raw_added", "mm_filemap_add_to_page_cache", Tracepoint, "added", true),
    hook("raw_removed", "mm_filemap_delete_from_page_cache", Tracepoint, "removed", true),
    hook("raw_exit", "sched_process_exit", Tracepoint, "exit", true),
    hook("raw_get_pages", "mm_filemap_get_pages", Tracepoint, "read", false),
    hook("raw_fault", "mm_filemap_fault", Tracepoint, "fault", false),
    hook("raw_map_pages", "mm_filemap_map_pages", Tracepoint, "mapped", false),
];

const FUNCTION: [Hook; 14] = [
    hook("fentry_read", "filemap_read", Function, "read entry", false),
    hook("fentry_read_old", "generic_file_buffered_read", Function, "read entry", false),
    hook("fexit_read", "filemap_read", Function, "read", true),
    hook("fexit_read_old", "generic_file_buffered_read", Function, "read", true),
    hook("fexit_splice", "filemap_splice_read", Function, "splice", false),
    hook("fexit_shmem", "shmem_file_read_iter", Function, "tmpfs", false),
    hook("fexit_shmem_splice", "shmem_file_splice_read", Function, "tmpfs splice", false),
    hook("fexit_shmem_fault", "shmem_fault", Function, "tmpfs fault", false),
    hook("fentry_direct", "generic_file_read_iter", Function, "direct", false),
    hook("fentry_iomap", "iomap_dio_rw", Function, "iomap", false),
    hook("kprobe_iomap", "iomap_dio_rw", Function, "iomap", false),
    hook("fexit_fault", "filemap_fault", Function, "fault", true),
    hook("fexit_map_pages", "filemap_map_pages", Function, "mapped", true),
    hook("fexit_map_pages_void", "filemap_map_pages", Function, "mapped", true),
];

const KPROBE: [Hook; 17] = [
    hook("kprobe_read", "filemap_read", Function, "read entry", true),
    hook("kprobe_read", "generic_file_buffered_read", Function, "read entry", true),
    hook("kretprobe_read", "filemap_read", Function, "read", true),
    hook("kretprobe_read", "generic_file_buffered_read", Function, "read", true),
    hook("kprobe_splice", "filemap_splice_read", Function, "splice entry", false),
    hook("kretprobe_splice", "filemap_splice_read", Function, "splice", false),
    hook("kprobe_shmem", "shmem_file_read_iter", Function, "tmpfs entry", false),
    hook("kretprobe_shmem", "shmem_file_read_iter", Function, "tmpfs", false),
    hook("kprobe_shmem_splice", "shmem_file_splice_read", Function, "tmpfs splice entry", false),
    hook("kretprobe_shmem_splice", "shmem_file_splice_read", Function, "tmpfs splice", false),
    hook("kprobe_shmem_fault", "shmem_fault", Function, "tmpfs fault", false),
    hook("kprobe_direct", "generic_file_read_iter", Function, "direct", false),
    hook("kprobe_iomap", "iomap_dio_rw", Function, "iomap", false),
    hook("kprobe_fault", "filemap_fault", Function, "fault", true),
    hook("kprobe_map_pages", "filemap_map_pages", Function, "mapped entry", true),
    hook("kretprobe_map_pages", "filemap_map_pages", Function, "mapped", true),
    hook("kretprobe_map_pages_void", "filemap_map_pages", Function, "mapped", true),
];

/// Residency and ends of threads, for the plans that hook functions.
const BESIDE_FUNCTION: &[Hook] = BTF_TRACEPOINT.split_at(3).0;
const BESIDE_KPROBE: &[Hook] = RAW_TRACEPOINT.split_at(3).0;

fn hooks(plan: Plan) -> impl Iterator<Item = &'static Hook> {
    let (own, beside): (&[Hook], &[Hook]) = match plan {
        Plan::Function => (&FUNCTION, BESIDE_FUNCTION),
        Plan::BtfTracepoint => (&BTF_TRACEPOINT, &[]),
        Plan::RawTracepoint => (&RAW_TRACEPOINT, &[]),
        Plan::Kprobe => (&KPROBE, BESIDE_KPROBE),
    };
    own.iter().chain(beside)
}

/// All plans, in the order in which they are tried: best first, by what they see and then by what they cost. Before 6.12
/// no tracepoint tells of a read whose pages are in memory, so there kprobes are better than these, slow as they are.
pub fn by_preference(btf: &Btf) -> [Plan; 4] {
    if btf.tracepoint("mm_filemap_get_pages").is_some() {
        Plan::ALL
    } else {
        [Plan::Function, Plan::Kprobe, Plan::BtfTracepoint, Plan::RawTracepoint]
    }
}

/// The groups that are attached, once a plan is in use, and those that are not though there is, or ought to be, what
/// they would be put on: what these tell is not seen.
#[derive(Clone, Debug, Default)]
pub struct Attached {
    groups: Vec<&'static str>,
    missing: Vec<Missing>,
}

#[derive(Clone, Debug)]
struct Missing {
    group: &'static str,
    /// A sentence without its full stop.
    reason: String,
}

impl Attached {
    fn has(&self, group: &str) -> bool {
        self.groups.contains(&group)
    }

    fn misses(&self, group: &str) -> bool {
        self.missing.iter().any(|missing| missing.group == group)
    }

    fn miss(&mut self, hook: &Hook, reason: String) {
        // Of a function's entry and its return, which kprobes take by two hooks, neither tells anything alone.
        let group = match hook.group {
            "read entry" => "read entry",
            group => group.strip_suffix(" entry").unwrap_or(group),
        };
        if !self.misses(group) {
            self.missing.push(Missing { group, reason });
        }
    }

    /// What is not seen for want of a hook, one sentence each.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        self.missing.iter().map(|Missing { group, reason }| {
            format!("{} not seen: {reason}", told_by(group).unwrap_or("something is"))
        })
    }
}

/// What an optional group tells.
fn told_by(group: &str) -> Option<&'static str> {
    Some(match group {
        "read" => "Reads of pages that are in memory are",
        "fault" => "Faults of mappings are",
        "mapped" => "Pages mapped around a fault are",
        "read entry" => "How long hits take is",
        "splice" => "What is spliced or sent (splice, sendfile) is",
        "tmpfs" => "Reads of tmpfs are",
        "tmpfs splice" => "What is spliced or sent from tmpfs is",
        "tmpfs fault" => "Faults of mappings of tmpfs are",
        "direct" => "Direct I/O of file systems without iomap is",
        "iomap" => "Direct I/O of file systems with iomap (ext4, xfs) is",
        _ => return None,
    })
}

/// Loads and attaches a plan's programs; on failure nothing of it stays, and the reason is a sentence
/// without its full stop.
pub fn attach(
    ebpf: &mut Ebpf,
    plan: Plan,
    btf: &Btf,
    aya_btf: &aya::Btf,
    offsets: &Offsets,
) -> Result<Attached, String> {
    let missing = match plan {
        Plan::BtfTracepoint | Plan::RawTracepoint => offsets.missing.as_ref(),
        Plan::Function | Plan::Kprobe => offsets.missing.as_ref().or(offsets.missing_for_functions.as_ref()),
    };
    if let Some(field) = missing {
        return Err(format!("this kernel's types have no {field}"));
    }
    let mut attached = Attached::default();
    let tried = attach_all(plan, &mut attached, |hook| attach_one(ebpf, hook, btf, aya_btf));
    if tried.is_err() {
        detach(ebpf, plan);
    }
    tried.map(|()| attached)
}

/// `put` attaches one.
fn attach_all(
    plan: Plan,
    attached: &mut Attached,
    mut put: impl FnMut(&Hook) -> Result<(), Refusal>,
) -> Result<(), String> {
    let mut refused: Vec<(&Hook, String, bool)> = Vec::new();
    for hook in hooks(plan) {
        if attached.has(hook.group) {
            continue;
        }
        match put(hook) {
            Ok(()) => attached.groups.push(hook.group),
            // No hook is left out for being refused when it is there: the plan would see half.
            Err(Refusal::Failed(reason)) => return Err(reason),
            Err(Refusal::Absent(reason)) => refused.push((hook, reason, false)),
            Err(Refusal::OutOfReach(reason)) => refused.push((hook, reason, true)),
        }
    }
    for (hook, reason, there) in refused {
        if attached.has(hook.group) {
            continue;
        }
        if hook.needed {
            return Err(reason);
        }
        if there {
            attached.miss(hook, reason);
        }
    }
    Ok(())
}

enum Refusal {
    /// The kernel has no such place, as others of its version.
    Absent(String),
    /// It has, or ought to have, and this way onto it does not exist.
    OutOfReach(String),
    Failed(String),
}

fn attach_one(ebpf: &mut Ebpf, hook: &Hook, btf: &Btf, aya_btf: &aya::Btf) -> Result<(), Refusal> {
    let what = match hook.kind {
        Tracepoint => "tracepoint",
        Function => "function",
    };
    check_prototype(hook, what, btf)?;
    let Some(program) = ebpf.program_mut(hook.program) else {
        return Err(Refusal::Failed(format!("the BPF object has no program {}", hook.program)));
    };
    let loaded = load_and_attach(program, hook.target, aya_btf);
    if let Ok(info) = program.info() {
        let instructions = info.verified_instruction_count();
        debug!(program = hook.program, ?instructions, "loaded and attached");
    }
    loaded.map_err(|error| {
        let reason = describe(&error, lockdown::is_confidential());
        if out_of_reach(&error) {
            return Refusal::OutOfReach(format!(
                "{} cannot be put on the {what} {}, {reason}",
                hook.program, hook.target
            ));
        }
        if let Some(last) = last_lines(&error) {
            debug!(program = hook.program, "the verifier's last lines:\n{last}");
        }
        Refusal::Failed(format!("{} on the {what} {} was refused, {reason}", hook.program, hook.target))
    })
}

fn check_prototype(hook: &Hook, what: &str, btf: &Btf) -> Result<(), Refusal> {
    let known: &[Prototype] = match hook.kind {
        Tracepoint => &TRACEPOINTS,
        Function => &FUNCTIONS,
    };
    let prototype = known.iter().find(|prototype| prototype.name == hook.target);
    let check = match prototype {
        Some(prototype) if hook.kind == Tracepoint => prototype::tracepoint(btf, prototype),
        Some(prototype) => prototype::function(btf, prototype),
        None => Check::Absent,
    };
    // Two programs stand for a function that returns something on newer kernels only.
    let void = hook.program.ends_with("_void");
    let twin =
        hook.target == "filemap_map_pages" && hook.kind == Function && !hook.program.starts_with("kprobe");
    if twin && btf.is_void(hook.target) != Some(void) {
        return Err(Refusal::Absent(format!("this kernel has no {what} {} of that kind", hook.target)));
    }
    match check {
        Check::Same => Ok(()),
        Check::Absent => {
            let reason = format!("this kernel has no {what} {}", hook.target);
            match prototype
                .filter(|prototype| release::running().is_some_and(|kernel| prototype.there.holds(kernel)))
            {
                Some(prototype) => Err(Refusal::OutOfReach(format!("{reason}, which {}", prototype.there))),
                None => Err(Refusal::Absent(reason)),
            }
        }
        Check::Changed(sentence) => Err(Refusal::Failed(sentence)),
    }
}

fn load_and_attach(program: &mut Program, target: &str, btf: &aya::Btf) -> Result<(), ProgramError> {
    match program {
        Program::BtfTracePoint(program) => {
            program.load(target, btf)?;
            program.attach()?;
        }
        Program::RawTracePoint(program) => {
            program.load()?;
            program.attach(target)?;
        }
        Program::FEntry(program) => {
            program.load(target, btf)?;
            program.attach()?;
        }
        Program::FExit(program) => {
            program.load(target, btf)?;
            program.attach()?;
        }
        Program::KProbe(program) => {
            program.load()?;
            program.attach(target, 0)?;
        }
        _ => return Err(ProgramError::UnexpectedProgramType),
    }
    Ok(())
}

/// Takes out whatever of a plan is loaded.
pub fn detach(ebpf: &mut Ebpf, plan: Plan) {
    for hook in hooks(plan) {
        // `NotLoaded` is what is wanted.
        let _ = match ebpf.program_mut(hook.program) {
            Some(Program::BtfTracePoint(program)) => program.unload(),
            Some(Program::RawTracePoint(program)) => program.unload(),
            Some(Program::FEntry(program)) => program.unload(),
            Some(Program::FExit(program)) => program.unload(),
            Some(Program::KProbe(program)) => program.unload(),
            _ => Ok(()),
        };
    }
}

/// ENOTSUPP, which the kernel keeps to itself elsewhere: its trampolines cannot take such a function (more
/// than six parameters, before 6.6 on x86).
const NOT_SUPPORTED: i32 = 524;

/// Whether this way onto the function does not exist here, so that another may stand in.
fn out_of_reach(error: &ProgramError) -> bool {
    let code = |error: &std::io::Error| error.raw_os_error() == Some(NOT_SUPPORTED);
    match error {
        ProgramError::LoadError { io_error, .. } => code(io_error),
        ProgramError::SyscallError(error) => code(&error.io_error),
        ProgramError::KProbeError(_) => true,
        _ => false,
    }
}

/// What the plan in use sees.
pub fn sees(plan: Plan, attached: &Attached) -> Vec<(Case, Seen)> {
    Case::ALL.into_iter().map(|case| (case, sees_case(plan, attached, case))).collect()
}

fn sees_case(plan: Plan, attached: &Attached, case: Case) -> Seen {
    const OLD: &str = "before Linux 6.12 tracepoints tell only of pages that enter or leave the page cache";
    let functions = matches!(plan, Plan::Function | Plan::Kprobe);
    let yes_if = |group: &str, otherwise: Seen| if attached.has(group) { Seen::Yes } else { otherwise };
    match case {
        Case::Read if functions && attached.misses("splice") => Seen::Partly(
            "splice and sendfile are not seen: they read by a function of their own, filemap_splice_read, that cannot \
             be hooked on this kernel",
        ),
        Case::Read if functions => Seen::Yes,
        Case::Read if attached.has("read") => Seen::Partly(
            "a read that finds its first pages still being filled may be told without them; that they came in is \
             told",
        ),
        Case::Read => Seen::Partly(OLD),
        Case::Fault => yes_if("fault", Seen::Partly(OLD)),
        Case::Mapped => yes_if("mapped", Seen::No(OLD)),
        Case::Direct if attached.has("iomap") && attached.misses("direct") => Seen::Partly(
            "O_DIRECT on ext4, xfs and btrfs alone: generic_file_read_iter, by which others do direct I/O, cannot be hooked \
             on this kernel",
        ),
        Case::Direct if attached.has("iomap") => Seen::Partly(
            "O_DIRECT on ext4, xfs, btrfs and FUSE; not on NFS, nor where a FUSE server makes a file direct",
        ),
        Case::Direct if functions => {
            Seen::No("the function that does direct I/O, iomap_dio_rw, cannot be hooked on this kernel")
        }
        Case::Direct => {
            Seen::No("direct I/O passes by the page cache, and with it by every hook of this plan")
        }
        Case::Tmpfs if functions && (!attached.has("tmpfs") || attached.misses("tmpfs")) => Seen::No(
            "tmpfs reads by a function of its own, shmem_file_read_iter, that cannot be hooked on this kernel",
        ),
        Case::Tmpfs if functions => match (attached.misses("tmpfs splice"), attached.misses("tmpfs fault")) {
            (false, false) => Seen::Yes,
            (true, false) => {
                Seen::Partly("but for splice and sendfile: shmem_file_splice_read cannot be hooked")
            }
            (false, true) => Seen::Partly("but for faults of mappings: shmem_fault cannot be hooked"),
            (true, true) => Seen::Partly(
                "reads alone: neither splice and sendfile (shmem_file_splice_read) nor faults (shmem_fault) can be \
                 hooked",
            ),
        },
        Case::Tmpfs => Seen::No("tmpfs reads by a path of its own that has no tracepoints"),
        Case::Hit => yes_if("read", Seen::No(OLD)),
        Case::Miss | Case::Residency => Seen::Yes,
        Case::MissLatency => yes_if("read", Seen::No(OLD)),
        Case::HitLatency if plan == Plan::Function && attached.has("read entry") => {
            Seen::Partly("one in 64 of a thread's read calls is timed; faults and splices are not")
        }
        Case::HitLatency => Seen::No("reads are told once, at their end: hits are counted, not timed"),
        Case::Name | Case::Exit => Seen::Yes,
    }
}

#[cfg(test)]
mod tests;
