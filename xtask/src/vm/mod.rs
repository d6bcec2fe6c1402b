//! `cargo xtask vm`: the acceptance of the probe, booted on stock kernels in QEMU (no KVM is needed), as one
//! table kernel × plan × case.
//!
//! An emulated guest keeps about one core busy, so as many run at once as there are cores, each with its own memory.

mod arch;

mod kernel;

mod modules;

mod archive;

mod userland;

mod initramfs;

mod guest;

mod allowed;

mod cells;

mod fleet;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use crate::compile;
use crate::place::Place;
use crate::setup::{self, Purpose};
use allowed::Terms;
use arch::{AMD64, Arch};
use initramfs::{Contents, END};
use kernel::{Kernel, LINES, Wish};

pub use fleet::{Booted, Fleet};

/// What measures prefetch in a guest, and what it starts.
const MEASURED: [&str; 4] = ["headrace", "guest-prefetch", "bench-reader", "slow-store"];

/// What `cargo xtask vm` was asked for.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// Every kernel, not only the oldest and the newest
    #[arg(long)]
    all: bool,
    /// Only this kernel: 5.10, 6.1, 6.12 or newest, which its version (7.3) means too; may be given more than once
    #[arg(long, value_name = "KERNEL", conflicts_with = "all")]
    kernel: Vec<String>,
    /// What machine the guests are: amd64 (the default), or arm64, which takes cross compilers and leaves prefetch out unless it is
    /// asked for
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
    /// Only this plan: fentry, btf, raw or kprobe
    #[arg(long, value_name = "PLAN")]
    plan: Option<String>,
    /// Only this case, such as mmap; `prefetch-sequential` and `prefetch-directory` are cases too
    #[arg(long, value_name = "CASE")]
    case: Option<String>,
    /// Run this acceptance program, built statically elsewhere, and build nothing; leaves prefetch out
    #[arg(long, value_name = "FILE")]
    probe: Option<PathBuf>,
    /// More of the guests' kernel command line, such as lockdown=confidentiality
    #[arg(long, value_name = "TEXT")]
    append: Option<String>,
    /// A shell in the (first) guest instead of the acceptance
    #[arg(long)]
    shell: bool,
    /// How many guests run at once: as many as there are cores and memory for, unless this says less
    #[arg(long, value_name = "NUMBER")]
    at_once: Option<usize>,
    /// Only while nothing else wants to run, beside tests
    #[arg(skip)]
    idle: bool,
    /// Seconds of the case `churn` under each kernel's best plan, a fourth of it under the others
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    churn: u64,
}

impl Options {
    /// What every run of CI can afford: the oldest and the newest kernel, a short churn.
    /// They give way to whatever else runs.
    pub fn quick() -> Self {
        Self { churn: 8, idle: true, ..Self::default() }
    }

    fn arch(&self) -> Result<Arch> {
        self.arch.as_deref().map_or(Ok(AMD64), arch::of)
    }

    fn wishes(&self) -> Result<Vec<Wish>> {
        if !self.kernel.is_empty() {
            return self.kernel.iter().map(|name| Wish::of(name)).collect();
        }
        let ends = [LINES.first(), LINES.last()].into_iter().flatten().copied();
        let lines = if self.all { LINES.to_vec() } else { ends.collect() };
        Ok(lines.into_iter().map(Wish::from).collect())
    }

    /// Whether the probe's acceptance is asked for, and whether prefetch is.
    fn parts(&self) -> (bool, bool) {
        match &self.case {
            Some(case) if case.starts_with("prefetch-") => (false, true),
            Some(_) => (true, false),
            None => (true, self.plan.is_none() && self.probe.is_none() && self.arch.is_none()),
        }
    }

