//! What is to be copied where, and which version it is. Pure.

use operator_api::version::{VersionDigest, written};

use crate::entry::{Entry, Listing};
use crate::journal::{Journal, Record, STATE};
use crate::name::Name;

/// One file to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub entry: Entry,
    /// At the target.
    pub target: Name,
    /// Of an earlier copy of what the source still has.
    pub record: Option<Record>,
}

#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub items: Vec<Item>,
    pub bytes: u64,
}

/// `only` is the folder or file of the source that is copied: what lies below it lies below the target.
pub fn plan(listing: &Listing, only: Option<&Name>, journal: &mut Journal) -> Plan {
    let mut plan = Plan::default();
    for entry in &listing.entries {
        if entry.name.is_in(STATE.as_bytes()) {
            continue;
        }
        let Some(target) = target(&entry.name, only) else { continue };
        if target.is_in(STATE.as_bytes()) {
            continue;
        }
        let record = journal.take(&target).filter(|record| record.source == entry.seen);
        plan.bytes = plan.bytes.saturating_add(entry.seen.size);
        plan.items.push(Item { entry: entry.clone(), target, record });
    }
    // The order is the source's own: what lies together is read together.
    plan.items.sort_by(|a, b| a.target.cmp(&b.target));
    plan
}

/// A name as it is below `only`; of `only` itself, where that is a file, its last part.
pub fn target(name: &Name, only: Option<&Name>) -> Option<Name> {
    let Some(only) = only else { return Some(name.clone()) };
    if name == only { Some(name.last()) } else { below(name, only) }
}

/// What is left of a name below a folder; none where it does not lie there.
pub fn below(name: &Name, folder: &Name) -> Option<Name> {
    let rest = name.bytes().strip_prefix(folder.bytes())?.strip_prefix(b"/")?;
    Name::parse(rest).ok()
}

/// The version of a Dataset of which this is everything.
pub fn version(listing: &Listing) -> String {
    let mut entries: Vec<_> = listing.entries.iter().collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let mut digest = VersionDigest::default();
    for Entry { name, seen } in entries {
        digest.file(name.bytes(), seen.size, seen.modified);
    }
    written(digest.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Seen;

    fn name(text: &str) -> Name {
        Name::parse(text.as_bytes()).unwrap()
    }

    fn listing(names: &[&str]) -> Listing {
        let seen = Seen { size: 2, modified: 1, tag: None };
        let entries = names.iter().map(|text| Entry { name: name(text), seen: seen.clone() }).collect();
        Listing { entries, ..Listing::default() }
    }

    fn targets(plan: &Plan) -> Vec<String> {
        plan.items.iter().map(|item| item.target.to_string()).collect()
    }

    #[test]
    fn a_part_is_copied_without_its_folder_and_our_own_never() {
        let all = listing(&[
            "b",
            "train/x/y",
            "train/a",
            "trainer",
            ".headrace-worker/x",
            "train/.headrace-worker/z",
        ]);
        let part = plan(&all, Some(&name("train")), &mut Journal::default());
        assert_eq!((targets(&part), part.bytes), (vec!["a".to_owned(), "x/y".into()], 4));
        assert_eq!(targets(&plan(&all, None, &mut Journal::default())).len(), 5);
        assert_eq!(targets(&plan(&all, Some(&name("train/a")), &mut Journal::default())), ["a"]);
    }

    #[test]
    fn a_record_counts_for_the_same_content_only() {
        let all = listing(&["a", "b"]);
        let mut journal = Journal::default();
        let source = all.entries[0].seen.clone();
        let record = |at: &str, source: Seen| Record { name: name(at), source, digest: [0; 32] };
        let newer = Seen { modified: 2, ..source.clone() };
        journal.add(vec![record("a", source), record("b", newer)]);
        let plan = plan(&all, None, &mut journal);
        let known: Vec<_> = plan.items.iter().map(|item| item.record.is_some()).collect();
        assert_eq!(known, [true, false]);
    }

    #[test]
    fn the_version_is_the_agents() {
        let mut other = listing(&["a", "b"]);
        other.entries.reverse();
        assert_eq!(version(&listing(&["a", "b"])), version(&other));
        assert_ne!(version(&listing(&["a"])), version(&other));
    }
}
