//! An extender that does nothing: what any extender costs a kube-scheduler, so what ours adds to that can be told.
//!
//! It sends the names back as they came and scores nothing, over plain HTTP, a thread for each connection. No
//! extender that removes and scores nodes can answer with less work.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;

/// A question names some hundred nodes; a larger one ends its connection.
const LARGEST: usize = 1 << 20;

const NAMES: &[u8] = br#""NodeNames":"#;

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
        let (mut path, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if asked.by_ref().take(8 << 10).read_line(&mut line)? == 0 {
                return Ok(());
            }
            if path.is_empty() {
                path = line;
            } else if let Some((name, value)) = line.split_once(':') {
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().map_err(std::io::Error::other)?;
                }
            } else {
                break;
            }
        }
        if length > LARGEST {
            return Ok(());
        }
        body.resize(length, 0);
        asked.read_exact(&mut body)?;
        let answer = if path.contains("/filter") {
            names(&body)
        } else {
            scored.fetch_add(1, Ordering::Relaxed);
            b"[]".to_vec()
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        to.write_all(&[head.as_bytes(), &answer].concat())?;
    }
}

/// `ExtenderFilterResult` with the names of `ExtenderArgs`, which are its last field.
fn names(body: &[u8]) -> Vec<u8> {
    let at = body.windows(NAMES.len()).rposition(|bytes| bytes == NAMES).unwrap_or(body.len());
    let mut answer = b"{".to_vec();
    answer.extend_from_slice(body.get(at..).unwrap_or(b"}").trim_ascii_end());
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_came() {
        let body = br#"{"Pod":{"x":"\"NodeNames\":"},"Nodes":null,"NodeNames":["a","b"]}"#;
        assert_eq!(names(body), br#"{"NodeNames":["a","b"]}"#);
    }

    #[test]
    fn questions_on_one_connection_are_answered_in_turn() {
        let floor = open().unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", floor.port)).unwrap();
        let mut heard = BufReader::new(client.try_clone().unwrap());
        for (path, wanted) in [("filter", r#"{"NodeNames":["a"]}"#), ("prioritize", "[]")] {
            let body = r#"{"NodeNames":["a"]}"#;
            let length = body.len();
            write!(
                client,
                "POST /extender/{path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"
            )
            .unwrap();
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                heard.read_line(&mut line).unwrap();
            }
            let mut answer = vec![0; wanted.len()];
            heard.read_exact(&mut answer).unwrap();
            assert_eq!(answer, wanted.as_bytes(), "{path}");
        }
        assert_eq!(floor.scored(), 1, "the one of prioritize");
    }
}
