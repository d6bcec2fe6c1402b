//! Mounts that go while they are watched, and stores that die.

use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::Signal;

use crate::fixture::{Home, Reader, Remote, run, stderr, until};
use crate::store::Store;

fn store() -> Store {
    Store { files: 4_000, bandwidth: 60_000_000, ..Store::default() }
}

fn mounts(home: &Home) -> usize {
    home.ask("node")["mounts"].as_array().unwrap().len()
}

#[test]
fn a_mount_may_go_while_it_is_prefetched_and_come_back() {
    let home = Home::new();
    let mut remote = Remote::new(store());
    let mut agent = home.agent(&remote.path);
    let reader = Reader::start(&remote.files(0..4_000));
    until("the agent prefetches", || home.number("fetched_bytes") > 0);
    drop(reader);
    let begin = Instant::now();
    until("umount is not refused", || unmount(&remote.path, UnmountFlags::empty()).is_ok());
    println!("umount worked {:?} after the reader's end", begin.elapsed());
    until("the watch ends", || mounts(&home) == 0);

    remote.mount(store());
    until("the watch begins again", || mounts(&home) == 1);
    let before = home.number("reads");
    Reader::start(&remote.files(0..20)).wait();
    until("reads are seen again", || home.number("reads") >= before + 20);
    assert!(agent.stop(Signal::TERM).success());
    home.assert_calm();
}

#[test]
fn a_mount_may_be_detached_under_its_reader() {
    let home = Home::new();
    let remote = Remote::new(store());
    let mut agent = home.agent(&remote.path);
    let reader = Reader::start(&remote.files(0..4_000));
    until("the agent prefetches", || home.number("fetched_bytes") > 0);
    unmount(&remote.path, UnmountFlags::DETACH).unwrap();
    until("the watch ends", || mounts(&home) == 0);
    drop(reader);
    assert!(agent.stop(Signal::TERM).success());
    home.assert_calm();
}

/// A pod's volume may come at any moment of the agent's start, which takes some tenths of a second.
#[test]
fn what_is_mounted_while_the_agent_starts_is_watched() {
    for delay in [100, 200, 300, 400, 500, 600] {
        let home = Home::new();
        let mut remote = Remote::new(store());
        unmount(&remote.path, UnmountFlags::empty()).unwrap();
        let point = remote.path.to_str().unwrap().to_owned();
        let mut agent = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(delay));
                remote.mount(store());
            });
            home.agent_behind(&[], &[])
        });
        until(&format!("what was mounted after {delay} ms is watched"), || {
            home.ask("node")["mounts"].as_array().unwrap().iter().any(|mount| mount["point"] == point)
        });
        assert!(agent.stop(Signal::TERM).success());
    }
}

/// As in a container: the mount is the host's, and none of the agent's own.
#[test]
fn the_mounts_of_another_process_are_watched_and_brought_into_memory() {
    let home = Home::new();
    let mut remote = Remote::new(store());
    // Not even its folder is there.
    let (path, folder) = (remote.path.display(), remote.path.parent().unwrap().display());
    let apart = format!("umount {path} && mount -t tmpfs none {folder} && exec \"$@\"");
    let before = ["unshare", "-m", "--propagation", "private", "sh", "-ec", &apart, "sh"];
    let host = std::process::id().to_string();
    let watch = ["--watch".as_ref(), remote.path.as_os_str(), "--mounts-of".as_ref(), host.as_ref()];
    let mut agent = home.agent_behind(&before, &watch);
    assert_eq!(home.ask("node")["mounts"][0]["point"], remote.path.to_str().unwrap());
    let seen = format!("/proc/{}/mountinfo", agent.id());
    let seen = std::fs::read_to_string(seen).unwrap();
    assert!(!seen.contains(remote.path.to_str().unwrap()), "the agent has the mount itself: {seen}");
    let reader = Reader::start(&remote.files(0..4_000));
    until("the agent prefetches", || home.number("fetched_bytes") > 0);
    drop(reader);
    until("umount is not refused", || unmount(&remote.path, UnmountFlags::empty()).is_ok());
    until("the watch ends", || mounts(&home) == 0);
    remote.mount(store());
    until("the watch begins again", || mounts(&home) == 1);
    assert!(agent.stop(Signal::TERM).success());
    home.assert_calm();
}

#[test]
fn a_process_whose_mounts_cannot_be_seen_is_refused_with_what_to_do() {
    let home = Home::new();
    let ended = |process: &str| {
        let mut command = String::from("exec \"$@\" --mounts-of ");
        command.push_str(process);
        let words = home.agent_words(&[]);
        let mut args: Vec<&std::ffi::OsStr> = vec!["-c".as_ref(), command.as_ref(), "sh".as_ref()];
        args.extend(words.iter().map(|word| word.as_os_str()));
        run("sh", &args)
    };
    // The shell becomes the agent, so its number is the agent's.
    for (process, why) in [("$$", "the agent itself"), ("4194304", "No such file")] {
        let output = ended(process);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let said = stderr(&output);
        assert!(said.contains("--mounts-of") && said.contains(why) && said.contains("hostPID"), "{said}");
    }
}

#[test]
fn a_store_may_die() {
    let home = Home::new();
    let remote = Remote::new(store());
    let mut agent = home.agent(&remote.path);
    let reader = Reader::start(&remote.files(0..4_000));
    until("the agent prefetches", || home.number("fetched_bytes") > 0);
    remote.signal(Signal::KILL);
    reader.wait();
    until("nothing is under way", || home.number("in_flight") == 0 && home.number("queued") == 0);
    assert_eq!(mounts(&home), 1, "a dead server's mount is still a mount");
    assert!(agent.stop(Signal::TERM).success());
    home.assert_calm();
}

#[test]
fn a_store_that_never_answers_stops_nobody() {
    let home = Home::new();
    let remote = Remote::new(store());
    let mut agent = home.agent(&remote.path);
    let stuck: Vec<_> = (0..8).map(|n| remote.path.join(format!("stuck{n}"))).collect();
    let readers: Vec<Reader> = stuck.iter().map(|file| Reader::start(std::slice::from_ref(file))).collect();
    // The rest of the mount goes on meanwhile.
    Reader::start(&remote.files(0..200)).wait();
    until("the other files' reads are seen", || home.number("reads") >= 200);
    assert!(agent.stop(Signal::TERM).success());
    drop(readers);
    home.assert_calm();
}
