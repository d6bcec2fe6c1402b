//! Walks over made-up trees, visit by visit.

use super::*;
use crate::observation::{Entry, EntryKind};
use crate::route::DirOrder;
use crate::units::MountId;

/// A tree whose listings give the files of a directory, then its directories; inode numbers tell nothing.
struct Tree {
    catalog: Catalog,
    files: Vec<FileId>,
}

impl Tree {
    fn of(paths: &[String]) -> Self {
        let mut catalog = Catalog::default();
        let mount = MountId(0);
        let mut dirs: Vec<String> = vec![String::new()];
        for path in paths {
            let parents = path.match_indices('/').map(|(at, _)| path[..at].to_owned());
            dirs.extend(parents);
        }
        dirs.sort();
        dirs.dedup();
        let name_in = |dir: &str, path: &str| {
            let inside = if dir.is_empty() { Some(path) } else { path.strip_prefix(dir)?.strip_prefix('/') };
            inside.filter(|name| !name.is_empty() && !name.contains('/')).map(str::to_owned)
        };
        for dir in &dirs {
            let entry = |kind| move |name: String| Entry { name: name.into_bytes().into(), kind, ino: 1 };
            let files = paths.iter().filter_map(|path| name_in(dir, path)).map(entry(EntryKind::File));
            let inner = dirs.iter().filter_map(|path| name_in(dir, path)).map(entry(EntryKind::Directory));
            let entries: Vec<Entry> = files.chain(inner).collect();
            let id = catalog.dir_at(mount, dir.as_bytes());
            catalog.listed(id, Some(&entries));
        }
        let files = paths.iter().map(|path| catalog.file_at(mount, path.as_bytes())).collect();
        Self { catalog, files }
    }

    /// How many of these visits, by position in `paths`, a walker foresaw.
    fn foreseen(&self, visits: impl IntoIterator<Item = usize>) -> (usize, Walker) {
        let (mut walker, mut foreseen) = (Walker::default(), 0);
        for file in visits.into_iter().map(|at| self.files[at]) {
            let next = walker.clone().rewound().ahead(&self.catalog, 1);
            let told = next.first() == Some(&(1, Ahead::File(file)));
            assert!(!told || walker.foresees(&self.catalog, file), "what is asked for goes on the walk");
            foreseen += usize::from(told);
            walker.visit(&self.catalog, file);
        }
        (foreseen, walker)
    }
}

fn leading(walker: &Walker) -> Option<(DirOrder, Option<i64>)> {
    walker.leading().map(|(track, pace)| (track.order, pace.constant()))
}

#[test]
fn bursts_equally_far_from_each_other_are_foreseen_with_their_leaps() {
    let tree = Tree::of(&(0..2_000).map(|at| format!("{at:05}")).collect::<Vec<_>>());
    // The first three bursts of 12 teach, two visits of each of them; bursts of 3 are distances in turns.
    let clips = (0..50).flat_map(|burst| (0..12).map(move |at| burst * 40 + at));
    let (foreseen, walker) = tree.foreseen(clips);
    assert!(foreseen >= 50 * 12 - 3 * 3, "{foreseen} of 600");
    assert!(walker.leaps() && walker.files() == 12);
    assert_eq!(walker.ahead(&tree.catalog, 1), [(1, Ahead::End)], "the next burst lies beyond the directory");
    let slabs = (0..100).flat_map(|burst| (0..3).map(move |at| burst * 20 + at));
    let (foreseen, _) = tree.foreseen(slabs);
    assert!(foreseen >= 100 * 3 - 3 * 3, "{foreseen} of 300");
    // Every 65th file, and every 65th from behind.
    let (foreseen, _) = tree.foreseen((0..2_000).step_by(65));
    assert!(foreseen >= 31 - 5, "{foreseen} of 31");
    let (foreseen, _) = tree.foreseen((0..2_000).rev().step_by(65));
    assert!(foreseen >= 31 - 5, "{foreseen} of 31");
}

#[test]
fn a_walk_that_goes_on_beyond_its_usual_end_is_followed() {
    let tree = Tree::of(&(0..2_000).map(|at| format!("{at:05}")).collect::<Vec<_>>());
    let bursts = (0..10).flat_map(|burst| (0..4).map(move |at| burst * 20 + at));
    let (before, _) = tree.foreseen(bursts.clone());
    let (after, walker) = tree.foreseen(bursts.chain(184..300));
    assert!(after >= before + 116 - 3, "{before}, {after}");
    assert!(!walker.leaps());
}

