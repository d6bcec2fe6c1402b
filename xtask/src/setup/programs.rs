//! The few programs that tests and demo start, from Debian packages where they are missing.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::State;
use crate::console;
use crate::place::{Place, is_root, program};
use crate::step;

/// A program, its Debian package, and what starts it.
type Program = (&'static str, &'static str, &'static str);

const PROGRAMS: [Program; 4] = [
    ("tmux", "tmux", "the test of `headrace top` needs a terminal"),
    ("mkfs.ext4", "e2fsprogs", "tests watch a file system of their own"),
    ("losetup", "mount", "tests watch a file system of their own"),
    ("unshare", "util-linux", "tests read from another mount namespace"),
];

/// What crates are built with beside the C compiler that rustc links with.
const BUILDERS: [Program; 1] = [("make", "make", "the operator's heap is built with it")];

/// For `cargo xtask vm`, and for the same acceptance on this machine.
const GUESTS: [Program; 8] = [
    ("qemu-system-x86_64", "qemu-system-x86", "guests run in it"),
    ("chrt", "util-linux", "guests give way to tests"),
    ("busybox", "busybox-static", "guests have nothing else"),
    ("xz", "xz-utils", "kernels come with packed modules"),
    ("strip", "binutils", "what guests run is stripped"),
    ("mkfs.ext4", "e2fsprogs", "the probe is tested on ext4"),
    ("mkfs.xfs", "xfsprogs", "the probe is tested on xfs"),
    ("mkfs.btrfs", "btrfs-progs", "the probe is tested on btrfs"),
];

/// What `bench overhead-peers` measures beside the agent.
const PEERS: [Program; 3] = [
    ("bpftrace", "bpftrace", "it counts reads by file"),
    ("fatrace", "fatrace", "it prints reads by path"),
    ("strace", "strace", "it counts calls"),
];

/// A mirror that stalls is left sooner than apt's own patience would.
const LIMIT: Duration = Duration::from_secs(600);

fn lacking(wanted: &'static [Program]) -> Vec<&'static Program> {
    wanted.iter().filter(|(name, ..)| program(name).is_none()).collect()
}

pub fn check(_place: &Place) -> Result<State> {
    Ok(state(&PROGRAMS))
}

pub fn check_builders(_place: &Place) -> Result<State> {
    Ok(state(&BUILDERS))
}

pub fn check_guests(_place: &Place) -> Result<State> {
    Ok(state(&GUESTS))
}

pub fn provide(_place: &Place) -> Result<()> {
    install(&PROGRAMS)
}

pub fn provide_builders(_place: &Place) -> Result<()> {
    install(&BUILDERS)
}

pub fn provide_guests(_place: &Place) -> Result<()> {
    install(&GUESTS)
}

/// The tools that `bench overhead-peers` starts; does nothing where they are there.
pub fn provide_peers() -> Result<()> {
    if let State::Missing(what) = state(&PEERS) {
        console::note(&format!("  to compare with: {what}"));
        install(&PEERS)?;
    }
    Ok(())
}

/// What guests of another machine take.
pub fn provide_guest_programs(names: &[&str], packages: &[&str]) -> Result<()> {
    if names.iter().all(|name| program(name).is_some()) {
        return Ok(());
    }
    console::note(&format!("  guests: {} for {}", packages.join(", "), names.join(" and ")));
    install_packages(packages)
}

fn state(wanted: &'static [Program]) -> State {
    let lacking = lacking(wanted);
    if lacking.is_empty() {
        let names: Vec<&str> = wanted.iter().map(|(name, ..)| *name).collect();
        return State::Ready(names.join(", "));
    }
    let reasons: Vec<String> = lacking.iter().map(|(name, _, why)| format!("no {name} ({why})")).collect();
    State::Missing(reasons.join("; "))
}

fn install(wanted: &'static [Program]) -> Result<()> {
    let packages: Vec<&str> = lacking(wanted).iter().map(|(_, package, _)| *package).collect();
    install_packages(&packages)
}

/// Installs Debian packages by name.
pub fn install_packages(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if program("apt-get").is_none() {
        bail!("this machine has no apt-get: install what Debian calls {list}, then run this again");
    }
    if !is_root() {
        bail!("only root can install {list}: run `sudo apt-get install {list}`, then this again");
    }
    step::retry(|| {
        // One broken third-party source fails the update and hinders nothing: the install is the judge.
        if let Err(error) = step::quiet("apt-get update", apt(&["update"]), LIMIT) {
            console::note(&format!("  {error:#}"));
        }
        let mut arguments = vec!["install", "-y", "--no-install-recommends"];
        arguments.extend(packages);
        step::quiet(&format!("apt-get install {list}"), apt(&arguments), LIMIT)
    })
    .map(drop)
    .with_context(|| {
        format!(
            "could not install {list}. If the lines below speak of the network, check that the Debian \
             mirrors in /etc/apt are reachable, then run `cargo xtask setup` again"
        )
    })
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Another apt may be at work (unattended upgrades): wait for it, but not for ever.
        .args(["-q", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=2"])
        .args(arguments);
    command
}
