//! What is kept of a workload between runs: the set and order of its files, how much of it a run reads,
//! which parts of a file, and what the file system does to warmed pages.
//!
//! Format, version 1, little endian, varints as in LEB128: version, survival, number of shares and shares
//! (per cent, newest last), directories (length-prefixed paths), files in order of their last visit
//! (directory, bytes shared with the file before, rest, size), kinds (name, whole, part, largest, bytes,
//! anchors). The edge adds a checksum; here damage is met with a refusal, never a panic.

use crate::class::{Class, kind_of};
use crate::order::{Anchored, Extent};
use crate::shape::PIECES;
use crate::view::Survival;

/// Files kept of one workload: at some six bytes each well under the profile's 4 MiB on disk.
pub const MAX_FILES: usize = 1 << 16;

/// Bytes of a folder's path in a profile, as many as a path may have.
const PATH_MAX: usize = 4096;

const VERSION: u8 = 1;
const SHARES: usize = 8;

/// A run that read so much of its set, in per cent, has read most of it.
pub const FULL: u8 = 50;

/// How much of its set each of the last runs read, in per cent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    runs: Vec<u8>,
}

impl Share {
    pub fn note(&mut self, percent: u8) {
        if self.runs.len() == SHARES {
            self.runs.remove(0);
        }
        self.runs.push(percent.min(100));
    }

    pub fn runs(&self) -> &[u8] {
        &self.runs
    }

    /// Whether the next run is likelier than not to read most of the set: two that quit outweigh any number of full
    /// ones before.
    pub fn is_full(&self) -> bool {
        self.mean(|share| if share >= FULL { 1.0 } else { 0.0 }).is_some_and(|full| full >= 0.5)
    }

    /// What a run usually reads of the set, from 0 to 1; 1 where none is known.
    pub fn usual(&self) -> f64 {
        self.mean(|share| f64::from(share) / 100.0).unwrap_or(1.0)
    }

    /// Each run counts half of the one after it.
    fn mean(&self, of: impl Fn(u8) -> f64) -> Option<f64> {
        let (mut weight, mut sum, mut all) = (1.0, 0.0, 0.0);
        for share in self.runs.iter().rev() {
            all += weight;
            sum += weight * of(*share);
            weight /= 2.0;
        }
        (all > 0.0).then(|| sum / all)
    }
}

#[derive(Clone, Debug, Default)]
pub struct Profile {
    pub survival: Survival,
    pub share: Share,
    pub dirs: Vec<Box<[u8]>>,
    /// (index into `dirs`, name, size), in the order of the last full run.
    pub files: Vec<(u32, Box<[u8]>, u64)>,
    pub classes: Vec<(Box<[u8]>, Class)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    #[error("the profile ends in the middle; it is left aside and learned anew")]
    Truncated,
    #[error(
        "the profile is of version {found}, this agent reads version 1; it is left aside and learned anew"
    )]
    Version { found: u8 },
    #[error("the profile names something that it does not hold; it is left aside and learned anew")]
    Inconsistent,
}

