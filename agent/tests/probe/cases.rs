//! The accesses that are made, and what must be told of each, by theme. Shared cases run one after the
//! other on one file system, so that what one leaves behind is there for the next.

mod ways;

mod filesystems;

mod identity;

mod merging;

mod threads;

mod residency;

mod churn;

mod leavings;

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use agent::probe::{self, Plan, Seen};
use agent_core::observation::Via;

use crate::disk::chill;
use crate::scene::{PageSet, Scene, Told, key_of};
use crate::verdict::Verdict;

pub use leavings::{Before, detaches};

const PAGE: usize = 4096;

/// What a case needs of the test's frame.
#[derive(Clone, Copy)]
pub enum Case {
    /// On the scene that the cases share.
    Shared(fn(&mut Scene) -> Verdict),
    Own(fn(Plan) -> Verdict),
    /// As long as it is given.
    Long(fn(Plan, Duration) -> Verdict),
}

use Case::{Long, Own, Shared};

const EACH: [(&str, Case); 42] = [
    ("read", Shared(ways::read)),
    ("pread", Shared(ways::pread)),
    ("readv", Shared(ways::readv)),
    ("preadv2", Shared(ways::preadv2)),
    ("sendfile", Shared(ways::sendfile)),
    ("splice", Shared(ways::splice)),
    ("io_uring", Shared(ways::uring)),
    ("mmap", Shared(ways::mmap)),
    ("direct", Shared(ways::direct)),
    ("clamped-to-size", Shared(ways::clamped)),
    ("ext4", Shared(filesystems::ext4)),
    ("xfs", Shared(filesystems::xfs)),
    ("btrfs", Shared(filesystems::btrfs)),
    ("tmpfs", Shared(filesystems::tmpfs)),
    ("overlayfs", Shared(filesystems::overlay)),
    ("fuse", Shared(filesystems::fuse)),
    ("nfs", Shared(filesystems::nfs)),
    ("nfs-folders", Shared(filesystems::nfs_folders)),
    ("awaited", Shared(filesystems::awaited)),
    ("two-processes", Shared(identity::two_processes)),
    ("one-breath", Shared(identity::one_breath)),
    ("8-folders-deep", Shared(identity::deep)),
    ("odd-names", Shared(identity::odd_names)),
    ("hard-links", Shared(identity::hard_links)),
    ("unlinked", Shared(identity::unlinked)),
    ("renamed-and-reused", Shared(identity::lives)),
    ("residency", Shared(residency::miss)),
    ("hit-latency", Shared(residency::hit_latency)),
    ("large-folios", Shared(residency::large_folios)),
    ("full-register", Own(identity::full_register)),
    ("trouble-is-said", Own(identity::trouble_is_said)),
    ("own-reads", Own(residency::own_reads)),
    ("own-numbers", Own(threads::own_numbers)),
    ("seats", Shared(threads::seats)),
    ("sequential", Shared(merging::sequential)),
    ("small-reads", Shared(merging::small_reads)),
    ("interleaved", Shared(merging::interleaved)),
    ("flood", Shared(merging::flood)),
    ("without-details", Shared(merging::quiet)),
    ("details-again", Own(merging::quiet_pushed_out)),
    ("unwatched", Shared(merging::unwatched)),
    ("full-ring", Own(merging::full_ring)),
];

/// The last one: it leaves the machine busy.
const LAST: [(&str, Case); 1] = [("churn", Long(churn::churn))];

type Once = fn() -> Verdict;

/// Not of a plan, but of the choice among them.
const ONCE: [(&str, Once); 3] = [
    ("prototypes", leavings::prototypes),
    ("best-plan-chosen", leavings::best_plan),
    ("damaged-btf", leavings::damaged_btf),
];

pub fn each() -> impl Iterator<Item = (&'static str, Case)> {
    EACH.into_iter().chain(LAST)
}

pub fn once() -> impl Iterator<Item = (&'static str, Once)> {
    ONCE.into_iter()
}

/// Before the others of a plan, and after them.
pub const LOADS: &str = "loads";
pub const DETACHES: &str = "detaches";

pub fn of_plan() -> impl Iterator<Item = &'static str> {
    [LOADS].into_iter().chain(each().map(|(name, _)| name)).chain([DETACHES])
}

pub fn names() -> impl Iterator<Item = &'static str> {
    once().map(|(name, _)| name).chain(of_plan())
}

fn set(pages: std::ops::Range<u64>) -> PageSet {
    pages.collect()
}

