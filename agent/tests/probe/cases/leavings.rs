//! The choice among plans, what damaged BTF does to them, and what is left when a probe has gone.

use std::fs;
use std::time::{Duration, Instant};

use agent::probe::{self, Case, Outcome, Plan, Probe, ProbeConfig, ProbeError, Seen};

use crate::allowed;
use crate::verdict::Verdict;

/// The best plan that the kernel takes is the one chosen by itself, and the rest is accounted for.
pub fn best_plan() -> Verdict {
    if probe::is_confidential() {
        return none_is_had();
    }
    let (probe, report) = Probe::start(ProbeConfig::default()).unwrap_or_else(|error| panic!("{error}"));
    let chosen = report.chosen().expect("a plan");
    for (plan, outcome) in &report.plans {
        match outcome {
            Outcome::Chosen => assert_eq!(*plan, chosen),
            Outcome::FellOut(reason) => assert!(*plan < chosen && reason.len() > 10, "{plan:?}: {reason}"),
            Outcome::NotTried => assert!(*plan > chosen),
        }
    }
    assert!(Case::ALL.iter().all(|case| report.sees(*case).is_some()));
    assert_eq!(report.sees(Case::Name), Some(&Seen::Yes));
    drop(probe);
    for plan in Plan::ALL {
        if plan < chosen {
            let alone = Probe::start(ProbeConfig { plan: Some(plan), ..ProbeConfig::default() });
            assert!(alone.is_err(), "{plan:?} is better than {chosen:?}, works, and was not chosen");
        }
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

/// `BPF_PROG_GET_NEXT_ID` of include/uapi/linux/bpf.h.
const NEXT_PROGRAM: libc::c_long = 11;

/// How many BPF programs the kernel holds, of all processes.
pub fn programs_in_kernel() -> usize {
    let mut count = 0;
    let mut last = 0;
    loop {
        // start_id, next_id, and the room that the kernel may look at.
        let mut attributes = [0_u32; 32];
        attributes[0] = last;
        // SAFETY: the attributes live through the call and are as large as is said.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, NEXT_PROGRAM, attributes.as_mut_ptr(), size_of_val(&attributes))
        };
        if result != 0 {
            return count;
        }
        count += 1;
        last = attributes[1];
    }
}

/// Links of this process's descriptors that speak of BPF.
fn descriptors() -> Vec<String> {
    let links = fs::read_dir("/proc/self/fd").expect("/proc").filter_map(Result::ok);
    let targets = links.filter_map(|link| fs::read_link(link.path()).ok());
    let named = targets.map(|target| target.to_string_lossy().into_owned());
    named.filter(|target| target.contains("bpf") || target.contains("perf_event")).collect()
}

/// Nothing of any probe is left: no descriptor, no program, no function hooked.
pub fn nothing_left(before: usize) -> Verdict {
    assert_eq!(descriptors(), Vec::<String>::new(), "descriptors left after the probe was dropped");
    // The kernel frees programs after a grace period.
    let begun = Instant::now();
    while programs_in_kernel() > before {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{} BPF programs before the first probe, {} after the last",
            before,
            programs_in_kernel()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    for hooked in ["/sys/kernel/debug/kprobes/list", "/sys/kernel/tracing/enabled_functions"] {
        let left = fs::read_to_string(hooked).unwrap_or_default();
        assert!(!left.contains("filemap"), "{hooked}: {left}");
    }
    Verdict::Seen
}
