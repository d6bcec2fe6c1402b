//! A connection whose peer has to take what it is sent.
//!
//! An answer that is not taken keeps its room. A peer that takes a byte now and then keeps a connection alive for TCP,
//! so what counts is when all of it is taken.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

#[derive(Debug)]
pub struct Taking<S> {
    io: S,
    patience: Duration,
    /// When what is being sent has to be taken; none where nothing waits.
    until: Option<Pin<Box<Sleep>>>,
}

impl<S> Taking<S> {
    /// `patience` is for all that is sent between two flushes, from when the peer first lets it wait.
    pub fn new(io: S, patience: Duration) -> Self {
        Self { io, patience, until: None }
    }

    /// What the peer lets wait for too long fails.
    fn bounded<T>(&mut self, cx: &mut Context<'_>, sent: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if sent.is_ready() {
            return sent;
        }
        let until = self.until.get_or_insert_with(|| Box::pin(sleep(self.patience)));
        until.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Taking<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Taking<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.io).poll_write(cx, buf);
        self.bounded(cx, sent)
    }

    /// Without it hyper would copy a whole answer together, and its room be free while the copy waits.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.bounded(cx, sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = Pin::new(&mut self.io).poll_flush(cx);
        if matches!(sent, Poll::Ready(Ok(()))) {
            self.until = None;
        }
        self.bounded(cx, sent)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = Pin::new(&mut self.io).poll_shutdown(cx);
        self.bounded(cx, sent)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn an_answer_is_given_up_that_is_not_taken_or_byte_by_byte() {
        for pause in [None, Some(PATIENCE / 20)] {
            let (ours, mut theirs) = duplex(16);
            let mut ours = Taking::new(ours, PATIENCE);
            let taking = async {
                while let Some(pause) = pause {
                    sleep(pause).await;
                    theirs.read_u8().await.unwrap();
                }
                std::future::pending::<()>().await;
            };
            let sent = timeout(PATIENCE * 20, ours.write_all(&[0; 4096]));
            let sent = tokio::select! { sent = sent => sent.unwrap(), () = taking => unreachable!() };
            assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::TimedOut, "{pause:?}");
        }
    }

    #[tokio::test]
    async fn time_between_answers_does_not_count() {
        let (ours, mut theirs) = duplex(16);
        let mut ours = Taking::new(ours, PATIENCE);
        let peer = tokio::spawn(async move {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).await.unwrap();
            all.len()
        });
        for _ in 0..3 {
            ours.write_all(&[0; 4096]).await.unwrap();
            ours.flush().await.unwrap();
            sleep(PATIENCE * 2).await;
        }
        drop(ours);
        assert_eq!(peer.await.unwrap(), 3 * 4096);
    }
}
