//! Every plan, and in each every case: a case that panics is a failed cell, and the next one begins on a
//! scene of its own.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use agent::probe::{self, Plan, Probe, ProbeConfig, ProbeError};

use crate::allowed;
use crate::args::{Args, PlanName};
use crate::cases::{self, Before, Case};
use crate::scene::Scene;
use crate::table::Table;
use crate::verdict::Verdict;

pub fn run(args: &Args, table: &mut Table) {
    let before = Before::now();
    let once = || cases::once().filter(|(name, _)| args.wants(name) && args.plan.is_none());
    let plans = || Plan::ALL.into_iter().filter(|plan| is_wanted(args, *plan));
    let of_plans = plans().flat_map(|plan| {
        let plan = PlanName::of(plan).text();
        // The first is run in any case: the others stand on it.
        cases::of_plan()
            .filter(|case| *case == cases::LOADS || args.wants(case))
            .map(move |case| (plan.clone(), case))
    });
    table.announce(once().map(|(name, _)| ("any".to_owned(), name)).chain(of_plans));
    for (name, case) in once() {
        timed(table, "any", name, case);
    }
    let best = Probe::start(ProbeConfig::default()).ok().and_then(|(_, report)| report.chosen());
    for plan in plans() {
        let churn = if best == Some(plan) { args.churn() } else { args.churn() / 4 };
        of_plan(args, table, plan, churn, &before);
    }
}

fn is_wanted(args: &Args, plan: Plan) -> bool {
    args.plan.is_none_or(|only| only == PlanName::of(plan)) && cases::of_plan().any(|case| args.wants(case))
}

fn of_plan(args: &Args, table: &mut Table, plan: Plan, churn: Duration, before: &Before) {
    let name = PlanName::of(plan).text();
    let begun = Instant::now();
    table.begun(&name, cases::LOADS);
    let start = || Probe::start(ProbeConfig { plan: Some(plan), ..ProbeConfig::default() });
    let verdict = match catch_unwind(start) {
        Ok(Ok((_, report))) => match probe::running_kernel() {
            Some(kernel) => allowed::owed(plan, kernel, &report).map_or(Verdict::Seen, Verdict::Failed),
            None => Verdict::Failed("this kernel's release does not begin with two numbers".to_owned()),
        },
        // Then no plan may be had, and each has to say why.
        Ok(Err(ProbeError::NothingAttachable { report })) if probe::is_confidential() => {
            let said = report.to_string();
            if said.contains("lockdown") { Verdict::Absent(said) } else { Verdict::Failed(said) }
        }
        Ok(Err(ProbeError::NothingAttachable { report })) => {
            let lacking = args.lacks == Some(PlanName::of(plan));
            let must =
                args.every_plan && !lacking || matches!(plan, Plan::BtfTracepoint | Plan::RawTracepoint);
            if must { Verdict::Failed(report.to_string()) } else { Verdict::Absent(report.to_string()) }
        }
        Ok(Err(error)) => Verdict::Failed(error.to_string()),
        Err(panic) => Verdict::Failed(said(panic.as_ref())),
    };
    table.cell(&name, cases::LOADS, &verdict, begun.elapsed());
    if verdict != Verdict::Seen {
        return;
    }
    let mut scene: Option<Scene> = None;
    for (case, act) in cases::each() {
        if !args.wants(case) {
            continue;
        }
        timed(table, &name, case, || match act {
            Case::Shared(act) => {
                // Taken out, so that a panic leaves none behind.
                let mut taken = scene.take().unwrap_or_else(|| Scene::open(plan));
                taken.told();
                let verdict = act(&mut taken);
                scene = Some(taken);
                verdict
            }
            Case::Own(act) => act(plan),
            Case::Long(act) => act(plan, churn),
        });
    }
    if args.wants(cases::DETACHES) {
        timed(table, &name, cases::DETACHES, || cases::detaches(plan, scene, before));
    }
}

fn timed(table: &mut Table, plan: &str, case: &str, act: impl FnOnce() -> Verdict) {
    table.begun(plan, case);
    let begun = Instant::now();
    let verdict =
        catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| Verdict::Failed(said(panic.as_ref())));
    table.cell(plan, case, &allowed::held(case, verdict), begun.elapsed());
}

/// The panic hook has shown where; this is what.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}
