//! The machines that guests can be: what their processor, kernels, devices and tools are called.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arch {
    /// As Debian names it, in packages and kernels.
    pub name: &'static str,
    pub triple: &'static str,
    qemu: &'static str,
    machine: &'static [&'static str],
    /// The first serial line, with the console, and the one for results.
    console: &'static str,
    pub results: &'static str,
    /// Added to the kernel's command line.
    fixed: &'static str,
    pub strip: &'static str,
    /// What Debian has these programs in, and those for building.
    pub packages: &'static [&'static str],
}

/// What `cargo xtask vm` takes when nothing is asked for.
pub const AMD64: Arch = Arch {
    name: "amd64",
    triple: "x86_64-unknown-linux-gnu",
    qemu: "qemu-system-x86_64",
    // Five-level page tables cost an emulator a look more at each miss of its TLB.
    machine: &["-M", "pc", "-cpu", "max,la57=off"],
    console: "ttyS0",
    results: "/dev/ttyS1",
    fixed: "mitigations=off nokaslr",
    strip: "strip",
    packages: &["qemu-system-x86", "binutils"],
};

const ARM64: Arch = Arch {
    name: "arm64",
    triple: "aarch64-unknown-linux-gnu",
    qemu: "qemu-system-aarch64",
    // Without pointer authentication, which is dear to emulate.
    machine: &["-M", "virt", "-cpu", "cortex-a72"],
    console: "ttyAMA0",
    results: "/dev/ttyS0",
    fixed: "nokaslr",
    strip: "aarch64-linux-gnu-strip",
    packages: &["qemu-system-arm", "gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
};

/// The machine that `--arch` names.
pub fn of(name: &str) -> Result<Arch> {
    let found = [AMD64, ARM64].into_iter().find(|arch| arch.name == name);
    found.with_context(|| format!("no guest is a {name}: there are amd64 and arm64"))
}

impl Arch {
    /// Whether programs of this machine run here.
    pub fn is_own(self) -> bool {
        self.triple.starts_with(std::env::consts::ARCH)
    }

    /// The plan that a kernel of this machine cannot carry: arm64 got ftrace's direct calls, which fentry stands on,
    /// with 6.4.
    pub fn lacks(self, kernel: &str) -> Option<&'static str> {
        let mut numbers = kernel.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        (self == ARM64 && version < (6, 4)).then_some("fentry")
    }

    /// The programs that emulating and building for it take.
    pub fn programs(self) -> [&'static str; 2] {
        [self.qemu, self.strip]
    }

    /// QEMU with a machine of this kind, and nothing on its lines yet; `idle`: it runs only while nothing else
    /// wants to (SCHED_IDLE, so that whoever wakes need not wait for a time slice to end).
    pub fn command(self, idle: bool, image: &Path, initramfs: &Path, more: &str) -> Command {
        let mut command = if idle {
            let mut command = Command::new("chrt");
            command.args(["--idle", "0", self.qemu]);
            command
        } else {
            Command::new(self.qemu)
        };
        command.args(self.machine).args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "2G"]);
        command.args(["-nodefaults", "-no-reboot", "-display", "none"]);
        command.arg("-kernel").arg(image).arg("-initrd").arg(initramfs);
        // Without panic=-1 and -no-reboot a panicked kernel stands still until the time is up.
        let fixed = format!("console={} panic=-1 rootfstype=ramfs loglevel=4 {}", self.console, self.fixed);
        command.arg("-append").arg(format!("{fixed} {more}"));
        command
    }

    /// The console and the line of results, each into a file.
    pub fn lines(self, command: &mut Command, console: &Path, results: &Path) {
        command.arg("-serial").arg(format!("file:{}", console.display()));
        if self == AMD64 {
            command.arg("-serial").arg(format!("file:{}", results.display()));
        } else {
            // This machine has one line of its own.
            command.arg("-chardev").arg(format!("file,id=results,path={}", results.display()));
            command.args(["-device", "pci-serial,chardev=results"]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_machine_is_refused_by_name() {
        assert_eq!(of("arm64").unwrap().triple, "aarch64-unknown-linux-gnu");
        assert_eq!(
            (ARM64.lacks("6.1"), ARM64.lacks("6.12"), AMD64.lacks("5.10")),
            (Some("fentry"), None, None)
        );
        assert!(of("riscv64").unwrap_err().to_string().contains("amd64 and arm64"));
    }
}
