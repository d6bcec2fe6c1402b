//! What was learned of each workload, kept on disk between runs.
//!
//! One file for each (workload, mount source), named by a hash, so that no user's name becomes a file
//! name. A file is a header (magic, version, lengths, CRC-32), the two keys, and the profile's bytes as
//! the core gave them. A save writes a new file, syncs it and renames it over the old one. The total is
//! bounded: the profile saved longest ago goes first. What is damaged is set aside as `.bad`, said and
//! counted, and its workload starts from nothing; a store that cannot be written never stops the agent.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// All profiles together: 64 workloads with the largest profile each, thousands with a usual one.
const MAX_TOTAL: u64 = 64 << 20;
/// One profile. The order of 100,000 files packs into less.
const MAX_PROFILE: u64 = 4 << 20;
/// A key is a line of text; the longest path fits twice.
const MAX_KEY: usize = 16 << 10;
/// Damaged files kept for who wants to look into them.
const MAX_BAD: usize = 16;

const MAGIC: [u8; 8] = *b"HRPROFIL";
const VERSION: u16 = 1;
/// Magic, version, zero, lengths of workload, source and profile, CRC-32 of everything but itself.
const HEADER: usize = 8 + 2 + 2 + 4 + 4 + 4 + 4;

#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error(
        "{}: the folder for learned profiles cannot be used ({source}); what is learned is lost at the next \
         restart. Make it a folder that root may write, or pass another one with --state",
        path.display()
    )]
    Folder { path: PathBuf, source: io::Error },
    #[error(
        "{}: others than its owner may write in the folder for learned profiles, so it is not used, and what is learned is \
         lost at the next restart. Take their right away (chmod go-w), or pass a folder of its own with --state",
        path.display()
    )]
    Shared { path: PathBuf },
    #[error(
        "{}: the disk is full, so what was learned of a workload is not saved; it stays in memory and is \
         saved as soon as there is room. Free some space",
        path.display()
    )]
    Full { path: PathBuf },
    #[error(
        "{}: a profile cannot be saved at the step '{step}' ({source}); it stays in memory and is saved \
         again later. Check the folder's disk",
        path.display()
    )]
    Save { path: PathBuf, step: &'static str, source: io::Error },
    #[error(
        "a profile of {bytes} bytes is larger than one may be ({MAX_PROFILE}); it is not saved, and the \
         workload starts from its last saved one"
    )]
    TooLarge { bytes: usize },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub workload: Box<str>,
    pub source: Box<str>,
    pub bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub files: u64,
    pub bytes: u64,
    pub saved: u64,
    /// Set aside.
    pub damaged: u64,
    /// Dropped for want of room.
    pub dropped: u64,
}

#[derive(Debug)]
struct Stored {
    name: String,
    bytes: u64,
    /// Seconds, nanoseconds, then the order of saving within this run.
    age: (i64, i64, u64),
}

#[derive(Debug)]
pub struct ProfileStore {
    dir: PathBuf,
    stored: Vec<Stored>,
    saves: u64,
    counts: Counts,
}

impl ProfileStore {
    /// Makes the folder if needed (0700) and takes stock of it. One that somebody else uses too is left as it is, and refused
    /// where others may write in it.
    pub fn open(dir: &Path) -> Result<Self, ProfileError> {
        let failed = |source| ProfileError::Folder { path: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        if is_ours(dir).map_err(failed)? {
            match fs::set_permissions(dir, fs::Permissions::from_mode(0o700)) {
                // What was learned before can still be used.
                Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
                done => done.map_err(failed)?,
            }
        } else if fs::metadata(dir).map_err(failed)?.mode() & 0o022 != 0 {
            return Err(ProfileError::Shared { path: dir.to_owned() });
        }
        let mut store = Self::beside(dir);
        for entry in fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            // Left by a save that was killed.
            if is_named(&name, ".new") {
                let _ = fs::remove_file(entry.path());
            }
            if let Ok(metadata) = entry.metadata()
                && metadata.is_file()
                && is_named(&name, ".profile")
            {
                store.stored.push(Stored {
                    name,
                    bytes: metadata.len(),
                    age: (metadata.mtime(), metadata.mtime_nsec(), 0),
                });
            }
        }
        store.make_room(0);
        Ok(store)
    }

