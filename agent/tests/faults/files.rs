//! Files that change under the agent, and names that no list expects.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};
use rustix::process::Signal;

use crate::fixture::{Disk, Home, Reader, until};

fn evict(path: &Path) {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
}

#[test]
fn files_may_change_while_they_are_prefetched() {
    let disk = Disk::new(128 << 20);
    let path = |n: usize| disk.path.join(format!("f{n:04}"));
    let (mut rounds, mut prefetched) = (0, false);
    // What is ahead of the reader is renamed, cut, emptied, deleted and replaced by a folder.
    until("the agent has prefetched under three changing rounds", || {
        for n in 0..600 {
            let _ = fs::remove_dir(path(n));
            fs::write(path(n), vec![b'h'; 40_000]).unwrap();
            evict(&path(n));
        }
        // A new agent each time: one that was misled by such a round rightly holds back in the next.
        let home = Home::new();
        let mut agent = home.agent(&disk.path);
        let files: Vec<PathBuf> = (0..600).map(path).collect();
        let reader = Reader::start(&files);
        for n in (20..600).rev() {
            match n % 6 {
                0 => fs::rename(path(n), disk.path.join(format!("moved{n}"))).unwrap(),
                1 => File::options().write(true).open(path(n)).unwrap().set_len(5_000).unwrap(),
                2 => File::options().write(true).open(path(n)).unwrap().set_len(0).unwrap(),
                3 => fs::remove_file(path(n)).unwrap(),
                4 => fs::remove_file(path(n)).and_then(|()| fs::create_dir(path(n))).unwrap(),
                _ => {}
            }
        }
        reader.wait();
        rounds += 1;
        prefetched |= home.number("fetched_bytes") > 0;
        until("nothing is under way", || home.number("in_flight") == 0 && home.number("queued") == 0);
        assert!(agent.stop(Signal::TERM).success());
        home.assert_calm();
        rounds >= 3 && prefetched
    });
}

#[test]
fn every_name_is_told_and_none_harms() {
    let home = Home::new();
    let disk = Disk::new(64 << 20);
    let long = vec![b'x'; 255];
    let wide = "ä".repeat(127).into_bytes();
    let names: [&[u8]; 7] = [
        b"caf\xe9.jpg",
        b"two\nlines\n",
        b"\x1b[2J\x1b]0;owned\x07",
        b"\\x41 \"quoted\"",
        b" ",
        &long,
        &wide,
    ];
    let mut agent = home.agent(&disk.path);
    let paths: Vec<PathBuf> = names.iter().map(|name| disk.path.join(OsStr::from_bytes(name))).collect();
    for path in &paths {
        fs::write(path, vec![b'h'; 40_000]).unwrap();
        evict(path);
    }
    Reader::start(&paths).wait();
    let mut files = Vec::new();
    until("every file is listed", || {
        files = home.ask("files")["files"].as_array().unwrap().clone();
        files.len() >= names.len()
    });
    for path in &paths {
        let bytes = path.as_os_str().as_bytes();
        let told = files.iter().any(|file| match (file["path"].as_str(), file["path_hex"].as_str()) {
            (_, Some(hex)) => hex == bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            (path, None) => path.map(str::as_bytes) == Some(bytes),
        });
        assert!(told, "{path:?} is not in {files:#?}");
        let explained = home.ask_raw(&["explain".as_ref(), path.as_os_str()]);
        assert!(explained.status.success(), "{path:?}");
        assert!(!explained.stdout.iter().any(|byte| *byte != b'\n' && byte.is_ascii_control()), "{path:?}");
    }
    let table = home.ask_raw(&["files".as_ref()]).stdout;
    let table = String::from_utf8(table).unwrap();
    assert!(!table.contains(|c: char| c != '\n' && c.is_control()), "{table}");
    for shown in
        ["caf\\xe9.jpg\n", "two\\nlines\\n\n", "\\u{1b}[2J\\u{1b}]0;owned\\u{7}\n", "\\\\x41 \"quoted\"\n"]
    {
        assert!(table.contains(shown), "{shown:?} is not in {table}");
    }
    assert_eq!(table.lines().count(), 1 + files.len(), "{table}");
    assert!(agent.stop(Signal::TERM).success());
    home.assert_calm();
}
