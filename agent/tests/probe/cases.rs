//! The accesses that are made, and what must be told of each: by theme, one after the other on one
//! file system, so that what one leaves behind is there for the next.

mod identity;
mod merging;
mod reads;
mod residency;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use agent::probe::Plan;
use agent_core::observation::Via;

use crate::scene::{Scene, key_of};
use identity::{lives, names, two_processes};
pub use merging::full_ring;
use merging::{flood, interleaved, quiet, sequential, unwatched};
use reads::{clamped, direct, every_read, mappings, overlay, tmpfs, uring};
use residency::{large_folios, miss, own_reads};

const PAGE: usize = 4096;

pub fn all(plan: Plan) {
    let mut scene = Scene::open(plan);
    type Case = (&'static str, fn(&mut Scene));
    let cases: [Case; 16] = [
        ("every read", every_read),
        ("mappings", mappings),
        ("io_uring", uring),
        ("direct", direct),
        ("clamped to the size", clamped),
        ("miss and residency", miss),
        ("large folios", large_folios),
        ("two processes", two_processes),
        ("names", names),
        ("overlay", overlay),
        ("lives of an inode", lives),
        ("sequential", sequential),
        ("interleaved files", interleaved),
        ("flood", flood),
        ("without details", quiet),
        ("unwatched", unwatched),
    ];
    let only = std::env::var("PROBE_TEST_CASE").ok();
    for (name, case) in cases {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        println!("-- {name}");
        scene.told();
        case(&mut scene);
    }
    drop(scene);
    println!("-- agent's own reads");
    own_reads(plan);
    println!("-- tmpfs");
    tmpfs(plan);
}

fn set(pages: std::ops::Range<u64>) -> BTreeSet<u64> {
    pages.collect()
}

/// Does `read`, and expects exactly these pages of exactly this file.
fn expect(scene: &mut Scene, what: &str, path: &Path, pages: BTreeSet<u64>, read: impl FnOnce(&File)) {
    let file = File::open(path).expect("opening");
    scene.told();
    read(&file);
    let told = scene.told();
    assert_eq!(told.pages(path, Via::Read), pages, "{what}: {:?}", told.events);
    assert!(told.accessed().iter().all(|file| *file == key_of(path)), "{what} touched other files");
}
