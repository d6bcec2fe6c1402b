//! Whether warmed pages survive an open is told by opens, and by nothing else that empties the cache.

use agent_core::view::Survival;
use agent_core::{
    Actor, Door, FileKey, MountId, Nanos, Observation, Order, OrderId, Outcome, Pages, Reader, Via,
};

use crate::folders::{Folders, Who};

/// As a shell that empties the machine's cache.
const SHELL: Reader = Reader { tgid: 99, tid: 99 };

fn survival(folders: &Folders) -> Survival {
    folders.core.node().mounts[0].survival
}

/// A walk, some way into a folder: what comes next lies ready.
fn walking() -> (Folders, u64) {
    let mut folders = Folders::new();
    for file in 0..40 {
        folders.read(Who::D, file, file < 8);
        folders.answer(true);
    }
    (folders, 40)
}

#[test]
fn a_cache_that_is_emptied_says_nothing() {
    for (who, reads_on) in [(SHELL, true), (Who::D.reader(), true), (SHELL, false)] {
        let (mut folders, next) = walking();
        assert_eq!(survival(&folders), Survival::Kept);
        for file in next..next + 39 {
            folders.emptied(Who::D, file, Actor::Thread(who));
        }
        if reads_on {
            for file in next..next + 39 {
                folders.read(Who::D, file, true);
                folders.answer(true);
            }
        }
        assert_eq!(survival(&folders), Survival::Kept, "emptied by {who:?}");
    }
}

/// A reader short of memory takes back what lies ready, and reads another file.
#[test]
fn memory_that_a_reader_takes_back_says_nothing() {
    let (mut folders, next) = walking();
    for file in next..next + 19 {
        folders.emptied(Who::D, file, Actor::Reclaim);
        folders.emptied(Who::D, file + 19, Actor::Thread(Who::D.reader()));
        folders.read(Who::D, file, true);
    }
    assert_eq!(survival(&folders), Survival::Kept);
}

#[test]
fn a_store_whose_opens_drop_is_found_out() {
    let (mut folders, next) = walking();
    for file in next..next + 20 {
        folders.emptied(Who::D, file, Actor::Thread(Who::D.reader()));
        folders.read(Who::D, file, true);
        folders.answer(true);
    }
    assert_eq!(survival(&folders), Survival::Dropped);
}

/// Between two reads of a reader that computes: what comes next is asked for a few files ahead.
const PAUSE: u64 = 5_000_000;

/// A walk that is a few files behind what lies ready.
fn strolling() -> (Folders, u64) {
    let mut folders = Folders::new();
    for file in 0..40 {
        folders.now += PAUSE;
        folders.read(Who::D, file, file < 8);
        folders.answer(true);
    }
    assert_eq!(survival(&folders), Survival::Kept);
    (folders, 40)
}

/// Orders to fetch, of the orders given out.
fn asked(folders: &mut Folders) -> Vec<(OrderId, Door)> {
    let orders = folders.core.orders().into_iter();
    let fetch = |order| if let Order::Fetch { id, door, .. } = order { Some((id, door)) } else { None };
    orders.filter_map(fetch).collect()
}

fn refuse(folders: &mut Folders, id: OrderId) {
    let (outcome, took) = (Outcome::Refused, Nanos(50_000));
    folders.tell(&Observation::Fetched { id, outcome, file: None, size: 0, bytes: 0, took });
}

/// A walk on; of the fetches that it makes so many are refused. Gives how many were refused, and how many not.
fn walk_on(folders: &mut Folders, files: std::ops::Range<u64>, most: usize) -> (usize, usize) {
    let (mut refused, mut others) = (0, 0);
    for file in files {
        folders.now += PAUSE;
        folders.read(Who::D, file, false);
        while refused < most {
            let asked = asked(folders);
            if asked.is_empty() {
                break;
            }
            for (id, _) in asked {
                // The rest of those that were asked for at once stay under way.
                if refused < most {
                    refuse(folders, id);
                    refused += 1;
                }
            }
        }
        if refused >= most {
            others += folders.answer(true).len();
        }
    }
    (refused, others)
}

#[test]
fn one_private_file_does_not_speak_for_the_mount() {
    let (mut folders, next) = strolling();
    let (refused, others) = walk_on(&mut folders, next..next + 40, 1);
    assert_eq!((refused, survival(&folders)), (1, Survival::Kept));
    assert!(others >= 20, "{others} files were asked for after one was refused");
}

#[test]
fn a_mount_that_refuses_again_and_again_is_left_alone_and_tried_later() {
    let (mut folders, next) = strolling();
    let (refused, _) = walk_on(&mut folders, next..next + 400, usize::MAX);
    assert_eq!(survival(&folders), Survival::Refused);
    assert!((64..128).contains(&refused), "{refused} files were asked for of a mount that refuses all");
    // A minute later: it refuses still, and then no more.
    for (minutes, refuses) in [(1, true), (1, true), (2, false)] {
        let before = survival(&folders);
        folders.now += minutes * 61_000_000_000;
        folders.tell(&Observation::Tick);
        if refuses || before == Survival::Refused {
            let at = next + 400 + folders.now / 1_000_000_000;
            for file in at..at + 20 {
                folders.read(Who::D, file, true);
                if refuses {
                    for (id, _) in asked(&mut folders) {
                        refuse(&mut folders, id);
                    }
                } else {
                    folders.answer(true);
                }
            }
        }
        let expected = if refuses { Survival::Refused } else { Survival::Kept };
        assert_eq!(survival(&folders), expected);
    }
}

#[test]
fn a_file_that_we_may_not_open_is_reached_through_its_reader() {
    let (mut folders, _) = strolling();
    let (file, size) = (FileKey { dev: 5, ino: 7 }, 1 << 30);
    let (mount, path) = (MountId(1), b"e/private.bin"[..].into());
    folders.tell(&Observation::Sight { file, mount, path, size, mtime: 0 });
    let reader = Who::E.reader();
    let read = |folders: &mut Folders, pages: Pages| {
        folders.now += 5_000_000;
        folders.tell(&Observation::Added { file, pages: pages.clone(), by: Actor::Thread(reader) });
        folders.tell(&Observation::Access { file, reader, pages, via: Via::Read, count: 1, size });
        asked(folders)
    };
    let first: Vec<_> = (0..8).flat_map(|at| read(&mut folders, at * 32..at * 32 + 32)).collect();
    assert!(!first.is_empty() && first.iter().all(|(_, door)| *door == Door::Open), "{first:?}");
    for (id, _) in first {
        refuse(&mut folders, id);
    }
    assert_eq!(survival(&folders), Survival::Kept);
    let then: Vec<_> = (8..16).flat_map(|at| read(&mut folders, at * 32..at * 32 + 32)).collect();
    let through = Door::Descriptor { tgid: reader.tgid };
    assert!(!then.is_empty() && then.iter().all(|(_, door)| *door == through), "{then:?}");
    // Renamed meanwhile: what comes through the descriptor is the inode's, whatever name it was asked for by.
    let path = b"e/public.bin"[..].into();
    folders.tell(&Observation::Sight { file, mount: MountId(1), path, size, mtime: 0 });
    for (id, _) in then {
        let (outcome, file, took) = (Outcome::Done, Some(file), Nanos(50_000_000));
        folders.tell(&Observation::Fetched { id, outcome, file, size, bytes: 131_072, took });
    }
    assert_eq!(folders.core.key_of(None, b"e/public.bin"), Some(file));
    assert_eq!(folders.core.key_of(None, b"e/private.bin"), None);
}
