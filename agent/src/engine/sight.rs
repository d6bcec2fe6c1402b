//! How the engine comes by its probe, and when it goes on without one.
//!
//! Where this kernel takes no plan, or does not describe its types, nobody can do anything at this moment:
//! the agent is blind, says so, and serves: what is cached and known is worth having without eyes. Where only
//! the right to attach is missing, or a limit is too low, a person can: that ends the start.

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities};

use crate::api::query::PlanSummary;
use crate::probe::{Outcome, PlanReport, Probe, ProbeConfig, ProbeError, Seen};

/// The probe and what people are told of it.
pub fn open(config: ProbeConfig) -> Result<(Option<Probe>, PlanSummary), ProbeError> {
    let error = match Probe::start(config) {
        Ok((probe, report)) => {
            tracing::info!("{report}");
            return Ok((Some(probe), summary(&report)));
        }
        // The capabilities are there: it is nobody's right that is missing, see below.
        Err(ProbeError::NotAllowed { source }) if may_attach() => ProbeError::Forbidden { source },
        Err(error) => error,
    };
    let blind = match &error {
        ProbeError::NothingAttachable { report } => summary(report),
        // No ring buffer before 5.8, no bpf() at all in some kernels: then the object's maps are refused.
        ProbeError::NoBtf { .. }
        | ProbeError::BadBtf { .. }
        | ProbeError::Object { .. }
        | ProbeError::Forbidden { .. } => PlanSummary {
            refused: vec![("every plan".into(), error.to_string().into())],
            ..PlanSummary::default()
        },
        ProbeError::NotAllowed { .. }
        | ProbeError::TooManyFiles { .. }
        | ProbeError::TooManyDevices { .. }
        | ProbeError::Map { .. } => return Err(error),
    };
    if !may_attach() {
        return Err(ProbeError::NotAllowed { source: Errno::PERM.into() });
    }
    tracing::error!("no read is seen and nothing is prefetched: {error}");
    Ok((None, blind))
}

/// Whether this process holds what the kernel asks of who attaches programs (capabilities(7)).
fn may_attach() -> bool {
    let both = CapabilitySet::BPF | CapabilitySet::PERFMON;
    // Where they cannot be read, the kernel's own word stands.
    capabilities(None).map_or(true, |sets| {
        sets.effective.contains(both) || sets.effective.contains(CapabilitySet::SYS_ADMIN)
    })
}

fn summary(report: &PlanReport) -> PlanSummary {
    let PlanReport { plans, cases, notes } = report;
    let refused = plans.iter().filter_map(|(plan, outcome)| match outcome {
        Outcome::FellOut(reason) => Some((plan.name().into(), reason.as_str().into())),
        Outcome::Chosen | Outcome::NotTried => None,
    });
    let unseen = cases.iter().filter_map(|(case, seen)| match seen {
        Seen::Yes => None,
        Seen::Partly(limit) => Some(format!("{}: {limit}", case.name())),
        Seen::No(reason) => Some(format!("{} is not seen: {reason}", case.name())),
    });
    PlanSummary {
        plan: report.chosen().map_or("", |plan| plan.name()).into(),
        hooks: Vec::new(),
        unseen: unseen.chain(notes.iter().cloned()).map(Into::into).collect(),
        refused: refused.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;
    use crate::doctor::agent::{PlanFacts, checks};
    use crate::probe::{Case, Plan};

    #[test]
    fn what_a_plan_cannot_see_is_a_finding_of_the_doctor() {
        let report = PlanReport {
            plans: vec![
                (Plan::Function, Outcome::FellOut("no trampoline".into())),
                (Plan::BtfTracepoint, Outcome::Chosen),
                (Plan::RawTracepoint, Outcome::NotTried),
            ],
            cases: vec![
                (Case::Read, Seen::Partly("the first pages alone")),
                (Case::Direct, Seen::No("it passes by the page cache")),
                (Case::Hit, Seen::Yes),
            ],
            notes: vec!["No read could be measured at start.".into()],
        };
        let PlanSummary { plan, hooks, unseen, refused } = &summary(&report);
        let checks = checks(&Default::default(), PlanFacts { plan, hooks, unseen, refused }, false);
        let of = |name: &str| -> Vec<&str> {
            checks.iter().filter(|check| &*check.name == name).map(|check| &*check.finding).collect()
        };
        assert_eq!(of("probe plan"), ["BTF tracepoints"]);
        assert_eq!(of("plan not taken"), ["fentry/fexit: no trampoline"]);
        assert_eq!(
            of("cannot be seen"),
            [
                "reads (read, pread, readv, io_uring, sendfile, splice): the first pages alone",
                "direct I/O is not seen: it passes by the page cache",
                "No read could be measured at start.",
            ]
        );
        let gaps = checks.iter().filter(|check| &*check.name == "cannot be seen");
        assert!(gaps.clone().all(|gap| gap.state == State::Warn && !gap.advice.is_empty()));
    }
}
