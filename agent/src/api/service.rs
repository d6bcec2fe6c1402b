//! The service itself: each call becomes one query, each answer one message.
//!
//! Limits are here: rows in an answer, streams at once. A stream is fed by one small task that stops when
//! its client leaves or the agent does.

use std::sync::Arc;
use std::time::Instant;

use agent_core::MountId;
use operator_api::observability::v1 as wire;
use operator_api::observability::v1::observability_server::Observability;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::convert;
use super::query::{AskError, Link, Query, Selection};
use super::recording::{Block, RecordSource, recording};
use crate::doctor;
use crate::metrics::Metrics;
use crate::mounts::Namespace;

/// Rows of files or workloads in one answer: some 3 MB on the wire, some 10 ms of the engine.
const ROWS: usize = 10_000;

/// Rows of files when the asker names no number.
const DEFAULT_ROWS: usize = 100;

/// Files summed for residency when the asker names no number.
const DEFAULT_RESIDENCY: usize = 1_000;

/// Longest prefix or path that makes sense: PATH_MAX.
const LONGEST_PATH: usize = 4_096;

/// Event streams at once. Each costs the engine nothing and the agent one task.
const EVENT_STREAMS: usize = 16;

/// Recordings at once. Each costs the engine an encoder.
const RECORDINGS: usize = 2;

/// Messages between a stream's task and the connection.
const STREAM_BUFFER: usize = 16;

/// Answers everyone's questions from the engine.
#[derive(Clone, Debug)]
pub struct Observer {
    link: Link,
    metrics: Metrics,
    namespace: Namespace,
    stop: watch::Receiver<bool>,
    started: Instant,
    event_streams: Arc<Semaphore>,
    recordings: Arc<Semaphore>,
}

impl Observer {
    /// `stop` turning true ends all streams.
    pub fn new(link: Link, metrics: Metrics, namespace: Namespace, stop: watch::Receiver<bool>) -> Self {
        Self {
            link,
            metrics,
            namespace,
            stop,
            started: Instant::now(),
            event_streams: Arc::new(Semaphore::new(EVENT_STREAMS)),
            recordings: Arc::new(Semaphore::new(RECORDINGS)),
        }
    }
}

impl From<AskError> for Status {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Busy | AskError::Silent | AskError::Gone => Self::unavailable(error.to_string()),
        }
    }
}

fn selection(prefix: Vec<u8>, limit: u32, mount: Option<u32>, default: usize) -> Result<Selection, Status> {
    check_path(&prefix)?;
    Ok(Selection {
        mount: mount.map(MountId),
        prefix: prefix.into(),
        limit: match limit {
            0 => default,
            limit => usize::try_from(limit).unwrap_or(ROWS).min(ROWS),
        },
    })
}

fn check_path(path: &[u8]) -> Result<(), Status> {
    if path.len() <= LONGEST_PATH {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "a path of {} bytes was asked for, and no path on Linux is longer than {LONGEST_PATH}: ask for a \
         shorter prefix",
        path.len()
    )))
}

fn place(places: &Arc<Semaphore>, what: &str, most: usize) -> Result<OwnedSemaphorePermit, Status> {
    places.clone().try_acquire_owned().map_err(|_| {
        Status::resource_exhausted(format!(
            "{most} {what} are open already, which is the limit: close one and try again"
        ))
    })
}

#[tonic::async_trait]
impl Observability for Observer {
    async fn node(&self, _: Request<wire::NodeRequest>) -> Result<Response<wire::NodeReply>, Status> {
        let answer = self.link.ask(|reply| Query::Node { reply }).await?;
        Ok(Response::new(convert::node(answer, self.started.elapsed().as_secs())))
    }

