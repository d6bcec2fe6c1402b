//! The choice among plans, what damaged BTF does to them, and what is left when a probe has gone.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::fs;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use agent::probe::{self, Case, Outcome, Plan, PlanReport, Probe, ProbeConfig, ProbeError, Seen};
use rustix::mount::MountFlags;

use crate::allowed;
use crate::disk::Mount;
use crate::scene::Scene;
use crate::verdict::Verdict;

/// What the best plan sees, if any that the kernel takes does. Direct I/O, tmpfs and how long hits take are not among
/// it: for these alone nobody pays what kprobes cost.
const BEST_SEES: [Case; 8] = [
    Case::Read,
    Case::Fault,
    Case::Mapped,
    Case::Hit,
    Case::Miss,
    Case::MissLatency,
    Case::Name,
    Case::Residency,
];

fn unseen(report: &PlanReport) -> impl Iterator<Item = Case> + '_ {
    BEST_SEES.into_iter().filter(|case| matches!(report.sees(*case), Some(Seen::No(_)) | None))
}

/// The best plan that the kernel takes is the one chosen by itself, and the rest is accounted for: those that were to be
/// tried before it do not work, and no other sees what it does not.
pub fn best_plan() -> Verdict {
    if probe::is_confidential() {
        return none_is_had();
    }
    let (probe, report) = Probe::start(ProbeConfig::default()).unwrap_or_else(|error| panic!("{error}"));
    let chosen = report.chosen().expect("a plan");
    assert_eq!(report.plans.len(), Plan::ALL.len());
    let place = report.plans.iter().position(|(plan, _)| *plan == chosen).expect("the plan in use");
    for (at, (plan, outcome)) in report.plans.iter().enumerate() {
        match outcome {
            Outcome::Chosen => assert_eq!(*plan, chosen),
            Outcome::FellOut(reason) => assert!(at < place && reason.len() > 10, "{plan:?}: {reason}"),
            Outcome::NotTried => assert!(at > place, "{plan:?} was to be tried before {chosen:?}"),
        }
    }
    assert!(Case::ALL.iter().all(|case| report.sees(*case).is_some()));
    assert_eq!(report.sees(Case::Name), Some(&Seen::Yes));
    drop(probe);
    for (at, (plan, _)) in report.plans.iter().enumerate().filter(|(at, _)| *at != place) {
        let alone = Probe::start(ProbeConfig { plan: Some(*plan), ..ProbeConfig::default() });
        let Ok((_, alone)) = alone else { continue };
        assert!(at > place, "{plan:?} is better than {chosen:?}, works, and was not chosen");
        let more: Vec<Case> = unseen(&report).filter(|case| !unseen(&alone).any(|of| of == *case)).collect();
        assert_eq!(more, [], "{chosen:?} was chosen, and does not see what {plan:?} sees");
    }
    Verdict::Seen
}

/// Under lockdown mode "confidentiality" no plan works, and each says why.
fn none_is_had() -> Verdict {
    let error = Probe::start(ProbeConfig::default()).expect_err("a plan that the kernel's lockdown forbids");
    let ProbeError::NothingAttachable { report } = &error else { panic!("{error}") };
    for (plan, outcome) in &report.plans {
        let Outcome::FellOut(reason) = outcome else { panic!("{plan:?}: {outcome:?}") };
        assert!(reason.contains("lockdown"), "{plan:?}: {reason}");
    }
    Verdict::Absent("the kernel's lockdown lets no plan work, and each says so".to_owned())
}

/// A BTF in which no name is `name` any more.
fn renamed(btf: &[u8], name: &[u8]) -> Vec<u8> {
    let mut bytes = btf.to_vec();
    let needle = [b"\0", name, b"\0"].concat();
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(needle.len()).position(|window| window == needle) {
        bytes[at + found + 1] = b'X';
        at += found + 1;
    }
    bytes
}

/// What the programs rely on is so on this kernel, by its BTF; and where it is not, or is gone, it is told by name.
pub fn prototypes() -> Verdict {
    let kernel = probe::running_kernel().expect("a release that begins with two numbers");
    let whole = fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with CONFIG_DEBUG_INFO_BTF=y");
    let changed = |btf| probe::changed_prototypes(btf, kernel).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(changed(whole.clone()), Vec::<String>::new());
    let told = changed(renamed(&whole, b"kiocb"));
    let [read, ..] = told.as_slice() else { panic!("a kernel without struct kiocb passed") };
    assert!(read.contains("struct Xiocb *") && read.contains("struct kiocb * was expected"), "{told:?}");
    // No kernel is without the first, nor from 6.12 on without the second.
    for (tracepoint, known) in
        [("mm_filemap_add_to_page_cache", true), ("mm_filemap_get_pages", kernel >= (6, 12))]
    {
        let told = changed(renamed(&whole, format!("btf_trace_{tracepoint}").as_bytes()));
        let gone = format!("Linux {}.{} has no tracepoint {tracepoint},", kernel.0, kernel.1);
        assert_eq!(
            told.iter().filter(|sentence| sentence.starts_with(&gone)).count(),
            usize::from(known),
            "{told:?}"
        );
    }
    Verdict::Seen
}

