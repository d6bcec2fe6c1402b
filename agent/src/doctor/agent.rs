//! Checks of a running agent, from what it knows of itself: its probe plan, its mounts, its losses.
//!
//! Pure: the engine calls this with its own answer to `Query::Node` and adds what else it knows.

use agent_core::view::{MountView, NodeView, Survival};

use super::Check;

/// The facts about the plan that a check speaks of.
#[derive(Clone, Copy, Debug)]
pub struct PlanFacts<'a> {
    /// Empty while nothing is attached.
    pub plan: &'a str,
    pub hooks: &'a [Box<str>],
    pub unseen: &'a [Box<str>],
    pub refused: &'a [(Box<str>, Box<str>)],
}

/// All checks of a running agent.
pub fn checks(node: &NodeView, plan: PlanFacts<'_>, observe_only: bool) -> Vec<Check> {
    let mut checks = plan_checks(plan);
    if node.mounts.is_empty() {
        checks.push(Check::warn(
            "watched mounts",
            "none is watched",
            "mount a network or FUSE file system, or name one: headrace agent --watch PATH",
        ));
    }
    checks.extend(node.mounts.iter().map(mount_check));
    checks.push(losses(node));
    if observe_only {
        checks.push(Check::warn(
            "prefetch",
            "off: the agent only observes",
            "start it without --observe-only to have bytes fetched ahead of readers",
        ));
    }
    checks
}

fn plan_checks(plan: PlanFacts<'_>) -> Vec<Check> {
    let PlanFacts { plan, hooks, unseen, refused } = plan;
    let mut checks = Vec::new();
    if plan.is_empty() {
        checks.push(Check::fail(
            "probe plan",
            "nothing is attached to the kernel: no read is seen",
            "the agent is blind: it serves, but neither learns nor prefetches. What stood in the way of each \
             plan follows; take that away (a kernel with BTF, no lockdown) and restart the agent",
        ));
    } else {
        checks.push(Check::ok(
            "probe plan",
            if hooks.is_empty() { plan.to_owned() } else { format!("{plan}: {}", hooks.join(", ")) },
        ));
    }
    for (other, reason) in refused {
        // A better plan that is refused costs detail, not function: it is told, not blamed.
        checks.push(Check::ok("plan not taken", format!("{other}: {reason}")));
    }
    for gap in unseen {
        checks.push(Check::warn(
            "cannot be seen",
            gap.clone(),
            "nothing to do: a limit of this kernel or plan; everything else is seen",
        ));
    }
    checks
}

fn mount_check(mount: &MountView) -> Check {
    let MountView { mount: _, dev, source, fstype, survival, depth, miss_latency } = mount;
    let what = format!("{fstype} {source} ({}:{})", dev >> 20, dev & 0xf_ffff);
    let name = "watched mount";
    match survival {
        Survival::Kept => Check::ok(
            name,
            format!(
                "{what}: warmed pages survive the reader's open; up to {depth} fetches at once, median miss {:.1} ms",
                miss_latency.as_secs_f64() * 1e3
            ),
        ),
        Survival::Unknown => {
            Check::ok(name, format!("{what}: not known yet whether warmed pages survive the reader's open"))
        }
        Survival::Dropped => Check::warn(
            name,
            format!("{what}: the kernel drops a file's pages at each open here"),
            "only open files are prefetched, through the reader's descriptor; a server that sets \
             FOPEN_KEEP_CACHE gains more",
        ),
        Survival::Refused => Check::warn(
            name,
            format!("{what}: root may not open files here"),
            "only open files are prefetched, through the reader's descriptor; mount with allow_other \
             (FUSE) or no_root_squash (NFS) to gain more",
        ),
    }
}

fn losses(node: &NodeView) -> Check {
    match node.lost_records {
        0 => Check::ok("losses", "no record was dropped"),
        lost => Check::warn(
            "losses",
            format!("{lost} records were dropped by the kernel side since the agent's start"),
            "what was learned meanwhile has holes; when it goes on, the node is busier than the agent can \
             follow: report it with `headrace node --output json`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn an_agent_that_sees_nothing_fails() {
        let plan =
            PlanFacts { plan: "", hooks: &[], unseen: &[], refused: &[("fentry".into(), "EPERM".into())] };
        let checks = checks(&NodeView::default(), plan, true);
        assert!(checks.iter().any(|c| c.state == State::Fail && &*c.name == "probe plan"));
        assert!(checks.iter().any(|c| c.finding.contains("fentry: EPERM")));
        assert!(checks.iter().any(|c| &*c.name == "prefetch"));
        assert!(checks.iter().filter(|c| c.state != State::Ok).all(|c| !c.advice.is_empty()));
    }
}
