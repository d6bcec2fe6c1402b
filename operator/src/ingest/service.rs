//! One stream: waits for the agent, for something to send, and for time; `session` says what it means.
//!
//! Nothing is spawned and nothing queued for a stream: the answer is a stream that reads the question when it is
//! polled, and it is polled when the agent can take an answer. Who does not read is not read from.

use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use futures::Stream;
use operator_api::report::v1::reports_server::Reports;
use operator_api::report::v1::{Down, Up, up};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::certs::Peer;

use super::counts::Tally;
use super::hub::Hub;
use super::session::{Session, not_leading};

/// What the connection knows of its other end.
#[derive(Clone, Debug)]
pub struct Connection {
    /// None: it came without a certificate, and may enrol.
    pub peer: Option<Peer>,
}

#[derive(Clone, Debug)]
pub struct Service {
    pub hub: Arc<Hub>,
    pub stop: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl Reports for Service {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<Down, Status>> + Send>>;

    async fn attach(&self, request: Request<Streaming<Up>>) -> Result<Response<Self::AttachStream>, Status> {
        let connection = request.extensions().get::<Connection>();
        let Some(peer) = connection.and_then(|connection| connection.peer.clone()) else {
            return Err(Status::unauthenticated(
                "reports need a certificate that names a node; the agent gets one by enrolling (see docs/wire.md)",
            ));
        };
        if !self.hub.admits() {
            return Err(not_leading());
        }
        let inbound = request.into_inner();
        let Self { hub, stop } = self.clone();
        let line = Line { hub, stop, peer, inbound, session: None, ended: false };
        let stream = futures::stream::unfold(line, |mut line| async move {
            let answer = line.next().await?;
            Some((answer, line))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

struct Line {
    hub: Arc<Hub>,
    stop: watch::Receiver<bool>,
    peer: Peer,
    inbound: Streaming<Up>,
    session: Option<Session>,
    ended: bool,
}

impl Drop for Line {
    fn drop(&mut self) {
        // The connection went: nobody polls the stream any more, so nobody else could count it.
        if !self.ended {
            self.hub.counts.add(Tally::Broken, 1);
        }
    }
}

impl Line {
    /// The next answer; `None` when the stream is over.
    async fn next(&mut self) -> Option<Result<Down, Status>> {
        loop {
            if let Some(answer) = self.session.as_mut().and_then(|session| session.out.pop_front()) {
                return Some(Ok(answer));
            }
            if self.ended {
                return None;
            }
            let heard = match &mut self.session {
                None => self.greet().await,
                Some(_) => self.listen().await,
            };
            match heard {
                Ok(true) => {}
                Ok(false) => self.ended = true,
                Err(status) => {
                    self.ended = true;
                    // What was to be answered before does not matter any more.
                    self.session = None;
                    return Some(Err(status));
                }
            }
        }
    }

    /// Whether the stream goes on.
    async fn greet(&mut self) -> Result<bool, Status> {
        let hub = self.hub.clone();
        let first = match timeout(hub.limits.greeting, self.inbound.message()).await {
            Ok(first) => first.map_err(|status| self.broken(&status))?,
            Err(_) => {
                hub.counts.add(Tally::Silent, 1);
                return Err(Status::deadline_exceeded("Hello did not come in time; the stream is ended"));
            }
        };
        let Some(first) = first else { return Ok(false) };
        let Some(up::Kind::Hello(hello)) = first.kind else {
            hub.counts.add(Tally::Nonsense, 1);
            return Err(Status::invalid_argument("the first message must be a Hello; the stream is ended"));
        };
        self.session = Some(Session::open(&hub, &self.peer.node, hello)?);
        Ok(true)
    }

    async fn listen(&mut self) -> Result<bool, Status> {
        let Some(session) = &mut self.session else { return Ok(false) };
        let seat = session.seat();
        let silence = self.hub.limits.silence;
        let message = tokio::select! {
            biased;
            _ = self.stop.wait_for(|stop| *stop) => {
                return Err(Status::unavailable("the operator is stopping; the agent comes again by itself"));
            }
            () = seat.wake.notified() => return session.wake().map(|()| true),
            message = timeout(silence, self.inbound.message()) => message,
        };
        match message {
            // It has nothing to say while it is not told of any Dataset; one that is dead does not answer pings.
            Err(_) if !self.hub.binds() => Ok(true),
            Err(_) => {
                self.hub.counts.add(Tally::Silent, 1);
                let seconds = silence.as_secs();
                Err(Status::deadline_exceeded(format!("nothing came for {seconds} s; the stream is ended")))
            }
            Ok(Err(status)) => Err(self.broken(&status)),
            Ok(Ok(None)) => Ok(false),
            Ok(Ok(Some(message))) => {
                if self.peer.is_void(SystemTime::now()) {
                    return Err(Status::unauthenticated(
                        "the agent's certificate has run out; it comes again with its new one",
                    ));
                }
                session.take(message)?;
                Ok(true)
            }
        }
    }

    fn broken(&self, status: &Status) -> Status {
        match status.code() {
            // What tonic says of a message above the bound, and of bytes that are no message.
            Code::OutOfRange => {
                self.hub.counts.add(Tally::Floods, 1);
                let most = self.hub.limits.message_bytes;
                Status::resource_exhausted(format!(
                    "a message has more than the {most} bytes of Welcome; the stream is ended. Split it"
                ))
            }
            Code::Internal if status.message().contains("decode") => {
                self.hub.counts.add(Tally::Nonsense, 1);
                Status::invalid_argument("a message is no Up of this protocol; the stream is ended")
            }
            _ => {
                self.hub.counts.add(Tally::Broken, 1);
                Status::cancelled("the stream broke off")
            }
        }
    }
}