    async fn workloads(
        &self,
        request: Request<wire::WorkloadsRequest>,
    ) -> Result<Response<wire::WorkloadsReply>, Status> {
        let limit = match request.into_inner().limit {
            0 => ROWS,
            limit => usize::try_from(limit).unwrap_or(ROWS).min(ROWS),
        };
        let mut rows = self.link.ask(|reply| Query::Workloads { reply }).await?;
        let total = rows.len() as u64;
        rows.sort_by(|a, b| (b.read_bytes, &a.workload).cmp(&(a.read_bytes, &b.workload)));
        rows.truncate(limit);
        let workloads = rows.into_iter().map(convert::workload).collect();
        Ok(Response::new(wire::WorkloadsReply { workloads, total }))
    }

    async fn files(
        &self,
        request: Request<wire::FilesRequest>,
    ) -> Result<Response<wire::FilesReply>, Status> {
        let wire::FilesRequest { prefix, limit, mount } = request.into_inner();
        let select = selection(prefix, limit, mount, DEFAULT_ROWS)?;
        let limit = select.limit;
        let mut rows = self.link.ask(|reply| Query::Files { select, reply }).await?;
        rows.truncate(limit);
        let files = rows.into_iter().map(convert::file).collect();
        Ok(Response::new(wire::FilesReply { files }))
    }

    async fn explain(
        &self,
        request: Request<wire::ExplainRequest>,
    ) -> Result<Response<wire::ExplainReply>, Status> {
        let wire::ExplainRequest { key, path, mount } = request.into_inner();
        check_path(&path)?;
        if key.is_none() && path.is_empty() {
            return Err(Status::invalid_argument("neither a key nor a path was given: name a file"));
        }
        let ask = |reply| Query::Explain {
            file: key.map(convert::key_of),
            mount: mount.map(MountId),
            path: path.into(),
            reply,
        };
        match self.link.ask(ask).await? {
            Some(explanation) => Ok(Response::new(convert::explanation(explanation))),
            None => Err(Status::not_found(
                "the agent has not seen this file read since it started: read it once, or see `headrace files` \
                 for what it knows and `headrace node` for the mounts it watches",
            )),
        }
    }

    async fn ledger(&self, _: Request<wire::LedgerRequest>) -> Result<Response<wire::LedgerReply>, Status> {
        let mut rows = self.link.ask(|reply| Query::Ledger { reply }).await?;
        rows.truncate(ROWS);
        let rows = rows.into_iter().map(convert::ledger_row).collect();
        Ok(Response::new(wire::LedgerReply { rows }))
    }

    async fn residency(
        &self,
        request: Request<wire::ResidencyRequest>,
    ) -> Result<Response<wire::ResidencyReply>, Status> {
        let wire::ResidencyRequest { prefix, limit, mount } = request.into_inner();
        let mut select = selection(prefix, limit, mount, DEFAULT_RESIDENCY)?;
        let limit = select.limit;
        // One more than will be counted tells whether there are more.
        select.limit = limit + 1;
        let mut files = self.link.ask(|reply| Query::Files { select, reply }).await?;
        let partial = files.len() > limit;
        files.truncate(limit);
        let mounts = convert::residency(files);
        Ok(Response::new(wire::ResidencyReply { mounts, partial }))
    }

    async fn histograms(
        &self,
        _: Request<wire::HistogramsRequest>,
    ) -> Result<Response<wire::HistogramsReply>, Status> {
        let rows = self.link.ask(|reply| Query::Histograms { reply }).await?;
        let histograms = rows.into_iter().map(convert::histogram).collect();
        Ok(Response::new(wire::HistogramsReply { histograms }))
    }

    async fn doctor(&self, _: Request<wire::DoctorRequest>) -> Result<Response<wire::DoctorReply>, Status> {
        // A few reads of /proc and /sys, off the event loop all the same.
        let machine = tokio::task::spawn_blocking({
            let namespace = self.namespace;
            move || doctor::machine::checks(namespace)
        });
        let engine = self.link.ask(|reply| Query::Doctor { reply }).await;
        let mut checks = machine
            .await
            .map_err(|error| Status::internal(format!("looking at the machine failed: {error}")))?;
        match engine {
            Ok(own) => checks.extend(own),
            // The doctor is asked when something is wrong: it must answer then of all times.
            Err(error) => checks.push(doctor::Check::fail(
                "engine",
                error.to_string(),
                "restart the agent and look at its log",
            )),
        }
        let checks = checks.into_iter().map(convert::check).collect();
        Ok(Response::new(wire::DoctorReply { checks }))
    }

