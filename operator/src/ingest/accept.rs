//! Letting connections in: TCP, then TLS, each bounded in number and time.
//!
//! Handshakes cost processor time, and connections memory, before anybody has shown who they are. So few
//! handshakes run at once, those of one address fewer. Who has shaken hands gets one of the [`Places`].

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use rustls::HandshakeKind;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::certs::{Serving, identity};
use crate::entrance::Entrance;

use super::counts::Tally;
use super::hub::Hub;
use super::places::{Places, Stay};
use super::service::Connection;

/// Handshakes at once: more than two cores can work on, so that those who wait for a slow network do not hold
/// up the rest.
const HANDSHAKES: usize = 512;

/// Of these, from one address: a node has one agent, a gateway in front of many has some. Loopback is exempt:
/// whoever is on this machine has other ways to be in its way.
const FROM_ONE: usize = 128;

/// A handshake takes milliseconds, on a bad network a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection with its place.
#[derive(Debug)]
pub struct Admitted {
    io: TlsStream<TcpStream>,
    connection: Connection,
    stay: Stay,
}

/// Takes connections until `stop`, or until nobody reads them any more.
pub async fn run(
    listener: TcpListener,
    serving: Serving,
    hub: Arc<Hub>,
    admitted: mpsc::Sender<io::Result<Admitted>>,
    mut stop: watch::Receiver<bool>,
) {
    let door = Arc::new(Door { places: Places::new(hub.limits.connections), hub, serving });
    let shares = Entrance::new_but_for_loopback("agents'", HANDSHAKES, FROM_ONE);
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = admitted.closed() => return,
            accepted = async {
                // Never closed; were it, nobody would be let in any more.
                let place = handshakes.clone().acquire_owned().await.ok()?;
                Some((place, listener.accept().await))
            } => accepted,
        };
        let Some((place, accepted)) = accepted else { return };
        let (tcp, from) = match accepted {
            Ok((tcp, from)) => (tcp, from.ip()),
            Err(error) => {
                tracing::warn!("an agent could not be let in: {error}; it tries again by itself");
                // Out of descriptors, most likely: trying at once again would spin.
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(share) = shares.enter(from) else {
            door.hub.counts.add(Tally::ConnectionsRefused, 1);
            continue;
        };
        let (door, admitted) = (door.clone(), admitted.clone());
        tokio::spawn(async move {
            let shaken = timeout(PATIENCE, door.shake(tcp, from)).await;
            drop((share, place));
            match shaken {
                Ok(Some(connection)) => {
                    // The server has ended: so does the connection.
                    let _ = admitted.send(Ok(connection)).await;
                }
                Ok(None) => {}
                Err(_) => door.hub.counts.add(Tally::HandshakesFailed, 1),
            }
        });
    }
}

struct Door {
    places: Places,
    hub: Arc<Hub>,
    serving: Serving,
}

impl Door {
    async fn shake(&self, tcp: TcpStream, from: IpAddr) -> Option<Admitted> {
        let failed = |error: &dyn std::fmt::Display| {
            self.hub.counts.add(Tally::HandshakesFailed, 1);
            tracing::debug!("a handshake failed: {error}");
        };
        // Small messages that somebody waits for.
        let _ = tcp.set_nodelay(true);
        let acceptor = TlsAcceptor::from(self.serving.current());
        let io = acceptor.accept(tcp).await.map_err(|error| failed(&error)).ok()?;
        let certificate = io.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let peer = match certificate.map(identity::peer_of) {
            None => None,
            // A ticket brings a certificate back whose dates nobody has looked at since.
            Some(Ok(peer)) if peer.is_void(SystemTime::now()) => {
                failed(&"its certificate is void by now");
                return None;
            }
            Some(Ok(peer)) => Some(peer),
            Some(Err(error)) => {
                tracing::warn!("a connection was refused: {error}");
                failed(&error);
                return None;
            }
        };
        let Some(stay) = self.places.take(peer.as_ref().map(|peer| &peer.node), from) else {
            self.hub.counts.add(Tally::ConnectionsRefused, 1);
            return None;
        };
        let resumed = io.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        self.hub.counts.add(Tally::Connections, 1);
        self.hub.counts.add(Tally::ConnectionsResumed, u64::from(resumed));
        Some(Admitted { io, connection: Connection { peer }, stay })
    }
}

impl Connected for Admitted {
    type ConnectInfo = Connection;
    fn connect_info(&self) -> Connection {
        self.connection.clone()
    }
}

impl Admitted {
    fn stays(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.stay.poll_over(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Admitted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stays(cx)?;
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Admitted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // Who takes nothing is not read from, and ends all the same.
        self.stays(cx)?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
