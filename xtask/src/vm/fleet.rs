//! Guests that are ready to be booted, some at once, and what came of them.

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::Options;
use super::account;
use super::arch::Arch;
use super::cells::{self, Cell};
use super::guest::Guest;
use super::initramfs::Contents;
use super::kernel::Kernel;
use crate::console;

/// What QEMU takes for one guest: its 2 GiB, twice the initramfs, translated code.
const MEMORY: u64 = 3 << 30;

#[derive(Debug)]
pub struct Fleet {
    pub(super) options: Options,
    pub(super) arch: Arch,
    pub(super) contents: Contents,
    pub(super) kernels: Vec<Kernel>,
}

/// The cells of all kernels, in the kernels' order.
#[derive(Debug)]
pub struct Booted {
    kernels: Vec<Kernel>,
    cells: Vec<Cell>,
}

impl Fleet {
    /// A shell in the first guest, on this terminal.
    pub fn shell(&self) -> Result<()> {
        let kernel = self.kernels.first().context("no kernel")?;
        let work = Work::make()?;
        let initramfs = work.path.join("initramfs");
        self.contents.write(kernel, "setsid cttyhack sh\npoweroff -f\n", &initramfs)?;
        Guest::shell(self.arch, kernel, &initramfs, self.options.append.as_deref())
    }

    /// Boots every kernel and waits for all of them.
    pub fn boot(&self) -> Result<Booted> {
        let work = Work::make()?;
        let at_once = at_once(self.options.at_once, available(), self.kernels.len());
        let waiting = Mutex::new(self.kernels.iter());
        let next = || waiting.lock().map(|mut kernels| kernels.next()).unwrap_or_default();
        let ended: Vec<(&Kernel, Result<Vec<Cell>>)> = thread::scope(|scope| {
            let one = || -> Vec<_> {
                std::iter::from_fn(next).map(|kernel| (kernel, self.of_kernel(&work.path, kernel))).collect()
            };
            let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(one)).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
        });
        let mut cells = Vec::new();
        for kernel in &self.kernels {
            let of = |(of, _): &&(&Kernel, _)| of.release == kernel.release;
            match ended.iter().find(of) {
                Some((_, Ok(of_kernel))) => cells.extend(of_kernel.iter().cloned()),
                Some((_, Err(error))) => bail!("Linux {}: {error:#}", kernel.release),
                None => bail!("Linux {}: the thread that ran its guest has panicked", kernel.release),
            }
        }
        Ok(Booted { kernels: self.kernels.clone(), cells })
    }

    fn of_kernel(&self, work: &Path, kernel: &Kernel) -> Result<Vec<Cell>> {
        let Self { options, arch, contents, kernels: _ } = self;
        let folder = work.join(&kernel.release);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let initramfs = folder.join("initramfs");
        let terms = options.terms(*arch, kernel);
        contents.write(kernel, &options.script(arch.results, terms.lacks), &initramfs)?;
        let guest = Guest {
            arch: *arch,
            append: options.append.clone(),
            kernel: kernel.clone(),
            initramfs,
            folder,
            limit: options.limit(),
            idle: options.idle,
        };
        let begun = Instant::now();
        let ended = guest.run()?;
        let cells = account::settle(&terms, &options.asked(), &ended);
        let failed = cells.iter().filter(|cell| cell.failed()).count();
        console::note(&format!(
            "  Linux {}: {} cells, {failed} failed, {}",
            kernel.release,
            cells.len(),
            console::span(begun.elapsed())
        ));
        Ok(cells)
    }
}

impl Booted {
    /// Prints the table; whether all cells are good.
    pub fn report(&self) -> bool {
        let Self { kernels, cells } = self;
        for kernel in kernels {
            println!("{:<8} Linux {}", kernel.name, kernel.release);
        }
        let names: Vec<String> = kernels.iter().map(|kernel| kernel.name.clone()).collect();
        println!("\n{}", cells::table(&names, cells));
        let failed = cells.iter().filter(|cell| cell.failed()).count();
        for cell in cells.iter().filter(|cell| cell.verdict == "absent") {
            println!("absent  Linux {}, {}, {}: {}", cell.kernel, cell.plan, cell.case, cell.detail);
        }
        for paragraph in cells::failures(cells) {
            println!("FAILED  {paragraph}\n");
        }
        println!("{} cells passed, {failed} failed", cells.len() - failed);
        failed == 0
    }
}

/// Guests' consoles and results, while they run.
struct Work {
    path: PathBuf,
}

impl Work {
    fn make() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("headrace-vm-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Cores, and bytes of memory that are free.
fn available() -> (usize, u64) {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    (cores, kib.unwrap_or(0) * 1024)
}

fn at_once(wanted: Option<usize>, (cores, memory): (usize, u64), guests: usize) -> usize {
    let room = usize::try_from(memory / MEMORY).unwrap_or(usize::MAX);
    wanted.unwrap_or(cores.min(room)).clamp(1, guests.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_at_once_have_a_core_and_memory_each() {
        assert_eq!(at_once(None, (2, 20 << 30), 4), 2);
        assert_eq!(at_once(None, (16, 20 << 30), 4), 4);
        assert_eq!(at_once(None, (16, 4 << 30), 4), 1);
        assert_eq!(at_once(None, (16, 0), 4), 1);
        assert_eq!(at_once(Some(3), (2, 4 << 30), 4), 3);
        assert_eq!(at_once(Some(0), (2, 4 << 30), 4), 1);
    }
}
