//! The tools that people watch reads with, each started, ready, and held to what it saw.
//!
//! Every one is asked the same question: how often is which file read? bpftrace counts the events of
//! `mm_filemap_get_pages` by device and inode, fatrace prints every event by path, `strace -c` counts calls
//! and cannot tell files apart. A tool that saw less than was read would be cheap for nothing, so what it
//! says is looked at after each run.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::bench::disk::LoopDisk;
use crate::bench::lab::Companion;
use crate::hygiene::Ward;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Headrace,
    Bpftrace,
    Fatrace,
    Strace,
}

/// What was read while a peer watched.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    /// One file, this often.
    Reads { file: PathBuf, reads: u64 },
    /// Each of so many files below a folder, this often.
    Files { folder: PathBuf, files: u64, times: u64 },
}

/// Counted by file, in the kernel. The timer tells when everything is attached.
const SCRIPT: &str = "tracepoint:filemap:mm_filemap_get_pages { @reads[args->s_dev, args->i_ino] = count(); } \
    interval:ms:100 /!@attached/ { @attached = 1; printf(\"attached\\n\"); }";

/// bpftrace finds tracepoints in tracefs, which is mounted for it alone where it is not mounted. A constant
/// text; what is started comes as arguments.
const WITH_TRACEFS: &str = "[ -e /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing; \
    exec \"$@\"";

/// LLVM compiles the script, in seconds on a busy machine.
const READY: Duration = Duration::from_secs(30);

impl Peer {
    pub const ALL: [Self; 4] = [Self::Headrace, Self::Bpftrace, Self::Fatrace, Self::Strace];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Headrace => "headrace",
            Self::Bpftrace => "bpftrace",
            Self::Fatrace => "fatrace",
            Self::Strace => "strace",
        }
    }

    /// Starts it watching the disk and waits until it does.
    pub fn start(self, agent: &Path, disk: &LoopDisk) -> Result<Running> {
        let output = disk.beside().join(self.name());
        let kind = match self {
            Self::Headrace => {
                let state = disk.beside().join("state");
                let _ = std::fs::remove_dir_all(&state);
                std::fs::create_dir_all(&state)?;
                Kind::Agent(Companion::agent(agent, &[disk.path()], &state)?, agent.to_path_buf())
            }
            Self::Bpftrace => {
                let mut command = Command::new("unshare");
                command.args(["-m", "sh", "-ec", WITH_TRACEFS, "sh", "bpftrace", "-B", "line", "-e", SCRIPT]);
                // It keeps 4,096 keys of a map unless told otherwise; the walk has more files.
                command.env("BPFTRACE_MAP_KEYS_MAX", "65536");
                command.stdout(File::create(&output)?);
                Kind::Beside(ready(command, |_| text(&output).contains("attached"))?)
            }
            Self::Fatrace => {
                let mut command = Command::new("fatrace");
                // Only the file system of the working directory.
                command.arg("--current-mount").current_dir(disk.path()).stdout(File::create(&output)?);
                Kind::Beside(ready(command, marked)?)
            }
            Self::Strace => Kind::Around,
        };
        Ok(Running { peer: self, kind, output })
    }
}

/// A peer at work.
#[derive(Debug)]
pub struct Running {
    peer: Peer,
    kind: Kind,
    output: PathBuf,
}

#[derive(Debug)]
enum Kind {
    Agent(Companion, PathBuf),
    /// A process that watches from outside.
    Beside(Ward),
    /// It starts what it watches.
    Around,
}

impl Running {
    /// The command that runs this program under the peer's eyes.
    pub fn command(&self, program: &Path) -> Command {
        match &self.kind {
            Kind::Agent(..) | Kind::Beside(_) => Command::new(program),
            Kind::Around => {
                let mut command = Command::new("strace");
                command.args(["-c", "-f", "-o"]).arg(&self.output).arg(program);
                command
            }
        }
    }

