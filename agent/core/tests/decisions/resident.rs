//! What lies in memory already is not asked for again and again.

use crate::folders::{FILES, Folders, SIZE, Who};
use crate::world::shuffled;

#[test]
fn a_walk_over_what_lies_in_memory_is_left_alone_until_it_misses() {
    let mut folders = Folders::new();
    let mut fetches = 0;
    for file in 0..1_000 {
        folders.read(Who::D, file, false);
        fetches += folders.answer(false).len();
    }
    assert!((1..100).contains(&fetches), "{fetches} of 1,000 files in memory were asked for");
    // From here on nothing is in memory: the first miss shows it, and the walk is supplied again.
    folders.read(Who::D, 1_000, true);
    let mut fetches = folders.answer(true).len();
    for file in 1_001..1_050 {
        folders.read(Who::D, file, false);
        fetches += folders.answer(true).len();
    }
    assert!(fetches > 49, "{fetches} files were asked for while 50 were read from a cold store");
}

/// Fetches for E's known epoch while its first ones end, beside D's, which rests in memory or does not.
fn fetched_beside(d_rests: bool) -> usize {
    let mut folders = Folders::new();
    for who in [Who::D, Who::E] {
        for file in shuffled(FILES as usize, who as u64) {
            folders.read(who, file as u64, true);
            folders.answer(true);
        }
    }
    let mut folders = folders.taught();
    let brings = |who| (who == Who::D && d_rests).then_some(false);
    folders.read(Who::D, 5, false);
    folders.carry_out(brings);
    folders.read(Who::E, 5, true);
    folders.carry_out(brings);
    folders.end_fetches();
    folders.carry_out(brings).into_iter().filter(|who| *who == Who::E).count()
}

#[test]
fn a_run_that_rests_in_memory_takes_no_share_of_anothers_epoch() {
    let (beside_one_that_misses, beside_one_that_rests) = (fetched_beside(false), fetched_beside(true));
    assert!(beside_one_that_misses > 4, "starved by the other: {beside_one_that_misses}");
    assert!(
        beside_one_that_rests * 10 >= beside_one_that_misses * 18,
        "{beside_one_that_rests} of its files beside one that rests, {beside_one_that_misses} beside one that does not"
    );
}

#[test]
fn what_was_read_before_its_coming_was_told_is_not_wasted() {
    let mut folders = Folders::new();
    for file in 0..8 {
        folders.read(Who::D, file, true);
        folders.answer(true);
    }
    folders.read(Who::D, 8, false);
    let under_way = folders.carry_out(|_| None).len() as u64;
    assert!(under_way > 1, "{under_way}");
    let ahead = folders.under_way();
    for file in &ahead {
        folders.read(Who::D, *file, false);
    }
    let before = folders.core.node().fate;
    folders.end_fetches();
    let fate = folders.core.node().fate;
    assert_eq!(
        (fate.late - before.late, fate.pending),
        (ahead.len() as u64 * SIZE, before.pending),
        "{fate:?}"
    );
}
