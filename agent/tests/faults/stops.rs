//! Ends in the middle of work: what is left behind is what was learned, and nothing else.

use std::ffi::{OsStr, OsString};

use agent::profiles::ProfileStore;
use rustix::process::Signal;

use crate::fixture::{HEADRACE, Home, Reader, Remote, assert_detached, kill, run, until};
use crate::store::Store;

fn remote() -> Remote {
    Remote::new(Store { files: 4_000, bandwidth: 60_000_000, ..Store::default() })
}

#[test]
fn a_signal_in_the_middle_leaves_only_what_was_learned() {
    for signal in [Signal::TERM, Signal::INT] {
        let (home, remote) = (Home::new(), remote());
        let mut agent = home.agent(&remote.path);
        Reader::start(&remote.files(0..300)).wait();
        let reader = Reader::start(&remote.files(300..4_000));
        until("fetches are under way", || home.number("in_flight") > 0);
        let programs = agent.programs();
        assert!(agent.stop(signal).success(), "{signal:?}: {}", home.log());
        assert_detached(&programs);
        assert!(!home.run_folder().exists());
        assert!(!home.kept("profile").is_empty(), "{}", home.log());
        assert!(home.kept("new").is_empty());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(home.folder.path().to_str().unwrap()), "{mounts}");
        home.assert_calm();
        drop(reader);
    }
}

#[test]
fn killed_it_loses_no_profile_and_the_next_one_starts() {
    let home = Home::new();
    let remote = remote();
    let mut agent = home.agent(&remote.path);
    Reader::start(&remote.files(0..300)).wait();
    until("a profile is kept", || !home.kept("profile").is_empty());
    let reader = Reader::start(&remote.files(300..4_000));
    until("fetches are under way", || home.number("in_flight") > 0);
    let programs = agent.programs();
    assert!(!agent.stop(Signal::KILL).success());
    drop(reader);
    assert_detached(&programs);
    assert!(home.socket().exists(), "nobody was there to remove it");

    let mut agent = home.agent(&remote.path);
    Reader::start(&remote.files(0..20)).wait();
    until("reads are seen", || home.number("reads") > 0);
    assert!(agent.stop(Signal::TERM).success());
    assert!(!home.socket().exists());
    assert!(home.kept("bad").is_empty());
    assert!(ProfileStore::open(&home.state).unwrap().iter().next().is_some());
    home.assert_calm();
}

#[test]
fn a_store_that_hangs_keeps_nothing_of_the_agent_s_attached() {
    let (home, remote) = (Home::new(), remote());
    let mut agent = home.agent(&remote.path);
    Reader::start(&remote.files(0..300)).wait();
    let reader = Reader::start(&remote.files(300..4_000));
    until("fetches are under way", || home.number("in_flight") > 0);
    remote.signal(Signal::STOP);
    // Should something fail below: the agent cannot end, and be waited for, while the store holds its threads.
    let _goes_on = GoesOn(&remote);
    // It answers while its fetches hang, as often as it likes.
    for _ in 0..20 {
        home.ask("files");
    }
    let programs = agent.programs();
    kill(agent.id(), Signal::TERM);
    // The process itself may have to wait: the kernel holds threads whose request the store has taken.
    assert_detached(&programs);
    until("its socket is gone", || !home.run_folder().exists());
    // The engine ends after those who answer questions.
    until("its profile is kept", || !home.kept("profile").is_empty());
    remote.signal(Signal::CONT);
    assert!(agent.wait().success());
    drop(reader);
    home.assert_calm();
}

/// Has a stopped store go on when it is dropped.
struct GoesOn<'a>(&'a Remote);

impl Drop for GoesOn<'_> {
    fn drop(&mut self) {
        self.0.signal(Signal::CONT);
    }
}

#[test]
fn a_log_that_cannot_be_written_stops_nobody() {
    let (home, remote) = (Home::new(), remote());
    let full = ["sh", "-c", "exec \"$@\" 2>/dev/full", "sh"];
    let mut agent = home.agent_behind(&full, &["--watch".as_ref(), remote.path.as_ref()]);
    Reader::start(&remote.files(0..20)).wait();
    until("reads are seen", || home.number("reads") >= 20);
    assert!(agent.stop(Signal::TERM).success());
    // A fatal error keeps its status.
    let (watch, question) = (home.agent_words(&["--watch".as_ref(), "/proc".as_ref()]), home.socket());
    for (words, code) in
        [(watch, 1), (vec![HEADRACE.into(), "node".into(), "--socket".into(), question.into()], 3)]
    {
        let args: Vec<&OsStr> =
            full.iter().skip(1).map(OsStr::new).chain(words.iter().map(OsString::as_os_str)).collect();
        assert_eq!(run("sh", &args).status.code(), Some(code));
    }
}
