//! Who read, and what the file is called: names of all kinds, numbers that are given again.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use agent::probe::{Plan, ProbeConfig, ReadEvent};
use agent_common::record::PATH_DEPTH;
use agent_common::state::WAYS;
use agent_core::observation::Actor;

use super::{reached, set, verdict, whole_file};
use crate::disk::chill;
use crate::scene::{Scene, below, key, key_of};
use crate::verdict::Verdict;

pub fn two_processes(scene: &mut Scene) -> Verdict {
    let paths = [scene.disk.file("one", 3 << 20), scene.disk.file("two", 2 << 20)];
    for path in &paths {
        if !scene.sees_hits() {
            chill(&File::open(path).expect("opening"));
        }
    }
    scene.told();
    let children: Vec<_> = paths
        .iter()
        .map(|path| Command::new("cat").arg(path).stdout(Stdio::null()).spawn().expect("cat"))
        .collect();
    let ids: Vec<u32> = children.iter().map(std::process::Child::id).collect();
    for mut child in children {
        assert!(child.wait().expect("waiting").success());
    }
    let told = scene.told();
    for (path, id) in paths.iter().zip(&ids) {
        let pages = fs::metadata(path).expect("metadata").len() / 4096;
        assert_eq!(reached(scene, &told, path), set(0..pages), "{:?}", told.events);
        for event in &told.events {
            let by = match event {
                ReadEvent::Access { reader, .. } => *reader,
                ReadEvent::Added { by: Actor::Thread(reader), .. } => *reader,
                _ => continue,
            };
            if event.file().is_some_and(|file| key(file) == key_of(path)) {
                assert_eq!(by.tgid, *id, "{event:?}");
            }
        }
        let ends =
            told.events.iter().filter(|event| matches!(event, ReadEvent::Exit { tgid, .. } if tgid == id));
        assert_eq!(ends.count(), 1, "{:?}", told.events);
    }
    verdict(scene)
}

/// Opened, read and closed in one breath, by a process that is gone at once: named nevertheless, and
/// before anything else is told of it.
fn breath(scene: &mut Scene, name: &OsStr) -> Verdict {
    let path = scene.disk.file(name, 100);
    let dev = scene.disk.dev;
    scene.forget(dev);
    let told = whole_file(scene, &path, || {
        let status = Command::new("cat").arg(&path).stdout(Stdio::null()).status();
        assert!(status.expect("cat").success());
    });
    assert_eq!(reached(scene, &told, &path), set(0..1), "{:?}", told.events);
    assert_eq!(told.path(&path), Some(below(&path, &scene.disk.root)), "{:?}", told.events);
    let first = told.events.iter().find(|event| event.file().is_some_and(|file| key(file) == key_of(&path)));
    // Where it was chilled after the names had been forgotten, its pages' going was the first sight.
    assert!(matches!(first, Some(ReadEvent::Sight { truncated: false, size: 100, .. })), "{:?}", told.events);
    verdict(scene)
}

pub fn one_breath(scene: &mut Scene) -> Verdict {
    breath(scene, OsStr::new("breath"))
}

pub fn deep(scene: &mut Scene) -> Verdict {
    let verdict = breath(scene, OsStr::new("a/b/c/d/e/f/g/h/deep"));
    // Deeper than a path is followed: its end is told, and that it is one.
    let path = (0..40).map(|n| n.to_string()).collect::<Vec<_>>().join("/");
    let path = scene.disk.file(path, 100);
    let (truncated, seen) = sight(scene, &path);
    assert!(truncated && seen.ends_with(b"/38/39"), "{}", String::from_utf8_lossy(&seen));
    // As deep as a path is followed, and one deeper.
    for (names, cut) in [(PATH_DEPTH, false), (PATH_DEPTH + 1, true)] {
        let path = (0..names).map(|n| format!("{n}of{names}")).collect::<Vec<_>>().join("/");
        let path = scene.disk.file(path, 100);
        let (truncated, seen) = sight(scene, &path);
        let whole = below(&path, &scene.disk.root);
        assert_eq!((truncated, seen != whole), (cut, cut), "{}", String::from_utf8_lossy(&seen));
    }
    verdict
}

