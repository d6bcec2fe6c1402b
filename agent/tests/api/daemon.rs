//! `headrace agent` itself: start, a second one, metrics, both stops.

use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::Signal;

use crate::fixture::{exists, headrace, kill, run, stderr, stdout, until};

/// Killed when dropped, should a test have failed before it stopped it.
struct Daemon(Child);

impl Daemon {
    fn id(&self) -> u32 {
        self.0.id()
    }

    fn ends(&mut self) -> bool {
        self.0.wait().unwrap().success()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn agent(folder: &Path, more: &[&str]) -> Daemon {
    let socket = folder.join("agent.sock");
    let state = folder.join("state");
    let args =
        ["agent", "--observe-only", "--socket", socket.to_str().unwrap(), "--state", state.to_str().unwrap()];
    let child = headrace(&[&args, more].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::from(std::fs::File::create(folder.join("log")).unwrap()))
        .spawn()
        .unwrap();
    let daemon = Daemon(child);
    until("the agent answers", || {
        run(&mut headrace(&["node", "--socket", socket.to_str().unwrap()])).status.success()
    });
    daemon
}

#[test]
fn it_answers_and_leaves_nothing_behind() {
    for signal in [Signal::TERM, Signal::INT] {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent.sock");
        let mut child = agent(folder.path(), &[]);
        assert_eq!(std::fs::metadata(&socket).unwrap().mode() & 0o7777, 0o660);
        let answer = run(&mut headrace(&["node", "-o", "json", "--socket", socket.to_str().unwrap()]));
        assert!(answer.status.success(), "{}", stderr(&answer));
        let json: serde_json::Value = serde_json::from_str(&stdout(&answer)).unwrap();
        assert_eq!(json["observe_only"], true);
        kill(child.id(), signal);
        assert!(child.ends());
        assert!(!exists(&socket));
    }
}

#[test]
fn a_second_agent_is_told_who_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = agent(folder.path(), &[]);
    let socket = folder.path().join("agent.sock");
    let second = run(&mut headrace(&["agent", "--observe-only", "--socket", socket.to_str().unwrap()]));
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains(&format!("pid {}", first.id())), "{}", stderr(&second));
    kill(first.id(), Signal::TERM);
    first.ends();
}

#[test]
fn a_killed_agent_s_socket_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = agent(folder.path(), &[]);
    kill(first.id(), Signal::KILL);
    first.ends();
    let socket = folder.path().join("agent.sock");
    assert!(exists(&socket));
    let stale = run(&mut headrace(&["node", "--socket", socket.to_str().unwrap()]));
    assert_eq!(stale.status.code(), Some(3), "{}", stderr(&stale));
    let mut second = agent(folder.path(), &[]);
    kill(second.id(), Signal::TERM);
    second.ends();
}

#[test]
fn prometheus_reads_what_the_page_lists() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = agent(folder.path(), &["--metrics", "127.0.0.1:0", "--listen", "127.0.0.1:0"]);
    let log = || std::fs::read_to_string(folder.path().join("log")).unwrap();
    until("the metrics' address in the log", || log().contains("/metrics"));
    let log = log();
    let addr = log.split("http://").nth(1).unwrap().split('/').next().unwrap();
    let mut stream = std::net::TcpStream::connect(addr).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    // Nothing is attached here, so no CPU has dropped anything.
    for name in agent::metrics::names::ALL.iter().filter(|name| name.labels != ["cpu"]) {
        assert!(page.contains(&format!("# HELP {}", name.stem)), "{} is missing", name.exposed());
    }
    assert!(page.contains("headrace_engine_answered 1"), "{page}");
    assert!(page.contains("headrace_read_bytes_total 0"), "{page}");
    assert!(page.ends_with("# EOF\n"));
    kill(child.id(), Signal::TERM);
    child.ends();
}