/// Damaged BTF takes plans out by a sentence.
pub fn damaged_btf() -> Verdict {
    let whole = fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with CONFIG_DEBUG_INFO_BTF=y");
    let start = |btf| Probe::start(ProbeConfig { btf: Some(btf), ..ProbeConfig::default() });
    let error = start(whole[..whole.len() / 2].to_vec()).expect_err("half a BTF was taken");
    assert!(matches!(error, ProbeError::BadBtf { .. }), "{error}");

    let error = start(renamed(&whole, b"i_ino")).expect_err("a kernel without i_ino was taken");
    assert!(matches!(&error, ProbeError::NothingAttachable { .. }), "{error}");
    assert!(error.to_string().contains("inode.i_ino"), "{error}");

    if probe::is_confidential() {
        return Verdict::Seen;
    }
    // Without the tracepoint of 6.12 the plan goes on with what older kernels have, and says so.
    let old = ProbeConfig {
        plan: Some(Plan::BtfTracepoint),
        btf: Some(renamed(&whole, b"btf_trace_mm_filemap_get_pages")),
        ..ProbeConfig::default()
    };
    let (_, report) = Probe::start(old).unwrap_or_else(|error| panic!("{error}"));
    assert!(matches!(report.sees(Case::Hit), Some(Seen::No(_))), "{report:?}");
    assert_eq!(report.sees(Case::Residency), Some(&Seen::Yes));
    // Which passes on older kernels alone.
    assert_eq!(allowed::owed(Plan::BtfTracepoint, (6, 11), &report), None);
    let said =
        allowed::owed(Plan::BtfTracepoint, (6, 12), &report).expect("a plan of 6.12 without hits passed");
    assert!(said.contains("Linux 6.12, BTF tracepoints: ") && said.contains("hits"), "{said}");
    Verdict::Seen
}

/// Commands of bpf(2), in include/uapi/linux/bpf.h.
const NEXT_PROGRAM: libc::c_long = 11;
const DESCRIBE: libc::c_long = 15;
const OPEN_LINK: libc::c_long = 30;
const NEXT_LINK: libc::c_long = 31;

/// The union of what the commands take; zeroes where one is not to look.
type Attributes = [u32; 32];

fn bpf(command: libc::c_long, attributes: &mut Attributes) -> libc::c_long {
    // SAFETY: the attributes live through the call and are as large as is said; what they point to is the callers'.
    unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(attributes)) }
}

/// What the kernel holds of a kind, of all processes, by number.
fn numbers(next: libc::c_long) -> impl Iterator<Item = u32> {
    let mut last = 0;
    std::iter::from_fn(move || {
        // start_id, next_id.
        let mut attributes = [0; 32];
        attributes[0] = last;
        (bpf(next, &mut attributes) == 0).then(|| last = attributes[1])?;
        Some(last)
    })
}

/// How many BPF programs the kernel holds, of all processes.
fn programs_in_kernel() -> usize {
    numbers(NEXT_PROGRAM).count()
}

/// The tracepoint that the BPF link of this number hooks, if it is of that kind: `bpf_link_info` is type, number and
/// program, then the name's address and length.
fn tracepoint(link: u32) -> Option<String> {
    const OF_TRACEPOINT: u32 = 1;
    let mut attributes = [0; 32];
    attributes[0] = link;
    let descriptor = i32::try_from(bpf(OPEN_LINK, &mut attributes)).ok().filter(|number| *number >= 0)?;
    // SAFETY: the kernel has just made it for us.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let mut name = [0_u8; 128];
    let mut info = [0_u64; 8];
    info[2] = name.as_mut_ptr() as u64;
    info[3] = name.len() as u64;
    // bpf_fd, info_len, info.
    let mut attributes = [0; 32];
    attributes[0] = descriptor.as_raw_fd() as u32;
    attributes[1] = size_of_val(&info) as u32;
    let address = info.as_mut_ptr() as u64;
    (attributes[2], attributes[3]) = (address as u32, (address >> 32) as u32);
    if bpf(DESCRIBE, &mut attributes) != 0 || info[0] as u32 != OF_TRACEPOINT {
        return None;
    }
    let end = name.iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(&name[..end]).into_owned())
}

