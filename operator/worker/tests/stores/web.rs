//! One file of a web server: with and without ranges and TLS, behind redirects, changing under the copy.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::worker::{Run, command, ended, folder, migrate, run};

/// How the server behaves.
#[derive(Clone)]
struct Manner {
    content: Vec<u8>,
    tag: Option<&'static str>,
    ranges: bool,
    /// Answers end after so many bytes, the first time.
    cut: Option<usize>,
    /// Another content after the first GET.
    changes: bool,
    /// Where `/elsewhere/` is moved to.
    elsewhere: Option<SocketAddr>,
}

impl Manner {
    fn of(content: &[u8]) -> Self {
        Self {
            content: content.into(),
            tag: Some("\"one\""),
            ranges: true,
            cut: None,
            changes: false,
            elsewhere: None,
        }
    }
}

struct Server {
    at: SocketAddr,
    /// What was asked: method, path and first byte.
    asked: Arc<Mutex<Vec<(String, String, u64)>>>,
}

impl Server {
    fn start(manner: Manner) -> Self {
        Self::serving(manner, None)
    }

    fn serving(manner: Manner, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (manner, told) = (Arc::new(Mutex::new(manner)), asked.clone());
        // It ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (manner, told, tls) = (manner.clone(), told.clone(), tls.clone());
                std::thread::spawn(move || -> std::io::Result<()> {
                    let Some(tls) = tls else {
                        serve(&client, &manner, &told)?;
                        return client.shutdown(std::net::Shutdown::Write);
                    };
                    let connection = ServerConnection::new(tls).map_err(std::io::Error::other)?;
                    let mut client = StreamOwned::new(connection, client);
                    serve(&mut client, &manner, &told)?;
                    client.conn.send_close_notify();
                    client.flush()
                });
            }
        });
        Self { at, asked }
    }

    fn copy(&self, path: &str, to: &tempfile::TempDir) -> Run {
        run(&migrate(&json!({"uri": format!("http://{}{path}", self.at)}), &folder(to)))
    }

    fn asked(&self, method: &str) -> Vec<(String, u64)> {
        let asked = self.asked.lock().unwrap();
        let these = asked.iter().filter(|(one, ..)| one == method);
        these.map(|(_, path, from)| (path.clone(), *from)).collect()
    }
}

fn serve(
    mut client: impl Read + Write,
    manner: &Mutex<Manner>,
    told: &Mutex<Vec<(String, String, u64)>>,
) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if client.read(&mut byte)? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let from = head.lines().find_map(|line| {
        line.to_ascii_lowercase().strip_prefix("range: bytes=")?.split('-').next()?.parse().ok()
    });
    told.lock().unwrap().push((method.into(), path.into(), from.unwrap_or(0)));
    let moved = match path.strip_prefix("/moved/") {
        Some(rest) => {
            let left: usize = rest.split('/').next().and_then(|count| count.parse().ok()).unwrap_or(0);
            let to = if left == 0 { "/data/file".to_owned() } else { format!("/moved/{}/file", left - 1) };
            Some(to)
        }
        None if path.starts_with("/elsewhere/") => {
            manner.lock().unwrap().elsewhere.map(|elsewhere| format!("http://{elsewhere}/data/file"))
        }
        None => None,
    };
    if let Some(to) = moved {
        let answer =
            format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        return client.write_all(answer.as_bytes());
    }
    if !path.starts_with("/data/") {
        return client.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
    let Manner { content, tag, ranges, cut, .. } = {
        let mut manner = manner.lock().unwrap();
        let now = manner.clone();
        if method == "GET" {
            manner.cut = None;
            if manner.changes {
                manner.tag = Some("\"two\"");
            }
        }
        now
    };
    let part = from.filter(|_| ranges).map_or(&content[..], |from: u64| &content[from as usize..]);
    let mut answer = match from.filter(|_| ranges) {
        None => "HTTP/1.1 200 OK\r\n".to_owned(),
        Some(from) => {
            let all = content.len();
            format!("HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {from}-{}/{all}\r\n", all - 1)
        }
    };
    if let Some(tag) = tag {
        answer += &format!("etag: {tag}\r\n");
    }
    answer += &format!("content-length: {}\r\nconnection: close\r\n\r\n", part.len());
    client.write_all(answer.as_bytes())?;
    if method == "GET" {
        client.write_all(part.get(..cut.unwrap_or(part.len())).unwrap_or(part))?;
    }
    Ok(())
}

fn large() -> Vec<u8> {
    (0..(20 << 20) + 3).map(|at: usize| (at / 4096 + at % 251) as u8).collect()
}