    /// For loading alone, beside one that has been opened: that one may be writing, and takes stock.
    pub fn beside(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), stored: Vec::new(), saves: 0, counts: Counts::default() }
    }

    /// The profile of a workload, if a good one is stored.
    pub fn load(&mut self, workload: &str, source: &str) -> Option<Vec<u8>> {
        let profile = self.read(&file_name(workload, source))?;
        // Two keys with one hash: the other one's profile is none for this.
        (*profile.workload == *workload && *profile.source == *source).then_some(profile.bytes)
    }

    /// Replaces the profile of a workload, whole or not at all.
    pub fn save(&mut self, workload: &str, source: &str, bytes: &[u8]) -> Result<(), ProfileError> {
        let too_large =
            bytes.len() as u64 > MAX_PROFILE || workload.len() > MAX_KEY || source.len() > MAX_KEY;
        if too_large {
            return Err(ProfileError::TooLarge { bytes: bytes.len() });
        }
        let content = pack(workload, source, bytes);
        let name = file_name(workload, source);
        self.stored.retain(|stored| stored.name != name);
        self.make_room(content.len() as u64);
        let written = self.replace(&name, &content);
        // Whatever became of it: what stands there now is what counts.
        if let Ok(metadata) = fs::metadata(self.dir.join(&name)) {
            self.saves += 1;
            self.stored.push(Stored {
                name,
                bytes: metadata.len(),
                age: (metadata.mtime(), metadata.mtime_nsec(), self.saves),
            });
        }
        written?;
        self.counts.saved += 1;
        Ok(())
    }

    /// All good profiles, the one saved last first.
    pub fn iter(&mut self) -> impl Iterator<Item = Profile> {
        self.stored.sort_by_key(|stored| std::cmp::Reverse(stored.age));
        let names: Vec<String> = self.stored.iter().map(|stored| stored.name.clone()).collect();
        names.into_iter().filter_map(|name| self.read(&name))
    }

    pub fn counts(&self) -> Counts {
        Counts {
            files: self.stored.len() as u64,
            bytes: self.stored.iter().map(|stored| stored.bytes).sum(),
            ..self.counts
        }
    }

    /// `None` where there is none, or a damaged one, which is set aside.
    fn read(&mut self, name: &str) -> Option<Profile> {
        let path = self.dir.join(name);
        let content = match read_bounded(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(
                    "{}: a stored profile cannot be read ({error}); its workload starts from nothing. Check the \
                     folder's disk",
                    path.display()
                );
                return None;
            }
        };
        match unpack(&content) {
            Ok(profile) => Some(profile),
            Err(Flaw::Newer(version)) => {
                tracing::warn!(
                    "{}: a stored profile has format {version}, newer than this agent's {VERSION}; it is left as \
                     it is, and its workload starts from nothing until the agent is as new",
                    path.display()
                );
                None
            }
            Err(Flaw::Damaged(cause)) => {
                self.set_aside(name, cause);
                None
            }
        }
    }

    fn set_aside(&mut self, name: &str, cause: &str) {
        let path = self.dir.join(name);
        let bad = path.with_extension("bad");
        self.counts.damaged += 1;
        self.stored.retain(|stored| stored.name != name);
        tracing::warn!(
            "{}: a stored profile is damaged ({cause}); it is set aside as {}, and its workload starts from \
             nothing. If this happens again, check the disk",
            path.display(),
            bad.display()
        );
        if fs::rename(&path, &bad).is_err() {
            let _ = fs::remove_file(&path);
        }
        let mut kept: Vec<_> = fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_name().to_str().is_some_and(|name| is_named(name, ".bad")))
            .filter_map(|entry| Some((entry.metadata().ok()?.ctime(), entry.path())))
            .collect();
        kept.sort();
        let surplus = kept.len().saturating_sub(MAX_BAD);
        for (_, path) in kept.iter().take(surplus) {
            let _ = fs::remove_file(path);
        }
    }

    /// Drops the oldest until `bytes` more fit.
    fn make_room(&mut self, bytes: u64) {
        self.stored.sort_by_key(|stored| std::cmp::Reverse(stored.age));
        let mut total: u64 = self.stored.iter().map(|stored| stored.bytes).sum();
        while total.saturating_add(bytes) > MAX_TOTAL
            && let Some(oldest) = self.stored.pop()
        {
            total -= oldest.bytes;
            self.counts.dropped += 1;
            let _ = fs::remove_file(self.dir.join(&oldest.name));
        }
    }

    fn replace(&self, name: &str, content: &[u8]) -> Result<(), ProfileError> {
        let path = self.dir.join(name);
        let new = path.with_extension("new");
        let failed = |step| {
            let path = path.clone();
            move |source: io::Error| match Errno::from_io_error(&source) {
                Some(Errno::NOSPC | Errno::DQUOT) => ProfileError::Full { path },
                _ => ProfileError::Save { path, step, source },
            }
        };
        let _ = fs::remove_file(&new);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)
            .map_err(failed("create"))
            .and_then(|mut file| {
                file.write_all(content).map_err(failed("write"))?;
                file.sync_all().map_err(failed("sync"))
            })
            .and_then(|()| fs::rename(&new, &path).map_err(failed("rename")));
        if written.is_err() {
            let _ = fs::remove_file(&new);
            return written;
        }
        let folder = File::open(&self.dir).and_then(|dir| dir.sync_all());
        folder.map_err(failed("sync the folder"))
    }
}

