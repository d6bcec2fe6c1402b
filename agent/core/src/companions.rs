//! Files that are read together: an image and its label, the parts of a sample in a folder of its own.
//!
//! Samples may come in an order that nobody can foresee; within one of them each file leads to the next. What leads
//! from one name to the other is the same each time: `17.jpg` to `17.json`, `s3/rgb.png` to `s3/depth.png`,
//! `images/17.jpg` to `labels/17.txt`, `s3/anat/head.nii` to `s3/func/rest.nii`.

use crate::catalog::{Catalog, DirId, File, FileId};
use crate::relative::{Place, Relative};

/// Links told apart; a run of samples has as many as a sample has files.
const LINKS: usize = 64;

/// Times in a row that a link has to hold before it is believed, as an order of files has to.
const PROOF: u32 = 2;

/// Files that one leads to at once at most.
const CHAIN: usize = 8;

/// Folders and names, in the order in which they are read.
pub type Names = Vec<(DirId, Box<[u8]>)>;

/// From the names that end so to those that end otherwise and begin alike.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Link {
    dirs: Relative,
    from: Box<[u8]>,
    to: Box<[u8]>,
}

#[derive(Clone, Debug)]
struct Proven {
    link: Link,
    proof: u32,
}

#[derive(Debug, Default)]
pub struct Companions {
    links: Vec<Proven>,
}

impl Link {
    /// What leads from one file to another, if anything can.
    fn between(catalog: &Catalog, from: &File, to: &File) -> Option<Self> {
        let alike = from.name.iter().zip(&to.name).take_while(|(one, other)| one == other).count();
        let alike = alike.min(stem(&from.name)).min(stem(&to.name));
        let (begin, own) = from.name.split_at(alike);
        let (_, other) = to.name.split_at(alike);
        let digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
        // Two numbers that begin alike have nothing in common.
        let splits = digit(begin.last()) && (digit(own.first()) || digit(other.first()));
        let dirs = Relative::between(catalog, from.dir, to.dir)?;
        (!splits).then(|| Self { dirs, from: own.into(), to: other.into() })
    }

    /// Whether both lead on from the same files.
    fn has_origin_of(&self, other: &Self) -> bool {
        self.dirs.has_origin_of(&other.dirs) && self.from == other.from
    }

    /// Folder and name of what a file leads to.
    fn follow(&self, catalog: &Catalog, dir: DirId, name: &[u8]) -> Option<(Place, Box<[u8]>)> {
        let begin = name.strip_suffix(&*self.from)?;
        let place = self.dirs.follow(catalog, dir)?;
        Some((place, [begin, &*self.to].concat().into()))
    }
}

/// Bytes of a name before its last dot.
fn stem(name: &[u8]) -> usize {
    name.iter().rposition(|byte| *byte == b'.').unwrap_or(name.len())
}

impl Companions {
    /// A thread goes from one file to another: whether that was foreseen, and what it teaches.
    pub fn visit(&mut self, catalog: &Catalog, from: FileId, to: FileId) -> bool {
        let (Some(from), Some(to)) = (catalog.file(from), catalog.file(to)) else { return false };
        let next = self.next(catalog, from.dir, &from.name);
        let led = next.is_some_and(|(dir, name)| name == to.name && dir.known(catalog) == Some(to.dir));
        let link = Link::between(catalog, from, to);
        self.links.retain(|known| {
            let is_this = link.as_ref() == Some(&known.link);
            let has_failed = link.as_ref().is_some_and(|link| known.link.has_origin_of(link))
                || known.link.follow(catalog, from.dir, &from.name).is_some();
            is_this || !has_failed
        });
        let Some(link) = link else { return led };
        if let Some(known) = self.links.iter_mut().find(|known| known.link == link) {
            known.proof = known.proof.saturating_add(1);
            return led;
        }
        if self.links.len() >= LINKS {
            self.links.retain(|known| known.proof >= PROOF);
        }
        if self.links.len() < LINKS {
            self.links.push(Proven { link, proof: 1 });
        }
        led
    }

    fn next(&self, catalog: &Catalog, dir: DirId, name: &[u8]) -> Option<(Place, Box<[u8]>)> {
        let believed = self.links.iter().filter(|known| known.proof >= PROOF);
        let found = believed.filter_map(|known| Some((known.proof, known.link.follow(catalog, dir, name)?)));
        found.max_by_key(|(proof, _)| *proof).map(|(_, next)| next)
    }

