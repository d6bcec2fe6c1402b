//! A client that asks one question after the other over one connection, as a scheduler does, and times them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};

use super::door::Opened;

/// An answer that has not come by then is none.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Asker {
    stream: rustls::StreamOwned<rustls::ClientConnection, TcpStream>,
    received: Vec<u8>,
}

impl Asker {
    pub fn connect(to: &Opened) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(to.authority.as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connection = rustls::ClientConnection::new(Arc::new(config), ServerName::try_from("localhost")?)?;
        let stream = TcpStream::connect(("127.0.0.1", to.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: rustls::StreamOwned::new(connection, stream), received: Vec::new() })
    }

    /// The answer's body, and the time from the first byte sent to the last one received.
    pub fn ask(&mut self, path: &str, body: &[u8]) -> Result<(Vec<u8>, Duration)> {
        let mut question = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        question.extend_from_slice(body);
        let begun = Instant::now();
        self.stream.write_all(&question)?;
        self.stream.flush()?;
        let answer = self.answer()?;
        Ok((answer, begun.elapsed()))
    }

    fn answer(&mut self) -> Result<Vec<u8>> {
        self.received.clear();
        let mut end = None;
        let mut piece = [0; 16 << 10];
        loop {
            if end.is_none() {
                end = head(&self.received)?;
            }
            if let Some((body, length)) = end
                && self.received.len() >= body + length
            {
                return Ok(self.received.split_off(body));
            }
            let read = self.stream.read(&mut piece)?;
            if read == 0 {
                bail!("the connection was closed before the answer was whole");
            }
            self.received.extend_from_slice(piece.get(..read).unwrap_or_default());
        }
    }
}

/// Where the body begins and how long it is, once the head is there. Anything but 200 is an error.
fn head(received: &[u8]) -> Result<Option<(usize, usize)>> {
    let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(received.get(..end).unwrap_or_default())?.to_ascii_lowercase();
    if !head.starts_with("http/1.1 200") {
        bail!("the answer was {}", head.lines().next().unwrap_or_default());
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.context("the answer has no length")?.trim().parse()?;
    Ok(Some((end + 4, length)))
}
