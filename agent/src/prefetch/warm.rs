//! Brings pieces of a file into the page cache and waits until they are filled.
//!
//! Every piece is asked for before the first is waited for (`pages::ask` returns at once), so that one thread
//! keeps as many requests under way as the window holds. What is there already is neither asked nor read.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use agent_core::{Outcome, PAGE, Pages, pages_of};
use rustix::io::Errno;

use super::outcome::outcome_of;
use super::pages::{Nowhere, ask, expect_random, filled, present};
use super::task::Leash;

/// How far a task has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warmed {
    pub outcome: Outcome,
    /// Bytes that were missing and have been asked of the store.
    pub bytes: u64,
}

/// The first wait for pages that only mincore can show, doubled up to `SETTLE_MAX`: a store that answers in
/// 5 ms costs three looks.
const SETTLE: Duration = Duration::from_millis(1);
const SETTLE_MAX: Duration = Duration::from_millis(4);
/// Looks without a page coming in until the rest is given up: 10 s in all. A failed read-ahead leaves its
/// pages unfilled for ever.
const SETTLE_LOOKS: u32 = 2_500;

/// Pages of a piece that a file of this size has and that are not in the page cache, with the bytes that
/// means. Where the kernel does not say, everything counts as missing.
fn missing(file: BorrowedFd<'_>, pages: &Pages, size: Option<u64>) -> u64 {
    let end = size.map_or(pages.end, |size| pages.end.min(pages_of(size)));
    let there = end.saturating_sub(pages.start);
    let absent = match present(file, &(pages.start..end)) {
        Some(present) => there.saturating_sub(present),
        None => there,
    };
    let bytes = absent.saturating_mul(PAGE);
    match size {
        // The last page of a file is rarely full.
        Some(size) if absent == there => bytes.min(size.saturating_sub(pages.start.saturating_mul(PAGE))),
        _ => bytes,
    }
}

/// Through an open file of our own: ask for all, then read each piece into nowhere, which waits for it and
/// tells of errors.
pub fn by_reading(
    file: BorrowedFd<'_>,
    size: u64,
    pieces: impl Iterator<Item = Pages>,
    window: usize,
    leash: &Leash,
) -> Warmed {
    let mut nowhere = Nowhere::new();
    let mut bytes = 0;
    let end = |outcome, bytes| Warmed { outcome, bytes };
    if let Err(errno) = expect_random(file) {
        return end(outcome_of(errno), 0);
    }
    let mut pieces = pieces.peekable();
    let mut asked: VecDeque<Pages> = VecDeque::new();
    loop {
        while asked.len() < window.max(1) && !leash.is_stopped() {
            let Some(piece) = pieces.next() else { break };
            leash.step();
            let absent = missing(file, &piece, Some(size));
            if absent == 0 {
                continue;
            }
            bytes += absent;
            // The only piece is asked for by the read itself.
            if (!asked.is_empty() || pieces.peek().is_some())
                && let Err(errno) = ask(file, &piece)
            {
                return end(outcome_of(errno), bytes);
            }
            asked.push_back(piece);
        }
        if leash.is_stopped() && !(asked.is_empty() && pieces.peek().is_none()) {
            return end(Outcome::Dropped, bytes);
        }
        let Some(piece) = asked.pop_front() else {
            return end(Outcome::Done, bytes);
        };
        if let Err(errno) = nowhere.read(file, &piece) {
            return end(outcome_of(errno), bytes);
        }
        leash.step();
    }
}

/// Through a descriptor shared with the reader: ask for all, and watch with mincore until what came is
/// filled. `size` is unknown where root may not stat; then pages that nobody brings mark the end.
pub fn by_asking(
    file: BorrowedFd<'_>,
    size: Option<u64>,
    pieces: impl Iterator<Item = Pages>,
    window: usize,
    leash: &Leash,
) -> Warmed {
    let mut bytes = 0;
    let mut pieces = pieces.peekable();
    let mut asked: VecDeque<Pages> = VecDeque::new();
    let mut ended = false;
    loop {
        while !ended && asked.len() < window.max(1) && !leash.is_stopped() {
            let Some(piece) = pieces.next() else { break };
            leash.step();
            let before = missing(file, &piece, size);
            if before == 0 {
                continue;
            }
            if let Err(errno) = ask(file, &piece) {
                return Warmed { outcome: outcome_of(errno), bytes };
            }
            // What the call has added is in the page cache now, though not filled: the rest lies beyond the
            // end of the file.
            let after = missing(file, &piece, size);
            let came = if present(file, &piece).is_some() { before.saturating_sub(after) } else { before };
            bytes += came;
            ended = size.is_none() && after != 0 && present(file, &piece).is_some();
            asked.push_back(piece);
        }
        let Some(piece) = asked.pop_front() else {
            let outcome = match pieces.peek() {
                Some(_) if !ended && leash.is_stopped() => Outcome::Dropped,
                _ => Outcome::Done,
            };
            return Warmed { outcome, bytes };
        };
        match settle(file, &piece, size, leash) {
            Ok(true) => {}
            Ok(false) if leash.is_stopped() => {
                return Warmed { outcome: Outcome::Dropped, bytes };
            }
            Ok(false) => {
                return Warmed { outcome: Outcome::Failed, bytes };
            }
            Err(errno) => {
                return Warmed { outcome: outcome_of(errno), bytes };
            }
        }
    }
}

/// Waits until every page of the piece that is in the page cache is filled; false when that does not happen.
fn settle(file: BorrowedFd<'_>, piece: &Pages, size: Option<u64>, leash: &Leash) -> Result<bool, Errno> {
    let end = size.map_or(piece.end, |size| piece.end.min(pages_of(size)));
    let piece = piece.start..end;
    let mut pause = SETTLE;
    let mut best = 0;
    let mut looks = 0;
    while looks < SETTLE_LOOKS {
        let full = filled(file, &piece)?;
        match present(file, &piece) {
            Some(present) if full >= present => return Ok(true),
            None if full >= end.saturating_sub(piece.start) || size.is_none() => return Ok(true),
            _ => {}
        }
        if full > best {
            best = full;
            looks = 0;
            leash.step();
        }
        looks += 1;
        if leash.is_stopped() {
            return Ok(false);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(SETTLE_MAX);
    }
    Ok(false)
}