enum Flaw {
    Newer(u16),
    Damaged(&'static str),
}

fn pack(workload: &str, source: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + workload.len() + source.len() + bytes.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    for len in [workload.len(), source.len(), bytes.len()] {
        out.extend_from_slice(&(len as u32).to_le_bytes());
    }
    let mut crc = crc32fast::Hasher::new();
    for part in [&out, workload.as_bytes(), source.as_bytes(), bytes] {
        crc.update(part);
    }
    out.extend_from_slice(&crc.finalize().to_le_bytes());
    for part in [workload.as_bytes(), source.as_bytes(), bytes] {
        out.extend_from_slice(part);
    }
    out
}

fn unpack(content: &[u8]) -> Result<Profile, Flaw> {
    let short = || Flaw::Damaged("it is cut short");
    let (header, body) = content.split_at_checked(HEADER).ok_or_else(short)?;
    let (head, crc) = header.split_at_checked(HEADER - 4).ok_or_else(short)?;
    let rest = head.strip_prefix(&MAGIC).ok_or(Flaw::Damaged("its first bytes are not a profile's"))?;
    let mut hash = crc32fast::Hasher::new();
    hash.update(head);
    hash.update(body);
    if hash.finalize().to_le_bytes() != *crc {
        return Err(Flaw::Damaged("its checksum does not match"));
    }
    let (version, lengths) = rest.split_at_checked(4).ok_or_else(short)?;
    let version = version.first_chunk().copied().map_or(0, u16::from_le_bytes);
    if version > VERSION {
        return Err(Flaw::Newer(version));
    }
    let mut rest = body;
    let mut parts = lengths.chunks_exact(4).map(|len| {
        let len = len.first_chunk().copied().map_or(0, u32::from_le_bytes);
        let (part, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
        rest = after;
        Some(part)
    });
    let mut part = || parts.next().flatten().ok_or(Flaw::Damaged("its lengths do not add up"));
    let (workload, source, bytes) = (part()?, part()?, part()?);
    let text = |bytes| str::from_utf8(bytes).map_err(|_| Flaw::Damaged("its keys are not text"));
    Ok(Profile { workload: text(workload)?.into(), source: text(source)?.into(), bytes: bytes.to_vec() })
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let most = MAX_PROFILE + 2 * MAX_KEY as u64 + HEADER as u64;
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    let mut content = Vec::new();
    // One byte more than a good file has makes a larger one fail its checksum.
    file.take(most + 1).read_to_end(&mut content)?;
    Ok(content)
}

fn file_name(workload: &str, source: &str) -> String {
    format!("{:032x}.profile", hash(workload, source))
}

/// Whether nothing lies in a folder but what this has left there.
fn is_ours(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let ours = name.to_str().is_some_and(|name| {
            // A new disk of ext4 has one.
            name == "lost+found" || [".profile", ".new", ".bad"].iter().any(|end| is_named(name, end))
        });
        if !ours {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_named(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix)
        .is_some_and(|stem| stem.len() == 32 && stem.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// FNV-1a with 128 bits: the same in every release, as std's hashers are not. The length of the first key
/// keeps ("ab", "c") and ("a", "bc") apart; a collision is found by the keys in the file.
fn hash(workload: &str, source: &str) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let len = (workload.len() as u64).to_le_bytes();
    let bytes = len.iter().chain(workload.as_bytes()).chain(source.as_bytes());
    bytes.fold(OFFSET, |hash, &byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
#[path = "profiles_tests.rs"]
mod tests;
