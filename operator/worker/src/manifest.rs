//! What a store held when a backup was made, as lines of it, and what a store holds now. Pure.
//!
//! A head for each mount, and behind it a line for each file: name, size, time, and the store's own mark where it has
//! one. Nothing is read to make one, so a manifest proves what was there by name, not what was in it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::entry::{Entry, Listing, Seen};
use crate::name::{self, Name};

/// Bytes of all manifests in one backup, some 400,000 files: the whole of it is read in one piece ([`crate::archive`]).
pub const MOST_BYTES: usize = 48 << 20;

/// Names that a comparison tells of each kind.
pub const TOLD: usize = 16;

/// What is known of one mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// Where it is seen in the Dataset.
    pub at: String,
    pub url: String,
    /// Why there is no list of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlisted: Option<String>,
    #[serde(default)]
    pub files: u64,
    #[serde(default)]
    pub bytes: u64,
    /// By the rule of agents, as if this were all of a Dataset.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Links, special files and names that no folder may hold.
    #[serde(default)]
    pub left_out: u64,
}

/// One mount, its files in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub head: Head,
    pub entries: Vec<Entry>,
}

/// The lines of all mounts of one backup, as far as there is room.
#[derive(Debug)]
pub struct Lines {
    lines: Vec<String>,
    room: usize,
}

impl Default for Lines {
    fn default() -> Self {
        Self::with_room(MOST_BYTES)
    }
}

impl Lines {
    pub fn with_room(room: usize) -> Self {
        Self { lines: Vec::new(), room }
    }

    /// Adds a mount whole, or not at all: the sentence says why. The listing is in the order of names.
    pub fn add(&mut self, at: &str, url: &str, version: String, listing: &Listing) -> Result<(), String> {
        let entries = &listing.entries;
        let head = Head {
            at: at.into(),
            url: url.into(),
            unlisted: None,
            files: entries.len() as u64,
            bytes: entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.seen.size)),
            version,
            left_out: listing.left_out.saturating_add(listing.unsafe_count),
        };
        let before = self.lines.len();
        self.lines.push(json!({"manifest": head}).to_string());
        let mut room = self.room;
        for entry in entries {
            let line = written(entry);
            room = room.saturating_sub(line.len() + 1);
            if room == 0 {
                self.lines.truncate(before);
                return Err(format!(
                    "its {} files do not fit: the manifests of one backup have {} MiB; make Datasets of parts of it",
                    head.files,
                    MOST_BYTES >> 20
                ));
            }
            self.lines.push(line);
        }
        self.room = room;
        Ok(())
    }

    /// Says that there is no list of a mount.
    pub fn leave_out(&mut self, at: &str, url: &str, why: &str) {
        let head = Head { at: at.into(), url: url.into(), unlisted: Some(why.into()), ..Head::default() };
        self.lines.push(json!({"manifest": head}).to_string());
    }

    pub fn into_lines(self) -> Vec<String> {
        self.lines
    }
}

fn written(entry: &Entry) -> String {
    let Entry { name, seen: Seen { size, modified, tag } } = entry;
    let name = name::encoded(name);
    match tag {
        None => json!([name, size, modified]).to_string(),
        Some(tag) => json!([name, size, modified, tag]).to_string(),
    }
}

/// Takes a line's value to the manifests read so far; none where nobody could have written it.
pub fn read(value: &Value, manifests: &mut Vec<Manifest>) -> Option<()> {
    if value["manifest"].is_object() {
        let head = serde_json::from_value(value["manifest"].clone()).ok()?;
        manifests.push(Manifest { head, entries: Vec::new() });
        return Some(());
    }
    let manifest = manifests.last_mut().filter(|manifest| manifest.head.unlisted.is_none())?;
    let (name, size, modified, tag) = match value.as_array()?.as_slice() {
        [name, size, modified] => (name, size, modified, None),
        [name, size, modified, tag] => (name, size, modified, Some(tag.as_str()?.to_owned())),
        _ => return None,
    };
    let name = name::decoded(name.as_str()?)?;
    // The comparison walks both sides in this order.
    if manifest.entries.last().is_some_and(|last| last.name >= name) {
        return None;
    }
    let seen = Seen { size: size.as_u64()?, modified: modified.as_i64()?, tag };
    manifest.entries.push(Entry { name, seen });
    Some(())
}

