//! A store that fails for a while: it is asked seldom, and what was not read is asked for when it is back.

use std::collections::BTreeSet;

use agent_core::{Observation, Order, Outcome};

use crate::folders::{FILES, Folders, Who, named};
use crate::world::shuffled;

/// At the start of an epoch whose set is known from the one before.
fn known_epoch() -> Folders {
    let mut folders = Folders::new();
    for file in shuffled(FILES as usize, 3) {
        folders.read(Who::D, file as u64, true);
        folders.answer(true);
    }
    let mut folders = folders.taught();
    folders.read(Who::D, 5, true);
    folders
}

/// Answers each fetch with this end, as soon as it is ordered; gives the files.
fn answer(folders: &mut Folders, most: usize, outcome: Outcome) -> Vec<u64> {
    let mut files = Vec::new();
    loop {
        let orders = folders.core.orders();
        if orders.is_empty() || files.len() >= most {
            return files;
        }
        for order in orders {
            match order {
                Order::List { id, mount, dir, .. } => folders.list(id, mount, dir),
                Order::Fetch { id, path, .. } => {
                    let (who, file) = named(&path);
                    files.push(file);
                    if outcome == Outcome::Done {
                        folders.brought(id, who, file);
                    } else {
                        folders.came_to_nothing(id, outcome);
                    }
                }
                _ => {}
            }
        }
    }
}

fn tick(folders: &mut Folders) {
    folders.now += 100_000_000;
    folders.tell(&Observation::Tick);
}

#[test]
fn a_known_epoch_outlasts_a_stalled_store() {
    for outcome in [Outcome::Failed, Outcome::Dropped] {
        let mut folders = known_epoch();
        let mut ordered = answer(&mut folders, 5_000, outcome).len();
        for _ in 0..600 {
            tick(&mut folders);
            ordered += answer(&mut folders, 5_000, outcome).len();
        }
        assert!((10..300).contains(&ordered), "{ordered} orders in a minute in which all failed");
        let mut brought = BTreeSet::new();
        for _ in 0..20 {
            tick(&mut folders);
            brought.extend(answer(&mut folders, usize::MAX, Outcome::Done));
        }
        assert_eq!(brought.len() as u64, FILES - 1, "every file but the one that was read");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_not_asked_for_without_end() {
    let mut folders = known_epoch();
    let mut failed = 0;
    let mut brought = BTreeSet::new();
    for _ in 0..600 {
        tick(&mut folders);
        for order in folders.core.orders() {
            match order {
                Order::List { id, mount, dir, .. } => folders.list(id, mount, dir),
                Order::Fetch { id, path, .. } => {
                    let (who, file) = named(&path);
                    if file == 7 {
                        failed += 1;
                        folders.came_to_nothing(id, Outcome::Failed);
                    } else {
                        brought.insert(file);
                        folders.brought(id, who, file);
                    }
                }
                _ => {}
            }
        }
    }
    assert_eq!(brought.len() as u64, FILES - 2);
    assert!((2..10).contains(&failed), "{failed}");
}

#[test]
fn a_store_that_was_met_in_an_outage_is_used_when_it_is_back() {
    let mut folders = Folders::new();
    let mut failed = 0;
    for file in 0..200 {
        folders.read(Who::D, file, true);
        for _ in 0..20 {
            failed += answer(&mut folders, 5_000, Outcome::Failed).len();
            tick(&mut folders);
        }
    }
    assert!(failed > 64, "{failed} orders: fewer than may be asked for before it is known what survives");
    let mut brought = 0;
    for file in 200..220 {
        folders.read(Who::D, file, true);
        for _ in 0..20 {
            brought += answer(&mut folders, 5_000, Outcome::Done).len();
            tick(&mut folders);
        }
    }
    assert!(brought > 10, "{brought} files were brought in after the outage");
}

/// Reads the files of a folder that cannot be listed; gives how often it was asked.
fn unlisted(folders: &mut Folders, files: std::ops::Range<u64>, outcome: Outcome) -> usize {
    let mut asked = 0;
    for file in files {
        folders.read(Who::D, file, true);
        for order in folders.core.orders() {
            match order {
                Order::List { id, mount, dir, .. } => {
                    asked += usize::from(&*dir == b"d");
                    folders.tell(&Observation::Listing {
                        id,
                        mount,
                        dir,
                        outcome,
                        complete: false,
                        entries: vec![],
                    });
                }
                Order::Fetch { id, .. } => folders.came_to_nothing(id, outcome),
                _ => {}
            }
        }
        tick(folders);
    }
    asked
}

#[test]
fn a_folder_that_could_not_be_listed_is_asked_again_but_seldom() {
    for outcome in [Outcome::Failed, Outcome::Dropped] {
        let mut folders = Folders::new();
        let asked = unlisted(&mut folders, 0..FILES / 2, outcome);
        assert!((3..12).contains(&asked), "asked {asked} times while {} files were read", FILES / 2);
        let mut folders = Folders::new();
        assert!(unlisted(&mut folders, 0..20, outcome) > 0);
        let mut brought = 0;
        for file in 20..200 {
            folders.read(Who::D, file, true);
            brought += answer(&mut folders, 5_000, Outcome::Done).len();
            tick(&mut folders);
        }
        assert!(brought > 10, "{brought} files were brought in after the outage");
    }
}
