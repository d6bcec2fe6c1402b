//! `headrace record` against an engine that sends blocks.

use std::process::Stdio;
use std::time::Duration;

use agent::api::RecordSink;
use agent::api::recording::Phase;
use prost::bytes::Bytes;

use crate::fixture::{Fixture, OnRecord, kill, run, stderr, stdout, until};

const BLOCK: &[u8] = &[7; 4096];

/// Sends blocks until it is told to end, then a tail; as the engine would, but in a thread.
fn recorder() -> OnRecord {
    Box::new(|mut sink: RecordSink| {
        std::thread::spawn(move || {
            while sink.phase() == Phase::Running {
                sink.offer(Bytes::from_static(BLOCK), 100);
                std::thread::sleep(Duration::from_millis(2));
            }
            sink.offer(Bytes::from_static(b"tail"), 1);
        });
        Ok(())
    })
}

fn whole(bytes: &[u8]) -> bool {
    bytes.len() > BLOCK.len() && bytes.len() % BLOCK.len() == 4 && bytes.ends_with(b"tail")
}

#[test]
fn it_ends_after_its_time_with_the_tail() {
    let fixture = Fixture::with_record(recorder());
    let file = fixture.folder.path().join("trace");
    let ended = fixture.ask(&["record", file.to_str().unwrap(), "--seconds", "1", "-o", "json"]);
    assert!(ended.status.success(), "{}", stderr(&ended));
    assert!(whole(&std::fs::read(&file).unwrap()));
    let json: serde_json::Value = serde_json::from_str(&stdout(&ended)).unwrap();
    assert_eq!(json["bytes"], std::fs::metadata(&file).unwrap().len());
}

#[test]
fn ctrl_c_ends_it_with_the_tail() {
    let fixture = Fixture::with_record(recorder());
    let file = fixture.folder.path().join("trace");
    let child = fixture
        .command(&["record", file.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("blocks in the file", || std::fs::metadata(&file).is_ok_and(|m| m.len() > 2 * BLOCK.len() as u64));
    kill(child.id(), rustix::process::Signal::INT);
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", stderr(&ended));
    assert!(whole(&std::fs::read(&file).unwrap()));
}

#[test]
fn it_overwrites_only_when_told() {
    let fixture = Fixture::with_record(recorder());
    let file = fixture.folder.path().join("trace");
    std::fs::write(&file, "precious").unwrap();
    let refused = fixture.ask(&["record", file.to_str().unwrap(), "--seconds", "1"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("--force"), "{}", stderr(&refused));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    let forced = fixture.ask(&["record", file.to_str().unwrap(), "--seconds", "1", "--force"]);
    assert!(forced.status.success(), "{}", stderr(&forced));
    assert!(whole(&std::fs::read(&file).unwrap()));
}

#[test]
fn a_full_disk_keeps_what_was_written() {
    let fixture = Fixture::with_record(recorder());
    // The limit on a file's size stands for the disk's; a write beyond it fails once SIGXFSZ is ignored.
    let file = fixture.folder.path().join("trace");
    let mount = fixture.folder.path().join("small");
    std::fs::create_dir(&mount).unwrap();
    let small = SmallDisk::new(&mount);
    let full = mount.join("trace");
    let ended = fixture.ask(&["record", full.to_str().unwrap(), "--seconds", "20"]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(stderr(&ended).contains("the disk is full"), "{}", stderr(&ended));
    let kept = std::fs::metadata(&full).unwrap().len();
    assert!(kept > 0 && kept.is_multiple_of(BLOCK.len() as u64), "{kept}");
    drop(small);
    assert!(!file.exists());
}

/// 64 KiB of tmpfs; unmounted when dropped.
struct SmallDisk<'a>(&'a std::path::Path);

impl<'a> SmallDisk<'a> {
    fn new(at: &'a std::path::Path) -> Self {
        use rustix::mount::{MountFlags, mount};
        mount("small", at, "tmpfs", MountFlags::empty(), Some(c"size=64k"))
            .expect("mounting a tmpfs needs root: run the tests with sudo");
        Self(at)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn an_agent_that_ends_leaves_a_good_file_and_a_sentence() {
    let fixture = Fixture::with_record(Box::new(|mut sink| {
        sink.offer(Bytes::from_static(BLOCK), 1);
        Ok(())
    }));
    let file = fixture.folder.path().join("trace");
    let ended = fixture.ask(&["record", file.to_str().unwrap()]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(stderr(&ended).contains("ended early"), "{}", stderr(&ended));
    assert_eq!(std::fs::read(&file).unwrap(), BLOCK);
}

#[test]
fn a_refusal_makes_no_file() {
    let fixture = Fixture::new();
    let file = fixture.folder.path().join("trace");
    let refused = run(&mut fixture.command(&["record", file.to_str().unwrap()]));
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("this engine records nothing"), "{}", stderr(&refused));
    assert!(!file.exists());
}
