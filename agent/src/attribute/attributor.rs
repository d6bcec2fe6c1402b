//! The look-up in /proc, and what is remembered of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::cgroup::place;
use super::process::Process;
use super::script::{Script, script};
use crate::mounts::{Kind, escape, kind, read_table};

/// Processes remembered; a node runs fewer at a time (110 pods by default), the rest is churn.
const MAX_KNOWN: usize = 16_384;

/// Of a command line; a Java class path of some hundred jars comes before the class.
const MAX_CMDLINE: u64 = 256 << 10;
const MAX_SMALL: u64 = 64 << 10;

/// How far up a worker's script is looked for: spawn server, worker, and room for a launcher.
const MAX_ANCESTORS: u32 = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    Known(Arc<Process>),
    /// It ended before it could be asked: an unknown process.
    Gone,
}

/// What came of the look-ups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub read: u64,
    pub remembered: u64,
    pub gone: u64,
    /// Its executable could not be asked for (a kernel thread, or not permitted).
    pub veiled: u64,
    /// Forgotten for want of room.
    pub evicted: u64,
}

#[derive(Debug)]
struct Known {
    process: Arc<Process>,
    used: u64,
}

#[derive(Debug)]
pub struct Attributor {
    proc: PathBuf,
    known: FxHashMap<u32, Known>,
    /// By last use, oldest first.
    uses: BTreeMap<u64, u32>,
    clock: u64,
    counts: Counts,
}

impl Attributor {
    /// `proc` is /proc of the host's PID namespace: the kernel's records carry its numbers.
    pub fn new(proc: impl Into<PathBuf>) -> Self {
        Self {
            proc: proc.into(),
            known: FxHashMap::default(),
            uses: BTreeMap::new(),
            clock: 0,
            counts: Counts::default(),
        }
    }

    /// Who this is now; `None` where it cannot be asked just now, which says nothing. A process that has ended is gone,
    /// whatever is remembered of it, and one that runs another program is another. Not by its name or its command line: many
    /// write what they are at into both.
    pub fn look_again(&mut self, tgid: u32) -> Option<Identity> {
        let stat = match self.stat(tgid) {
            Ok(stat) => stat,
            Err(error) if has_ended(&error) => return Some(Identity::Gone),
            // No descriptor left, no memory.
            Err(_) => return None,
        };
        let exe = self.exe(tgid).map(|exe| escape(exe.as_os_str().as_bytes()).into());
        let same = |known: &&Known| {
            // Of one whose first thread has ended nothing is to be read, though others may go on.
            known.process.started == stat.started && (stat.dead || exe.is_none() || known.process.exe == exe)
        };
        if let Some(known) = self.known.get(&tgid).filter(same) {
            return Some(Identity::Known(known.process.clone()));
        }
        Some(self.meet(tgid, stat))
    }

    /// Who this is. A process that is remembered is only asked for its start time and name, which tells a
    /// new process under an old number, and one that has called exec since.
    pub fn identify(&mut self, tgid: u32) -> Identity {
        let Ok(stat) = self.stat(tgid) else {
            // Its last reads may be told after its end.
            if let Some(process) = self.touch(tgid) {
                self.counts.remembered += 1;
                return Identity::Known(process);
            }
            self.counts.gone += 1;
            return Identity::Gone;
        };
        let remembered = self.known.get(&tgid).is_some_and(|known| {
            // A zombie has lost all but its name: what was known of it stays true.
            known.process.started == stat.started && (stat.dead || known.process.name == stat.name)
        });
        if remembered && let Some(process) = self.touch(tgid) {
            self.counts.remembered += 1;
            return Identity::Known(process);
        }
        self.meet(tgid, stat)
    }

