//! Names that change, files that go, file systems that are taken away under their readers, all at once and
//! for a while: nothing may crash, hang or be invented. What is told must have been there.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agent::probe::{Plan, ProbeConfig, ReadEvent};

use crate::disk::Disk;
use crate::scene::Scene;
use crate::verdict::Verdict;

/// Folders that are renamed around the files in them.
const FOLDERS: usize = 6;

pub fn churn(plan: Plan, length: Duration) -> Verdict {
    let config = ProbeConfig { own_tgid: Some(1), ..ProbeConfig::default() };
    let mut scene = Scene::with(plan, config);
    let root = scene.disk.root.clone();
    for folder in 0..FOLDERS {
        for file in 0..8 {
            scene.disk.file(format!("d{folder}/sub/f{file}"), 20_000);
        }
    }
    let (stop, reads, rounds) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (mut told, mut seen) = (0_u64, Seen::default());
    let on = || !stop.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        // Also when what was told makes this panic: the scope waits for its threads.
        let _ends = Stop(&stop);
        scope.spawn(|| {
            while on() {
                rename(&root);
            }
        });
        scope.spawn(|| {
            while on() {
                make_and_remove(&root);
            }
        });
        scope.spawn(|| {
            while on() {
                reads.fetch_add(read_all(&root), Ordering::Relaxed);
            }
        });
        let begun = Instant::now();
        while begun.elapsed() < length {
            // Dentries and inodes are freed under whoever walks them.
            let _ = fs::write("/proc/sys/vm/drop_caches", "2");
            taken_away(&mut scene);
            rounds.fetch_add(1, Ordering::Relaxed);
            let events = scene.told().events;
            told += events.len() as u64;
            events.iter().for_each(|event| seen.take(event));
        }
    });
    let events = scene.told().events;
    events.iter().for_each(|event| seen.take(event));
    let (reads, rounds) = (reads.into_inner(), rounds.into_inner());
    assert!(reads > 0 && rounds > 0 && told > 0, "{reads} reads, {rounds} file systems, {told} events");
    let Seen { names, torn } = seen;
    assert!(torn.len() as u64 <= 1 + names / 1_000, "of {names} names these are nobody's: {torn:?}");
    // Nobody has to be there to read it.
    let _ = writeln!(
        std::io::stdout(),
        "        {reads} files read, {rounds} file systems taken away, {told} events, {} names torn",
        torn.len()
    );
    // It still sees what it is to see.
    super::ways::pread(&mut scene)
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Seen {
    names: u64,
    /// Paths with a name that nobody has: read while a rename wrote it, it is of both, and of what an earlier owner of the
    /// dentry has left behind the shorter one's end (docs/facts.md).
    torn: Vec<String>,
}

impl Seen {
    /// Paths of the test's own making, or cut ones; of the others a few.
    fn take(&mut self, event: &ReadEvent) {
        let ReadEvent::Sight { path, truncated, .. } = event else { return plausible(event) };
        self.names += 1;
        let known = path
            .split(|byte| *byte == b'/')
            .all(|name| matches!(name.first(), Some(b'd' | b's' | b'f' | b'g' | b't')) && name.len() < 12);
        if !(*truncated || path.is_empty() || known) {
            self.torn.push(String::from_utf8_lossy(path).into_owned());
        }
    }
}

fn plausible(event: &ReadEvent) {
    match event {
        ReadEvent::Access { pages, size, .. } => {
            assert!(pages.end <= size.div_ceil(4096) && pages.start < pages.end, "{event:?}");
        }
        ReadEvent::Sight { .. }
        | ReadEvent::Added { .. }
        | ReadEvent::Removed { .. }
        | ReadEvent::Miss { .. }
        | ReadEvent::Hit { .. }
        | ReadEvent::Exit { .. }
        | ReadEvent::Lost { .. } => {}
    }
}

/// Every folder takes the next one's place.
fn rename(root: &Path) {
    let at = |folder: usize| root.join(format!("d{folder}"));
    let spare = root.join("spare");
    for folder in 0..FOLDERS {
        // Another round may have left the spare one: then this one puts it back.
        let _ = fs::rename(at(folder), &spare);
        let _ = fs::rename(at((folder + 1) % FOLDERS), at(folder));
        let _ = fs::rename(&spare, at((folder + 1) % FOLDERS));
    }
}

fn make_and_remove(root: &Path) {
    for number in 0..8 {
        let path = root.join(format!("d{}/g{number}", number % FOLDERS));
        if fs::write(&path, [1; 5000]).is_ok() {
            let _ = fs::read(&path);
            let _ = fs::remove_file(&path);
        }
    }
}

fn read_all(root: &Path) -> u64 {
    let mut read = 0;
    for folder in 0..FOLDERS {
        for file in 0..8 {
            let path: PathBuf = root.join(format!("d{folder}/sub/f{file}"));
            let Ok(mut opened) = File::open(&path) else { continue };
            crate::disk::chill(&opened);
            read += u64::from(opened.read_to_end(&mut Vec::new()).is_ok());
        }
    }
    read
}

/// A file system is unmounted while it is read, and its number given to the next one.
fn taken_away(scene: &mut Scene) {
    let disk = Disk::make();
    scene.probe.watch(disk.dev).expect("watching");
    let path = disk.file("folder/taken", 1 << 20);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let Ok(mut file) = File::open(&path) else { return };
            for _ in 0..3 {
                crate::disk::chill(&file);
                let _ = std::io::Seek::rewind(&mut file);
                let _ = file.read_to_end(&mut Vec::new());
            }
        });
        disk.unmount_lazily();
        reader.join().expect("the reader");
    });
    scene.probe.forget(disk.dev).expect("forgetting");
}
