//! The real agent on a slow store, reporting to the operator's end of the wire: what it reads becomes residency, what
//! the operator asks for is brought in and let go, and without an operator it goes on alone.
//!
//! Needs root and /dev/fuse, and `headrace` beside the test's folder.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant, SystemTime};

use operator::certs::vault::MemoryVault;
use operator::certs::{self, Authority, Bearer, Enrolments, Source, enrol};
use operator::ingest::{self, Extent, Folder as Mount, Hub, Limits, Standing, State, Wish, Work};
use operator::inventory::{DatasetSpec, Fact, Inventory, Tier};
use rustix::mount::UnmountFlags;
use tests::agents::pem;
use tests::bench::lab::{StoreProcess, drop_caches, program};
use tests::hygiene::{Folder, Ward};
use tests::podgroup::PodGroup;
use tests::store::StoreConfig;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// The Dataset in the page cache: ten pages of each of 300 files.
const WHOLE: u64 = 300 * 10 * 4_096;

struct Words;

impl certs::Authenticator for Words {
    async fn authenticate(&self, token: &str) -> Result<Bearer, enrol::Refusal> {
        match token {
            "the pod's token" => Ok(Bearer { node: "n1".into() }),
            _ => Err(enrol::Refusal::Invalid("unknown".into())),
        }
    }
}

struct Operator {
    hub: Arc<Hub>,
    address: String,
    authority: Authority,
    runtime: Runtime,
    stop: watch::Sender<bool>,
}

/// With Datasets by name and source.
fn operator(vault: &MemoryVault, at: &str, datasets: &[(&str, &str)]) -> Operator {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let limits = Limits { interval: Duration::from_millis(500), ..Limits::default() };
    let hub = Hub::new(limits, 1, Arc::new(RwLock::new(Inventory::default())));
    hub.directory().set(datasets.iter().map(|(dataset, source)| Mount {
        dataset: (*dataset).into(),
        source: (*source).into(),
        prefix: "".into(),
    }));
    for (dataset, _) in datasets {
        let fact = Fact::Dataset { dataset: (*dataset).into(), spec: DatasetSpec::default() };
        hub.inventory().write().unwrap().apply(fact, hub.now());
    }
    let (stop, stopped) = watch::channel(false);
    let address = runtime.block_on(async {
        let source = Source::Own { vault: vault.clone(), names: vec!["127.0.0.1".into()] };
        let (serving, signer) = certs::open(&source).await.unwrap();
        let listening = ingest::bind(at.parse().unwrap()).unwrap();
        let address = listening.addr().to_string();
        let enrolments = Enrolments::new(Words, signer);
        tokio::spawn(listening.serve(hub.clone(), serving, Some(enrolments), stopped));
        address
    });
    let roots = runtime.block_on(certs::vault::obtain(vault, SystemTime::now())).unwrap();
    Operator { hub, address, authority: roots.authority, runtime, stop }
}

