//! All of it together: a real control plane, the operator, the real agent, a store that is mounted only after a pod has
//! been bound, as a kubelet does it, and a Dataset that names that store by its URL.

use std::path::Path;
use std::process::{Command, Stdio};

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::DeleteParams;
use kube::{Api, Client, ResourceExt};
use operator_api::crd::Dataset;
use operator_api::crd::dataset_status::DatasetStatus;
use serde_json::{Value, json};
use tests::bench::lab::{StoreProcess, drop_caches, program};
use tests::cluster::fleet::{Fleet, Spec};
use tests::cluster::kubelet::WAITS;
use tests::cluster::wait::{Seen, until};
use tests::hygiene::{Folder, Ward};
use tests::podgroup::PodGroup;
use tests::store::StoreConfig;

use super::agent::Home;
use super::stage::{LIMIT, Replica, Stage, api, claim_is_bound, dataset, free, gone, make, namespace};

const SPACE: &str = "joined";
const SOURCE: &str = "joined.invalid:/export/train";

/// 300 files of 40,000 bytes in two folders: ten pages each.
const TREE: &str = "small:2x150x40k";
const BYTES: i64 = 300 * 40_000;
const PAGES: u64 = 300 * 10 * 4_096;

struct Agent {
    process: Ward,
    folder: Folder,
}

impl Agent {
    fn start(home: &Home, operator: &str) -> Self {
        let folder = Folder::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        let log = std::fs::File::create(at("log")).unwrap();
        let mut command = Command::new(program("headrace").unwrap());
        command.args(["agent", "--node", &home.node, "--operator", operator]);
        command.arg("--operator-ca").arg(&home.authority).arg("--operator-token").arg(&home.token);
        command.arg("--state").arg(at("state")).arg("--socket").arg(at("sock"));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self { process: Ward::new(command.spawn().unwrap()), folder }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn ask(&self, question: &str) -> Value {
        let mut command = Command::new(program("headrace").unwrap());
        command.arg("--socket").arg(self.folder.path().join("sock")).args([question, "--output", "json"]);
        let answer = command.output().unwrap();
        serde_json::from_slice(&answer.stdout).unwrap_or_else(|error| {
            panic!("{question}: {error}: {answer:?}; the agent said:\n{}", self.log())
        })
    }

    /// Bytes of the store in the page cache, whole pages.
    fn in_memory(&self) -> u64 {
        let answer = self.ask("residency");
        let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
        let mounts = answer["mounts"].as_array().into_iter().flatten();
        mounts.filter_map(|mount| number(&mount["resident_bytes"])).sum()
    }

    /// Whether it watches the store.
    fn watches(&self) -> bool {
        let node = self.ask("node");
        node["mounts"].as_array().is_some_and(|mounts| mounts.iter().any(|mount| mount["source"] == SOURCE))
    }
}

/// A store, mounted where a kubelet would have put it.
fn mounted() -> StoreProcess {
    let config =
        StoreConfig { tree: TREE.parse().unwrap(), source: SOURCE.to_owned(), ..StoreConfig::default() };
    StoreProcess::start(&config).unwrap()
}

/// A pod that is bound and waits for its volume.
async fn bound(client: &Client, name: &str, node: &str) -> Pod {
    let pod = json!({"metadata": {"name": name, "annotations": {WAITS: ""}}, "spec": {
        "nodeName": node,
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "train"}}],
        "containers": [{"name": "main", "image": "registry.invalid/none",
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}});
    make(&api::<Pod>(client, SPACE), pod).await
}

/// Waits until status says so. Numbers are written each 30 s.
async fn says(datasets: &Api<Dataset>, agent: &Agent, what: &str, so: impl Fn(&DatasetStatus) -> bool) {
    let told = until(what, LIMIT, async || {
        let status = datasets.get("train").await?.status.unwrap_or_default();
        Ok(if so(&status) { Seen::Done(()) } else { Seen::NotYet(json!(status).to_string()) })
    });
    told.await.unwrap_or_else(|error| panic!("{error}; the agent said:\n{}", agent.log()));
}

fn read(folder: &Path, pod: &Pod) {
    let group = PodGroup::of(&pod.uid().unwrap()).unwrap();
    let mut reader = Command::new("sh");
    reader.args(["-c", "echo $$ > \"$1\"/cgroup.procs && exec cat \"$0\"/part-000/* > /dev/null"]);
    reader.arg(folder).arg(group.path());
    assert!(reader.status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_pod_will_read_is_there_before_it_reads() {
    let stage = Stage::shared().await;
    let _turn = stage.turn().await;
    let client = stage.client().await;
    namespace(&client, SPACE).await;
    let folder = Folder::new().unwrap();
    let doors = [free(), free()];
    let replica = Replica::start(&stage.operator().await, "joined", Some(doors)).await;
    let fleet = Fleet::join(client.clone(), Spec::new("joined", 1)).await.unwrap();
    let node = fleet.names().next().unwrap();
    let datasets: Api<Dataset> = api(&client, SPACE);
    let mounts = json!({"mounts": [{"mountPoint": "nfs://joined.invalid/export/train", "path": "/"}]});
    make(&datasets, dataset("train", mounts)).await;
    claim_is_bound(&api::<PersistentVolumeClaim>(&client, SPACE), "train").await;
    let home = Home::make(&client, folder.path(), &node).await;
    let mut agent = Agent::start(&home, &format!("https://{}", doors[0]));

    // Nobody knows the store before its first pod: what that reads becomes the Dataset's numbers.
    drop_caches().unwrap();
    let first = bound(&client, "first", &node).await;
    let store = mounted();
    says(&datasets, &agent, "the Dataset's size is known", |status| {
        status.total_bytes == Some(BYTES) && status.file_num == Some(300)
    })
    .await;
    read(store.path(), &first);
    says(&datasets, &agent, "what was read is cached, and where", |status| {
        status.cached_bytes >= Some(BYTES / 2) && status.nodes.iter().any(|held| held.node == node)
    })
    .await;
    let pods: Api<Pod> = api(&client, SPACE);
    pods.delete("first", &DeleteParams::default().grace_period(0)).await.unwrap();
    drop(store);
    until("the mount is watched no more", LIMIT, async || {
        Ok(if agent.watches() { Seen::NotYet("it is".into()) } else { Seen::Done(()) })
    })
    .await
    .unwrap();
    says(&datasets, &agent, "nothing is cached any more", |status| {
        status.cached_bytes.is_none_or(|cached| cached == 0)
    })
    .await;
    drop_caches().unwrap();

    // The next one is bound, its volume comes, and nobody reads.
    bound(&client, "second", &node).await;
    let store = mounted();
    let there = until("all of it is there before anybody reads", LIMIT, async || {
        let (there, asked) =
            (agent.in_memory(), agent.log().contains("pod joined/second was bound to this node"));
        let seen = format!("{there} bytes; asked because of the pod: {asked}");
        Ok(if asked && there >= PAGES { Seen::Done(()) } else { Seen::NotYet(seen) })
    });
    there.await.unwrap_or_else(|error| panic!("{error}; the agent said:\n{}", agent.log()));
    assert!(agent.watches());

    pods.delete("second", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert!(agent.process.end(), "it ends when asked: {}", agent.log());
    drop(store);
    datasets.delete("train", &DeleteParams::default()).await.unwrap();
    gone(&datasets, "train").await;
    fleet.leave().await.unwrap();
    replica.end().await;
}
