//! What is fetched and not read yet fits into the memory that may be used, however large the files are.

use std::collections::BTreeMap;

use agent_core::{Actor, Extent, Limits, Nanos, Observation, Order, Outcome, PAGE, Pages};

use crate::folders::{Folders, SIZE, Who, named};

const AVAILABLE: u64 = 1 << 30;
const ROOM: u64 = AVAILABLE / 4;

/// Bytes of one read.
const READ: u64 = 4 << 20;

/// A page cache beside the core: which pages are there, and which of them were ordered and not read.
#[derive(Default)]
struct Cache {
    size: u64,
    there: BTreeMap<u64, Vec<bool>>,
    unread: BTreeMap<u64, Vec<bool>>,
}

fn marked(pages: &mut BTreeMap<u64, Vec<bool>>, file: u64, size: u64) -> &mut Vec<bool> {
    pages.entry(file).or_insert_with(|| vec![false; size.div_ceil(PAGE) as usize])
}

/// From the first to the last of these pages that is not marked.
fn lacking(marks: &[bool], pages: &Pages) -> Pages {
    let lacks = |page: &u64| !marks[*page as usize];
    let last = pages.clone().rev().find(lacks);
    last.map_or(0..0, |last| pages.clone().find(lacks).unwrap_or(last)..last + 1)
}

impl Cache {
    fn unread(&self) -> u64 {
        self.unread.values().flatten().filter(|unread| **unread).count() as u64 * PAGE
    }

    /// Carries out what the core orders.
    fn fetch(&mut self, folders: &mut Folders) {
        loop {
            let orders = folders.core.orders();
            if orders.is_empty() {
                return;
            }
            for order in orders {
                match order {
                    Order::List { id, mount, dir, .. } => folders.list(id, mount, dir),
                    Order::Fetch { id, path, extent, .. } => {
                        let (who, file) = named(&path);
                        let (key, size) = (who.key(file), self.size);
                        let ranges = match extent {
                            Extent::Whole { limit } => vec![0..limit.min(size).div_ceil(PAGE)],
                            Extent::Ranges(ranges) => ranges,
                            // Files are read whole here.
                            Extent::Shape(_) => Vec::new(),
                        };
                        folders.sight(who, file);
                        let mut bytes = 0;
                        for range in ranges {
                            let new = lacking(marked(&mut self.there, file, size), &range);
                            for page in new.clone() {
                                marked(&mut self.there, file, size)[page as usize] = true;
                                marked(&mut self.unread, file, size)[page as usize] = true;
                            }
                            bytes += (new.end - new.start) * PAGE;
                            if !new.is_empty() {
                                folders.tell(&Observation::Added { file: key, pages: new, by: Actor::Agent });
                            }
                        }
                        let (outcome, file, took) = (Outcome::Done, Some(key), Nanos(50_000_000));
                        folders.tell(&Observation::Fetched { id, outcome, file, size, bytes, took });
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Files of this size are walked through, of each so many bytes read in pieces. Gives the most that was ordered and unread at
/// once, and the share of what was read, past the first files, that lay ready.
fn walk(size: u64, part: u64, files: u64) -> (u64, f64) {
    let mut folders = Folders::with(Limits::default(), size, AVAILABLE);
    let mut cache = Cache { size, ..Cache::default() };
    let (mut most, mut ready, mut read) = (0, 0, 0);
    for file in 0..files {
        let mut at = 0;
        while at < part.div_ceil(PAGE) {
            let pages = at..(at + READ / PAGE).min(part.div_ceil(PAGE));
            at = pages.end;
            folders.now += 20_000_000;
            let missing = lacking(marked(&mut cache.there, file, size), &pages);
            if file >= 4 {
                ready += pages.end - pages.start - (missing.end - missing.start);
                read += pages.end - pages.start;
            }
            for page in pages.clone() {
                marked(&mut cache.there, file, size)[page as usize] = true;
                marked(&mut cache.unread, file, size)[page as usize] = false;
            }
            folders.read_part(Who::D, file, pages, missing);
            cache.fetch(&mut folders);
            most = most.max(cache.unread());
        }
    }
    (most, ready as f64 / read as f64)
}

#[test]
fn a_walk_of_files_larger_than_memory_keeps_within_it() {
    let (most, ready) = walk(1 << 30, 1 << 30, 7);
    assert!(most <= ROOM, "{} MiB were ordered and unread, {} MiB may be", most >> 20, ROOM >> 20);
    assert!(ready > 0.9, "{ready:.2} of what was read lay ready");
}

/// How far such a reader goes in each file is known from the ones before: more than there is room for.
#[test]
fn beginnings_of_files_larger_than_memory_keep_within_it() {
    let (most, _) = walk(3 << 30, 1 << 29, 7);
    assert!(most <= ROOM, "{} MiB were ordered and unread, {} MiB may be", most >> 20, ROOM >> 20);
}

#[test]
fn small_files_are_asked_for_as_where_memory_is_plenty() {
    let fetched = |available| {
        let mut folders = Folders::with(Limits::default(), SIZE, available);
        let asked = |file| {
            // Slow enough for what is wanted ahead to fit, though half of the room is needed for it.
            folders.now += 5_000_000;
            folders.read(Who::D, file, file < 8);
            folders.answer(true).len()
        };
        (0..200).map(asked).collect::<Vec<_>>()
    };
    assert_eq!(fetched(8 << 20), fetched(16 << 30));
}