/// Reads by another thread. It can be joined before it has come to the tracepoint of its end, which tells the rest
/// of what it read: this waits for that.
fn by_another(read: impl FnOnce() + Send) {
    let task = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            read();
            rustix::thread::gettid().as_raw_nonzero()
        });
        reader.join().expect("a reader")
    });
    while Path::new(&format!("/proc/self/task/{task}")).exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How often one pass of a way to read counts as a read. However many batches the kernel makes of a read, they are
/// told as one: exactly as often as was asked.
#[derive(Clone, Copy)]
struct Reads {
    asked: u32,
    /// With pages to be waited for. More than were asked for only where the kernel gives up a read at a page that is
    /// still being filled and begins another by itself: at most one for each page.
    waiting: (u32, u32),
}

impl Reads {
    const fn exactly(asked: u32) -> Self {
        Self { asked, waiting: (asked, asked) }
    }
}

/// Does `read` on a resident file and on one that has to be fetched, and expects exactly these pages of exactly this
/// file, told as often as `read` says it read; where the plan says that it sees no hits, of the second only what was
/// added.
fn way(scene: &mut Scene, path: &Path, pages: PageSet, read: impl Fn(&File) -> Reads) -> Verdict {
    let hits = scene.sees_hits();
    let expected = if hits { pages.clone() } else { PageSet::default() };
    let file = File::open(path).expect("opening");
    let total = file.metadata().expect("metadata").len().div_ceil(4096);
    // What this thread reads next must not pass for the end of the same read.
    by_another(|| {
        fs::read(path).expect("reading");
    });
    scene.told();
    let reads = read(&file);
    let told = scene.told();
    assert_eq!(told.pages(path, Via::Read), expected, "resident: {:?}", told.events);
    assert_eq!(
        told.count(path),
        if hits { reads.asked } else { 0 },
        "resident, how often: {:?}",
        told.events
    );
    assert!(told.accessed().iter().all(|file| *file == key_of(path)), "other files: {:?}", told.events);
    assert_eq!(told.resident(path), set(0..0), "pages that were there, told as added: {:?}", told.events);

    let kept = residency::chilled(&file, total);
    scene.told();
    let (least, most) = read(&file).waiting;
    let told = scene.told();
    let often = if hits { least..=most } else { 0..=0 };
    assert!(often.contains(&told.count(path)), "to be fetched, {often:?} times: {:?}", told.events);
    let added = told.resident(path);
    let mut seen = told.pages(path, Via::Read);
    if hits {
        with_head(scene, &mut seen, &expected, &added);
    }
    assert_eq!(seen, expected, "to be fetched: {:?}", told.events);
    let there: PageSet = added.union(&kept).copied().collect();
    assert!(there.is_superset(&pages), "added {added:?}, kept {kept:?}, read {pages:?}: {:?}", told.events);
    assert_eq!(there, residency::filled(&file, &there, total), "{:?}", told.events);
    if hits { Verdict::Seen } else { Verdict::Misses }
}

/// What a plan that sees reads partly told of one that had to be waited for: the head may be told by its pages' coming
/// alone, the end must be told as read.
fn with_head(scene: &Scene, seen: &mut PageSet, read: &PageSet, added: &PageSet) {
    if !matches!(scene.report.sees(probe::Case::Read), Some(Seen::Partly(_))) {
        return;
    }
    let told = seen.intersection(read);
    assert!(told.clone().last() == read.last(), "of {read:?} only {seen:?}, without the end");
    let first = told.min().copied();
    let head = read.iter().take_while(|page| Some(**page) < first && added.contains(page));
    let head: Vec<u64> = head.copied().collect();
    seen.extend(head);
}

/// The whole file is read by `read`, out of the page cache where the plan sees that, else from the disk.
fn whole_file(scene: &mut Scene, path: &Path, read: impl FnOnce()) -> Told {
    if !scene.sees_hits() {
        chill(&File::open(path).expect("opening"));
    }
    scene.told();
    read();
    scene.told()
}

/// The pages that `whole_file` told as reached. A read at the end of a file of whole pages adds one behind
/// it on 5.10: that is not of the file.
fn reached(scene: &Scene, told: &Told, path: &Path) -> PageSet {
    let pages = fs::metadata(path).expect("metadata").len().div_ceil(4096);
    if scene.sees_hits() { told.pages(path, Via::Read) } else { told.resident(path).below(pages) }
}

fn verdict(scene: &Scene) -> Verdict {
    if scene.sees_hits() { Verdict::Seen } else { Verdict::Misses }
}