    type EventsStream = ReceiverStream<Result<wire::Event, Status>>;

    async fn events(
        &self,
        request: Request<wire::EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let wire::EventsRequest { prefix, mount } = request.into_inner();
        let mount = mount.map(MountId);
        check_path(&prefix)?;
        let permit = place(&self.event_streams, "event streams", EVENT_STREAMS)?;
        let (to_client, stream) = mpsc::channel(STREAM_BUFFER);
        let happenings = self.link.listen();
        let (mut stop, metrics) = (self.stop.clone(), self.metrics.clone());
        tokio::spawn(async move {
            let _permit = permit;
            tokio::select! {
                () = feed_events(happenings, mount, &prefix, &to_client, &metrics) => {}
                () = to_client.closed() => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    type RecordStream = ReceiverStream<Result<wire::RecordBlock, Status>>;

    async fn record(
        &self,
        request: Request<Streaming<wire::RecordRequest>>,
    ) -> Result<Response<Self::RecordStream>, Status> {
        let permit = place(&self.recordings, "recordings", RECORDINGS)?;
        let (sink, source) = recording();
        if let Err(refusal) = self.link.ask(|reply| Query::Record { sink, reply }).await? {
            return Err(Status::failed_precondition(String::from(refusal)));
        }
        let (to_client, stream) = mpsc::channel(STREAM_BUFFER);
        let (stop, metrics) = (self.stop.clone(), self.metrics.clone());
        let requests = request.into_inner();
        tokio::spawn(async move {
            let _permit = permit;
            tokio::select! {
                () = feed_recording(source, requests, stop, &to_client, &metrics) => {}
                () = to_client.closed() => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Passes happenings on until the client or the engine is gone.
async fn feed_events(
    mut happenings: broadcast::Receiver<Arc<agent_core::view::Happening>>,
    mount: Option<MountId>,
    prefix: &[u8],
    to_client: &mpsc::Sender<Result<wire::Event, Status>>,
    metrics: &Metrics,
) {
    let wanted =
        |(of, path): (MountId, &[u8])| mount.is_none_or(|mount| mount == of) && path.starts_with(prefix);
    loop {
        let event = match happenings.recv().await {
            Ok(happening) => {
                if !convert::place_of(&happening).is_none_or(wanted) {
                    continue;
                }
                convert::event(&happening)
            }
            Err(broadcast::error::RecvError::Lagged(events)) => {
                metrics.events_skipped(events);
                convert::lagged(events)
            }
            Err(broadcast::error::RecvError::Closed) => return,
        };
        if to_client.send(Ok(event)).await.is_err() {
            return;
        }
    }
}

/// Passes blocks on until the engine has flushed the last; asks it to when the client closes its side or
/// the agent stops.
async fn feed_recording(
    mut source: RecordSource,
    mut requests: Streaming<wire::RecordRequest>,
    mut stop: watch::Receiver<bool>,
    to_client: &mpsc::Sender<Result<wire::RecordBlock, Status>>,
    metrics: &Metrics,
) {
    use wire::record_block::What;
    let mut ending = false;
    loop {
        let block = tokio::select! {
            block = source.blocks.recv() => block,
            more = requests.message(), if !ending => {
                // Further requests have no meaning today; the end of them, or a broken one, has.
                if !matches!(more, Ok(Some(_))) {
                    ending = true;
                    source.end();
                }
                continue;
            }
            _ = stop.wait_for(|stop| *stop), if !ending => {
                ending = true;
                source.end();
                continue;
            }
        };
        let what = match block {
            None => return,
            Some(Block::Data(data)) => What::Data(data),
            Some(Block::Lost(observations)) => {
                metrics.recorder_dropped(observations);
                What::LostObservations(observations)
            }
        };
        if to_client.send(Ok(wire::RecordBlock { what: Some(what) })).await.is_err() {
            return;
        }
    }
}
