//! Whether warmed pages survive an open is told by opens, and by nothing else that empties the cache.

use agent_core::view::Survival;
use agent_core::{Actor, Reader};

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