impl Profile {
    pub fn encode(&self) -> Vec<u8> {
        let Self { survival, share, dirs, files, classes } = self;
        let mut out = Writer(vec![VERSION, survival_code(*survival)]);
        out.bytes(share.runs());
        out.number(dirs.len() as u64);
        for dir in dirs {
            out.bytes(dir);
        }
        out.number(files.len() as u64);
        let mut before: &[u8] = b"";
        for (dir, name, size) in files {
            let shared = before.iter().zip(name.iter()).take_while(|(a, b)| a == b).count();
            out.number(u64::from(*dir));
            out.number(shared as u64);
            out.bytes(&name[shared..]);
            out.number(*size);
            before = name;
        }
        out.number(classes.len() as u64);
        for (kind, class) in classes {
            out.bytes(kind);
            for number in [u64::from(class.whole), u64::from(class.part), class.largest, class.bytes] {
                out.number(number);
            }
            let anchors = class.common.as_deref().unwrap_or_default();
            out.number(anchors.len() as u64);
            for anchor in anchors {
                let (code, a, b) = match *anchor {
                    Anchored::Start { offset, len } => (0, offset, len),
                    Anchored::End { before_end, len } => (1, before_end, len),
                    Anchored::Fraction { start, end } => (2, u64::from(start), u64::from(end)),
                };
                out.number(code);
                out.number(a);
                out.number(b);
            }
        }
        out.0
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, ProfileError> {
        let mut input = Reader(bytes);
        match input.byte()? {
            VERSION => {}
            found => return Err(ProfileError::Version { found }),
        }
        let survival = match input.byte()? {
            1 => Survival::Kept,
            2 => Survival::Dropped,
            3 => Survival::Refused,
            _ => Survival::Unknown,
        };
        let mut share = Share::default();
        for percent in input.bytes()? {
            share.note(*percent);
        }
        let mut profile = Self { survival, share, ..Self::default() };
        for _ in 0..input.count()? {
            let dir = input.bytes()?;
            if dir.len() > PATH_MAX {
                return Err(ProfileError::Inconsistent);
            }
            profile.dirs.push(dir.into());
        }
        let mut before: Box<[u8]> = Box::default();
        for _ in 0..input.count()? {
            let dir = u32::try_from(input.number()?).map_err(|_| ProfileError::Inconsistent)?;
            let shared = usize::try_from(input.number()?).map_err(|_| ProfileError::Inconsistent)?;
            let mut name = before.get(..shared).ok_or(ProfileError::Inconsistent)?.to_vec();
            name.extend_from_slice(input.bytes()?);
            // Longer than any file system allows: a damaged profile must not unfold into gigabytes.
            if dir as usize >= profile.dirs.len() || name.len() > 255 || profile.files.len() >= MAX_FILES {
                return Err(ProfileError::Inconsistent);
            }
            before = name.into();
            profile.files.push((dir, before.clone(), input.number()?));
        }
        for _ in 0..input.count()? {
            let kind = input.bytes()?.into();
            let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
            let (whole, part) = (small(input.number()?), small(input.number()?));
            let (largest, bytes) = (input.number()?, input.number()?);
            let mut anchors = Vec::new();
            for _ in 0..input.count()? {
                // More than a class ever has in common: each is looked for at every file that is fetched.
                if anchors.len() >= PIECES {
                    return Err(ProfileError::Inconsistent);
                }
                let (code, a, b) = (input.number()?, input.number()?, input.number()?);
                anchors.push(match code {
                    0 => Anchored::Start { offset: a, len: b },
                    1 => Anchored::End { before_end: a, len: b },
                    2 => Anchored::Fraction { start: small(a), end: small(b) },
                    _ => return Err(ProfileError::Inconsistent),
                });
            }
            let common = (!anchors.is_empty()).then_some(anchors);
            profile.classes.push((kind, Class::recalled(whole, part, largest, bytes, common)));
        }
        Ok(profile)
    }
}

/// A file as the last run that counts visited it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visited {
    /// From the root of the file system.
    pub path: Box<[u8]>,
    /// 0: not known.
    pub size: u64,
    /// What is read of such a file; `None` where that cannot be said.
    pub extent: Option<Extent>,
}

/// The files of an encoded profile, in the order in which they were come to.
pub fn visited(bytes: &[u8]) -> Result<Vec<Visited>, ProfileError> {
    let Profile { dirs, files, classes, .. } = Profile::decode(bytes)?;
    let visit = |(dir, name, size): (u32, Box<[u8]>, u64)| {
        let dir = dirs.get(dir as usize).map(|dir| &**dir).unwrap_or_default();
        let class = classes.iter().find(|(kind, _)| *kind == kind_of(&name));
        let extent = class.and_then(|(_, class)| class.extent());
        let path = if dir.is_empty() { name } else { [dir, &name].join(&b'/').into() };
        Visited { path, size, extent }
    };
    Ok(files.into_iter().map(visit).collect())
}