    /// Ends it, and fails if it has not seen what was done.
    pub fn finish(self, done: &Done) -> Result<()> {
        let Self { peer, kind, output } = self;
        let (seen, of) = match kind {
            Kind::Agent(companion, agent) => {
                let seen = known(&agent, companion.socket(), done)?;
                companion.stop();
                (seen, "named")
            }
            Kind::Beside(mut ward) => {
                ward.end();
                let text = text(&output);
                match peer {
                    Peer::Bpftrace => (counted(&text, done)?, "counted"),
                    _ => (named(&text, done), "named"),
                }
            }
            Kind::Around => (calls(&text(&output)), "counted"),
        };
        let least = match (peer, done) {
            // Events of one file that nobody has taken yet are merged: one line may stand for many reads.
            (Peer::Fatrace | Peer::Headrace, Done::Reads { .. }) => 1,
            (Peer::Strace, Done::Files { files, times, .. }) => files * times,
            (_, Done::Reads { reads, .. }) => *reads,
            (_, Done::Files { files, .. }) => *files,
        };
        if seen < least {
            bail!("{} {of} {seen} of {least}: its figure would be that of watching less", peer.name());
        }
        Ok(())
    }
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// Starts a process and waits until it is ready.
fn ready(mut command: Command, is: impl Fn(u32) -> bool) -> Result<Ward> {
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let name = format!("{command:?}");
    let mut ward = Ward::new(
        command.spawn().with_context(|| format!("starting {name}; `cargo xtask bench` installs it"))?,
    );
    let given_up = Instant::now() + READY;
    while !is(ward.id()) {
        let ended = ward.child().try_wait()?;
        if ended.is_some() || Instant::now() > given_up {
            bail!("{name} did not begin to watch within {} s ({ended:?})", READY.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(ward)
}

/// Whether fanotify watches something for this process.
fn marked(pid: u32) -> bool {
    let folder = std::fs::read_dir(format!("/proc/{pid}/fdinfo"));
    let texts = folder.into_iter().flatten().flatten().map(|entry| text(&entry.path()));
    texts
        .into_iter()
        .any(|text| text.lines().any(|line| line.starts_with("fanotify ") && line.contains("mask:")))
}

/// What bpftrace counted: reads of the one file, or files of the disk.
fn counted(text: &str, done: &Done) -> Result<u64> {
    let (Done::Reads { file: at, .. } | Done::Files { folder: at, .. }) = done;
    let metadata = std::fs::metadata(at).with_context(|| format!("looking at {}", at.display()))?;
    // The kernel's own numbering, as the tracepoint has it.
    let dev =
        u64::from(rustix::fs::major(metadata.dev())) << 20 | u64::from(rustix::fs::minor(metadata.dev()));
    let rows = text.lines().filter_map(|line| {
        let (key, count) = line.strip_prefix("@reads[")?.split_once("]: ")?;
        let (dev, ino) = key.split_once(", ")?;
        Some((dev.parse::<u64>().ok()?, ino.parse::<u64>().ok()?, count.trim().parse::<u64>().ok()?))
    });
    let here = rows.filter(|(of, ..)| *of == dev);
    Ok(match done {
        Done::Reads { .. } => {
            here.filter(|(_, ino, _)| *ino == metadata.ino()).map(|(.., count)| count).sum()
        }
        Done::Files { times, .. } => here.filter(|(.., count)| count >= times).count() as u64,
    })
}

/// Files that fatrace named: `bench-reader(17): RCO  /tmp/…/f1`.
fn named(text: &str, done: &Done) -> u64 {
    let at = match done {
        Done::Reads { file, .. } => file,
        Done::Files { folder, .. } => folder,
    };
    let at = at.to_string_lossy();
    let paths = text.lines().filter_map(|line| {
        let (_, event) = line.split_once("): ")?;
        let (what, path) = event.split_once(' ')?;
        // Columns are aligned by spaces before the path; those within it are its own.
        let path = path.trim_start_matches(' ');
        (what.contains('R') && path.starts_with(&*at)).then_some(path)
    });
    paths.collect::<HashSet<_>>().len() as u64
}

/// The calls of `read` and `pread64` in the table of `strace -c`.
fn calls(text: &str) -> u64 {
    let rows = text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let name = fields.last()?;
        matches!(*name, "read" | "pread64").then(|| fields.get(3)?.parse::<u64>().ok())?
    });
    rows.sum()
}

/// Files that the agent has named: it gives 10,000 rows at most, so the folder is asked for by prefixes.
fn known(agent: &Path, socket: &Path, done: &Done) -> Result<u64> {
    let prefixes = match done {
        Done::Reads { file, .. } => vec![file.clone()],
        Done::Files { folder, .. } => (0..10).map(|digit| folder.join(format!("d{digit}"))).collect(),
    };
    let mut known = 0;
    for prefix in prefixes {
        let mut command = Command::new(agent);
        command.arg("--socket").arg(socket).args(["files", "--limit", "10000", "--output", "json"]);
        let output = command.arg(&prefix).stdin(Stdio::null()).output().context("asking the agent")?;
        let answer: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("the agent's answer to `headrace files`")?;
        let rows = answer["files"].as_array().context("a list of files")?;
        let prefix = prefix.to_string_lossy();
        let named = |row: &&serde_json::Value| {
            row["path"].as_str().is_some_and(|path| path.starts_with(&*prefix))
                && row["reads"].as_u64().is_some_and(|reads| reads > 0)
        };
        known += rows.iter().filter(named).count() as u64;
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path) -> Done {
        Done::Files { folder: folder.to_path_buf(), files: 2, times: 3 }
    }

    #[test]
    fn bpftrace_is_read_by_device_and_inode() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = std::fs::metadata(folder.path()).unwrap();
        let dev = rustix::fs::major(metadata.dev()) << 20 | rustix::fs::minor(metadata.dev());
        let text = format!(
            "attached\n@attached: 1\n@reads[{dev}, 12]: 3\n@reads[{dev}, 13]: 2\n@reads[{dev}, {}]: 70\n\
             @reads[1, 12]: 9\n",
            metadata.ino()
        );
        assert_eq!(counted(&text, &files(folder.path())).unwrap(), 2);
        let reads = Done::Reads { file: folder.path().to_path_buf(), reads: 70 };
        assert_eq!(counted(&text, &reads).unwrap(), 70);
    }

    #[test]
    fn fatrace_is_read_by_path() {
        let text = "bench-reader(7): RCO   /x/d0/f0\nbench-reader(7): R   /x/d0/f 1\n\
            bench-reader(7): O   /x/d0/f2\ncat(8): R   /y/f0\nbench-reader(7): RC  /x/d0/f0\n";
        assert_eq!(named(text, &files(Path::new("/x"))), 2);
    }

    #[test]
    fn strace_is_read_by_call() {
        let text = "% time     seconds  usecs/call     calls    errors syscall\n\
            ------ ----------- ----------- --------- --------- ----------------\n \
            50.00    0.000100           1       100           read\n \
            50.00    0.000100           1        20         1 pread64\n \
            50.00    0.000100           1        20           openat\n";
        assert_eq!(calls(text), 120);
    }
}