    /// Reads who a process is, whatever was known of its number.
    fn meet(&mut self, tgid: u32, stat: Stat) -> Identity {
        self.forget(tgid);
        if stat.dead {
            self.counts.gone += 1;
            return Identity::Gone;
        }
        let process = Arc::new(self.read(tgid, stat));
        // While its files were read one by one it may have ended, which empties them (the name alone would make it a
        // workload of its own), or its number may have been given to another.
        let other = match self.stat(tgid) {
            Ok(now) => now.dead || now.started != process.started,
            // It cannot be asked just now, which says nothing.
            Err(error) => has_ended(&error),
        };
        if other {
            self.counts.gone += 1;
            return Identity::Gone;
        }
        self.counts.read += 1;
        self.remember(process.clone());
        Identity::Known(process)
    }

    /// The process has ended.
    pub fn forget(&mut self, tgid: u32) {
        if let Some(known) = self.known.remove(&tgid) {
            self.uses.remove(&known.used);
        }
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn touch(&mut self, tgid: u32) -> Option<Arc<Process>> {
        let known = self.known.get_mut(&tgid)?;
        self.uses.remove(&known.used);
        self.clock += 1;
        known.used = self.clock;
        self.uses.insert(self.clock, tgid);
        Some(known.process.clone())
    }

    fn remember(&mut self, process: Arc<Process>) {
        if self.known.len() >= MAX_KNOWN
            && let Some((_, oldest)) = self.uses.pop_first()
        {
            self.known.remove(&oldest);
            self.counts.evicted += 1;
        }
        self.clock += 1;
        let (tgid, used) = (process.tgid, self.clock);
        self.uses.insert(used, tgid);
        self.known.insert(tgid, Known { process, used });
    }

    fn read(&mut self, tgid: u32, stat: Stat) -> Process {
        let exe = self.exe(tgid);
        self.counts.veiled += u64::from(exe.is_none());
        let script = exe.as_ref().and_then(|exe| self.script(tgid, exe, stat.parent));
        let cgroup = self.small(tgid, "cgroup", MAX_SMALL).unwrap_or_default();
        Process {
            tgid,
            started: stat.started,
            name: stat.name,
            exe: exe.map(|exe| escape(exe.as_os_str().as_bytes()).into()),
            script: script.map(Into::into),
            place: place(&cgroup),
        }
    }

    fn exe(&self, tgid: u32) -> Option<PathBuf> {
        let exe = fs::read_link(self.entry(tgid, "exe")).ok()?.into_os_string().into_vec();
        // A program that was replaced while it runs (an upgrade) is still the same workload.
        let name = exe.strip_suffix(b" (deleted)").unwrap_or(&exe);
        Some(PathBuf::from(std::ffi::OsString::from_vec(name.to_vec())))
    }

    /// What an interpreter runs. Without a script of its own (a worker that multiprocessing has spawned, or
    /// one that rewrote its command line) it does its parent's work, if that runs the same interpreter.
    fn script(&self, tgid: u32, exe: &Path, parent: u32) -> Option<String> {
        let (mut tgid, mut parent) = (tgid, parent);
        for _ in 0..MAX_ANCESTORS {
            let cmdline = self.small(tgid, "cmdline", MAX_CMDLINE).ok()?;
            match script(exe.file_name()?.as_bytes(), &cmdline)? {
                Script::File(path) => return Some(escape(&self.stable(tgid, path))),
                Script::Name(name) => return Some(escape(name)),
                Script::Inline => {}
            }
            if self.exe(parent).is_none_or(|other| other != exe) {
                return None;
            }
            tgid = parent;
            parent = self.stat(tgid).ok()?.parent;
        }
        None
    }

    /// From the root of the process's file system. The process may have changed its directory since it was
    /// started (Hydra gives each run a new one): where the script is not there, the path stays as given.
    fn stable(&self, tgid: u32, path: &[u8]) -> Vec<u8> {
        use std::ffi::OsStr;
        let given = Path::new(OsStr::from_bytes(path));
        let from_root = if given.is_absolute() {
            given.to_owned()
        } else {
            match fs::read_link(self.entry(tgid, "cwd")) {
                Ok(cwd) => cwd.join(given),
                Err(_) => return path.to_vec(),
            }
        };
        let from_root = tidy(&from_root);
        match given.is_absolute() || !self.absent(tgid, &from_root) {
            true => from_root.into_os_string().into_vec(),
            false => path.to_vec(),
        }
    }

    /// Whether the process's root surely has no such path. What the dentry cache does not tell is looked up
    /// on local file systems only: a look-up on a dead server would hold up the event loop.
    fn absent(&self, tgid: u32, path: &Path) -> bool {
        let how = OFlags::PATH | OFlags::CLOEXEC;
        let Ok(root) = rustix::fs::open(self.entry(tgid, "root"), how, Mode::empty()) else {
            return false;
        };
        let below = path.strip_prefix("/").unwrap_or(path);
        let look =
            |resolve| rustix::fs::openat2(&root, below, how, Mode::empty(), resolve | ResolveFlags::IN_ROOT);
        let found = match look(ResolveFlags::CACHED) {
            // A link, or another mount, would lead to where nobody knows who answers.
            Err(Errno::AGAIN) if self.is_local(tgid, path) => {
                look(ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV)
            }
            found => found,
        };
        matches!(found, Err(Errno::NOENT | Errno::NOTDIR))
    }

    /// Whether a path that the process sees lies on a file system that no server stands behind. Of what calls itself FUSE
    /// some is known to have no data (lxcfs), which says nothing of how soon it answers.
    fn is_local(&self, tgid: u32, path: &Path) -> bool {
        let table = read_table(&self.entry(tgid, "mountinfo")).unwrap_or_default();
        let mount = table.covering(path.as_os_str().as_bytes());
        mount.is_some_and(|mount| {
            let served = mount.fstype.starts_with("fuse") || &*mount.fstype == "autofs";
            !served && kind(&mount.fstype) != Kind::Remote
        })
    }

    fn stat(&self, tgid: u32) -> io::Result<Stat> {
        let text = self.small(tgid, "stat", MAX_SMALL)?;
        Stat::parse(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn entry(&self, tgid: u32, name: &str) -> PathBuf {
        self.proc.join(tgid.to_string()).join(name)
    }

    fn small(&self, tgid: u32, name: &str, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.entry(tgid, name))?.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Whether that is what /proc answers for a process that is no more: there is no such folder, or its files tell nothing.
fn has_ended(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::SRCH))
}

/// Without `.` and `..`; links are left as they are, they may lead anywhere in another root.
fn tidy(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::Prefix(_) | Component::Normal(_) => out.push(component),
        }
    }
    out
}