/// How many there are, and the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Few {
    pub count: u64,
    pub names: Vec<Name>,
}

impl Few {
    fn add(&mut self, name: &Name) {
        self.count += 1;
        if self.names.len() < TOLD {
            self.names.push(name.clone());
        }
    }
}

/// What a store holds now, beside what it held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    pub same: u64,
    pub missing: Few,
    /// Of another size: another content for certain.
    pub other: Few,
    /// Of the same size, and another time or mark: written anew or copied, perhaps with another content.
    pub touched: Few,
    /// That were not there then.
    pub more: Few,
}

impl Difference {
    /// Whether all that was there is there as it was. What came since is no fault.
    pub fn is_none(&self) -> bool {
        let Self { same: _, missing, other, touched, more: _ } = self;
        [missing, other, touched].iter().all(|few| few.count == 0)
    }
}

/// Both in the order of their names.
pub fn compare(then: &[Entry], now: &[Entry]) -> Difference {
    let mut difference = Difference::default();
    let mut now = now.iter().peekable();
    for entry in then {
        while let Some(new) = now.next_if(|new| new.name < entry.name) {
            difference.more.add(&new.name);
        }
        match now.next_if(|new| new.name == entry.name) {
            None => difference.missing.add(&entry.name),
            Some(new) if new.seen.size != entry.seen.size => difference.other.add(&entry.name),
            Some(new) if !is_same(&entry.seen, &new.seen) => difference.touched.add(&entry.name),
            Some(_) => difference.same += 1,
        }
    }
    now.for_each(|new| difference.more.add(&new.name));
    difference
}

