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

mod allowed;

mod cells;

mod guest;

mod account;

mod fleet;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use crate::place::Place;
use crate::setup::{self, Purpose};
use crate::{compile, console};
use account::{Asked, Program};
use allowed::Terms;
use arch::{AMD64, Arch};
use cells::{END, EXIT};
use initramfs::Contents;
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
    /// Only this case, such as mmap; `prefetch-sequential` and `prefetch-directory` are cases too; may be given more than once
    #[arg(long, value_name = "CASE")]
    case: Vec<String>,
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

    /// What a guest is to do: all of it unless something is named, but prefetch on machines that run here alone.
    fn asked(&self) -> Asked {
        let Self { plan, case, probe, .. } = self;
        let cases: Vec<String> = case.iter().map(|case| name(case)).collect();
        let prefetch = plan.is_none() && probe.is_none() && !self.is_foreign();
        let wanted = |program: &Program| match program {
            Program::Prefetch if cases.is_empty() => prefetch,
            _ => cases.is_empty() || cases.iter().any(|case| program.runs(case)),
        };
        let programs = [Program::Acceptance, Program::Prefetch].into_iter().filter(wanted).collect();
        Asked { programs, plan: plan.as_deref().map(name), cases }
    }

    fn is_foreign(&self) -> bool {
        self.arch().is_ok_and(|arch| !arch.is_own())
    }

    /// The guest's work: the probe's acceptance, then the prefetch on the slow store; how each ended, and the end.
    fn script(&self, results: &str, lacks: Option<&str>) -> String {
        let Asked { programs, plan, cases } = self.asked();
        let mut script = String::new();
        for program in programs {
            let of_it: String = cases
                .iter()
                .filter(|case| program.runs(case))
                .map(|case| format!(" --case {case}"))
                .collect();
            let options = match program {
                Program::Acceptance => {
                    let option = |name: &str, value: Option<&str>| {
                        value.map(|value| format!(" --{name} {value}")).unwrap_or_default()
                    };
                    let (plan, lacks) = (option("plan", plan.as_deref()), option("lacks", lacks));
                    format!(" --every-plan --churn {}{plan}{lacks}", self.churn)
                }
                Program::Prefetch => String::new(),
            };
            let name = program.name();
            script.push_str(&format!("{name}{options} --results {results}{of_it}\n"));
            script.push_str(&format!("printf '{EXIT}\\t{name}\\t%s\\n' $? > {results}\n"));
        }
        script.push_str(&format!("echo {END} > {results}\nsync\npoweroff -f\n"));
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

/// Names of plans and cases are letters, digits, `-` and `_`; anything else must not reach a shell.
fn name(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect()
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
    let Asked { programs: asked, plan, cases } = options.asked();
    let (probe, prefetch) = (asked.contains(&Program::Acceptance), asked.contains(&Program::Prefetch));
    if !prefetch && options.is_foreign() && plan.is_none() && cases.is_empty() {
        console::note(&format!(
            "  prefetch is left out: for {} its programs take a static build of their own, which --case prefetch-sequential \
             asks for",
            arch.name
        ));
    }
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
            case: vec!["$(reboot)mmap".into()],
            churn: 1,
            ..Options::default()
        };
        let script = options.script("/dev/ttyS1", None);
        assert!(
            script.contains(" --plan btfpoweroff ") && script.contains(" --case rebootmmap\n"),
            "{script}"
        );
        assert!(!script.contains([';', '(']), "{script}");
    }

    fn script(cases: &[&str]) -> String {
        let case = cases.iter().map(|case| (*case).to_owned()).collect();
        Options { case, ..Options::default() }.script("/dev/ttyS1", None)
    }

    #[test]
    fn one_case_runs_one_program() {
        let of = |case: &str| script(&[case]);
        assert!(of("mmap").contains("probe ") && !of("mmap").contains("guest-prefetch "));
        assert!(
            of("prefetch-directory").contains("guest-prefetch")
                && !of("prefetch-directory").contains("probe ")
        );
    }

    #[test]
    fn each_program_is_told_its_own_cases_and_tells_its_end() {
        let script = script(&["mmap", "prefetch-nfs", "read"]);
        let lines: Vec<&str> = script.lines().collect();
        assert!(lines[0].starts_with("probe ") && lines[0].ends_with(" --case mmap --case read"), "{script}");
        assert_eq!(lines[1], r"printf 'exit\tprobe\t%s\n' $? > /dev/ttyS1");
        assert_eq!(lines[2], "guest-prefetch --results /dev/ttyS1 --case prefetch-nfs");
        assert_eq!(lines[3], r"printf 'exit\tguest-prefetch\t%s\n' $? > /dev/ttyS1");
        assert_eq!(lines[4], "echo end > /dev/ttyS1");
    }

    #[test]
    fn prefetch_is_run_wherever_its_programs_run_here() {
        let programs = |options: Options| options.asked().programs;
        let arch = |name: &str| Options { arch: Some(name.into()), ..Options::default() };
        let both = vec![Program::Acceptance, Program::Prefetch];
        assert_eq!(programs(Options::default()), programs(arch("amd64")));
        for (name, machine) in [("amd64", "x86_64"), ("arm64", "aarch64")] {
            let own = std::env::consts::ARCH == machine;
            assert_eq!(programs(arch(name)), if own { both.clone() } else { vec![Program::Acceptance] });
        }
        assert_eq!(
            programs(Options { case: vec!["prefetch-nfs".into()], ..arch("arm64") }),
            [Program::Prefetch]
        );
        assert_eq!(
            programs(Options { plan: Some("btf".into()), ..Options::default() }),
            [Program::Acceptance]
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
