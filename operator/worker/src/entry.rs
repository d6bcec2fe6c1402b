//! A file or object as a store shows it.

use serde::{Deserialize, Serialize};

use crate::name::Name;

/// What tells one content of a name from another, without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub size: u64,
    /// Nanoseconds since 1970; stores of objects know milliseconds or seconds.
    pub modified: i64,
    /// The store's own mark of the content, such as an ETag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: Name,
    pub seen: Seen,
}

/// All of a place, or of a part of it.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub entries: Vec<Entry>,
    /// Links and special files, which are not followed, opened or copied.
    pub left_out: u64,
    /// Names that no folder may hold, as a person may read them, and why: the first ones of `unsafe_count`.
    pub unsafe_names: Vec<String>,
    pub unsafe_count: u64,
}

/// Names kept for the message.
const KEPT: usize = 3;

impl Listing {
    pub fn refuse(&mut self, name: &[u8], why: &impl std::fmt::Display) {
        self.unsafe_count += 1;
        if self.unsafe_names.len() < KEPT {
            self.unsafe_names.push(format!("{}: {why}", crate::name::shown(name)));
        }
    }
}
