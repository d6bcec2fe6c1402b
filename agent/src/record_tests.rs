//! Real files: full disks, cut recordings, and a recorder that is killed.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt;

use agent_core::trace::Decoder;
use agent_core::{FileKey, Reader, Via};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::*;

fn access(n: u64) -> Observation {
    Observation::Access {
        file: FileKey { dev: 5, ino: 9 },
        reader: Reader { tgid: 7, tid: 7 },
        pages: n..n + 1,
        via: Via::Read,
        count: 1,
        size: 1 << 30,
    }
}

/// Large enough that a disk fills up: a path of 2,000 random letters.
fn sight(n: u64) -> Observation {
    let mut state = n.wrapping_add(1);
    let path = (0..2000).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        b'a' + (state >> 33) as u8 % 26
    });
    Observation::Sight {
        file: FileKey { dev: 5, ino: n },
        mount: agent_core::MountId(1),
        path: path.collect(),
        size: 1,
        mtime: 1,
    }
}

/// The observations of a file: how many, and how many it says are lost.
fn told(path: &Path) -> (u64, u64) {
    let bytes = fs::read(path).unwrap();
    let (mut good, mut lost) = (0, 0);
    for item in Decoder::new(&bytes).unwrap() {
        match item.unwrap().1 {
            Observation::Lost { records } => lost += records,
            _ => good += 1,
        }
    }
    (good, lost)
}

#[test]
fn what_is_recorded_can_be_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace");
    let mut recorder = Recorder::create(&path, false).unwrap();
    for n in 0..50_000 {
        recorder.take(Nanos(n * 1000), &access(n));
        if n % 10_000 == 0 {
            recorder.flush();
        }
    }
    let recorded = recorder.finish().unwrap();
    assert_eq!((recorded.observations, recorded.lost), (50_000, 0));
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.len(), metadata.mode() & 0o777), (recorded.bytes, 0o600));
    assert_eq!(told(&path), (50_000, 0));
    let text = || replay(&path, Limits::default()).unwrap().to_string();
    assert!(text().starts_with("recording  50000 observations"), "{}", text());
    assert_eq!(text(), text());
}

#[test]
fn a_file_that_is_there_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace");
    fs::write(&path, "precious").unwrap();
    let error = Recorder::create(&path, false).unwrap_err();
    assert!(matches!(error, RecordError::Exists { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    Recorder::create(&path, true).unwrap().finish().unwrap();
    assert_eq!(told(&path), (0, 0));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let nowhere = Recorder::create(&dir.path().join("none/trace"), false).unwrap_err();
    assert!(matches!(nowhere, RecordError::Create { .. }), "{nowhere}");
}

#[test]
fn a_recorder_that_is_killed_leaves_what_was_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace");
    let mut recorder = Recorder::create(&path, false).unwrap();
    for n in 0..100 {
        recorder.take(Nanos(n), &access(n));
    }
    recorder.flush();
    recorder.take(Nanos(100), &access(100));
    let Recorder { queue, ended, .. } = recorder;
    drop(queue);
    ended.recv_timeout(PATIENCE).unwrap().unwrap();
    let found = replay(&path, Limits::default()).unwrap();
    assert_eq!(found.observations, 100);
    assert_eq!(found.flaws, [TraceError::Unfinished { good: 100 }]);
}

#[test]
fn a_full_disk_leaves_a_good_recording_that_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let body = || {
        // SAFETY: NEWNS and FS touch no memory and no descriptor; only this thread's view of the mounts.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }
            .expect("unshare: this test needs root; run it with sudo");
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).unwrap();
        let options = CString::new("size=1m").unwrap();
        mount(
            "headrace-test",
            dir.path(),
            "tmpfs",
            MountFlags::empty(),
            Some(options.as_c_str()),
        )
        .unwrap();
        let filler = dir.path().join("filler");
        fs::write(&filler, vec![0; 512 << 10]).unwrap();
        let path = dir.path().join("trace");
        let mut recorder = Recorder::create(&path, false).unwrap();
        let mut taken = 0;
        let mut give = |recorder: &mut Recorder, until: &dyn Fn(&Recorder) -> bool| {
            let deadline = Instant::now() + PATIENCE;
            while !until(recorder) {
                assert!(Instant::now() < deadline, "the writer has not got on");
                recorder.take(Nanos(taken), &sight(taken));
                taken += 1;
                thread::sleep(Duration::from_micros(100));
            }
        };
        give(&mut recorder, &|recorder| recorder.lost() > 0);
        // Some space again: it goes on.
        fs::remove_file(&filler).unwrap();
        let before = recorder.shared.observations.load(Ordering::Relaxed);
        give(&mut recorder, &|recorder| {
            recorder.shared.observations.load(Ordering::Relaxed) > before
        });
        recorder.take(Nanos(taken), &access(1));
        let recorded = recorder.finish().unwrap();
        let (good, lost) = told(&path);
        assert_eq!(recorded.observations, good);
        assert_eq!(recorded.lost, lost);
        assert!(lost > 0);
        assert_eq!(good + lost, taken + 1, "each is there, or told as missing");
        let found = replay(&path, Limits::default()).unwrap();
        assert_eq!(found.flaws, []);
    };
    thread::scope(|scope| scope.spawn(body).join().unwrap());
}

#[test]
fn a_disk_that_takes_nothing_is_said_at_the_end() {
    let error = Recorder::create(Path::new("/dev/full"), true).unwrap_err();
    assert!(matches!(error, RecordError::Create { .. }), "{error}");
}

#[test]
fn what_is_no_recording_gets_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let error = |path: &Path| replay(path, Limits::default()).unwrap_err();
    assert!(matches!(error(dir.path()), RecordError::NotAFile { .. }));
    assert!(matches!(
        error(&dir.path().join("none")),
        RecordError::Read { .. }
    ));
    let path = dir.path().join("text");
    fs::write(&path, "hello").unwrap();
    assert!(error(&path).to_string().contains("no headrace recording"));
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    assert!(matches!(error(&pipe), RecordError::NotAFile { .. }));
    let sparse = dir.path().join("sparse");
    File::create(&sparse).unwrap().set_len(MAX_RECORDING + 1).unwrap();
    assert!(matches!(error(&sparse), RecordError::TooLarge { .. }));
}

#[test]
fn a_cut_or_flipped_file_is_replayed_as_far_as_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace");
    let mut recorder = Recorder::create(&path, false).unwrap();
    for n in 0..30_000 {
        recorder.take(Nanos(n), &access(n));
    }
    recorder.finish().unwrap();
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() * 2 / 3]).unwrap();
    let found = replay(&path, Limits::default()).unwrap();
    assert!(found.observations > 0);
    assert!(
        matches!(found.flaws[..], [TraceError::Torn { .. }]),
        "{:?}",
        found.flaws
    );
    let mut flipped = bytes.clone();
    flipped[70_000] ^= 1;
    fs::write(&path, flipped).unwrap();
    let found = replay(&path, Limits::default()).unwrap();
    assert!(
        matches!(found.flaws[..], [TraceError::Damaged { .. }]),
        "{:?}",
        found.flaws
    );
    assert!(found.to_string().contains("damage"));
}
