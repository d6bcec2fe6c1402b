//! One guest: QEMU without KVM, a console and a line of results, both as files, and an end in any case.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::arch::Arch;
use super::cells::END;
use super::kernel::Kernel;
use crate::console::{self, Progress};
use crate::step;

/// Without a byte on either line for so long a guest hangs: the longest case, churn, says nothing for 60 s,
/// and emulation on a busy machine stretches that.
const SILENCE: Duration = Duration::from_secs(240);

/// Lines of the console that a failure shows.
const LAST: usize = 25;

#[derive(Clone, Debug)]
pub struct Guest {
    pub arch: Arch,
    /// More of the kernel's command line.
    pub append: Option<String>,
    pub kernel: Kernel,
    pub initramfs: PathBuf,
    /// Where console and results are left.
    pub folder: PathBuf,
    /// For all of it.
    pub limit: Duration,
    /// It runs only while nothing else wants to.
    pub idle: bool,
}

/// What came over the line of results, and how the guest ended if not by itself.
#[derive(Clone, Debug)]
pub struct Ended {
    pub lines: Vec<String>,
    /// The beginning of a sentence.
    pub trouble: Option<String>,
    /// The console's last lines.
    pub console: String,
}

impl Guest {
    /// Boots it and waits for its end.
    pub fn run(&self) -> Result<Ended> {
        let path = |name: &str| self.folder.join(name);
        let (out, results) = (path("console"), path("results"));
        for file in [&out, &results] {
            File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
        }
        let mut command = self.arch.command(
            self.idle,
            &self.kernel.image,
            &self.initramfs,
            &format!("quiet {}", self.append.as_deref().unwrap_or_default()),
        );
        self.arch.lines(&mut command, &out, &results);
        let errors = File::create(path("qemu")).context("cannot write QEMU's messages")?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        let mut child = command.spawn().context("cannot start QEMU")?;
        let late = self.wait(&mut child, &out, &results);
        let status = child.wait().context("cannot wait for QEMU")?;
        let text = String::from_utf8_lossy(&fs::read(&results)?).into_owned();
        let lines: Vec<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
        let ended = lines.iter().any(|line| line == END);
        let trouble = match late {
            Some(sentence) => Some(sentence),
            None if ended => None,
            None if status.success() => Some("the guest ended before its script did".to_owned()),
            None => Some(format!("QEMU failed ({status}): {}", last(&path("qemu"), 3))),
        };
        Ok(Ended { lines, trouble, console: last(&out, LAST) })
    }

    /// `Some` where it had to be stopped.
    fn wait(&self, child: &mut Child, out: &Path, results: &Path) -> Option<String> {
        let title = format!("Linux {}", self.kernel.release);
        let mut progress = if self.idle { Progress::plain(&title) } else { Progress::start(&title) };
        // What gives way to everything else is not hanging when it waits its turn.
        let patience = if self.idle { 3 } else { 1 };
        let (limit, silence) = (self.limit * patience, SILENCE * patience);
        let (mut clock, mut heard, mut size) = (Clock::start(), Duration::ZERO, 0);
        while matches!(child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(100));
            clock.tick();
            progress.alive();
            let now = length(out) + length(results);
            if now != size {
                (size, heard) = (now, clock.ran);
                progress.line(last(results, 1).replace('\t', " ").trim());
            }
            let late = if clock.ran > limit {
                format!("it was not done after {}", console::span(limit))
            } else if clock.ran - heard > silence {
                format!("it said nothing for {}", console::span(silence))
            } else {
                continue;
            };
            step::end(child);
            return Some(format!("{late} and was stopped"));
        }
        progress.done();
        None
    }

    /// A shell in it, on this terminal; QEMU's own keys are left out, so that Ctrl-C reaches the guest.
    pub fn shell(arch: Arch, kernel: &Kernel, initramfs: &Path, append: Option<&str>) -> Result<()> {
        let mut command = arch.command(false, &kernel.image, initramfs, append.unwrap_or_default());
        command.args(["-serial", "mon:stdio"]);
        console::note("  the shell's end (`exit`, or Ctrl-A X) ends the guest");
        let status = command.status().context("cannot start QEMU")?;
        anyhow::ensure!(status.success(), "QEMU failed ({status})");
        Ok(())
    }
}

/// Time in which this process could run: what a frozen cgroup or a sleeping machine takes away, it takes away
/// from the guest too, and is no reason to call that one late.
struct Clock {
    ran: Duration,
    ticked: Instant,
}

impl Clock {
    /// Ten times what lies between two ticks on an idle machine.
    const LONGEST: Duration = Duration::from_secs(1);

    fn start() -> Self {
        Self { ran: Duration::ZERO, ticked: Instant::now() }
    }

    fn tick(&mut self) {
        self.advance(Instant::now());
    }

    fn advance(&mut self, now: Instant) {
        self.ran += now.saturating_duration_since(self.ticked).min(Self::LONGEST);
        self.ticked = now;
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map(|meta| meta.len()).unwrap_or(0)
}

/// The last lines of a file that may be long and may be being written.
fn last(path: &Path, lines: usize) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(path) {
        use std::io::{Seek as _, SeekFrom};
        let _ = file.seek(SeekFrom::Start(length(path).saturating_sub(16 << 10)));
        let _ = file.read_to_end(&mut bytes);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let all: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standstill_of_the_machine_is_not_the_guests() {
        let mut clock = Clock::start();
        let begun = clock.ticked;
        clock.advance(begun + Duration::from_millis(100));
        clock.advance(begun + Duration::from_secs(1800));
        clock.advance(begun + Duration::from_millis(1_800_200));
        assert_eq!(clock.ran, Duration::from_millis(1300));
    }
}
