//! Who read, and what the file is called: names of all kinds, numbers that are given again.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::process::{Command, Stdio};

use agent::probe::ReadEvent;
use agent_core::observation::Via;

use super::set;
use crate::scene::{Scene, below, key, key_of};

pub fn two_processes(scene: &mut Scene) {
    let paths = [scene.disk.file("one", 3 << 20), scene.disk.file("two", 2 << 20)];
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
        assert_eq!(told.pages(path, Via::Read), set(0..pages));
        for event in &told.events {
            if let ReadEvent::Access { file, reader, .. } = event
                && key(*file) == key_of(path)
            {
                assert_eq!(reader.tgid, *id);
            }
        }
        let ends =
            told.events.iter().filter(|event| matches!(event, ReadEvent::Exit { tgid, .. } if tgid == id));
        assert_eq!(ends.count(), 1, "{:?}", told.events);
    }
}

pub fn names(scene: &mut Scene) {
    let long = "n".repeat(255);
    let paths: Vec<&OsStr> = vec![
        OsStr::new("breath"),
        OsStr::new("a/b/c/d/e/f/g/h/deep"),
        OsStr::from_bytes(b"new\nline"),
        OsStr::from_bytes(b"not \xff\xfe UTF-8"),
        OsStr::new(&long),
    ];
    for name in paths {
        let path = scene.disk.file(name, 100);
        scene.told();
        // Opened, read and closed in one breath, by a process that is gone at once.
        assert!(Command::new("cat").arg(&path).stdout(Stdio::null()).status().expect("cat").success());
        let told = scene.told();
        assert_eq!(told.pages(&path, Via::Read), set(0..1));
        let first =
            told.events.iter().position(|event| event.file().is_some_and(|f| key(f) == key_of(&path)));
        // It was named when it was written, unless the name is news.
        if let Some(seen) = told.path(&path) {
            assert_eq!(seen, below(&path, &scene.disk.root));
            assert!(matches!(first.map(|at| &told.events[at]), Some(ReadEvent::Sight { .. })));
        }
        forget(scene);
        let mut text = Vec::new();
        File::open(&path).and_then(|mut file| file.read_to_end(&mut text)).expect("reading");
        let told = scene.told();
        assert_eq!(told.path(&path).expect("a name"), below(&path, &scene.disk.root));
        assert!(matches!(told.events.first(), Some(ReadEvent::Sight { truncated: false, size: 100, .. })));
    }
    let path = scene.disk.file("link/first", 100);
    let other = scene.disk.root.join("link/second");
    fs::hard_link(&path, &other).expect("a link");
    forget(scene);
    fs::read(&other).expect("reading");
    let told = scene.told();
    let seen = told.path(&path).expect("a name");
    assert!(seen == b"link/first" || seen == b"link/second", "{}", String::from_utf8_lossy(seen));

    let deep = scene.disk.file((0..40).map(|n| n.to_string()).collect::<Vec<_>>().join("/"), 100);
    forget(scene);
    fs::read(&deep).expect("reading");
    let told = scene.told();
    let truncated = told.events.iter().find_map(|event| match event {
        ReadEvent::Sight { truncated, path, .. } => Some((*truncated, path.clone())),
        _ => None,
    });
    let (truncated, path) = truncated.expect("a sight");
    assert!(truncated && path.ends_with(b"/38/39"), "{}", String::from_utf8_lossy(&path));

    // An unlinked file has no name, and is read all the same.
    let path = scene.disk.file("unlinked", 100);
    let file = File::open(&path).expect("opening");
    fs::remove_file(&path).expect("unlinking");
    forget(scene);
    file.read_exact_at(&mut [0; 10], 0).expect("pread");
    let told = scene.told();
    assert_eq!(told.events.iter().filter(|event| matches!(event, ReadEvent::Access { .. })).count(), 1);
}

/// Makes the probe forget all names.
pub fn forget(scene: &mut Scene) {
    let dev = scene.disk.dev;
    scene.probe.forget(dev).expect("forgetting");
    scene.probe.watch(dev).expect("watching");
    scene.told();
}

pub fn lives(scene: &mut Scene) {
    let path = scene.disk.file("life", 100);
    fs::read(&path).expect("reading");
    let first = key_of(&path);
    scene.told();
    fs::rename(&path, scene.disk.root.join("renamed")).expect("renaming");
    let path = scene.disk.root.join("renamed");
    fs::read(&path).expect("reading");
    let told = scene.told();
    assert_eq!(told.path(&path).expect("named anew"), b"renamed", "{:?}", told.events);
    // The number is given to the next file: ext4 takes the lowest that is free.
    fs::remove_file(&path).expect("removing");
    let path = scene.disk.file("next life", 200);
    fs::read(&path).expect("reading");
    let told = scene.told();
    assert!(
        key_of(&path) == first || std::env::var_os("PROBE_TEST_FS").is_some(),
        "ext4 was expected to give the number again"
    );
    assert_eq!(told.path(&path).expect("named anew"), b"next life", "{:?}", told.events);
}
