//! The probe against the real kernel, as root: known accesses are made in every way there is, and what
//! the probe told is compared with what was done, for each plan that this kernel takes. Nothing may be
//! missing and nothing invented.
#![expect(clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod scene;

mod cases;

use agent::probe::{Case, Outcome, Plan, Probe, ProbeConfig, ProbeError, Seen};

/// The tracepoint plans must work on every machine that develops this; the others are asked and may
/// fall out with a sentence.
fn plans() -> Vec<Plan> {
    let mut plans = vec![Plan::BtfTracepoint, Plan::RawTracepoint];
    for plan in [Plan::Function, Plan::Kprobe] {
        let config = ProbeConfig { plan: Some(plan), ..ProbeConfig::default() };
        match Probe::start(config) {
            Ok(_) => plans.push(plan),
            Err(ProbeError::NothingAttachable { report }) => println!("{report}"),
            Err(other) => panic!("{other}"),
        }
    }
    plans
}

#[test]
fn every_plan_sees_what_was_done() {
    let _alone = scene::alone();
    for plan in plans() {
        println!("== {}", plan.name());
        cases::all(plan);
    }
}

#[test]
fn best_plan_is_chosen_and_the_rest_accounted_for() {
    let _alone = scene::alone();
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
    let left = scene::bpf_descriptors();
    assert_eq!(left, Vec::<String>::new(), "descriptors left after the probe was dropped");
}

#[test]
fn damaged_btf_takes_plans_out_by_a_sentence() {
    let _alone = scene::alone();
    let whole = std::fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with CONFIG_DEBUG_INFO_BTF=y");
    let start = |btf| Probe::start(ProbeConfig { btf: Some(btf), ..ProbeConfig::default() });
    let error = start(whole[..whole.len() / 2].to_vec()).expect_err("half a BTF was taken");
    assert!(matches!(error, ProbeError::BadBtf { .. }), "{error}");

    let error = start(scene::renamed(&whole, b"i_ino")).expect_err("a kernel without i_ino was taken");
    assert!(matches!(&error, ProbeError::NothingAttachable { .. }), "{error}");
    assert!(error.to_string().contains("inode.i_ino"), "{error}");

    // Without the tracepoint of 6.12 the plan goes on with what older kernels have, and says so.
    let old = ProbeConfig {
        plan: Some(Plan::BtfTracepoint),
        btf: Some(scene::renamed(&whole, b"btf_trace_mm_filemap_get_pages")),
        ..ProbeConfig::default()
    };
    let (_, report) = Probe::start(old).unwrap_or_else(|error| panic!("{error}"));
    assert!(matches!(report.sees(Case::Hit), Some(Seen::No(_))), "{report:?}");
    assert_eq!(report.sees(Case::Residency), Some(&Seen::Yes));
}

#[test]
fn full_ring_is_counted() {
    let _alone = scene::alone();
    cases::full_ring();
}
