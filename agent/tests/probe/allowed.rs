//! What may be missing on this machine, by its kernel's version and not by the word of a plan: one that says it sees
//! nothing would pass every case. Guests, whose kernels are known, are held to more: xtask/src/vm/allowed.rs.

use agent::probe::{self, Case, Plan, PlanReport, Seen};

use crate::verdict::Verdict;

/// The first kernel with tracepoints for reads, faults and mappings.
const TELLS_READS: (u32, u32) = (6, 12);

/// What every plan sees from then on, and a plan that hooks functions on each kernel.
const OWED: [Case; 3] = [Case::Hit, Case::Mapped, Case::MissLatency];

/// What a machine may do without. The programs for all else come with `cargo xtask setup`, and distributions have the
/// file systems.
const SPARE: [&str; 2] = ["nfs", "nfs-folders"];

/// What a plan says it cannot see on a kernel of this version though it has to, in one sentence.
pub fn owed(plan: Plan, kernel: (u32, u32), report: &PlanReport) -> Option<String> {
    let functions = matches!(plan, Plan::Function | Plan::Kprobe);
    if !functions && kernel < TELLS_READS {
        return None;
    }
    let unseen = OWED.iter().filter(|case| !matches!(report.sees(**case), Some(Seen::Yes | Seen::Partly(_))));
    let unseen: Vec<&str> = unseen.map(|case| case.name()).collect();
    (!unseen.is_empty()).then(|| {
        format!(
            "Linux {}.{}, {}: it says that it does not see {}, which it must there; where the kernel has \
             renamed a hook, the case `prototypes` names it",
            kernel.0,
            kernel.1,
            plan.name(),
            unseen.join(", "),
        )
    })
}

/// A verdict as it counts: what is absent fails where this machine is to have it.
pub fn held(case: &str, verdict: Verdict) -> Verdict {
    match verdict {
        // Under lockdown no plan works, and each says so: that is what those cases then test.
        Verdict::Absent(why) if !SPARE.contains(&case) && !probe::is_confidential() => {
            Verdict::Failed(format!(
                "it is to be had here: {why}; install it (`cargo xtask setup`), or leave it out: --skip {case}"
            ))
        }
        other => other,
    }
}
