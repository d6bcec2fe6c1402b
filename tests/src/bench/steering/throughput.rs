//! The case `extender` on a cluster: pods a second of a real kube-scheduler at 5,000 nodes, with the extender and
//! without. Every pod uses a Dataset.
//!
//! The scheduler is stopped (SIGSTOP) while pods are made, so that it is the scheduler that is measured and not
//! who makes pods; the clock runs from its continuation until the last pod has a node. Everything shares two
//! cores, so what a cluster does elsewhere is left out while the clock runs: kubelets that start pods (they stay
//! as they are bound), and a look at all pods to see who waits (one that does is enough).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use kube::api::{DeleteParams, ListParams, PostParams};

use super::floor;
use super::spent::{Clocks, Thread};
use super::stage::{Stage, Steering};
use crate::bench::figure::{Figure, Spread};
use crate::cluster::fleet::Spec;
use crate::cluster::process::Process;
use crate::cluster::wait::{Seen, until};

const NODES: usize = 5_000;
const DATASETS: usize = 20;
/// Several seconds of work: what happens in one of them by chance, as etcd's compaction, is then little of it.
const PODS: usize = 1_500;
const AT_ONCE: usize = 16;
const PATIENCE: Duration = Duration::from_secs(300);

/// Whom the scheduler asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extender {
    /// Ours for scores, as deploy/ has it.
    Ours,
    /// Ours for scores, and to filter too.
    Filtering,
    /// One that does nothing, for both.
    Floor,
}

impl Extender {
    pub fn case(self) -> &'static str {
        match self {
            Self::Ours => "extender",
            Self::Filtering => "extender-filter",
            Self::Floor => "extender-floor",
        }
    }
}

pub async fn run(repeats: usize, nodes: Option<u32>, asked: Extender) -> Result<Figure> {
    let nodes = nodes.map_or(NODES, |nodes| nodes as usize);
    let mut stage = Stage::set(Spec { kubelet: false, ..Spec::new("many", nodes) }).await?;
    stage.floor = (asked == Extender::Floor).then(floor::open).transpose()?;
    let names: Vec<String> = stage.fleet.names().collect();
    for number in 0..DATASETS {
        let dataset = format!("data-{number}");
        stage.dataset(&dataset).await?;
        for turn in 0..3 {
            if let Some(node) = names.get((number * 3 + turn) % names.len().max(1)) {
                stage.holds(node, &[&dataset]);
            }
        }
    }
    stage.claims_are_bound().await?;
    // What a fresh control plane does for the first time is nobody's time.
    let filter = asked != Extender::Ours;
    stage.steer(Steering { webhooks: false, extender: true, filter }).await?;
    rate(&stage, true).await?;
    let mut ratios = Vec::new();
    for round in 0..repeats.max(1) {
        // Each comes first in turn: the control plane grows slower as its history grows.
        let first = round % 2 == 1;
        let (mut with, mut without) = (0.0, 0.0);
        for extender in [first, !first] {
            stage.steer(Steering { webhooks: false, extender, filter }).await?;
            let rate = rate(&stage, extender).await?;
            eprintln!("{rate:.0} pods/s {} the extender", if extender { "with" } else { "without" });
            *if extender { &mut with } else { &mut without } = rate;
        }
        ratios.push(with / without);
    }
    let spread = Spread::of(ratios).context("nothing was measured")?;
    Ok(spread.figure(asked.case(), "pods_per_s_ratio", "ratio"))
}

/// Whether a run was what it is reported as. deploy/ makes the extender ignorable: a scheduler that cannot reach it
/// goes on without one, and fast.
fn asked(extender: bool, scored: usize, pods: usize) -> Result<()> {
    if extender {
        ensure!(
            scored >= pods,
            "the extender was asked for the scores of {scored} pods of {pods}: the others were scheduled without it, so \
             their rate is no rate with it; see the scheduler's log for why it did not answer in time"
        );
    } else {
        ensure!(scored == 0, "the extender was asked {scored} times in a run without it");
    }
    Ok(())
}

/// Pods a second; `extender` is whether the scheduler has one.
async fn rate(stage: &Stage, extender: bool) -> Result<f64> {
    let scheduler = stage.plane.processes().find(|process| process.name() == "kube-scheduler");
    let scheduler: &Process = scheduler.context("the control plane has no scheduler")?;
    // It reads all nodes first.
    let warm = stage.pod("first", "data-0", "10m")?;
    stage.pods().create(&PostParams::default(), &warm).await?;
    stage.node_of("first").await?;
    let before = stage.scored();
    let thread = Thread::read(stage).await?;

    scheduler.pause()?;
    let made = futures::stream::iter(0..PODS)
        .map(|number| async move {
            let pod = stage.pod(&format!("pod-{number}"), &format!("data-{}", number % DATASETS), "10m")?;
            stage.pods().create(&PostParams::default(), &pod).await?;
            anyhow::Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await;
    let clocks = Clocks::read(stage)?;
    scheduler.resume()?;
    made?;
    let begun = Instant::now();
    let pods = stage.pods();
    let waiting = ListParams::default().fields("spec.nodeName=").limit(1);
    let time = until("every pod has a node", PATIENCE, async || {
        let page = pods.list_metadata(&waiting).await?;
        Ok(match page.items.first() {
            None => Seen::Done(begun.elapsed()),
            Some(pod) => Seen::NotYet(format!("{} has none", pod.metadata.name.as_deref().unwrap_or("one"))),
        })
    })
    .await?;
    let spent = clocks.spent(&Clocks::read(stage)?, (thread, Thread::read(stage).await?));
    eprintln!("{spent}");
    asked(extender, stage.scored() - before, PODS)?;
    let now = DeleteParams::default().grace_period(0);
    pods.delete_collection(&now, &ListParams::default()).await?;
    until("the pods are gone", PATIENCE, async || {
        let left = pods.list_metadata(&ListParams::default()).await?.items.len();
        Ok(if left == 0 { Seen::Done(()) } else { Seen::NotYet(format!("{left} are left")) })
    })
    .await?;
    Ok(PODS as f64 / time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_without_answers_is_no_rate_with_the_extender() {
        assert!(asked(true, PODS, PODS).is_ok());
        assert!(asked(true, PODS + 3, PODS).is_ok(), "a pod may be tried twice");
        for scored in [0, PODS - 1] {
            let words = asked(true, scored, PODS).unwrap_err().to_string();
            assert!(words.contains(&format!("{scored} pods of {PODS}")), "{words}");
        }
        assert!(asked(false, 0, PODS).is_ok());
        assert!(asked(false, 1, PODS).is_err());
    }
}