fn agent(watched: &[&Path], folder: &Path, operator: &Operator) -> Ward {
    let authority = pem("CERTIFICATE", operator.authority.certificate());
    std::fs::write(folder.join("ca.crt"), authority).unwrap();
    std::fs::write(folder.join("token"), "the pod's token\n").unwrap();
    let address = &operator.address;
    let log = std::fs::File::create(folder.join("agent.log")).unwrap();
    let mut command = Command::new(program("headrace").unwrap());
    command.args(["agent", "--node", "n1", "--operator"]).arg(format!("https://{address}"));
    command.arg("--operator-ca").arg(folder.join("ca.crt")).arg("--operator-token").arg(folder.join("token"));
    command.arg("--state").arg(folder.join("state")).arg("--socket").arg(folder.join("sock"));
    for path in watched {
        command.arg("--watch").arg(path);
    }
    Ward::new(command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
}

/// What the agent answers to a command of a person.
fn asked(folder: &Path, what: &str) -> serde_json::Value {
    let mut command = Command::new(program("headrace").unwrap());
    command.arg("--socket").arg(folder.join("sock")).args([what, "--output", "json"]);
    serde_json::from_slice(&command.output().unwrap().stdout).unwrap()
}

/// Bytes of the Dataset in the page cache, as the agent itself says.
fn in_memory(folder: &Path) -> u64 {
    let answer = asked(folder, "residency");
    let number = |value: &serde_json::Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    let mounts = answer["mounts"].as_array().unwrap().iter();
    mounts.filter_map(|mount| number(&mount["resident_bytes"])).sum()
}

/// What `headrace doctor` says of the operator.
fn doctor(folder: &Path) -> String {
    let answer = asked(folder, "doctor");
    let checks = answer["checks"].as_array().unwrap().iter();
    let mut of_operator = checks.filter(|check| check["name"] == "operator");
    of_operator.next().map(|check| check["finding"].as_str().unwrap().to_owned()).unwrap_or_default()
}

fn refetch(number: u32) -> String {
    format!("refetch-{number}")
}

fn until(what: &str, folder: &Path, mut done: impl FnMut() -> bool) {
    let given_up = Instant::now() + Duration::from_secs(30);
    while !done() {
        let log = || std::fs::read_to_string(folder.join("agent.log")).unwrap_or_default();
        assert!(Instant::now() < given_up, "{what} did not happen; the agent said:\n{}", log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn resident(operator: &Operator) -> u64 {
    resident_of(operator, "a/data")
}

fn resident_of(operator: &Operator, dataset: &str) -> u64 {
    let inventory = operator.hub.inventory().read().unwrap();
    let (Some(node), Some(id)) = (inventory.node_id("n1"), inventory.dataset_id(dataset)) else { return 0 };
    inventory.dataset(id).map_or(0, |dataset| dataset.resident(node, Tier::Ram))
}

fn files(operator: &Operator, dataset: &str) -> Option<u64> {
    let inventory = operator.hub.inventory().read().unwrap();
    inventory.dataset(inventory.dataset_id(dataset)?)?.summary().files
}

fn wish(id: &str, work: impl Fn(Extent, Tier) -> Work) -> Wish {
    wish_of("a/data", id, work)
}

fn wish_of(dataset: &str, id: &str, work: impl Fn(Extent, Tier) -> Work) -> Wish {
    let extent = Extent { dataset: dataset.into(), path: Box::default(), chunks: None };
    let work = work(extent, Tier::Ram);
    Wish {
        id: id.into(),
        node: "n1".into(),
        work,
        reason: "test".into(),
        useful_ms: 0,
        priority: 0,
        awaits_mount: false,
    }
}

fn ended(operator: &Operator, id: &str) -> Option<operator::ingest::Progress> {
    ended_of(operator.hub.standing("n1", id)?)
}

fn ended_of(standing: Standing) -> Option<operator::ingest::Progress> {
    match standing {
        Standing::Ended(progress) => Some(progress),
        _ => None,
    }
}

#[test]
fn a_node_is_known_and_does_as_it_is_asked() {
    let config = StoreConfig { tree: "small:2x150x40k".parse().unwrap(), ..StoreConfig::default() };
    let store = StoreProcess::start(&config).unwrap();
    drop_caches().unwrap();
    let folder = Folder::new().unwrap();
    let vault = MemoryVault::default();
    let datasets = [("a/data", &*config.source)];
    let first = operator(&vault, "127.0.0.1:0", &datasets);
    let mut agent = agent(&[store.path()], folder.path(), &first);

    // Its files are found, their version is known, and nothing is resident.
    let summary = |operator: &Operator| {
        let inventory = operator.hub.inventory().read().unwrap();
        inventory
            .dataset_id("a/data")
            .and_then(|id| Some(inventory.dataset(id)?.summary()))
            .unwrap_or_default()
    };
    until("the Dataset's version", folder.path(), || summary(&first).files == Some(300));
    assert_eq!((summary(&first).bytes, resident(&first)), (Some(300 * 40_000), 0));

    assert_eq!(doctor(folder.path()), format!("reporting to {}", first.address));

    // All of it is brought in, by the agent, and told.
    first.hub.instruct(wish("fetch-1", Work::Fetch)).unwrap();
    until("the fetch", folder.path(), || ended(&first, "fetch-1").is_some());
    let progress = ended(&first, "fetch-1").unwrap();
    assert_eq!(
        (progress.state, progress.files, progress.failed_files),
        (State::Done, 300, 0),
        "{progress:?}"
    );
    until("residency", folder.path(), || resident(&first) == 300 * 40_000);

    // The operator goes and comes; the agent lives on, and tells it everything.
    let (address, digest) = (first.address.clone(), resident(&first));
    let _ = first.stop.send(true);
    first.runtime.shutdown_timeout(Duration::from_secs(3));
    drop(first.hub);
    std::thread::sleep(Duration::from_millis(500));
    assert!(agent.child().try_wait().unwrap().is_none(), "the agent does not need an operator");
    let alone = format!("not reporting to {address}: ");
    until("the doctor's word that it is alone", folder.path(), || doctor(folder.path()).starts_with(&alone));
    let second = operator(&vault, &address, &datasets);
    let mut fetches = 0;
    until("everything again", folder.path(), || {
        // A machine short of memory takes pages back at any time: those are fetched again, and then all is told.
        if second.hub.standing("n1", &refetch(fetches)).is_none_or(|standing| ended_of(standing).is_some())
            && in_memory(folder.path()) < WHOLE
        {
            fetches += 1;
            second.hub.instruct(wish(&refetch(fetches), Work::Fetch)).unwrap();
        }
        resident(&second) == digest
    });
    let instructions = second.hub.counts().get(ingest::Tally::Instructions);
    // The same wish is not done again: the agent's memory answers.
    second.hub.instruct(wish("fetch-1", Work::Fetch)).unwrap();
    until("the known end", folder.path(), || ended(&second, "fetch-1").is_some());
    assert_eq!(second.hub.counts().get(ingest::Tally::Instructions), instructions);
    assert_eq!(second.hub.counts().get(ingest::Tally::ConnectionsResumed), 1, "it came with its ticket");

    // Let go again.
    second.hub.instruct(wish("drop-1", Work::Drop)).unwrap();
    until("the drop", folder.path(), || {
        ended(&second, "drop-1").is_some_and(|progress| progress.state == State::Done)
    });
    until("its residency to go", folder.path(), || resident(&second) == 0);

    // What a pod reads is told too, with the demand.
    let uid = "0f90f31c-ebd9-4f8c-9f2d-3a1d1b9c7e55";
    let (pod, node, datasets) = (uid.into(), "n1".into(), vec!["a/data".into()]);
    let bound = Fact::PodBound { pod, node, workload: "a/Job/train".into(), datasets };
    second.hub.inventory().write().unwrap().apply(bound, second.hub.now());
    let cgroup = PodGroup::of(uid).unwrap();
    let file = std::fs::read_dir(store.path()).unwrap().next().unwrap().unwrap().path();
    let mut reader = Command::new("sh");
    reader
        .arg("-c")
        .arg("echo $$ > \"$1\"/cgroup.procs && cat \"$0\"/* > /dev/null")
        .arg(&file)
        .arg(cgroup.path());
    assert!(reader.status().unwrap().success());
    until("demand", folder.path(), || summary(&second).rate > 0);
    // And where it lies, once the run is over: 150 of the files, one behind the other, are a half of the Dataset; and whose
    // pod it was, which by then may have ended.
    second.hub.inventory().write().unwrap().apply(Fact::PodEnded { pod: uid.into() }, second.hub.now());
    let half = 150 * 40_000_u64;
    let chunk = |at: u64| u32::try_from(at >> 22).unwrap();
    let folders = [0..chunk(half) + 1, chunk(half)..chunk(2 * half) + 1];
    until("what was read first", folder.path(), || {
        second.hub.profiles(|profiles| {
            let learned: Vec<(String, String)> = profiles
                .since(0)
                .map(|(workload, source, ..)| (workload.to_owned(), source.to_owned()))
                .collect();
            learned.iter().any(|(workload, source)| {
                let first = profiles.first(workload, source, "a/data");
                let whose = profiles.whose(workload, source).map(|whose| (&*whose.owner, &*whose.dataset));
                first.is_some_and(|first| {
                    folders.iter().any(|folder| first.runs() == std::slice::from_ref(folder))
                }) && whose == Some(("a/Job/train", "a/data"))
            })
        })
    });

    // What cannot be done is said.
    let mut wrong = wish("cache", Work::Fetch);
    wrong.work = Work::Fetch(wrong.work.extent().clone(), Tier::Cache);
    second.hub.instruct(wrong).unwrap();
    until("a refusal", folder.path(), || ended(&second, "cache").is_some());
    let progress = ended(&second, "cache").unwrap();
    assert!(progress.state == State::Refused && progress.detail.contains("no cache tier"), "{progress:?}");
    let log = std::fs::read_to_string(folder.path().join("agent.log")).unwrap();
    assert!(!log.contains("the pod's token") && !log.contains("PRIVATE"), "{log}");
    assert!(agent.end(), "it stops when asked: {log}");
    let _ = second.stop.send(true);
    second.runtime.shutdown_timeout(Duration::from_secs(3));
}

/// Two folders of a store that is mounted nowhere as a whole, as a cluster's volumes are folders of one export.
struct Parts {
    folder: Folder,
    names: Vec<String>,
    _store: StoreProcess,
}

impl Parts {
    fn of(store: StoreProcess) -> Self {
        let folder = Folder::new().unwrap();
        let entries = std::fs::read_dir(store.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        for name in &names {
            let at = folder.path().join(name);
            std::fs::create_dir(&at).unwrap();
            rustix::mount::mount_bind(store.path().join(name), &at).unwrap();
        }
        rustix::mount::unmount(store.path(), UnmountFlags::DETACH).unwrap();
        Self { folder, names, _store: store }
    }

    fn path(&self, part: usize) -> PathBuf {
        self.folder.path().join(&self.names[part])
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = rustix::mount::unmount(self.folder.path().join(name), UnmountFlags::DETACH);
        }
    }
}

#[test]
fn folders_of_a_store_that_are_mounted_side_by_side_are_each_known_for_what_they_are() {
    let config = StoreConfig { tree: "small:2x150x40k".parse().unwrap(), ..StoreConfig::default() };
    let parts = Parts::of(StoreProcess::start(&config).unwrap());
    drop_caches().unwrap();
    let folder = Folder::new().unwrap();
    let vault = MemoryVault::default();
    let source = |part: usize| format!("{}/{}", config.source, parts.names[part]);
    let (one, two) = (source(0), source(1));
    let datasets = [("a/whole", &*config.source), ("a/one", &one), ("a/two", &two)];
    let operator = operator(&vault, "127.0.0.1:0", &datasets);
    let mut agent = agent(&[&parts.path(0), &parts.path(1)], folder.path(), &operator);
    until("both Datasets' versions", folder.path(), || {
        files(&operator, "a/one") == Some(150) && files(&operator, "a/two") == Some(150)
    });
    assert_eq!(files(&operator, "a/whole"), None, "no node has mounted all of it");

    operator.hub.instruct(wish_of("a/two", "fetch-two", Work::Fetch)).unwrap();
    until("the fetch", folder.path(), || ended(&operator, "fetch-two").is_some());
    let progress = ended(&operator, "fetch-two").unwrap();
    assert_eq!(
        (progress.state, progress.files, progress.failed_files),
        (State::Done, 150, 0),
        "{progress:?}"
    );
    until("its residency", folder.path(), || resident_of(&operator, "a/two") == 150 * 40_000);
    assert_eq!(resident_of(&operator, "a/one"), 0);

    // Of the other, which somebody reads in order, more comes than was read.
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(parts.path(0)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.truncate(100);
    assert!(Command::new("cat").args(&paths).stdout(Stdio::null()).status().unwrap().success());
    until("prefetch", folder.path(), || resident_of(&operator, "a/one") > 100 * 40_000);
    assert_eq!(resident_of(&operator, "a/whole"), 0);

    // People see them by the paths that they have.
    let mut command = Command::new(program("headrace").unwrap());
    command.arg("--socket").arg(folder.path().join("sock")).arg("explain").arg(&paths[50]);
    let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(said.contains(paths[50].to_str().unwrap()), "{said}");
    assert!(agent.end(), "it stops when asked");
    let _ = operator.stop.send(true);
    operator.runtime.shutdown_timeout(Duration::from_secs(3));
}
