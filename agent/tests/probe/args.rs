//! The command line, cargo's own test flags included.

use std::path::PathBuf;
use std::time::Duration;

use agent::probe::Plan;
use clap::{Parser, ValueEnum as _};

#[derive(Clone, Debug, Parser)]
#[command(about = "Acceptance of the probe plans on the running kernel; needs root")]
pub struct Args {
    /// Only cases whose name holds this
    pub filter: Option<String>,
    /// Only this plan
    #[arg(long)]
    pub plan: Option<PlanName>,
    /// Only this case, by its whole name; may be given more than once
    #[arg(long)]
    pub case: Vec<String>,
    /// Plans that the kernel refuses are failures (without: only tracepoint plans are)
    #[arg(long)]
    pub every_plan: bool,
    /// This kernel is known to lack what the plan needs
    #[arg(long, value_name = "PLAN")]
    pub lacks: Option<PlanName>,
    /// How long the case `churn` lasts under the plan chosen by itself; under others a fourth of it
    #[arg(long, value_name = "SECONDS", default_value = "4")]
    churn: u64,
    /// Also write a line for each cell here, which all are announced at first: plan, case, verdict, milliseconds, detail,
    /// by tabs
    #[arg(long, value_name = "FILE")]
    pub results: Option<PathBuf>,
    /// Only name the cases
    #[arg(long)]
    pub list: bool,
    /// Of libtest, whose flags `cargo test` hands to every program
    #[arg(long, hide = true)]
    nocapture: bool,
    #[arg(long, hide = true)]
    show_output: bool,
    #[arg(long, short, hide = true)]
    quiet: bool,
    #[arg(long, hide = true)]
    exact: bool,
    #[arg(long, hide = true)]
    ignored: bool,
    #[arg(long, hide = true)]
    include_ignored: bool,
    #[arg(long, hide = true)]
    test_threads: Option<u32>,
    #[arg(long, hide = true)]
    skip: Vec<String>,
    #[arg(long, hide = true)]
    format: Option<String>,
    #[arg(long, hide = true)]
    color: Option<String>,
}

impl Args {
    pub fn wants(&self, case: &str) -> bool {
        let filtered = self
            .filter
            .as_ref()
            .is_none_or(|filter| if self.exact { case == filter } else { case.contains(filter.as_str()) });
        let skipped = self.skip.iter().any(|skip| case.contains(skip.as_str()));
        filtered
            && !skipped
            && !self.ignored
            && (self.case.is_empty() || self.case.iter().any(|only| only == case))
    }

    pub fn churn(&self) -> Duration {
        Duration::from_secs(self.churn)
    }
}

/// Plans as they are named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PlanName {
    Fentry,
    Btf,
    Raw,
    Kprobe,
}

impl PlanName {
    pub fn of(plan: Plan) -> Self {
        match plan {
            Plan::Function => Self::Fentry,
            Plan::BtfTracepoint => Self::Btf,
            Plan::RawTracepoint => Self::Raw,
            Plan::Kprobe => Self::Kprobe,
        }
    }

    pub fn text(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

pub fn parse() -> Args {
    Args::parse()
}
