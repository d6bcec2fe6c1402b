//! Prefetch on NFS as a cluster's pods have it: two folders of one export mounted side by side, the export as a whole
//! nowhere. Real NFS needs a kernel with its server, so this is for guests.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::Value;

use crate::bench::lab::{Companion, Subject, drop_caches};
use crate::hygiene::Folder;
use crate::nfs::Export;

/// Files of each folder, of which two thirds are read.
const FILES: usize = 150;
const READ: usize = 100;
const BYTES: usize = 40_000;

/// A guest takes seconds for what a machine does in tenths.
const PATIENCE: Duration = Duration::from_secs(60);

struct Memory(PathBuf);

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// Reads both folders in order beside an agent that is told nothing, and says what it brought in ahead.
pub fn run(subject: &Subject) -> Result<String> {
    let Subject::Agent(program) = subject else { anyhow::bail!("only an agent can be asked what it did") };
    let folder = Folder::new().context("making a folder")?;
    let at = |name: &str| folder.path().join(name);
    for name in ["export", "one", "two"] {
        std::fs::create_dir(at(name))?;
    }
    mount("tmpfs", at("export"), "tmpfs", MountFlags::empty(), c"size=64m").context("mounting tmpfs")?;
    let _memory = Memory(at("export"));
    for (number, volume) in ["pvc-1", "team/pvc-2"].into_iter().enumerate() {
        let volume = at("export").join(volume);
        std::fs::create_dir_all(&volume)?;
        for file in 0..FILES {
            std::fs::write(volume.join(format!("{file:04}")), vec![byte_of(number, file); BYTES])?;
        }
    }
    let mut export = Export::of(&at("export")).map_err(anyhow::Error::msg)?;
    for (volume, name) in [("pvc-1", "one"), ("team/pvc-2", "two")] {
        export.mount(volume, &at(name)).map_err(anyhow::Error::msg)?;
    }
    drop_caches()?;
    let agent = Companion::agent(program, &[], &at("state"))?;
    // Which folders are mounted is found out by asking the kernel, a moment after the start.
    let watched = |node: &Value| node["mounts"].as_array().is_some_and(|mounts| !mounts.is_empty());
    until(program, &agent, "the export is watched", watched)?;
    let node = ask(program, &agent)?;
    let source = node["mounts"][0]["source"].as_str().unwrap_or_default().to_owned();
    ensure!(source == "127.0.0.1:/", "the store is called {source:?}, which is not the export");
    let mut ahead = Vec::new();
    for (volume, name) in ["one", "two"].into_iter().enumerate() {
        let before = settled(program, &agent)?;
        for file in 0..READ {
            let mut bytes = Vec::new();
            std::fs::File::open(at(name).join(format!("{file:04}")))?.read_to_end(&mut bytes)?;
            ensure!(bytes == vec![byte_of(volume, file); BYTES], "file {file} of `{name}` has wrong bytes");
        }
        let (fetched, used) = settled(program, &agent)?;
        ensure!(fetched > before.0, "nothing was brought in below `{name}`: {}", ask(program, &agent)?);
        ensure!(
            used > before.1,
            "nothing that was brought in below `{name}` was read: {}",
            ask(program, &agent)?
        );
        ahead.push(format!(
            "{} KiB of `{name}`, {} KiB of them read",
            (fetched - before.0) >> 10,
            (used - before.1) >> 10
        ));
    }
    agent.stop();
    Ok(format!("brought in ahead: {}", ahead.join("; ")))
}

/// No file has the bytes of another, nor of its namesake in the other volume.
fn byte_of(volume: usize, file: usize) -> u8 {
    u8::try_from((volume * 100 + file) % 251).unwrap_or(0)
}

/// Bytes brought in, and those of them that were read, once nothing more comes: what is left of one volume is not to
/// pass for the other's.
fn settled(program: &Path, agent: &Companion) -> Result<(u64, u64)> {
    let figures = |node: &Value| {
        let fate = |field: &str| node["fate"][field].as_u64().unwrap_or(0);
        (number(node, "fetched_bytes"), fate("hit_bytes") + fate("late_bytes"))
    };
    let quiet = |node: &Value| number(node, "in_flight") + number(node, "queued") == 0;
    let given_up = Instant::now() + PATIENCE;
    let mut before = figures(&ask(program, agent)?);
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let node = ask(program, agent)?;
        let now = figures(&node);
        if now == before && quiet(&node) {
            return Ok(now);
        }
        ensure!(Instant::now() < given_up, "something comes all the time; the agent says {node}");
        before = now;
    }
}

fn number(node: &Value, field: &str) -> u64 {
    node[field].as_u64().unwrap_or(0)
}

fn ask(program: &Path, agent: &Companion) -> Result<Value> {
    let mut question = Command::new(program);
    question.arg("--socket").arg(agent.socket()).args(["node", "--output", "json"]);
    let answer = question.output().context("asking the agent")?;
    serde_json::from_slice(&answer.stdout)
        .with_context(|| format!("the agent answered {}", String::from_utf8_lossy(&answer.stderr)))
}

fn until(program: &Path, agent: &Companion, what: &str, so: impl Fn(&Value) -> bool) -> Result<()> {
    let given_up = Instant::now() + PATIENCE;
    loop {
        let node = ask(program, agent)?;
        if so(&node) {
            return Ok(());
        }
        ensure!(Instant::now() < given_up, "never: {what}; the agent says {node}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