#[test]
fn who_counts_without_leading_zeros_walks_too() {
    let tree = Tree::of(&(0..300).map(|at| format!("{at}.jpg")).collect::<Vec<_>>());
    let (foreseen, walker) = tree.foreseen(0..300);
    assert!(foreseen >= 297, "{foreseen}");
    let (foreseen, every_third) = tree.foreseen((0..300).step_by(3));
    assert!(foreseen >= 96, "{foreseen}");
    assert_eq!(leading(&every_third), Some((DirOrder::Listing, Some(3))), "the listing has this order here");
    assert_eq!(leading(&walker).map(|(_, step)| step), Some(Some(1)));
    let mut names: Vec<String> = (0..300).map(|at| format!("{at}.jpg")).collect();
    names.sort();
    let tree = Tree::of(&names);
    let counted = (0..300).filter_map(|at| names.iter().position(|name| *name == format!("{at}.jpg")));
    let (foreseen, walker) = tree.foreseen(counted);
    assert!(foreseen >= 296, "{foreseen}");
    assert_eq!(leading(&walker), Some((DirOrder::Number, Some(1))));
}

#[test]
fn a_walk_climbs_and_descends_once_it_has_been_seen_to() {
    // One file in each day, a few days in each month.
    let days: Vec<String> =
        (0..40).flat_map(|month| (0..3).map(move |day| format!("{month:02}/{day}/f"))).collect();
    let tree = Tree::of(&days);
    let (foreseen, walker) = tree.foreseen(0..120);
    assert!(foreseen >= 120 - 4, "{foreseen}");
    assert_eq!(walker.rewound().ahead(&tree.catalog, 1), [(1, Ahead::End)]);
    let (foreseen, _) = tree.foreseen((0..120).rev());
    assert!(foreseen >= 120 - 4, "{foreseen}");
    let (foreseen, _) = tree.foreseen((0..120).step_by(4));
    assert!(foreseen >= 30 - 4, "{foreseen}: steps over whole months");
    // A data set beside is none of the walk's: nobody has been seen to go there.
    let tree = Tree::of(&["a/0/x", "a/0/y", "a/0/z", "b/0/x", "b/0/y"].map(str::to_owned));
    let (_, walker) = tree.foreseen(0..3);
    assert_eq!(walker.ahead(&tree.catalog, 9), [(1, Ahead::End)]);
    // Directories with files of their own and directories below, as `find` goes through them.
    let mixed: Vec<String> = (0..20)
        .flat_map(|at| {
            [format!("{at:02}/a"), format!("{at:02}/b"), format!("{at:02}/in/c"), format!("{at:02}/in/d")]
        })
        .collect();
    let tree = Tree::of(&mixed);
    let (foreseen, _) = tree.foreseen(0..80);
    assert!(foreseen >= 80 - 5, "{foreseen}");
    let (foreseen, _) = tree.foreseen((0..80).rev());
    assert!(foreseen >= 80 - 6, "{foreseen}");
    let beside = (0..80).filter(|at| at % 4 < 2);
    let (foreseen, walker) = tree.foreseen(beside);
    assert!(foreseen >= 40 - 4, "{foreseen}: what lies below is not read");
    assert!(!walker.manner.descends);
}

#[test]
fn lengths_are_those_of_walks_that_ended_in_the_midst_and_went_elsewhere() {
    let paths: Vec<String> = (0..4).flat_map(|dir| (0..20).map(move |at| format!("{dir}/{at:02}"))).collect();
    let tree = Tree::of(&paths);
    let ends = |visits: &[usize]| {
        let mut walker = Walker::default();
        visits.iter().filter_map(|at| walker.visit(&tree.catalog, tree.files[*at])).collect::<Vec<_>>()
    };
    assert_eq!(ends(&[0, 1, 2, 15]), [3]);
    assert_eq!(ends(&[0, 1, 2, 3, 4, 60]), [5], "into a directory that is no neighbour");
    assert_eq!(ends(&[0, 1, 2, 3, 5, 6, 7, 8]), [], "one left out");
    assert_eq!(ends(&[17, 18, 19, 60]), [], "all of its directory");
    assert_eq!(ends(&[0, 15, 3, 9, 4, 12]), [], "none that was believed");
}

#[test]
fn the_same_file_again_and_again_is_no_walk() {
    let tree = Tree::of(&["a", "b"].map(str::to_owned));
    let (foreseen, walker) = tree.foreseen([0, 0, 0, 0, 0]);
    assert_eq!((foreseen, leading(&walker)), (0, None));
}

#[test]
fn a_folder_that_is_not_listed_yet_may_be_the_next_one() {
    let tree = Tree::of(&["a/0/x", "a/0/y", "a/0/z", "a/1/x"].map(str::to_owned));
    let (mut catalog, files) = (tree.catalog, tree.files);
    let mount = MountId(0);
    let at = |catalog: &mut Catalog, path: &str| catalog.file_at(mount, path.as_bytes());
    let (next, beyond) = (at(&mut catalog, "a/1/x"), at(&mut catalog, "a/2/x"));
    let (sibling, other) = (catalog.file(next).unwrap().dir, catalog.file(beyond).unwrap().dir);
    catalog.listed(sibling, None);
    let mut walker = Walker::default();
    assert!(!walker.may_reach(&catalog, next), "there is no walk yet");
    for file in &files[..3] {
        walker.visit(&catalog, *file);
    }
    assert!(walker.may_reach(&catalog, next));
    assert!(!walker.may_reach(&catalog, beyond), "{other:?} is not the next");
}
