//! A listener that lets few in at a time, and nobody for long: whoever reaches the address can open connections, and each
//! takes a descriptor from what prefetching needs.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

/// Connections at a time: a few Prometheus servers and a person. More wait in the kernel's queue.
const PLACES: usize = 8;

/// A connection ends after so long, idle or not: scrapers come again by themselves.
const LIFE: Duration = Duration::from_mins(2);

/// After a failed accept, which is out of descriptors as a rule: trying at once would spin.
const RELIEF: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    life: Duration,
}

impl Bounded {
    pub fn new(listener: TcpListener) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(PLACES)), life: LIFE }
    }
}

impl Listener for Bounded {
    type Io = Admitted;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Admitted, SocketAddr) {
        loop {
            // The semaphore is never closed; were it, nobody would be admitted any more.
            let Ok(place) = self.places.clone().acquire_owned().await else {
                return std::future::pending().await;
            };
            match self.listener.accept().await {
                Ok((io, from)) => {
                    let end = Box::pin(tokio::time::sleep(self.life));
                    return (Admitted { io, end, _place: place }, from);
                }
                Err(error) => {
                    tracing::warn!("a scrape of /metrics could not be let in: {error}; it may try again");
                    tokio::time::sleep(RELIEF).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that holds its place until it is closed, or its life is over.
#[derive(Debug)]
pub struct Admitted {
    io: TcpStream,
    end: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Admitted {
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.end.as_mut().poll(cx).is_ready()
    }
}

impl AsyncRead for Admitted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Admitted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_over(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn who_comes_and_says_nothing_goes_and_keeps_few_places() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut bounded = Bounded { life: Duration::from_millis(50), ..Bounded::new(listener) };
        let mut clients = Vec::new();
        let mut admitted = Vec::new();
        for _ in 0..PLACES {
            clients.push(TcpStream::connect(address).await.unwrap());
            admitted.push(bounded.accept().await.0);
        }
        clients.push(TcpStream::connect(address).await.unwrap());
        let more = tokio::time::timeout(Duration::from_millis(20), bounded.accept());
        assert!(more.await.is_err(), "all places are taken");
        let mut silent = admitted.pop().unwrap();
        let ended = silent.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        drop(silent);
        bounded.accept().await;
    }
}