    /// The guest's work: the probe's acceptance, then the prefetch on the slow store.
    fn script(&self, results: &str, lacks: Option<&str>) -> String {
        let Self { plan, case, churn, .. } = self;
        // Names of plans and cases are letters, digits, `-` and `_`; anything else must not reach a shell.
        let option = |name: &str, value: &Option<String>| match value {
            Some(text) => {
                let kept = text.chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c));
                format!(" --{name} {}", kept.collect::<String>())
            }
            None => String::new(),
        };
        let (probe, prefetch) = self.parts();
        let (plan, case) = (option("plan", plan), option("case", case));
        let mut script = "code=0\n".to_owned();
        if probe {
            script.push_str(&format!("probe --every-plan --results {results}"));
            let lacks = lacks.map(|plan| format!(" --lacks {plan}")).unwrap_or_default();
            script.push_str(&format!(" --churn {churn}{plan}{case}{lacks} || code=1\n"));
        }
        if prefetch {
            script.push_str(&format!("guest-prefetch --results {results}{case} || code=1\n"));
        }
        script.push_str(&format!("printf '{END}\\t%s\\n' $code > {results}\nsync\npoweroff -f\n"));
        script
    }

    /// What may be missing in this guest.
    fn terms(&self, arch: Arch, kernel: &Kernel) -> Terms {
        let append = self.append.as_deref().unwrap_or_default();
        Terms {
            lacks: arch.lacks(&kernel.name),
            kernel: kernel.name.clone(),
            confidential: append.split_whitespace().any(|word| word == "lockdown=confidentiality"),
        }
    }

    /// Emulation on a busy machine takes its time (with a third of a core half an hour); a guest that hangs is noticed
    /// sooner by its silence.
    fn limit(&self) -> Duration {
        Duration::from_secs(60 * 60 + 4 * self.churn)
    }
}

/// Provides, compiles and fetches whatever guests need, and boots none yet.
pub fn prepare(place: &Place, options: &Options) -> Result<Fleet> {
    let arch = options.arch()?;
    // A kernel that is none is told before anything is built.
    let wishes = options.wishes()?;
    setup::provide(place, Purpose::Guest, false)?;
    let userland = if arch.is_own() {
        None
    } else {
        setup::provide_guest_programs(&arch.programs(), arch.packages)?;
        setup::cross::provide(place, arch.triple)?;
        Some(userland::provide(place, arch)?)
    };
    let (probe, prefetch) = options.parts();
    let mut programs = Vec::new();
    if probe || options.shell {
        let built = options.probe.clone().map_or_else(|| compile::acceptance(place, arch.triple), Ok)?;
        programs.push(("probe", built));
    }
    if prefetch {
        let folder = compile::in_guests(place, &MEASURED, (!arch.is_own()).then_some(arch.triple))?;
        programs.extend(MEASURED.map(|name| (name, folder.join(name))));
    }
    let contents = Contents::gather(arch, &programs, userland.as_deref())?;
    let mut kernels = Vec::new();
    for wish in wishes {
        let kernel = kernel::provide(place, wish.line, arch)?;
        wish.check(&kernel)?;
        kernels.push(kernel);
    }
    Ok(Fleet { options: options.clone(), arch, contents, kernels })
}

pub fn run(place: &Place, options: &Options) -> Result<ExitCode> {
    let fleet = prepare(place, options)?;
    if options.shell {
        fleet.shell()?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(if fleet.boot()?.report() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_names_reaches_the_guests_shell() {
        let options = Options {
            plan: Some("btf; poweroff".into()),
            case: Some("$(reboot)mmap".into()),
            churn: 1,
            ..Options::default()
        };
        let script = options.script("/dev/ttyS1", None);
        assert!(script.contains("--plan btfpoweroff --case rebootmmap"), "{script}");
    }

    #[test]
    fn one_case_runs_one_program() {
        let of =
            |case: &str| Options { case: Some(case.into()), ..Options::default() }.script("/dev/ttyS1", None);
        assert!(of("mmap").contains("probe ") && !of("mmap").contains("guest-prefetch "));
        assert!(
            of("prefetch-directory").contains("guest-prefetch")
                && !of("prefetch-directory").contains("probe ")
        );
    }

    #[test]
    fn oldest_and_newest_are_run_when_nothing_is_asked_for() {
        let names = |options: Options| -> Vec<&str> {
            options.wishes().unwrap().iter().map(|wish| wish.line.name).collect()
        };
        assert_eq!(names(Options::quick()), ["5.10", "newest"]);
        assert_eq!(names(Options { all: true, ..Options::default() }).len(), LINES.len());
    }
}
