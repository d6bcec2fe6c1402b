//! An extender that does nothing: what any extender costs a kube-scheduler, so what ours adds to that can be told.
//!
//! It scores nothing, over plain HTTP, a thread for each connection. No extender that scores nodes can answer with
//! less work.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;

/// A question names some hundred nodes; a larger one ends its connection.
const LARGEST: usize = 1 << 20;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]";

/// Its port on loopback, and how often it was asked for scores; it ends with this process.
#[derive(Debug)]
pub struct Floor {
    pub port: u16,
    scored: Arc<AtomicUsize>,
}

impl Floor {
    pub fn scored(&self) -> usize {
        self.scored.load(Ordering::Relaxed)
    }
}

pub fn open() -> Result<Floor> {
    let scored = Arc::new(AtomicUsize::new(0));
    let counter = scored.clone();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::Builder::new().name("floor".to_owned()).spawn(move || {
        for client in listener.incoming().flatten() {
            let counter = counter.clone();
            std::thread::spawn(move || converse(&client, &counter));
        }
    })?;
    Ok(Floor { port, scored })
}

/// Until the scheduler goes.
fn converse(client: &TcpStream, scored: &AtomicUsize) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let (mut asked, mut to) = (BufReader::with_capacity(64 << 10, client), client);
    let mut body = Vec::new();
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if asked.by_ref().take(8 << 10).read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.trim_end().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(std::io::Error::other)?;
            }
        }
        if length > LARGEST {
            return Ok(());
        }
        body.resize(length, 0);
        asked.read_exact(&mut body)?;
        scored.fetch_add(1, Ordering::Relaxed);
        to.write_all(ANSWER)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_on_one_connection_are_answered_in_turn() {
        let floor = open().unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", floor.port)).unwrap();
        for count in 1..=2 {
            let body = r#"{"NodeNames":["a"]}"#;
            let length = body.len();
            write!(
                client,
                "POST /extender/prioritize HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"
            )
            .unwrap();
            let mut answer = vec![0; ANSWER.len()];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(answer, ANSWER);
            assert_eq!(floor.scored(), count);
        }
    }
}
