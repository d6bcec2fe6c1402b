//! The cases `extender` and `webhook` without a cluster: how long answers take, over HTTPS, from another
//! process, while the operator takes in 1,000 reports a second.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::ask::Asker;
use super::door::Opened;
use super::world::{self, NAMESPACE, World};
use crate::bench::figure::{Figure, Spread};
use crate::bench::lab::program;

/// 5,000 nodes × 10,000 Datasets, as the issue has it.
pub const LARGE: World = World { nodes: 5_000, datasets: 10_000, holders: 3 };

/// 5,000 nodes that report every 5 s.
const REPORTS: u32 = 1_000;

/// Requests of one run: its p99 is the 20th slowest.
const REQUESTS: u32 = 2_000;

/// Before a run: connections, caches, the processor's clock.
const WARMING: u32 = 100;

/// The door in its own process, ended with this.
#[derive(Debug)]
pub struct Door {
    child: Child,
    pub opened: Opened,
}

impl Door {
    pub fn open(world: World) -> Result<Self> {
        let World { nodes, datasets, holders } = world;
        let mut child = Command::new(program("steering-door")?)
            .args([nodes, datasets, holders, REPORTS].map(|number| number.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start steering-door")?;
        let mut line = String::new();
        let said = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
        match (said, serde_json::from_str(&line)) {
            (Some(Ok(_)), Ok(opened)) => Ok(Self { child, opened }),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                bail!("steering-door did not say where it listens, but '{line}'")
            }
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Its standard input ends: it stops by itself; should it not, it is stopped.
        drop(self.child.stdin.take());
        for _ in 0..100 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// p99 of prioritize and of filter, requests that name all nodes.
pub fn extender(door: &Door, world: World, repeats: usize) -> Result<Vec<Figure>> {
    let names: Vec<String> = (0..world.nodes).map(world::node).collect();
    let question = |number: u32| {
        let pod = world::pod(number, &world::dataset(number.wrapping_mul(7_919) % world.datasets));
        serde_json::to_vec(&json!({"Pod": pod, "Nodes": null, "NodeNames": names}))
    };
    let scored = |number: u32, answer: &[u8]| {
        let scores: Vec<Value> = serde_json::from_slice(answer)?;
        let holder = world::node(world.holder(number.wrapping_mul(7_919) % world.datasets, 0));
        let best = scores.iter().filter(|score| score["Score"].as_u64() >= Some(8)).count();
        if best == 0
            || !scores.iter().any(|score| score["Host"] == *holder && score["Score"].as_u64() >= Some(8))
        {
            bail!("{holder} holds all of the Dataset and did not get its points");
        }
        Ok(())
    };
    let kept = |_: u32, answer: &[u8]| {
        let result: Value = serde_json::from_slice(answer)?;
        match result["NodeNames"].as_array() {
            Some(kept) if kept.len() == names.len() => Ok(()),
            _ => bail!("filter did not keep all nodes"),
        }
    };
    let prioritize = p99(door, "/extender/prioritize", question, scored, repeats)?;
    let filter = p99(door, "/extender/filter", question, kept, repeats)?;
    Ok(vec![prioritize.figure("extender", "p99_ms", "ms"), filter.figure("extender", "filter_p99_ms", "ms")])
}

/// p99 of the mutating webhook.
pub fn webhook(door: &Door, world: World, repeats: usize) -> Result<Vec<Figure>> {
    let question = |number: u32| {
        let mut pod = world::pod(number, &world::dataset(number.wrapping_mul(7_919) % world.datasets));
        if let Some(pod) = pod.as_object_mut() {
            pod.remove("status");
        }
        serde_json::to_vec(&json!({
            "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
            "request": {
                "uid": format!("{number}"), "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "resource": {"group": "", "version": "v1", "resource": "pods"},
                "namespace": NAMESPACE, "operation": "CREATE", "object": pod, "oldObject": null
            }
        }))
    };
    let patched = |_: u32, answer: &[u8]| {
        let answer: Value = serde_json::from_slice(answer)?;
        match answer["response"]["patch"].as_str() {
            Some(_) => Ok(()),
            None => bail!("the pod was not changed: {answer}"),
        }
    };
    let spread = p99(door, "/webhook/mutate", question, patched, repeats)?;
    Ok(vec![spread.figure("webhook", "p99_ms", "ms")])
}

/// The 99th percentile in milliseconds, of several runs. Questions are made and answers looked at outside of
/// the time that is measured.
fn p99(
    door: &Door,
    path: &str,
    question: impl Fn(u32) -> serde_json::Result<Vec<u8>>,
    check: impl Fn(u32, &[u8]) -> Result<()>,
    repeats: usize,
) -> Result<Spread> {
    let mut asker = Asker::connect(&door.opened)?;
    let mut percentiles = Vec::new();
    for repeat in 0..u32::try_from(repeats.max(1))? {
        let mut times = Vec::new();
        for number in 0..WARMING + REQUESTS {
            let number = repeat * (WARMING + REQUESTS) + number;
            let (answer, time) =
                asker.ask(path, &question(number)?).with_context(|| format!("asking {path}"))?;
            check(number, &answer)?;
            times.push(time.as_secs_f64() * 1e3);
        }
        let mut times = times.split_off(WARMING as usize);
        times.sort_by(f64::total_cmp);
        percentiles.extend(times.get(times.len() * 99 / 100));
    }
    Spread::of(percentiles).context("nothing was measured")
}