#[test]
fn a_file_is_copied_under_its_own_name_and_only_looked_at_again() {
    let to = tempfile::tempdir().unwrap();
    let server = Server::start(Manner::of(&large()));
    let first = server.copy("/data/a%20file", &to).well();
    assert_eq!((first.number("files"), first.number("bytes")), (1, large().len() as u64));
    assert!(std::fs::read(to.path().join("a file")).unwrap() == large());
    assert_eq!(server.asked("GET"), [("/data/a%20file".to_owned(), 0)]);
    assert_eq!(server.copy("/data/a%20file", &to).well().number("filesThere"), 1);
    assert_eq!(server.asked("GET").len(), 1);
}

#[test]
fn a_broken_answer_is_gone_on_with_where_it_broke() {
    for ranges in [true, false] {
        let to = tempfile::tempdir().unwrap();
        let server = Server::start(Manner { ranges, cut: Some(17 << 20), ..Manner::of(&large()) });
        let mut done = server.copy("/data/file", &to);
        if done.code != Some(0) {
            // The next try: behind what is there.
            done = server.copy("/data/file", &to);
            assert_eq!(done.number("bytesKept"), 16 << 20, "{}", done.log);
        }
        done.well();
        assert!(std::fs::read(to.path().join("file")).unwrap() == large(), "{ranges}");
        let again = server.asked("GET").into_iter().skip(1).any(|(_, from)| from >= 16 << 20);
        assert!(again, "{ranges}: {:?}", server.asked("GET"));
    }
}

#[test]
fn what_changes_or_says_nothing_of_itself_is_not_copied() {
    let to = tempfile::tempdir().unwrap();
    let server = Server::start(Manner { changes: true, ..Manner::of(b"content") });
    let changed = server.copy("/data/file", &to);
    assert_eq!(changed.code, Some(1));
    assert!(changed.error().contains("it changed, or went"), "{}", changed.error());
    assert!(!to.path().join("file").exists());
    server.copy("/data/file", &to).well();

    let server = Server::start(Manner { tag: None, ..Manner::of(b"content") });
    let untold = server.copy("/data/file", &to);
    assert!(
        untold.code == Some(1) && untold.error().contains("neither ETag nor Last-Modified"),
        "{}",
        untold.error()
    );
    let absent = server.copy("/elsewhere", &to);
    assert!(
        absent.code == Some(1) && absent.error().contains("holds nothing at that path"),
        "{}",
        absent.error()
    );
}

#[test]
fn redirects_are_followed_and_bounded() {
    let to = tempfile::tempdir().unwrap();
    let server = Server::start(Manner::of(b"content"));
    server.copy("/moved/3/file", &to).well();
    assert_eq!(std::fs::read(to.path().join("file")).unwrap(), b"content");
    let endless = server.copy("/moved/99/file", &to);
    assert_eq!(endless.code, Some(1), "{}", endless.log);
    assert!(server.asked("HEAD").len() < 200, "{}", server.asked("HEAD").len());
    assert!(endless.error().contains("redirect"), "{}", endless.error());
}

/// A certificate for this machine, written where SSL_CERT_FILE can name it.
fn tls(certificate: &Path) -> Arc<ServerConfig> {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(certificate, made.cert.pem()).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    Arc::new(config)
}

#[test]
fn no_redirect_leads_from_https_to_http() {
    let (to, results) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let certificate = results.path().join("server.pem");
    let plain = Server::start(Manner::of(b"content"));
    let manner = Manner { elsewhere: Some(plain.at), ..Manner::of(b"content") };
    let server = Server::serving(manner, Some(tls(&certificate)));
    let copy = |path: &str| {
        let from = json!({"uri": format!("https://{}{path}", server.at)});
        let mut command = command(&migrate(&from, &folder(&to)).to_string(), results.path());
        ended(command.env("SSL_CERT_FILE", &certificate).spawn().unwrap(), results.path())
    };
    let refused = copy("/elsewhere/file");
    assert_eq!((refused.code, plain.asked("HEAD"), plain.asked("GET")), (Some(1), vec![], vec![]));
    assert!(refused.error().contains("redirect"), "{}", refused.error());
    assert!(!to.path().join("file").exists());
    copy("/moved/3/file").well();
    assert_eq!(std::fs::read(to.path().join("file")).unwrap(), b"content");
}

#[test]
fn what_a_url_would_tell_the_log_is_refused() {
    let to = tempfile::tempdir().unwrap();
    let refused = |uri: &str| {
        let task: Value = migrate(&json!({"uri": uri}), &folder(&to));
        let refused = run(&task);
        assert_eq!(refused.code, Some(2), "{uri}");
        for words in [refused.error(), &refused.log] {
            assert!(!words.contains("geheim"), "{words}");
        }
    };
    refused("https://user:geheim@host/x");
    refused("https://host/x?sig=geheim");
    refused("https://host/x#geheim");
}
