//! Ends in the middle of work: what is left behind is what was learned, and nothing else.

use agent::profiles::ProfileStore;
use rustix::process::Signal;

use crate::fixture::{Home, Reader, Remote, assert_detached, until};
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
