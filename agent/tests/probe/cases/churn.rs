//! Names that change, files that go, file systems that are taken away under their readers, all at once and
//! for a while: nothing may crash, hang or be invented. What is told must have been there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agent::probe::{Plan, ProbeConfig, ReadEvent};

use crate::disk::Disk;
use crate::scene::{FileKey2, Scene, key, key_of};
use crate::verdict::Verdict;

/// Folders that are renamed around the files in them.
const FOLDERS: usize = 6;

/// Files in each that stay, and files that are made and removed, each in a folder of its own.
const FILES: usize = 8;

/// `EXT4_GOOD_OLD_FIRST_INO` of fs/ext4/ext4.h: the inodes below are the file system's own, such as the first, in which it
/// keeps its free blocks.
const OF_FILES: u64 = 11;

/// Where a folder is while the next one takes its place.
const SPARE: &str = "spare";

pub fn churn(plan: Plan, length: Duration) -> Verdict {
    let config = ProbeConfig { own_tgid: Some(1), ..ProbeConfig::default() };
    let mut scene = Scene::with(plan, config);
    let root = scene.disk.root.clone();
    let mut names = Names::default();
    for folder in 0..FOLDERS {
        for file in 0..FILES {
            let path = scene.disk.file(format!("d{folder}/sub/f{file}"), 20_000);
            names.staying.insert(key_of(&path), format!("sub/f{file}"));
        }
    }
    names.tells_torn_ones();
    let (stop, reads, rounds) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (mut told, mut seen) = (0_u64, Seen { names, ..Seen::default() });
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
    let Seen { names: _, told: sights, cut, empty, torn } = seen;
    assert!(torn.len() as u64 <= 1 + sights / 1_000, "of {sights} names these are nobody's: {torn:?}");
    assert!(cut + empty <= sights / 2, "of {sights} names {cut} are cut and {empty} empty");
    // Nobody has to be there to read it.
    let _ = writeln!(
        std::io::stdout(),
        "        {reads} files read, {rounds} file systems taken away, {told} events, {sights} names: {cut} cut, \
         {empty} empty, torn {torn:?}"
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

/// The paths that there are at any time.
#[derive(Default)]
struct Names {
    /// Files that stay in their folder, which is called now this and now that: their path below it.
    staying: BTreeMap<FileKey2, String>,
}

impl Names {
    /// Whether a file is ever called so. A path that was cut is the end of one, and what ext4 keeps for itself has none.
    fn has(&self, file: FileKey2, path: &[u8], cut: bool) -> bool {
        let Ok(path) = std::str::from_utf8(path) else { return false };
        if path.is_empty() {
            return file.1 < OF_FILES;
        }
        self.of(file).iter().any(|whole| whole == path || cut && is_end(path, whole))
    }

    /// All that a file may be called, by the renames of its folder. One that does not stay can be any of them: numbers
    /// of inodes are given again.
    fn of(&self, file: FileKey2) -> Vec<String> {
        let folders = || (0..FOLDERS).map(|folder| format!("d{folder}")).chain([SPARE.to_owned()]);
        if let Some(below) = self.staying.get(&file) {
            return folders().map(|folder| format!("{folder}/{below}")).collect();
        }
        let short = folders().flat_map(|folder| (0..FILES).map(move |file| format!("{folder}/g{file}")));
        short.chain([TAKEN.to_owned()]).collect()
    }

    /// A comparison that lets everything pass would prove nothing.
    fn tells_torn_ones(&self) {
        let (staying, below) = self.staying.iter().next().expect("a file that stays");
        assert!(self.has(*staying, format!("spare/{below}").as_bytes(), false), "{below}");
        assert!(self.has(*staying, below.as_bytes(), true), "{below}");
        for torn in [format!("d3are/{below}"), format!("d9/{below}"), below.clone(), format!("d1/d2/{below}")]
        {
            assert!(!self.has(*staying, torn.as_bytes(), false), "{torn}");
        }
        assert!(!self.has(*staying, b"d1/g1", false) && !self.has(*staying, b"ub/f0", true));
        assert!(!self.has(*staying, b"", false) && !self.has(*staying, b"", true));
        assert!(self.has((0, 0), b"d1/g1", false) && self.has((0, 0), TAKEN.as_bytes(), false));
        for torn in ["d1/sub/g1", "d1/f1", "folder/g1", "d1/taken", "taken", "d1/sub/f0"] {
            assert!(!self.has((0, 0), torn.as_bytes(), false), "{torn}");
        }
    }
}

/// Whether `path` is `whole` without some of its leading folders.
fn is_end(path: &str, whole: &str) -> bool {
    whole.strip_suffix(path).is_some_and(|before| before.ends_with('/'))
}

#[derive(Default)]
struct Seen {
    names: Names,
    told: u64,
    cut: u64,
    empty: u64,
    /// Paths that nobody ever has: read while a rename wrote a name, it is of both, and of what an earlier owner of the
    /// dentry has left behind the shorter one's end (docs/facts.md).
    torn: Vec<String>,
}

impl Seen {
    fn take(&mut self, event: &ReadEvent) {
        let ReadEvent::Sight { file, path, truncated, .. } = event else { return plausible(event) };
        self.told += 1;
        self.cut += u64::from(*truncated);
        self.empty += u64::from(path.is_empty());
        if !self.names.has(key(*file), path, *truncated) {
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
    let spare = root.join(SPARE);
    for folder in 0..FOLDERS {
        // Another round may have left the spare one: then this one puts it back.
        let _ = fs::rename(at(folder), &spare);
        let _ = fs::rename(at((folder + 1) % FOLDERS), at(folder));
        let _ = fs::rename(&spare, at((folder + 1) % FOLDERS));
    }
}

fn make_and_remove(root: &Path) {
    for number in 0..FILES {
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
        for file in 0..FILES {
            let path: PathBuf = root.join(format!("d{folder}/sub/f{file}"));
            let Ok(mut opened) = File::open(&path) else { continue };
            crate::disk::chill(&opened);
            read += u64::from(opened.read_to_end(&mut Vec::new()).is_ok());
        }
    }
    read
}

/// The file on the file systems that are taken away.
const TAKEN: &str = "folder/taken";

/// A file system is unmounted while it is read, and its number given to the next one.
fn taken_away(scene: &mut Scene) {
    let disk = Disk::make();
    scene.probe.watch(disk.dev).expect("watching");
    let path = disk.file(TAKEN, 1 << 20);
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
