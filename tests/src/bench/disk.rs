//! A local disk of the harness's own, and readers of cached files on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;

use crate::bench::lab::program;
use crate::hygiene::{Folder, MountGuard, Ward};

/// An ext4 in a file, so that there is a local device that can be watched while another is not.
#[derive(Debug)]
pub struct LoopDisk {
    at: PathBuf,
    _mount: MountGuard,
    folder: Folder,
}

impl LoopDisk {
    /// Mounts a new one of this many bytes, which takes only what is written to it.
    pub fn mount(bytes: u64) -> Result<Self> {
        let folder = Folder::new()?;
        let (image, at) = (folder.path().join("disk.img"), folder.path().join("disk"));
        std::fs::create_dir(&at)?;
        std::fs::File::create(&image)?.set_len(bytes)?;
        // The paths are this program's own and go to no shell.
        tool(Command::new("mkfs.ext4").arg("-q").arg("-F").arg(&image))?;
        let guard = MountGuard::new(&at);
        tool(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at))?;
        Ok(Self { at, _mount: guard, folder })
    }

    pub fn path(&self) -> &Path {
        &self.at
    }

    /// A folder on another device, that goes with this one.
    pub fn beside(&self) -> &Path {
        self.folder.path()
    }
}

fn tool(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("starting {command:?}; install e2fsprogs and util-linux"))?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}: {}; run as root, with loop devices",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// Runs the hot or paced reader on a file and gives what it says.
pub fn hot_reader<T: DeserializeOwned>(arguments: &[&str], file: &Path, last: Duration) -> Result<T> {
    let mut command = Command::new(program("bench-reader")?);
    command.args(arguments).arg("--file").arg(file).args(["--last", &format!("{}ms", last.as_millis())]);
    said(&mut command)
}

/// Runs a reader, which ends with this process, and gives what it says.
pub fn said<T: DeserializeOwned>(command: &mut Command) -> Result<T> {
    command.arg("--with-parent").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut process = Ward::new(command.spawn().with_context(|| format!("starting {command:?}"))?);
    let out = process.child().stdout.take().context("bench-reader's standard output")?;
    serde_json::from_reader(out).context("the reader ended without a result; its message is above")
}
