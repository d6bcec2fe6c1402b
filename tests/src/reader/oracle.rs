//! The best prefetcher there could be: it knows the itinerary and starts with the reader's first request.
//!
//! It shows what the store and the kernel allow at a given depth, and proves the benchmark: with it in the
//! agent's place the figures must come out near the limit.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::reader::itinerary::{Ranges, Visit};
use crate::store::Control;
use crate::store::tree::{Kind, Node, NodeId, Tree, below};

/// Waits until somebody else has asked the store for something, at the most this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// As much as one read of the oracle fetches.
const PIECE: u64 = 128 << 10;

/// Blocks until the store has counted a request.
pub fn wait_for_reader(control: &Control) -> Result<(), crate::store::ControlError> {
    let given_up = Instant::now() + PATIENCE;
    while control.counters()?.requests() == 0 && Instant::now() < given_up {
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// What the directory reader will visit: folders as the root lists them, files as each folder does.
pub fn in_listing_order(tree: &Tree) -> Vec<Visit> {
    let mut visits = Vec::new();
    let mut folders = vec![NodeId::ROOT];
    while let Some(folder) = folders.pop() {
        let Some(Kind::Directory { listing, .. }) = tree.node(folder).map(|node| &node.kind) else {
            continue;
        };
        let is_folder =
            |id: &NodeId| tree.node(*id).is_some_and(|node| matches!(node.kind, Kind::Directory { .. }));
        folders.extend(listing.iter().rev().copied().filter(is_folder));
        let files = listing.iter().copied().filter(|id| !is_folder(id));
        visits.extend(files.map(|file| Visit { file, ranges: Ranges::Whole }));
    }
    visits
}

/// Files of more than a mebibyte in pieces, so that the depth applies to them too.
pub fn in_pieces(tree: &Tree, visits: Vec<Visit>) -> Vec<Visit> {
    let piece = |visit: Visit| {
        let size = tree.node(visit.file).map_or(0, Node::size);
        match visit.ranges {
            Ranges::Whole | Ranges::Mapped if size > PIECE => (0..size)
                .step_by(PIECE as usize)
                .map(|at| Visit {
                    file: visit.file,
                    ranges: Ranges::Some(std::iter::once(at..size.min(at + PIECE)).collect()),
                })
                .collect(),
            Ranges::Some(ranges) if size > PIECE => {
                let alone = |range| Visit { file: visit.file, ranges: Ranges::Some(vec![range]) };
                ranges.into_iter().map(alone).collect()
            }
            ranges => vec![Visit { file: visit.file, ranges }],
        }
    };
    visits.into_iter().flat_map(piece).collect()
}

/// Reads every visit in order, `depth` requests at a time. Errors are the reader's to find.
///
/// Look-ups run ahead in threads of their own. Where each thread looks up and then reads, they fall into
/// step: all of them wait for a look-up at the same time, and the link idles a latency long in every round
/// (0.88 of the link at depth 64).
pub fn prefetch(mount: &Path, tree: &Tree, visits: &[Visit], depth: usize) {
    let (named, next) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (named, next) = (&named, &next);
    let scouts = depth * 5 / 8;
    let path = |visit: &Visit| below(mount, &tree.path(visit.file));
    std::thread::scope(|scope| {
        for _ in 0..scouts {
            scope.spawn(move || {
                while let Some(visit) = visits.get(named.fetch_add(1, Ordering::Relaxed)) {
                    let _ = std::fs::metadata(path(visit));
                }
            });
        }
        for _ in scouts..depth.max(1) {
            scope.spawn(move || {
                let mut buffer = vec![0; 1 << 20];
                while let Some(visit) = visits.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let _ = fetch(&path(visit), visit, &mut buffer);
                }
            });
        }
    });
}

fn fetch(path: &Path, visit: &Visit, buffer: &mut [u8]) -> std::io::Result<()> {
    let file = File::open(path)?;
    match &visit.ranges {
        Ranges::Whole | Ranges::Mapped => {
            let mut offset = 0;
            loop {
                match file.read_at(buffer, offset)? {
                    0 => return Ok(()),
                    count => offset += count as u64,
                }
            }
        }
        Ranges::Some(ranges) => ranges.iter().try_for_each(|range| {
            // Exactly this much: no read-ahead of the kernel's on top.
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random)?;
            let wanted = buffer.len().min((range.end - range.start) as usize);
            file.read_at(buffer.get_mut(..wanted).unwrap_or_default(), range.start).map(|_| ())
        }),
    }
}
