//! A door to a store that can be spoiled: it breaks connections, answers with errors of its own, alters bytes. What
//! it does not spoil it passes on as it came.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

#[derive(Clone, Debug)]
pub enum Trouble {
    /// A request is answered with this and never passed on.
    Answer(Vec<u8>),
    /// The connection breaks after so many bytes of an answer that is longer.
    Cut(usize),
    /// This byte of an answer that is long enough comes altered.
    Flip(usize),
}

impl Trouble {
    pub fn status(line: &str, body: &str) -> Self {
        let length = body.len();
        Self::Answer(
            format!("HTTP/1.1 {line}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
                .into_bytes(),
        )
    }
}

/// Requests that begin like this have the trouble, the first ones so many times.
#[derive(Clone, Debug)]
pub struct Rule {
    pub begins: String,
    pub trouble: Trouble,
    pub times: usize,
}

pub struct Spoiler {
    pub at: SocketAddr,
    pub spoiled: Arc<AtomicUsize>,
}

impl Spoiler {
    pub fn start(store: SocketAddr, rules: Vec<Rule>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let rules = Arc::new(Mutex::new(VecDeque::from(rules)));
        let spoiled = Arc::new(AtomicUsize::new(0));
        let count = spoiled.clone();
        // It ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (rules, count) = (rules.clone(), count.clone());
                std::thread::spawn(move || {
                    let _ = serve(client, store, &rules, &count);
                });
            }
        });
        Self { at, spoiled }
    }
}

/// One request a connection: whoever is answered here asks anew for the next.
fn serve(
    mut client: TcpStream,
    store: SocketAddr,
    rules: &Mutex<VecDeque<Rule>>,
    count: &AtomicUsize,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if client.read(&mut byte)? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let trouble = {
        let mut rules = rules.lock().unwrap();
        let rule = rules.iter_mut().find(|rule| rule.times > 0 && text.starts_with(&rule.begins));
        rule.map(|rule| {
            rule.times -= 1;
            rule.trouble.clone()
        })
    };
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<u64>().ok())?
    });
    if let Some(Trouble::Answer(answer)) = &trouble {
        count.fetch_add(1, Ordering::Relaxed);
        std::io::copy(&mut (&client).take(length.unwrap_or(0)), &mut std::io::sink())?;
        client.write_all(answer)?;
        return client.shutdown(Shutdown::Write);
    }
    let mut server = TcpStream::connect(store)?;
    // The answer ends with the connection, so that its end is seen here.
    let one = text.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    server.write_all(one.as_bytes())?;
    std::io::copy(&mut (&client).take(length.unwrap_or(0)), &mut server)?;
    let mut sent = 0;
    let mut buffer = [0; 16 << 10];
    loop {
        let got = server.read(&mut buffer)?;
        let Some(part) = buffer.get_mut(..got).filter(|part| !part.is_empty()) else { break };
        match trouble {
            Some(Trouble::Cut(at)) if sent + part.len() > at => {
                count.fetch_add(1, Ordering::Relaxed);
                client.write_all(&part[..at - sent])?;
                return client.shutdown(Shutdown::Both);
            }
            Some(Trouble::Flip(at)) if (sent..sent + part.len()).contains(&at) => {
                count.fetch_add(1, Ordering::Relaxed);
                part[at - sent] ^= 1;
            }
            _ => {}
        }
        client.write_all(part)?;
        sent += got;
    }
    client.shutdown(Shutdown::Both)
}
