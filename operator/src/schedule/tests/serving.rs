//! Over HTTPS on loopback, with a certificate made for the test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::known::Known;
use super::mutating::asked;
use crate::schedule::https::{CONNECTIONS, FILTER, MUTATE, Schedule, UNTAKEN};

struct Served {
    address: SocketAddr,
    authority: rustls::pki_types::CertificateDer<'static>,
    stop: watch::Sender<bool>,
    ended: tokio::task::JoinHandle<()>,
}

async fn served() -> Served {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let authority = made.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![authority.clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let schedule = {
        let known = Arc::new(Known::usual(8));
        Schedule::new(known.clone(), known)
    };
    let ended = tokio::spawn(schedule.serve(listener, Arc::new(move || config.clone()), stopped));
    Served { address, authority, stop, ended }
}

type Tls = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

impl Served {
    fn connect(&self) -> Tls {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        rustls::StreamOwned::new(connection, stream)
    }

    async fn end(self) {
        self.stop.send_replace(true);
        self.ended.await.unwrap();
    }
}

/// Status, head and body; the head's length says where the body ends.
fn response(stream: &mut Tls) -> (u16, String, Vec<u8>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    (status, head, body)
}

fn post(stream: &mut Tls, path: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    stream.flush().unwrap();
    response(stream)
}

fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> tokio::task::JoinHandle<T> {
    tokio::task::spawn_blocking(work)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_asks_again_and_again_and_ends_with_the_program() {
    let served = Arc::new(served().await);
    let client = served.clone();
    let mut stream = blocking(move || {
        let mut stream = client.connect();
        let pod = json!({"metadata": {}, "spec": {"volumes": [
            {"name": "d", "persistentVolumeClaim": {"claimName": "train"}}]}});
        for _ in 0..3 {
            let (status, head, body) = post(&mut stream, MUTATE, &asked("ml", &pod));
            assert_eq!(status, 200);
            assert!(!head.contains("chunked"), "{head}");
            let answer: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(answer["response"]["patchType"], "JSONPatch");
        }
        let (status, _, body) = post(&mut stream, FILTER, b"no json");
        assert_eq!(status, 400);
        assert!(String::from_utf8(body).unwrap().contains("kube-scheduler sends Pod and NodeNames"));
        assert_eq!(post(&mut stream, "/elsewhere", b"").0, 404);
        assert_eq!(post(&mut stream, MUTATE, b"").0, 200);
        stream
    })
    .await
    .unwrap();
    let served = Arc::into_inner(served).unwrap();
    let begun = Instant::now();
    served.end().await;
    assert!(begun.elapsed() < Duration::from_secs(4), "an idle connection is let go at once");
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_too_large_of_unknown_length_or_too_slow_are_refused() {
    let served = Arc::new(served().await);
    let client = served.clone();
    blocking(move || {
        let mut stream = client.connect();
        write!(stream, "POST {MUTATE} HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\n\r\n").unwrap();
        assert_eq!(response(&mut stream).0, 413);

        let mut stream = client.connect();
        write!(stream, "POST {MUTATE} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
            .unwrap();
        assert_eq!(response(&mut stream).0, 411);

        let mut stream = client.connect();
        write!(stream, "POST {MUTATE} HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhalf").unwrap();
        stream.flush().unwrap();
        assert_eq!(response(&mut stream).0, 503);
    })
    .await
    .unwrap();
    // One who never speaks TLS holds nobody up.
    let _silent = std::net::TcpStream::connect(served.address).unwrap();
    let client = served.clone();
    assert_eq!(blocking(move || post(&mut client.connect(), MUTATE, b"").0).await.unwrap(), 200);
    Arc::into_inner(served).unwrap().end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_takes_all_it_can_keeps_nobody_else_away() {
    let served = Arc::new(served().await);
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
        silent.push(socket.connect(served.address).await.unwrap());
    }
    let client = served.clone();
    let begun = Instant::now();
    assert_eq!(blocking(move || post(&mut client.connect(), MUTATE, b"").0).await.unwrap(), 200);
    // Those that say nothing are let go of after three.
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    drop(silent);
    Arc::into_inner(served).unwrap().end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_not_taken_is_given_up() {
    // More than the kernel holds of a connection, and sent back as it came.
    const LONG: usize = 24 << 20;
    let served = Arc::new(served().await);
    let client = served.clone();
    let taken = blocking(move || {
        let mut stream = client.connect();
        let node = json!({"metadata": {"name": "n0"}, "spec": "a".repeat(LONG)});
        let body = json!({"Pod": null, "Nodes": {"items": [node]}, "NodeNames": null}).to_string();
        let length = body.len();
        write!(stream, "POST {FILTER} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n").unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        stream.flush().unwrap();
        std::thread::sleep(UNTAKEN + Duration::from_secs(1));
        let mut taken = Vec::new();
        let _ = stream.read_to_end(&mut taken);
        taken
    })
    .await
    .unwrap();
    assert!(
        taken.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&taken[..taken.len().min(200)])
    );
    assert!(taken.len() < LONG, "{}", taken.len());
    Arc::into_inner(served).unwrap().end().await;
}