/// Of the task's flags (`PF_EXITING` in include/linux/sched.h): it is on its way out, and may have lost its memory and with
/// it its executable and its command line, though its state is not that of a zombie yet.
const EXITING: u32 = 0x4;

/// What is needed of /proc/PID/stat (proc_pid_stat(5)).
#[derive(Debug)]
struct Stat {
    name: Box<str>,
    /// Ended, or about to: nothing but its name is to be had any more.
    dead: bool,
    parent: u32,
    started: u64,
}

impl Stat {
    /// The name stands in parentheses and may hold any byte, parentheses too: the last one ends it.
    fn parse(stat: &[u8]) -> Option<Self> {
        let open = stat.iter().position(|&byte| byte == b'(')?;
        let close = stat.iter().rposition(|&byte| byte == b')')?;
        let name = stat.get(open + 1..close)?;
        let rest = str::from_utf8(stat.get(close + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        // Field 9; the state is field 3.
        let flags: u32 = fields.nth(4)?.parse().ok()?;
        // Field 22.
        let started = fields.nth(12)?.parse().ok()?;
        let dead = matches!(state, "Z" | "X" | "x") || flags & EXITING != 0;
        Some(Self { name: escape(name).into(), dead, parent, started })
    }
}

#[cfg(test)]
#[path = "attributor_tests.rs"]
mod tests;
