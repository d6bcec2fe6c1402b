//! The names of a directory, in the file system's own order, as far as they were asked for.

use agent_core::{Entry, EntryKind, Outcome};
use rustix::fs::{FileType, RawDir};

use super::door::open_folder;
use super::outcome::outcome_of;
use super::root::Root;
use super::task::{Ending, Leash};

/// What one getdents64 brings at most; glibc's readdir takes as much.
const BUFFER: usize = 32 * 1024;

/// More entries than this are not listed, whatever the order says: 64 MiB is all the agent has.
const ENTRIES: usize = 1 << 17;

pub fn list(root: &Root, directory: &[u8], limit: usize, leash: &Leash) -> Ending {
    let Some(path) = root.below(directory) else {
        return Ending::of(Outcome::Absent);
    };
    let directory = match open_folder(&root.directory, path) {
        Ok(directory) => directory,
        Err(errno) => return Ending::of(outcome_of(errno)),
    };
    let limit = limit.min(ENTRIES);
    let mut buffer = Vec::with_capacity(BUFFER);
    let mut names = RawDir::new(&directory, buffer.spare_capacity_mut());
    let mut ending = Ending::of(Outcome::Done);
    loop {
        if leash.is_stopped() {
            ending.outcome = Some(Outcome::Dropped);
            return ending;
        }
        let entry = match names.next() {
            None => {
                ending.complete = true;
                return ending;
            }
            Some(Ok(entry)) => entry,
            Some(Err(errno)) => {
                ending.outcome = Some(outcome_of(errno));
                return ending;
            }
        };
        leash.step();
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        if ending.entries.len() >= limit {
            return ending;
        }
        ending.entries.push(Entry {
            name: name.into(),
            kind: match entry.file_type() {
                FileType::RegularFile => EntryKind::File,
                FileType::Directory => EntryKind::Directory,
                _ => EntryKind::Other,
            },
            ino: entry.ino(),
        });
    }
}
