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

use super::spent::{Clocks, Thread};
use super::stage::{Extender, Stage, Steering};
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

impl Extender {
    pub fn case(self) -> &'static str {
        match self {
            Self::Ours => "extender",
            Self::Filtering => "extender-filter",
            Self::Floor => "extender-floor",
        }
    }

    /// What each round runs, one after another. What the floor is for is told beside ours only: the machine's speed is
    /// another a quarter of an hour later.
    fn turns(self) -> &'static [Option<Self>] {
        match self {
            Self::Ours => &[None, Some(Self::Ours)],
            Self::Filtering => &[None, Some(Self::Filtering)],
            Self::Floor => &[None, Some(Self::Floor), Some(Self::Ours)],
        }
    }

    fn words(asked: Option<Self>) -> &'static str {
        match asked {
            None => "without an extender",
            Some(Self::Ours) => "with the extender",
            Some(Self::Filtering) => "with the extender, which filters too",
            Some(Self::Floor) => "with an extender that does nothing",
        }
    }
}

/// `pods_per_s_ratio` of `asked`, to none; of the floor also `of_floor`, ours to it.
pub async fn run(repeats: usize, nodes: Option<u32>, asked: Extender) -> Result<Vec<Figure>> {
    let nodes = nodes.map_or(NODES, |nodes| nodes as usize);
    let mut stage = Stage::set(Spec { kubelet: false, ..Spec::new("many", nodes) }).await?;
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
    rate(&mut stage, Some(asked)).await?;
    let turns = asked.turns();
    let (mut ratios, mut of_floor) = (Vec::new(), Vec::new());
    for round in 0..repeats.max(1) {
        let (mut none, mut floor, mut ours) = (f64::NAN, f64::NAN, f64::NAN);
        for turn in 0..turns.len() {
            // Each comes first in turn: the control plane grows slower as its history grows.
            let Some(&extender) = turns.get((turn + round) % turns.len()) else { continue };
            let rate = rate(&mut stage, extender).await?;
            eprintln!("{rate:.0} pods/s {}", Extender::words(extender));
            match extender {
                None => none = rate,
                Some(Extender::Floor) => floor = rate,
                Some(Extender::Ours | Extender::Filtering) => ours = rate,
            }
        }
        if asked == Extender::Floor {
            ratios.push(floor / none);
            of_floor.push(ours / floor);
        } else {
            ratios.push(ours / none);
        }
    }
    let spread = Spread::of(ratios).context("nothing was measured")?;
    let of_floor = Spread::of(of_floor).map(|spread| spread.figure(asked.case(), "of_floor", "ratio"));
    Ok([spread.figure(asked.case(), "pods_per_s_ratio", "ratio")].into_iter().chain(of_floor).collect())
}

/// Whether a run was what it is reported as: how often ours was asked for scores, and the floor. deploy/ makes the
/// extender ignorable: a scheduler that cannot reach it goes on without one, and fast.
fn is_so(extender: Option<Extender>, (ours, floor): (usize, usize), pods: usize) -> Result<()> {
    let (asked, other) = match extender {
        None => (None, ours + floor),
        Some(Extender::Floor) => (Some(floor), ours),
        Some(Extender::Ours | Extender::Filtering) => (Some(ours), floor),
    };
    if let Some(scored) = asked {
        ensure!(
            scored >= pods,
            "the extender was asked for the scores of {scored} pods of {pods}: the others were scheduled without it, so \
             their rate is no rate with it; see the scheduler's log for why it did not answer in time"
        );
    }
    ensure!(other == 0, "an extender was asked {other} times in a run {}", Extender::words(extender));
    Ok(())
}

/// Pods a second.
async fn rate(stage: &mut Stage, extender: Option<Extender>) -> Result<f64> {
    stage.steer(Steering { webhooks: false, extender }).await?;
    let stage = &*stage;
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
    let after = stage.scored();
    is_so(extender, (after.0 - before.0, after.1 - before.1), PODS)?;
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
        let ours = |scored| is_so(Some(Extender::Ours), (scored, 0), PODS);
        assert!(ours(PODS).is_ok());
        assert!(ours(PODS + 3).is_ok(), "a pod may be tried twice");
        for scored in [0, PODS - 1] {
            let words = ours(scored).unwrap_err().to_string();
            assert!(words.contains(&format!("{scored} pods of {PODS}")), "{words}");
        }
        assert!(is_so(Some(Extender::Floor), (0, PODS), PODS).is_ok());
        assert!(is_so(Some(Extender::Floor), (PODS, PODS), PODS).is_err(), "both were asked");
        assert!(is_so(Some(Extender::Filtering), (0, PODS), PODS).is_err());
        assert!(is_so(None, (0, 0), PODS).is_ok());
        assert!(is_so(None, (1, 0), PODS).is_err());
        assert!(is_so(None, (0, 1), PODS).is_err());
    }
}
