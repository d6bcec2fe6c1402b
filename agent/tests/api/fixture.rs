//! A server with an engine whose answers a test chooses, and the binary that asks it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use agent::api::query::{EngineSide, Link, NodeAnswer, Place, PlanSummary, Query, Seen, channel_with};
use agent::api::{Listeners, RecordSink};
use agent::config::ApiConfig;
use agent::doctor::Check;
use agent::metrics::Metrics;
use agent::metrics::histograms::{Histograms, Latency};
use agent::mounts::{Namespace, Spot};
use agent_core::view::*;
use agent_core::{FileKey, MountId, Nanos};
use operator_api::observability::v1::observability_client::ObservabilityClient;
use tokio::sync::{broadcast, watch};
use tonic::transport::Channel;

/// Beyond this a test has hung.
pub const LIMIT: Duration = Duration::from_secs(30);

/// A name that would clear the screen, set the title, break the line and is no UTF-8.
pub const EVIL: &[u8] = b"train/\x1b[2J\x1b]0;owned\x07\n\xc2\x9b1m\xff.jpg";

pub type OnRecord = Box<dyn FnMut(RecordSink) -> Result<(), Box<str>> + Send>;

pub struct Fixture {
    pub folder: tempfile::TempDir,
    pub socket: PathBuf,
    /// Where everybody on the node may ask.
    pub tcp: SocketAddr,
    pub metrics: Metrics,
    pub happenings: broadcast::Sender<Arc<Happening>>,
    pub stop: watch::Sender<bool>,
    runtime: tokio::runtime::Runtime,
    serving: Option<tokio::task::JoinHandle<()>>,
}

impl Fixture {
    pub fn new() -> Self {
        Self::with_record(Box::new(|_| Err("this engine records nothing".into())))
    }

    pub fn with_record(mut on_record: OnRecord) -> Self {
        Self::with_engine(Duration::from_secs(5), move |mut side: EngineSide| async move {
            while let Some(query) = side.queries.recv().await {
                answer(query, &mut on_record);
            }
        })
    }

    /// An engine that takes no question.
    pub fn dead() -> Self {
        Self::with_engine(Duration::from_millis(200), |side| async move {
            let _side = side;
            std::future::pending::<()>().await;
        })
    }

    /// An engine that has ended.
    pub fn gone() -> Self {
        Self::with_engine(Duration::from_millis(200), |side| async move { drop(side) })
    }

    fn with_engine<F>(patience: Duration, engine: impl FnOnce(EngineSide) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent.sock");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (link, side): (Link, EngineSide) = channel_with(patience);
        let happenings = side.happenings.clone();
        let (stop, stopped) = watch::channel(false);
        let metrics = Metrics::noop();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = ApiConfig { socket: socket.clone(), listen: Some(any) };
        runtime.spawn(engine(side));
        let listeners = runtime.block_on(Listeners::bind(&config)).unwrap();
        let tcp = listeners.tcp_addr().unwrap();
        let served = metrics.clone();
        let serving = runtime.spawn(async move {
            listeners.serve(link, served, Namespace::default(), stopped).await.unwrap()
        });
        Self { folder, socket, tcp, metrics, happenings, stop, runtime, serving: Some(serving) }
    }

    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { tokio::time::timeout(LIMIT, work).await.expect("it hangs") })
    }

    pub async fn client(&self) -> ObservabilityClient<Channel> {
        agent::cli::client::connect(&self.socket).await.unwrap()
    }

    /// A channel for other services than ours.
    pub async fn channel(&self) -> Channel {
        let socket = self.socket.clone();
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move {
                let stream = tokio::net::UnixStream::connect(socket).await?;
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
            }
        });
        tonic::transport::Endpoint::from_static("http://agent")
            .connect_with_connector(connector)
            .await
            .unwrap()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = headrace(args);
        command.arg("--socket").arg(&self.socket);
        command
    }

    pub fn ask(&self, args: &[&str]) -> Output {
        run(&mut self.command(args))
    }

    pub fn stop(&mut self) {
        self.stop.send(true).unwrap();
        if let Some(serving) = self.serving.take() {
            self.block_on(serving).unwrap();
        }
    }
}

pub fn headrace(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headrace"));
    command.args(args).stdin(Stdio::null()).env_remove("HEADRACE_SOCKET").env_remove("HEADRACE_LOG");
    command
}

/// Runs to the end, or fails after `LIMIT`.
pub fn run(command: &mut Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(child.wait_with_output()));
    ended
        .recv_timeout(LIMIT)
        .unwrap_or_else(|_| {
            kill(pid, rustix::process::Signal::KILL);
            panic!("{command:?} hangs")
        })
        .unwrap()
}