/// A store's own mark says more than a time, which a copy within the store changes; some servers have an empty one.
fn is_same(then: &Seen, now: &Seen) -> bool {
    fn mark(seen: &Seen) -> Option<&str> {
        seen.tag.as_deref().filter(|tag| !tag.trim_matches('"').is_empty())
    }
    match (mark(then), mark(now)) {
        (Some(then), Some(now)) => then == now,
        _ => then.modified == now.modified,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn entry(name: &str, size: u64, modified: i64, tag: Option<&str>) -> Entry {
        let name = Name::parse(name.as_bytes()).unwrap();
        Entry { name, seen: Seen { size, modified, tag: tag.map(str::to_owned) } }
    }

    fn names(few: &Few) -> (u64, Vec<String>) {
        (few.count, few.names.iter().map(Name::to_string).collect())
    }

    #[test]
    fn each_kind_of_difference_is_told_apart() {
        let then = [
            entry("a", 1, 1, None),
            entry("b", 2, 1, None),
            entry("c", 3, 1, None),
            entry("d", 4, 1, Some("x")),
            entry("e", 5, 1, Some("x")),
            entry("f", 6, 1, Some("x")),
            entry("g", 7, 1, None),
            entry("h", 8, 1, Some("\"\"")),
        ];
        let now = [
            entry("0", 1, 1, None),
            entry("b", 9, 1, None),
            entry("c", 3, 2, None),
            entry("d", 4, 2, Some("x")),
            entry("e", 5, 1, Some("y")),
            entry("f", 6, 1, None),
            entry("g", 7, 1, None),
            entry("h", 8, 2, Some("\"\"")),
            entry("z", 1, 1, None),
        ];
        let found = compare(&then, &now);
        assert_eq!(names(&found.missing), (1, vec!["a".to_owned()]));
        assert_eq!(names(&found.other), (1, vec!["b".to_owned()]));
        assert_eq!(names(&found.touched), (3, vec!["c".to_owned(), "e".into(), "h".into()]));
        assert_eq!(names(&found.more), (2, vec!["0".to_owned(), "z".into()]));
        assert_eq!((found.same, found.is_none()), (3, false));
        assert!(compare(&then[..2], &[then[0].clone(), then[1].clone(), now[8].clone()]).is_none());
        let many: Vec<_> = (0..100).map(|number| entry(&format!("{number:03}"), 1, 1, None)).collect();
        let (count, told) = names(&compare(&many, &[]).missing);
        assert_eq!((count, told.len(), &*told[0]), (100, TOLD, "000"));
    }

    #[test]
    fn what_does_not_fit_is_left_out_whole() {
        let entries: Vec<_> = (0..10).map(|number| entry(&format!("{number}"), 1, 1, None)).collect();
        let listing = Listing { entries, ..Listing::default() };
        let mut lines = Lines::with_room(150);
        lines.add("/a", "s3://a", "v".into(), &listing).unwrap();
        let why = lines.add("/b", "s3://b", "v".into(), &listing).unwrap_err();
        assert!(why.contains("its 10 files do not fit"), "{why}");
        lines.leave_out("/b", "s3://b", &why);
        let lines = lines.into_lines();
        assert_eq!(lines.len(), 12);
        let mut manifests = Vec::new();
        for line in &lines {
            read(&serde_json::from_str(line).unwrap(), &mut manifests).unwrap();
        }
        assert_eq!((manifests[0].entries.len(), manifests[0].head.bytes), (10, 10));
        assert_eq!(manifests[1].head.unlisted.as_deref(), Some(&*why));
    }

    #[test]
    fn what_nobody_wrote_is_not_read() {
        let head = json!({"manifest": {"at": "/a", "url": "u", "files": 1}});
        for bad in [
            json!([]),
            json!(["a", 1]),
            json!(["a", -1, 1]),
            json!(["../a", 1, 1]),
            json!(["a", 1, 1, 5]),
            json!(["a", 1, 1, "t", "x"]),
        ] {
            let mut manifests = Vec::new();
            assert!(read(&bad, &mut manifests).is_none(), "without a head: {bad}");
            read(&head, &mut manifests).unwrap();
            assert!(read(&bad, &mut manifests).is_none(), "{bad}");
        }
        let mut manifests = Vec::new();
        read(&head, &mut manifests).unwrap();
        read(&json!(["b", 1, 1]), &mut manifests).unwrap();
        assert!(read(&json!(["a", 1, 1]), &mut manifests).is_none(), "out of order");
    }

    proptest! {
        #[test]
        fn the_comparison_is_that_of_two_maps(
            then in prop::collection::btree_map("[a-e]{1,2}", (0_u64..3, 0_i64..2), 0..20),
            now in prop::collection::btree_map("[a-e]{1,2}", (0_u64..3, 0_i64..2), 0..20),
        ) {
            let listed = |map: &BTreeMap<String, (u64, i64)>| {
                map.iter().map(|(name, (size, time))| entry(name, *size, *time, None)).collect::<Vec<_>>()
            };
            let found = compare(&listed(&then), &listed(&now));
            let count = |of: &dyn Fn(&String, &(u64, i64)) -> bool| {
                then.iter().filter(|(name, seen)| of(name, seen)).count() as u64
            };
            prop_assert_eq!(found.same, count(&|name, seen| now.get(name) == Some(seen)));
            prop_assert_eq!(found.missing.count, count(&|name, _| !now.contains_key(name)));
            prop_assert_eq!(found.other.count, count(&|name, seen| now.get(name).is_some_and(|new| new.0 != seen.0)));
            prop_assert_eq!(
                found.more.count, now.keys().filter(|name| !then.contains_key(*name)).count() as u64);
        }
    }
}
