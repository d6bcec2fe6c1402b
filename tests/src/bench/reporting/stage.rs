//! A control plane with nodes and Datasets, the operator's program on it, and a certificate for each simulated agent.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use operator::certs::Authority;
use operator::inventory::Fact;
use operator::watch::facts;
use operator_api::crd::{DataLoad, Dataset};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::agents;
use crate::agents::fleet::Fleet as Agents;
use crate::agents::world::World;
use crate::bench::lab;
use crate::cluster::access::Access;
use crate::cluster::control_plane::ControlPlane;
use crate::cluster::fleet::{Fleet, Spec};
use crate::cluster::operator::{Operator, USER, free_port, install};
use crate::cluster::options::Options;
use crate::cluster::wait::{Seen, until};

/// Of all Datasets; `World::dataset_name`.
const NAMESPACE: &str = "bench";

const AT_ONCE: usize = 32;

/// For a thousand Datasets' claims, or for the operator to listen.
const PATIENCE: Duration = Duration::from_secs(300);

pub struct Stage {
    pub world: World,
    /// What the apiserver has of the cluster, as the operator sees it.
    pub declared: Vec<Fact>,
    client: Client,
    access: Access,
    authority: Authority,
    program: PathBuf,
    /// Where agents come to.
    door: SocketAddr,
    _nodes: Fleet,
    // Ends last.
    plane: ControlPlane,
}

impl Stage {
    /// Everything is there and known to an operator that has ended again.
    pub async fn set(world: World) -> Result<Self> {
        let plane = ControlPlane::start(&Options { scheduler: None, ..Options::default() }).await?;
        let client = plane.access().client().await?;
        install(&client).await?;
        // Other machines' kubelets would renew the leases, and at another machine's apiserver.
        let heartbeat = Duration::from_secs(1_800);
        let nodes = Spec { kubelet: false, heartbeat, ..Spec::new("node", world.nodes as usize) };
        let nodes = Fleet::join(client.clone(), nodes).await?;
        let namespace: Namespace = object(json!({"metadata": {"name": NAMESPACE}}))?;
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await?;

        let now = SystemTime::now();
        let authority = Authority::create(now)?;
        let server = authority.sign_server(&["127.0.0.1".to_owned()], now)?;
        let folder = plane.folder().join("certificates");
        std::fs::create_dir(&folder)?;
        write_pem(&folder.join("ca.crt"), "CERTIFICATE", authority.certificate())?;
        write_pem(&folder.join("tls.crt"), "CERTIFICATE", server.chain.first().context("no certificate")?)?;
        write_pem(&folder.join("tls.key"), "PRIVATE KEY", server.key.expose())?;

        let mut stage = Self {
            world,
            declared: Vec::new(),
            access: plane.access_of(USER, None)?,
            client,
            authority,
            program: lab::program("headrace-operator")?,
            door: free_port()?,
            _nodes: nodes,
            plane,
        };
        let operator = stage.start().await?;
        stage.make_datasets().await?;
        operator.stop();
        let nodes = Api::<Node>::all(stage.client.clone()).list(&ListParams::default()).await?;
        stage.declared.extend(nodes.iter().map(facts::node));
        let datasets = stage.datasets().list(&ListParams::default()).await?;
        stage.declared.extend(datasets.iter().map(facts::dataset));
        Ok(stage)
    }

    fn datasets(&self) -> Api<Dataset> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    async fn make_datasets(&self) -> Result<()> {
        let datasets = self.datasets();
        futures::stream::iter(0..self.world.datasets)
            .map(|number| {
                let datasets = &datasets;
                async move {
                    // As mountinfo has it: HOST:/PATH.
                    let source = self.world.source(number).replace(":/", "/");
                    let dataset: Dataset = object(json!({
                        "metadata": {"name": name(self.world, number)},
                        "spec": {"mounts": [{"mountPoint": format!("nfs://{source}"), "name": "main"}]},
                    }))?;
                    datasets.create(&PostParams::default(), &dataset).await?;
                    anyhow::Ok(())
                }
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        until("every Dataset is bound", PATIENCE, async || {
            let all = datasets.list(&ListParams::default()).await?;
            let phase = |dataset: &&Dataset| {
                let status = serde_json::to_value(&dataset.status).unwrap_or_default();
                status["phase"] == "Bound"
            };
            let bound = all.items.iter().filter(phase).count();
            if bound == all.items.len() {
                return Ok(Seen::Done(()));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(Seen::NotYet(format!("{bound} of {} are", all.items.len())))
        })
        .await?;
        Ok(())
    }

    /// Loads of whole Datasets, others in each round.
    pub async fn load(&self, round: u32, count: u32) -> Result<()> {
        let loads: Api<DataLoad> = Api::namespaced(self.client.clone(), NAMESPACE);
        for turn in 0..count.min(self.world.datasets) {
            let number = (round * count + turn) % self.world.datasets;
            let load: DataLoad = object(json!({
                "metadata": {"name": format!("load-{round}-{turn}")},
                "spec": {"dataset": {"name": name(self.world, number)}},
            }))?;
            loads.create(&PostParams::default(), &load).await?;
        }
        Ok(())
    }

    /// The operator, ready.
    pub async fn start(&self) -> Result<Operator> {
        let mut operator = self.launch()?;
        operator.wait_until_ready().await?;
        Ok(operator)
    }

    /// The operator, as soon as agents can reach it.
    pub async fn start_listening(&self) -> Result<Operator> {
        let operator = self.launch()?;
        tokio::time::timeout(PATIENCE, async {
            while tokio::net::TcpStream::connect(self.door).await.is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .context("the operator does not listen")?;
        Ok(operator)
    }

    fn launch(&self) -> Result<Operator> {
        let (door, folder) = (self.door.to_string(), self.plane.folder().join("certificates"));
        let folder = folder.to_str().context("the folder's name is no text")?;
        // As its pod's name would be, which a container that is started again keeps.
        let arguments = ["--identity", "operator-0", "--agents", &door, "--certificates", folder];
        Ok(Operator::launch(&self.program, &self.access, self.plane.folder(), &arguments)?)
    }

    pub fn agents(&self, period: Duration) -> Result<Agents> {
        Agents::start(self.world, period, &format!("https://{}", self.door), &self.authority, 2)
    }

    /// What the operator has counted of this; none while it does not answer.
    pub async fn count(&self, operator: &Operator, event: &str) -> Option<u64> {
        operator.metric(&format!("headrace_operator_wire_events_total{{event=\"{event}\"}}")).await
    }
}

fn name(world: World, dataset: u32) -> String {
    let full = world.dataset_name(dataset);
    full.rsplit('/').next().unwrap_or_default().to_owned()
}

fn object<T: DeserializeOwned>(value: Value) -> Result<T> {
    Ok(serde_json::from_value(value)?)
}

fn write_pem(path: &Path, label: &str, der: &[u8]) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(agents::pem(label, der).as_bytes())?;
    Ok(())
}