pub fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Waits until it is so, and fails after `LIMIT`.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !so() {
        assert!(started.elapsed() < LIMIT, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn answer(query: Query, on_record: &mut OnRecord) {
    match query {
        Query::Node { reply } => drop(reply.send(node())),
        Query::Workloads { reply } => drop(reply.send(workloads())),
        Query::Files { select, reply } => {
            let fits = |file: &FileView| {
                file.path.starts_with(&select.prefix) && select.mount.is_none_or(|mount| mount == file.mount)
            };
            drop(reply.send(files().into_iter().filter(fits).take(select.limit).collect()));
        }
        Query::Explain { file, path, reply, .. } => {
            let found = files().into_iter().find(|view| Some(view.file) == file || view.path == path);
            drop(reply.send(found.map(explanation)));
        }
        Query::Ledger { reply } => drop(reply.send(ledger())),
        Query::Histograms { reply } => {
            let mut histograms = Histograms::default();
            for ms in 1..=100 {
                histograms.record("store:/a", Latency::Miss, Nanos::from_millis(ms));
                histograms.record("store:/b", Latency::Miss, Nanos::from_millis(ms * 10));
            }
            drop(reply.send(histograms.encode().unwrap()));
        }
        Query::Doctor { reply } => {
            drop(reply.send(vec![Check::warn("cannot be seen", "O_DIRECT", "nothing")]));
        }
        Query::Record { sink, reply } => drop(reply.send(on_record(sink))),
        // The reporter is not part of this.
        Query::Outside(_) => {}
    }
}

const FATE: Fate = Fate { hit: 90 << 20, late: 5 << 20, wasted: 3 << 20, pending: 2 << 20 };

fn node() -> NodeAnswer {
    let mount = |mount, source: &str, survival| MountView {
        mount: MountId(mount),
        dev: 50,
        source: source.into(),
        fstype: "fuse.slow".into(),
        survival,
        depth: 64,
        miss_latency: Nanos::from_millis(5),
    };
    NodeAnswer {
        view: NodeView {
            mounts: vec![
                mount(0, "store:/a", Survival::Kept),
                mount(1, "store:/\x1b[31mb", Survival::Dropped),
            ],
            files: 3,
            workloads: 1,
            reads: 1000,
            read_bytes: 100 << 20,
            covered_bytes: 97 << 20,
            fetched_bytes: 100 << 20,
            fate: FATE,
            lost_records: 0,
            in_flight: 12,
            queued: 3,
            memory_available: 8 << 30,
        },
        plan: PlanSummary {
            plan: "btf-tracepoint".into(),
            hooks: vec!["mm_filemap_get_pages".into()],
            unseen: vec!["O_DIRECT".into()],
            refused: vec![("fentry".into(), "EPERM".into())],
        },
        drops_per_cpu: vec![0, 0],
        places: vec![Place {
            mount: MountId(0),
            dev: 5,
            seen: vec![Seen {
                point: b"/mnt/data".as_slice().into(),
                root: b"/".as_slice().into(),
                spot: Some(spot()),
            }],
        }],
        observe_only: false,
        memory_total: 16 << 30,
        memory_pressure: 125,
    }
}

fn spot() -> Spot {
    let (point, root) = (b"/mnt/data".as_slice().into(), b"/".as_slice().into());
    Spot { id: 45, dev: 5, point, root, source: "nas:/export".into() }
}

fn workloads() -> Vec<WorkloadView> {
    vec![WorkloadView {
        workload: "python3 train.py".into(),
        label: "train\x1b]0;owned\x07.py".into(),
        tgids: vec![4711, 4712],
        runs: 2,
        files_read: 3,
        read_bytes: 100 << 20,
        covered_bytes: 97 << 20,
        fetched_bytes: 100 << 20,
        fate: FATE,
        pattern: "shuffled epoch".into(),
        reason: "every file once".into(),
    }]
}

fn files() -> Vec<FileView> {
    let file = |ino, path: &[u8]| FileView {
        file: FileKey { dev: 50, ino },
        mount: MountId(0),
        path: path.into(),
        size: 1 << 20,
        reads: 8,
        read_bytes: 1 << 20,
        covered_bytes: 1 << 19,
        resident_pages: 256,
        resident_by_reader: 100,
        resident_by_readahead: 56,
        resident_by_agent: 100,
        pattern: "whole file".into(),
    };
    vec![file(1, b"train/0001.jpg"), file(2, EVIL), file(3, b"valid/0001.jpg")]
}

fn explanation(file: FileView) -> Explanation {
    Explanation {
        file,
        resident: vec![0..128, 200..256],
        patterns: vec!["whole small file: 40 of 40 were read to the end".into()],
        next: vec![Expectation {
            what: "train/0002.jpg".into(),
            predictor: Predictor::Directory,
            reason: "the 12 files before it came in this order".into(),
        }],
    }
}

fn ledger() -> Vec<LedgerRow> {
    let row = |predictor| LedgerRow {
        workload: "python3 train.py".into(),
        predictor,
        predictions: 400,
        fetched_bytes: 50 << 20,
        fate: FATE,
    };
    vec![row(Predictor::Epoch), row(Predictor::WholeFile)]
}
