//! The least of the first table, for guests with other kernels: does prefetch work there at all?
//!
//! A guest's processor is emulated and ten times slower than its clock, so figures of one guest compare with
//! nothing but each other: the same reader, on the same store, without and with the agent. The store is slow
//! enough that waiting for it, and not the emulation, is what takes the time.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::bench::case::{Case, Timed};
use crate::bench::first_light::{self, Options, Runs};
use crate::bench::lab::Subject;
use crate::bench::volumes;
use crate::reader::itinerary::Workload;
use crate::store::{StoreConfig, TreeSpec};

/// Prefetch on NFS: not against the clock, as that store is as near as the kernel itself.
const VOLUMES: &str = "prefetch-nfs";

/// Interleaved runs of each kind; the middle one counts.
const REPEATS: usize = 3;

fn case(name: &'static str, tree: TreeSpec, latency: u64, bandwidth: u64, workload: Workload) -> Case {
    let latency = Duration::from_millis(latency);
    Case {
        name,
        row: name,
        store: StoreConfig { tree, latency, bandwidth: Some(bandwidth), ..StoreConfig::default() },
        workload,
        lessons: Vec::new(),
        carries: false,
        timed: Timed::Whole,
        small: false,
    }
}

fn cases() -> [Case; 2] {
    let large = TreeSpec::Large { size: 16 << 20 };
    let small = TreeSpec::Small { dirs: 4, files: 25, size: 40_000 };
    [
        case("prefetch-sequential", large, 30, 20_000_000, Workload::Sequential),
        case("prefetch-directory", small, 30, 20_000_000, Workload::Directory),
    ]
}

fn middle(runs: &[first_light::Run]) -> Option<f64> {
    let mut seconds: Vec<f64> = runs.iter().map(|run| run.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied()
}

/// What the runs of a case say: `Ok` where the agent was faster.
fn judge(runs: &Runs) -> Result<String> {
    let without = middle(&runs.without).context("no run without the agent")?;
    let with = middle(&runs.with).context("no run with the agent")?;
    let figures = format!("{without:.2} s without the agent, {with:.2} s with it");
    ensure!(with < without, "prefetch did not help: {figures}");
    Ok(figures)
}

/// Runs the cases and writes a line for each to `results`, in the format of the probe's acceptance: plan,
/// case, verdict, milliseconds, detail, by tabs. All are announced before the first. Fails when one of them did.
pub fn run(subject: &Subject, only: &[String], results: Option<&Path>) -> Result<()> {
    let wanted = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
    let names = cases().map(|case| case.name).into_iter().chain([VOLUMES]);
    for name in names.filter(|name| wanted(name)) {
        line(results, name, "expected", Duration::ZERO, "")?;
    }
    let mut failed = Vec::new();
    for case in cases().into_iter().filter(|case| wanted(case.name)) {
        line(results, case.name, "begun", Duration::ZERO, "")?;
        let begun = Instant::now();
        let options =
            Options { subject: subject.clone(), cases: Vec::new(), open_charged: false, repeats: REPEATS };
        let judged = first_light::run_case(&case, &options, &mut Vec::new()).and_then(|runs| judge(&runs));
        failed.extend(told(results, case.name, begun, judged)?);
    }
    if wanted(VOLUMES) {
        line(results, VOLUMES, "begun", Duration::ZERO, "")?;
        let begun = Instant::now();
        failed.extend(told(results, VOLUMES, begun, volumes::run(subject))?);
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// Tells how a case ended; its name where it failed.
fn told(
    results: Option<&Path>,
    case: &'static str,
    begun: Instant,
    judged: Result<String>,
) -> Result<Option<&'static str>> {
    let (verdict, detail) = match judged {
        Ok(figures) => ("seen", figures),
        Err(error) => ("failed", format!("{error:#}")),
    };
    println!("any     {case:<20} {:>6} ms  {verdict}: {detail}", begun.elapsed().as_millis());
    line(results, case, verdict, begun.elapsed(), &detail)?;
    Ok((verdict == "failed").then_some(case))
}

fn line(results: Option<&Path>, case: &str, verdict: &str, took: Duration, detail: &str) -> Result<()> {
    let Some(path) = results else { return Ok(()) };
    let detail: String = detail.chars().map(|c| if c < ' ' { ' ' } else { c }).take(2000).collect();
    let text = format!("any\t{case}\t{verdict}\t{}\t{detail}\n", took.as_millis());
    let mut file = std::fs::File::options().append(true).create(true).open(path)?;
    std::io::Write::write_all(&mut file, text.as_bytes())
        .with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::evidence::Evidence;

    #[test]
    fn a_slower_run_with_the_agent_is_a_failure() {
        let run = |seconds| first_light::Run { seconds, evidence: Evidence::default(), limit: 1.0 };
        let of = |without: f64, with: f64| Runs { without: vec![run(without); 3], with: vec![run(with); 3] };
        assert!(judge(&of(4.0, 2.0)).unwrap().contains("2.00 s with it"));
        assert!(judge(&of(2.0, 2.0)).unwrap_err().to_string().contains("did not help"));
        assert!(judge(&Runs::default()).is_err());
    }
}