    /// Whether another file leads to this one.
    pub fn lead_to(&self, catalog: &Catalog, file: &File) -> bool {
        let leads = |link: &Link| file.name.ends_with(&link.to) && link.dirs.leads_to(catalog, file.dir);
        self.links.iter().any(|known| known.proof >= PROOF && leads(&known.link))
    }

    /// Those that are read after a file and together with it.
    pub fn of(&self, catalog: &mut Catalog, file: FileId) -> Names {
        let mut chain = Names::new();
        let Some(file) = catalog.file(file).filter(|_| self.links.iter().any(|known| known.proof >= PROOF))
        else {
            return chain;
        };
        let first = (file.dir, file.name.clone());
        while chain.len() < CHAIN {
            let (dir, name) = chain.last().unwrap_or(&first);
            let Some((place, name)) = self.next(catalog, *dir, name) else { break };
            let Some(dir) = place.expected(catalog) else { break };
            let next = (dir, name);
            if chain.contains(&next) || next == first {
                break;
            }
            chain.push(next);
        }
        chain
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MountId;

    /// What a file leads to after these visits.
    fn after(visits: &[&str], file: &str) -> Vec<String> {
        let (mut catalog, mut companions) = (Catalog::default(), Companions::default());
        let ids: Vec<FileId> =
            visits.iter().map(|path| catalog.file_at(MountId(0), path.as_bytes())).collect();
        for pair in ids.windows(2) {
            companions.visit(&catalog, pair[0], pair[1]);
        }
        let file = catalog.file_at(MountId(0), file.as_bytes());
        let next = companions.of(&mut catalog, file);
        let path = |(dir, name): (DirId, Box<[u8]>)| [&*catalog.dir_path(dir), b"/", &*name].concat();
        next.into_iter().map(|next| String::from_utf8(path(next)).unwrap()).collect()
    }

    #[test]
    fn names_lead_to_names() {
        assert_eq!(after(&["d/7.jpg", "d/7.json", "d/3.jpg", "d/3.json"], "d/15.jpg"), ["d/15.json"]);
        assert_eq!(
            after(&["a/7.jpg", "a/7_mask.png", "b/3.jpg", "b/3_mask.png"], "c/1.jpg"),
            ["c/1_mask.png"]
        );
        let samples = ["s7/rgb", "s7/depth", "s7/meta", "s2/rgb", "s2/depth", "s2/meta", "s5/rgb"];
        assert_eq!(after(&samples, "s9/rgb"), ["s9/depth", "s9/meta"]);
        assert_eq!(after(&["i/7.jpg", "l/7.txt", "i/3.jpg", "l/3.txt"], "i/1.jpg"), ["l/1.txt"]);
        assert!(after(&["i/7.jpg", "l/7.txt", "i/3.jpg", "l/3.txt"], "j/1.jpg").is_empty(), "another folder");
        assert!(after(&["d/7.jpg", "d/7.json", "d/3.jpg", "d/3.txt"], "d/15.jpg").is_empty());
        let subjects = ["s1/anat/a.nii", "s1/func/f.nii", "s7/anat/a.nii", "s7/func/f.nii", "s3/anat/a.nii"];
        assert_eq!(after(&subjects, "s4/anat/a.nii"), ["s4/func/f.nii"]);
        let drives =
            ["1/left/data/70.png", "1/points/data/70.bin", "2/left/data/31.png", "2/points/data/31.bin"];
        assert_eq!(after(&drives, "5/left/data/8.png"), ["5/points/data/8.bin"]);
    }

    #[test]
    fn what_has_failed_is_believed_no_more_and_numbers_are_not_cut() {
        let twice = ["d/7.jpg", "d/7.json", "d/3.jpg", "d/3.json"];
        assert!(after(&[&twice[..], &["d/4.jpg", "d/9.jpg"]].concat(), "d/15.jpg").is_empty());
        assert!(after(&["d/171.jpg", "d/172.jpg", "d/301.jpg", "d/302.jpg"], "d/21.jpg").is_empty());
        // Two that lead to each other end where they began.
        assert_eq!(after(&["a/x", "a/y", "a/x", "a/y", "a/x"], "b/x"), ["b/y"]);
    }

    #[test]
    fn names_without_end_take_no_room() {
        let (mut catalog, mut companions) = (Catalog::default(), Companions::default());
        let mut before = catalog.file_at(MountId(0), b"d/x");
        for file in 0..1_000 {
            let next = catalog.file_at(MountId(0), format!("d/{file:x}q{}", file * 7 % 13).as_bytes());
            companions.visit(&catalog, before, next);
            assert!(companions.links.len() <= LINKS);
            before = next;
        }
    }
}