/// Links of this process's descriptors that speak of BPF.
fn descriptors() -> Vec<String> {
    let links = fs::read_dir("/proc/self/fd").expect("/proc").filter_map(Result::ok);
    let targets = links.filter_map(|link| fs::read_link(link.path()).ok());
    let named = targets.map(|target| target.to_string_lossy().into_owned());
    named.filter(|target| target.contains("bpf") || target.contains("perf_event")).collect()
}

/// Reads a file of one of the kernel's own file systems, mounted for that: the machine need not have it anywhere.
fn kernels_file(kind: &str, file: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("a folder for {kind}: {error}"))?;
    rustix::mount::mount(kind, folder.path(), kind, MountFlags::empty(), None::<&CStr>)
        .map_err(|error| format!("{kind} cannot be mounted: {error}"))?;
    let _mount = Mount(folder.path().to_owned());
    let text = fs::read_to_string(folder.path().join(file));
    text.map_err(|error| format!("{file} of {kind} cannot be read: {error}"))
}

/// Lists of hooked functions, by the plan whose hooks they hold. Other plans run on kernels that have no ftrace or kprobes,
/// or keep the list to themselves (EPERM to root, where fentry is forbidden too).
const LISTS: [(&str, &str, Plan); 2] =
    [("tracefs", "enabled_functions", Plan::Function), ("debugfs", "kprobes/list", Plan::Kprobe)];

/// Which functions and tracepoints that any plan hooks are hooked now, by whomever; of functions as far as the kernel
/// tells, but those that `must` hooks for certain.
fn hooked(must: Option<Plan>) -> Result<BTreeSet<String>, String> {
    let functions: BTreeSet<&str> = probe::hooked_functions().collect();
    let mut found = BTreeSet::new();
    for (kind, file, of) in LISTS {
        let text = match kernels_file(kind, file) {
            Ok(text) => text,
            Err(reason) if must == Some(of) => return Err(reason),
            Err(_) => continue,
        };
        // Lines are `filemap_read (1) R D` and `ffffffff8123 k filemap_read+0x0 [FTRACE]`.
        let words = text.split_whitespace().map(|word| word.split('+').next().unwrap_or(word));
        let ours = words.filter(|word| functions.contains(word));
        found.extend(ours.map(|name| format!("function {name} ({file})")));
    }
    for link in numbers(NEXT_LINK) {
        let name = tracepoint(link).filter(|name| probe::hooked_tracepoints().any(|ours| ours == name));
        found.extend(name.map(|name| format!("tracepoint {name} (BPF link {link})")));
    }
    Ok(found)
}

/// What other processes have, before the first probe.
pub struct Before {
    programs: usize,
    hooked: BTreeSet<String>,
}

impl Before {
    pub fn now() -> Self {
        Self { programs: programs_in_kernel(), hooked: hooked(None).unwrap_or_default() }
    }

    fn more(&self, plan: Plan) -> Vec<String> {
        let now = hooked(Some(plan)).unwrap_or_else(|reason| {
            panic!("what is hooked cannot be told: {reason}; it takes root, tracefs and debugfs")
        });
        now.difference(&self.hooked).cloned().collect()
    }
}

/// Nothing of any probe is left: no descriptor, no program, no function or tracepoint hooked. What the plan hooks is
/// looked for while it does, so that to find nothing afterwards means something.
pub fn detaches(plan: Plan, scene: Option<Scene>, before: &Before) -> Verdict {
    let scene = scene.unwrap_or_else(|| Scene::open(plan));
    let used = before.more(plan);
    let mut needed = vec!["tracepoint mm_filemap_add_to_page_cache "];
    if matches!(plan, Plan::Function | Plan::Kprobe) {
        needed.push("function filemap_fault ");
    }
    for name in needed {
        assert!(used.iter().any(|hook| hook.starts_with(name)), "{name} is hooked, and not found: {used:?}");
    }
    drop(scene);
    assert_eq!(descriptors(), Vec::<String>::new(), "descriptors left after the probe was dropped");
    // The kernel frees programs after a grace period.
    let begun = Instant::now();
    loop {
        let (programs, left) = (programs_in_kernel(), before.more(plan));
        if programs <= before.programs && left.is_empty() {
            return Verdict::Seen;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{} BPF programs before the first probe, {programs} after the last; still hooked: {left:?}",
            before.programs,
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}
