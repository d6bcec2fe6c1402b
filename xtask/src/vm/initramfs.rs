//! What a guest boots into: busybox, the programs under test, mkfs, the libraries of what is not static,
//! modules, and an init that runs one command and switches the machine off.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::arch::Arch;
use super::archive::Archive;
use super::kernel::Kernel;
use super::{modules, userland};
use crate::place::program;

/// The programs that make file systems.
const MAKERS: [&str; 3] = ["mkfs.ext4", "mkfs.xfs", "mkfs.btrfs"];

/// What every guest does first. The root stays a ramfs: tmpfs reads by paths of its own, which no
/// tracepoint sees, and the agent's own start is to find a file that it sees.
const BEFORE: &str = "\
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/usr/sbin HOME=/ RUST_BACKTRACE=0
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t debugfs debug /sys/kernel/debug
mount -t tracefs trace /sys/kernel/tracing
mount -t securityfs security /sys/kernel/security
mount -t tmpfs tmp /tmp
for module in $(cat /lib/modules/order); do insmod /lib/modules/$module.ko; done
ip link set lo up
stty -F RESULTS raw
echo \"booted $(uname -r) in $(cut -d' ' -f1 /proc/uptime) s\"
";

const FOLDERS: [&str; 10] =
    ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var/tmp", "lib/modules"];

/// What is built once for all kernels.
#[derive(Debug)]
pub struct Contents {
    arch: Arch,
    files: Vec<(String, Vec<u8>)>,
}

impl Contents {
    /// `programs` go to /bin under these names.
    pub fn gather(arch: Arch, programs: &[(&str, PathBuf)], userland: Option<&Path>) -> Result<Self> {
        if let Some(root) = userland {
            return Self::foreign(arch, programs, root);
        }
        let busybox = program("busybox").context("there is no busybox: run `cargo xtask setup`")?;
        let mut contents = Self { arch, files: vec![("bin/busybox".to_owned(), read(&busybox)?)] };
        for (name, path) in programs {
            let bytes = stripped(arch, path)?;
            contents.with_libraries(format!("bin/{name}"), path, bytes)?;
        }
        for name in MAKERS {
            let path =
                program(name).with_context(|| format!("there is no {name}: run `cargo xtask setup`"))?;
            let bytes = read(&path)?;
            contents.with_libraries(format!("usr/sbin/{name}"), &path, bytes)?;
        }
        Ok(contents)
    }

    /// For another machine: `root` holds its programs, and ours are linked statically.
    fn foreign(arch: Arch, programs: &[(&str, PathBuf)], root: &Path) -> Result<Self> {
        let mut contents = Self { arch, files: Vec::new() };
        for (name, path) in programs {
            contents.files.push((format!("bin/{name}"), stripped(arch, path)?));
        }
        let mut files = BTreeMap::new();
        for name in MAKERS {
            files.append(&mut userland::with_libraries(root, name)?);
        }
        files.insert("bin/busybox".to_owned(), root.join("bin/busybox"));
        for (inside, path) in files {
            contents.files.push((inside, read(&path)?));
        }
        Ok(contents)
    }

    fn with_libraries(&mut self, inside: String, path: &Path, bytes: Vec<u8>) -> Result<()> {
        for library in libraries(path)? {
            let name = library.to_string_lossy().trim_start_matches('/').to_owned();
            if !self.files.iter().any(|(known, _)| *known == name) {
                self.files.push((name, read(&library)?));
            }
        }
        self.files.push((inside, bytes));
        Ok(())
    }

    /// Writes the initramfs of one guest, which runs `script` (lines of sh).
    pub fn write(&self, kernel: &Kernel, script: &str, to: &Path) -> Result<()> {
        let mut archive = Archive::default();
        for folder in FOLDERS {
            archive.folder(folder);
        }
        for (path, content) in &self.files {
            archive.file(path, content);
        }
        let mut order = String::new();
        for (name, content) in modules::of(kernel)? {
            archive.file(&format!("lib/modules/{name}.ko"), &content);
            order.push_str(&format!("{name}\n"));
        }
        archive.file("lib/modules/order", order.as_bytes());
        let before = BEFORE.replace("RESULTS", self.arch.results);
        archive.file("init", format!("{before}{script}").as_bytes());
        fs::write(to, archive.finish()).with_context(|| format!("cannot write {}", to.display()))
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Without symbols: a guest's memory has to hold it twice.
fn stripped(arch: Arch, path: &Path) -> Result<Vec<u8>> {
    let mut out = path.as_os_str().to_owned();
    out.push(format!(".stripped-{}", std::process::id()));
    let out = PathBuf::from(out);
    let status =
        Command::new(arch.strip).arg("-o").arg(&out).arg(path).status().context("cannot start strip")?;
    if !status.success() {
        bail!("{} {} failed ({status})", arch.strip, path.display());
    }
    let bytes = read(&out)?;
    fs::remove_file(&out).with_context(|| format!("cannot remove {}", out.display()))?;
    Ok(bytes)
}

/// What ldd names: shared libraries and the loader, by their paths on this machine; nothing for what is
/// static.
fn libraries(path: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(path).output().context("cannot start ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(words.map(PathBuf::from).collect())
}