/// Reads a file whose name has been forgotten, and returns what it was called.
fn sight(scene: &mut Scene, path: &Path) -> (bool, Vec<u8>) {
    let dev = scene.disk.dev;
    scene.forget(dev);
    let told = whole_file(scene, path, || {
        fs::read(path).expect("reading");
    });
    let sight = told.events.iter().find_map(|event| match event {
        ReadEvent::Sight { truncated, path, .. } => Some((*truncated, path.to_vec())),
        _ => None,
    });
    sight.expect("a sight")
}

pub fn odd_names(scene: &mut Scene) -> Verdict {
    let names: [&[u8]; 2] = [b"new\nline", b"not \xff\xfe UTF-8"];
    for name in names {
        breath(scene, OsStr::from_bytes(name));
    }
    // Around the words that names come in, and around where a dentry has no room for its name any more. The folder's
    // is longer, so that what is left of it would show.
    for len in [1, 7, 8, 9, 15, 16, 31, 32, 33, 38, 39, 40, 41, 255] {
        let path = format!("{}/{}", "m".repeat(len.min(254) + 1), "n".repeat(len));
        breath(scene, OsStr::new(&path));
    }
    verdict(scene)
}

pub fn hard_links(scene: &mut Scene) -> Verdict {
    let path = scene.disk.file("link/first", 100);
    let other = scene.disk.root.join("link/second");
    fs::hard_link(&path, &other).expect("a link");
    let (_, seen) = sight(scene, &other);
    assert!(seen == b"link/first" || seen == b"link/second", "{}", String::from_utf8_lossy(&seen));
    verdict(scene)
}

/// An unlinked file is read all the same, and called as it was while somebody has it open: the kernel keeps the dentry.
/// A new file there is called the same.
pub fn unlinked(scene: &mut Scene) -> Verdict {
    let (dev, root) = (scene.disk.dev, scene.disk.root.clone());
    let path = scene.disk.file("folder/unlinked", 100);
    let gone = File::open(&path).expect("opening");
    let gone_key = key_of(&path);
    fs::remove_file(&path).expect("unlinking");
    assert_eq!(scene.disk.file("folder/unlinked", 200), path);
    let (new, new_key) = (File::open(&path).expect("opening"), key_of(&path));
    assert_ne!(gone_key, new_key, "open files keep their number");
    scene.forget(dev);
    for (file, key_of_it) in [(&gone, gone_key), (&new, new_key)] {
        if !scene.sees_hits() {
            chill(file);
            scene.forget(dev);
        }
        file.read_exact_at(&mut [0; 10], 0).expect("pread");
        let told = scene.told();
        let reads = told.events.iter().filter(|event| match event {
            ReadEvent::Access { file, .. } => scene.sees_hits() && key(*file) == key_of_it,
            ReadEvent::Added { file, .. } => !scene.sees_hits() && key(*file) == key_of_it,
            _ => false,
        });
        assert_eq!(reads.count(), 1, "{:?}", told.events);
        assert_eq!(told.paths.keys().collect::<Vec<_>>(), [&key_of_it], "{:?}", told.events);
        assert_eq!(told.paths[&key_of_it], below(&path, &root), "{:?}", told.events);
    }
    // Its pages go when it is closed. No dentry is left then, and who was forgotten is not named again by what goes.
    scene.forget(dev);
    drop(gone);
    let told = scene.told();
    let went = told.events.iter().filter(
        |event| matches!(event, ReadEvent::Removed { file, pages, .. } if key(*file) == gone_key && *pages == (0..1)),
    );
    assert_eq!((went.count(), told.events.len()), (1, 1), "{:?}", told.events);
    verdict(scene)
}

