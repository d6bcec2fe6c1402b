//! Two replicas behind one Service: agents report to the one that leads, and both give its answers; when it dies the
//! other one takes over, and nobody waits meanwhile.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use kube::Error;
use kube::api::PostParams;
use operator_api::crd::Dataset;
use serde_json::json;
use tests::cluster::fleet::Spec;
use tests::cluster::operator::{metric_of, status_of};
use tests::cluster::wait::{Seen, until};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::stage::{LIMIT, Stage, decision, free_port};
use super::steering::the_extender_steers_too;

/// As a Service does it: each connection goes to the next replica, whichever leads.
struct Service {
    at: SocketAddr,
    cut: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Service {
    async fn open(replicas: [SocketAddr; 2]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        let (cut, end) = watch::channel(());
        let task = tokio::spawn(async move {
            for replica in replicas.iter().cycle() {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                let (replica, mut end) = (*replica, end.clone());
                end.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut to) = TcpStream::connect(replica).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut stream, &mut to) => {}
                        _ = end.changed() => {}
                    }
                });
            }
        });
        Self { at, cut, task }
    }

    /// Every connection ends, as those to a process that has died do: a replica in this one leaves its own behind.
    fn cut(&self) {
        self.cut.send_replace(());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Questions that a replica has passed on: answered, and in vain.
async fn passed_on(health: SocketAddr) -> (u64, u64) {
    let count = async |result: &str| {
        let series = format!("headrace_operator_passed_on_total{{result=\"{result}\"}}");
        metric_of(health, &series).await.unwrap_or(0)
    };
    (count("answered").await, count("failed").await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_replicas_know_what_one_is_told() {
    let mut stage = Stage::set(Spec { cpus: 8, ..Spec::new("led", 4) }).await;
    let (health, agents, scheduling) = (free_port(), free_port(), free_port());
    let (stop, second) = stage.replica("two", health, agents, scheduling).await;
    until("the second replica is ready", LIMIT, async || {
        let status = status_of(health, "/readyz").await;
        Ok(if status == Some(200) { Seen::Done(()) } else { Seen::NotYet(format!("{status:?}")) })
    })
    .await
    .unwrap();
    let service = Service::open([stage.agents, agents]).await;
    stage.agents = service.at;
    stage.dataset("train").await;
    let _holder = stage.agent("led-1", &["train"], &["train"], None).await;

    // The API server and schedulers ask the one that does not lead.
    stage.scheduling = scheduling;
    stage.webhooks().await;
    let words = stage.would_be_steered("train").await;
    assert!(words.starts_with("prefers led-1 (1.0 GiB)"), "{words}");
    let (answered, failed) = passed_on(health).await;
    assert!(answered > 0 && failed == 0, "{answered} answered, {failed} not");
    let made = stage.make(&stage.pod("one", "train")).await;
    assert!(decision(&made).starts_with("prefers led-1"), "{made:?}");
    assert_eq!(stage.node_of("one").await, "led-1");

    // What no node has said there, the leader knows, once its agents have had a minute to come.
    let large = json!({
        "apiVersion": "headrace.io/v1alpha1", "kind": "Dataset", "metadata": {"name": "large"},
        "spec": {"mounts": [{"mountPoint": "nfs://nas/large", "name": "x"}], "cache": {"quota": "1Pi"}},
    });
    let large: Dataset = serde_json::from_value(large).unwrap();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let message = until("a quota above every node is refused", LIMIT, async || {
        Ok(match stage.api::<Dataset>().create(&dry, &large).await {
            Ok(_) => Seen::NotYet("it is let in".into()),
            Err(Error::Api(status)) => Seen::Done(status.message.clone()),
            Err(error) => return Err(error),
        })
    })
    .await
    .unwrap();
    assert!(message.contains("above what any node can cache"), "{message}");

    let (before, _) = passed_on(health).await;
    the_extender_steers_too(&mut stage).await;
    let (after, failed) = passed_on(health).await;
    assert!(after > before && failed == 0, "{before}, {after} answered, {failed} not");

    // The one that leads dies. Pods are made at once, and as they are; then the other one leads and knows.
    stage.kill_operator();
    service.cut();
    let dead = Instant::now();
    let made = stage.make(&stage.pod("meanwhile", "train")).await;
    let waited = dead.elapsed();
    assert!(waited < Duration::from_secs(2), "the pod waited for {waited:?}");
    assert!(!decision(&made).starts_with("prefers"), "{made:?}");
    stage.node_of("meanwhile").await;
    let words = stage.would_be_steered("train").await;
    let gap = dead.elapsed();
    assert!(words.starts_with("prefers led-1 (1.0 GiB)"), "{words}");
    println!("steered again {gap:.1?} after the leader died; the pod of the gap was made after {waited:.1?}");
    // The Lease, and some tries of the agents.
    assert!(gap < Duration::from_secs(40), "{gap:?}");

    stop.send_replace(true);
    tokio::time::timeout(Duration::from_secs(10), second).await.expect("it ends").unwrap();
}