fn survival_code(survival: Survival) -> u8 {
    match survival {
        Survival::Unknown => 0,
        Survival::Kept => 1,
        Survival::Dropped => 2,
        Survival::Refused => 3,
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push((number as u8) | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, ProfileError> {
        let (first, rest) = self.0.split_first().ok_or(ProfileError::Truncated)?;
        self.0 = rest;
        Ok(*first)
    }

    fn number(&mut self) -> Result<u64, ProfileError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(ProfileError::Inconsistent)
    }

    /// A number of things that follow, each of at least one byte: never more than there are bytes.
    fn count(&mut self) -> Result<u64, ProfileError> {
        let count = self.number()?;
        if count > self.0.len() as u64 { Err(ProfileError::Truncated) } else { Ok(count) }
    }

    fn bytes(&mut self) -> Result<&'a [u8], ProfileError> {
        let len = usize::try_from(self.count()?).map_err(|_| ProfileError::Truncated)?;
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(ProfileError::Truncated)?;
        self.0 = rest;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_runs_count_most_of_what_is_usually_read() {
        let mut share = Share::default();
        assert_eq!(share.usual(), 1.0);
        share.note(100);
        assert_eq!(share.usual(), 1.0);
        share.note(40);
        assert_eq!(share.usual(), 0.6);
    }

    #[test]
    fn two_runs_that_quit_outweigh_many_full_ones() {
        let mut share = Share::default();
        for _ in 0..6 {
            share.note(100);
        }
        assert!(share.is_full());
        share.note(4);
        share.note(4);
        assert!(!share.is_full());
        share.note(100);
        share.note(100);
        assert!(share.is_full());
    }

    #[test]
    fn visits_are_told_by_path_and_part() {
        let foot = vec![Anchored::End { before_end: 0, len: 4_096 }];
        let profile = Profile {
            dirs: vec![b"a/b".as_slice().into(), Box::default()],
            files: vec![
                (0, b"x.parquet".as_slice().into(), 9),
                (1, b"y.npy".as_slice().into(), 0),
                (0, b"z".as_slice().into(), 7),
            ],
            classes: vec![
                (b"npy".as_slice().into(), Class::recalled(3, 0, 5, 9, None)),
                (b"parquet".as_slice().into(), Class::recalled(0, 3, 5, 9, Some(foot.clone()))),
            ],
            ..Profile::default()
        };
        let told = visited(&profile.encode()).unwrap();
        let visit = |path: &[u8], size, extent| Visited { path: path.into(), size, extent };
        assert_eq!(
            told,
            [
                visit(b"a/b/x.parquet", 9, Some(Extent::Shape(foot))),
                visit(b"y.npy", 0, Some(Extent::Whole { limit: 128 << 10 })),
                visit(b"a/b/z", 7, None),
            ]
        );
        assert_eq!(visited(b"").unwrap_err(), ProfileError::Truncated);
    }

    proptest! {
        #[test]
        fn comes_back_as_it_was(names in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..50)) {
            let profile = Profile {
                survival: Survival::Kept,
                share: Share { runs: vec![100, 4] },
                dirs: vec![b"a/b".as_slice().into()],
                files: names.iter().map(|name| (0, name.as_slice().into(), 40_000)).collect(),
                classes: vec![(b"npy".as_slice().into(), Class::recalled(3, 0, 5, 9, None))],
            };
            let back = Profile::decode(&profile.encode()).unwrap();
            prop_assert_eq!(back.files, profile.files);
            prop_assert_eq!(back.share, profile.share);
            prop_assert_eq!(back.dirs, profile.dirs);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Profile::decode(&bytes);
        }
    }
}