pub fn lives(scene: &mut Scene) -> Verdict {
    let path = scene.disk.file("life", 100);
    fs::read(&path).expect("reading");
    let first = key_of(&path);
    scene.told();
    // A new name shows by the inode's ctime, which on older kernels is that of the last clock tick; whoever
    // has slept sees a later one.
    thread::sleep(Duration::from_millis(20));
    fs::rename(&path, scene.disk.root.join("renamed")).expect("renaming");
    let path = scene.disk.root.join("renamed");
    let told = whole_file(scene, &path, || {
        fs::read(&path).expect("reading");
    });
    assert_eq!(told.path(&path).expect("named anew"), b"renamed", "{:?}", told.events);
    // The number is given to the next file: ext4 takes the lowest that is free.
    fs::remove_file(&path).expect("removing");
    scene.told();
    let path = scene.disk.file("next life", 200);
    assert_eq!(key_of(&path), first, "ext4 was expected to give the number again");
    // Its pages were told when it was written, so that its name may have come then.
    let mut told = scene.told();
    let more = whole_file(scene, &path, || {
        fs::read(&path).expect("reading");
    });
    told.paths.extend(more.paths);
    told.events.extend(more.events);
    assert_eq!(told.path(&path), Some(&b"next life"[..]), "{:?}", told.events);
    // What was forgotten is named again, however often it was read before.
    let dev = scene.disk.dev;
    scene.forget(dev);
    let told = whole_file(scene, &path, || {
        fs::read(&path).expect("reading");
    });
    assert_eq!(told.path(&path), Some(&b"next life"[..]), "{:?}", told.events);
    verdict(scene)
}

/// Lines of a log, as they come.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("the log").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Files in turns, more than the probe keeps names of: who was pushed out is named again, and nothing of it is lost.
pub fn full_register(plan: Plan) -> Verdict {
    const FILES: usize = 40;
    let config = ProbeConfig { sets: Some(1), own_tgid: Some(1), ..ProbeConfig::default() };
    let mut scene = Scene::with(plan, config);
    let paths: Vec<_> = (0..FILES).map(|n| scene.disk.file(format!("many/{n}"), 8192)).collect();
    scene.forget(scene.disk.dev);
    for turn in 0..3 {
        if !scene.sees_hits() {
            paths.iter().for_each(|path| chill(&File::open(path).expect("opening")));
        }
        scene.told();
        for path in &paths {
            fs::read(path).expect("reading");
        }
        let told = scene.told();
        for path in &paths {
            assert_eq!(reached(&scene, &told, path), set(0..2), "{turn}: {:?}", told.events);
            let name = told.path(path).unwrap_or(below(path, &scene.disk.root));
            assert_eq!(name, below(path, &scene.disk.root));
        }
        let named = paths.iter().filter(|path| told.path(path).is_some()).count();
        let least = if turn == 0 { FILES } else { FILES - WAYS };
        assert!(named >= least, "{turn}: {named} of {FILES} were named");
    }
    verdict(&scene)
}

/// With the log at debug, the programs say in words what they could not do: here, that a path was too deep.
/// They must pass the verifier with those words too.
pub fn trouble_is_said(plan: Plan) -> Verdict {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let mut scene = Scene::open(plan);
        let folder = scene.disk.root.join(vec!["deeper"; 40].join("/"));
        fs::create_dir_all(&folder).expect("folders");
        let path = folder.join("file");
        fs::write(&path, [1; 100]).expect("a file");
        chill(&File::open(&path).expect("opening"));
        scene.told();
        fs::read(&path).expect("reading");
        scene.told();
    });
    let said = String::from_utf8_lossy(&lines.0.lock().expect("the log")).into_owned();
    let cut = said.lines().find(|line| line.contains("in the kernel: the path of inode"));
    assert!(cut.is_some_and(|line| line.contains("was cut after")), "{said}");
    Verdict::Seen
}
