//! The kernel's share of the simulation: a page cache with so much room, and its own read-ahead.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

type Place = (usize, u64);

#[derive(Debug)]
struct Page {
    /// When it is (or was) filled.
    ready: u64,
    /// Its place in the line of those that go.
    turn: u64,
    touched: bool,
}

/// Pages go in the order in which they came, but those touched more than once stay for another round.
#[derive(Debug)]
pub struct Cache {
    room: usize,
    pages: HashMap<Place, Page>,
    line: BTreeMap<u64, Place>,
    turns: u64,
}

impl Cache {
    /// Room for so many pages.
    pub fn new(room: usize) -> Self {
        Self { room, pages: HashMap::new(), line: BTreeMap::new(), turns: 0 }
    }

    fn turn(&mut self, place: Place) -> u64 {
        self.turns += 1;
        if self.room < usize::MAX {
            self.line.insert(self.turns, place);
        }
        self.turns
    }

    pub fn insert(&mut self, file: usize, page: u64, ready: u64) {
        let turn = self.turn((file, page));
        if let Some(before) = self.pages.insert((file, page), Page { ready, turn, touched: false }) {
            self.line.remove(&before.turn);
        }
    }

    pub fn ready(&self, file: usize, page: u64) -> Option<u64> {
        Some(self.pages.get(&(file, page))?.ready)
    }

    pub fn touch(&mut self, file: usize, page: u64) {
        if self.room == usize::MAX {
            return;
        }
        let Some(known) = self.pages.get_mut(&(file, page)) else { return };
        if !std::mem::replace(&mut known.touched, true) {
            return;
        }
        let before = known.turn;
        self.line.remove(&before);
        let turn = self.turn((file, page));
        self.pages.entry((file, page)).and_modify(|known| (known.turn, known.touched) = (turn, false));
    }

    /// What has to go for those that have come; one that is not filled yet cannot.
    pub fn reclaim(&mut self, now: u64) -> Vec<Place> {
        let over = self.pages.len().saturating_sub(self.room);
        let filled = |place: &&Place| self.pages.get(*place).is_none_or(|page| page.ready <= now);
        let mut gone: Vec<Place> = self.line.values().filter(filled).take(over).copied().collect();
        for place in &gone {
            if let Some(page) = self.pages.remove(place) {
                self.line.remove(&page.turn);
            }
        }
        gone.sort_unstable();
        gone
    }

    /// From the first to the last page that there was.
    pub fn drop_file(&mut self, file: usize) -> Option<Range<u64>> {
        let dropped: Vec<u64> =
            self.pages.keys().filter(|(f, _)| *f == file).map(|(_, page)| *page).collect();
        let pages = *dropped.iter().min()?..dropped.iter().max()? + 1;
        for page in dropped {
            if let Some(page) = self.pages.remove(&(file, page)) {
                self.line.remove(&page.turn);
            }
        }
        Some(pages)
    }
}

/// Consecutive pages of one file, as ranges.
pub fn ranges(mut places: &[Place]) -> Vec<(usize, Range<u64>)> {
    let mut all = Vec::new();
    while let Some(&(file, start)) = places.first() {
        let long = places.iter().zip(start..).take_while(|(place, page)| **place == (file, *page)).count();
        all.push((file, start..start + long as u64));
        places = &places[long..];
    }
    all
}

/// Of one open file, as mm/readahead.c has it: a window that doubles while reads are sequential, and whose next is asked
/// for as soon as a marked page in it is touched.
#[derive(Clone, Debug, Default)]
pub struct ReadAhead {
    /// Pages of the largest window; 0 for none.
    most: u64,
    window: Range<u64>,
    /// The page that asks for the next window.
    mark: Option<u64>,
    /// One past the last page read.
    last: u64,
}

impl ReadAhead {
    pub fn new(most: u64) -> Self {
        Self { most, ..Self::default() }
    }

    /// A page that is not there is wanted, with those up to `end`: what is asked for. `there` says what is in the cache.
    pub fn miss(&mut self, page: u64, end: u64, there: impl Fn(u64) -> bool) -> Range<u64> {
        let wanted = end - page;
        if self.most == 0 {
            return page..end;
        }
        let size = if page == 0 || wanted > self.most || page == self.last || page + 1 == self.last {
            let power = wanted.next_power_of_two();
            let first = if power * 32 <= self.most {
                power * 4
            } else if power * 4 <= self.most {
                power * 2
            } else {
                self.most
            };
            first.min(self.most)
        } else {
            let before =
                (page.saturating_sub(self.most)..page).rev().take_while(|page| there(*page)).count() as u64;
            if before <= wanted {
                self.mark = None;
                return page..end.min(page + self.most);
            }
            self.window = page..page + (before + wanted).min(self.most);
            self.mark = Some(self.window.end - 1);
            return self.window.clone();
        };
        self.window = page..page + size;
        self.mark = Some(if size > wanted { page + wanted } else { page + size / 2 });
        self.window.clone()
    }

    /// A page that is there is read: what is asked for beside it.
    pub fn touch(&mut self, page: u64) -> Option<Range<u64>> {
        self.last = page + 1;
        if self.mark != Some(page) {
            return None;
        }
        let size = self.window.end - self.window.start;
        let next = if size * 16 < self.most { size * 4 } else { (size * 2).min(self.most) };
        self.window = self.window.end..self.window.end + next;
        self.mark = Some(self.window.start);
        Some(self.window.clone())
    }
}

#[test]
fn pages_go_as_they_came_but_for_those_read_again() {
    let mut cache = Cache::new(3);
    for page in 0..3 {
        cache.insert(7, page, 10);
    }
    cache.touch(7, 0);
    cache.touch(7, 0);
    cache.insert(7, 3, 99);
    assert_eq!(cache.reclaim(5), [], "nothing is filled yet");
    assert_eq!(cache.reclaim(20), [(7, 1)]);
    cache.insert(7, 4, 99);
    cache.insert(7, 5, 99);
    assert_eq!(ranges(&cache.reclaim(20)), [(7, 0..1), (7, 2..3)]);
    assert_eq!(cache.drop_file(7), Some(3..6));
    assert_eq!(cache.drop_file(7), None);
}

#[test]
fn windows_grow_while_reads_are_sequential() {
    let mut ahead = ReadAhead::new(32);
    assert_eq!(ahead.miss(0, 1, |_| false), 0..4);
    assert_eq!(ahead.touch(0), None);
    assert_eq!(ahead.touch(1), Some(4..12));
    assert_eq!(ahead.touch(2), None);
    assert_eq!(ahead.touch(4), Some(12..28));
    assert_eq!(ahead.touch(12), Some(28..60));
    // Somewhere else: what is asked for, and no more.
    assert_eq!(ahead.miss(1000, 1002, |_| false), 1000..1002);
    assert_eq!(ReadAhead::new(0).miss(0, 300, |_| false), 0..300);
}
