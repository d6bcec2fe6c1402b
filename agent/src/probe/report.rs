//! Which plan is in use, why the better ones are not, and what it sees: what `headrace doctor` prints.

use std::fmt;

/// A way to see reads; `ALL` is best first where tracepoints tell of reads (Linux 6.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Plan {
    /// fentry and fexit on the page cache's functions: return values and latencies.
    Function,
    /// BTF tracepoints, with direct loads.
    BtfTracepoint,
    /// Raw tracepoints, with probe reads.
    RawTracepoint,
    /// kprobes and kretprobes on the page cache's functions.
    Kprobe,
}

impl Plan {
    pub const ALL: [Self; 4] = [Self::Function, Self::BtfTracepoint, Self::RawTracepoint, Self::Kprobe];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Function => "fentry/fexit",
            Self::BtfTracepoint => "BTF tracepoints",
            Self::RawTracepoint => "raw tracepoints",
            Self::Kprobe => "kprobes",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Chosen,
    /// One sentence.
    FellOut(String),
    /// A better plan was chosen, or another one was asked for.
    NotTried,
}

/// What a person may want to know to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Case {
    /// read, pread, readv, preadv2, io_uring, sendfile, splice.
    Read,
    /// Faults on mappings of pages that are not resident.
    Fault,
    /// Resident pages mapped around a fault.
    Mapped,
    /// O_DIRECT.
    Direct,
    /// Reads of files on tmpfs.
    Tmpfs,
    Hit,
    Miss,
    /// How long misses take.
    MissLatency,
    /// How long hits take.
    HitLatency,
    Name,
    /// Pages entering and leaving the page cache, and by whom.
    Residency,
    Exit,
}

impl Case {
    pub const ALL: [Self; 12] = [
        Self::Read,
        Self::Fault,
        Self::Mapped,
        Self::Direct,
        Self::Tmpfs,
        Self::Hit,
        Self::Miss,
        Self::MissLatency,
        Self::HitLatency,
        Self::Name,
        Self::Residency,
        Self::Exit,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "reads (read, pread, readv, io_uring, sendfile, splice)",
            Self::Fault => "faults of mappings",
            Self::Mapped => "pages mapped around a fault",
            Self::Direct => "direct I/O",
            Self::Tmpfs => "tmpfs",
            Self::Hit => "hits",
            Self::Miss => "misses",
            Self::MissLatency => "latency of misses",
            Self::HitLatency => "latency of hits",
            Self::Name => "names",
            Self::Residency => "residency",
            Self::Exit => "ends of readers",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Yes,
    /// With this limit.
    Partly(&'static str),
    /// For this reason.
    No(&'static str),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanReport {
    /// In the order in which they are tried, best first.
    pub plans: Vec<(Plan, Outcome)>,
    /// In the order of `Case::ALL`; empty without a plan.
    pub cases: Vec<(Case, Seen)>,
    /// What else a person should know, one sentence each.
    pub notes: Vec<String>,
}

impl PlanReport {
    pub fn chosen(&self) -> Option<Plan> {
        self.plans.iter().find(|(_, outcome)| *outcome == Outcome::Chosen).map(|(plan, _)| *plan)
    }

    pub fn sees(&self, case: Case) -> Option<&Seen> {
        self.cases.iter().find(|(of, _)| *of == case).map(|(_, seen)| seen)
    }
}

impl fmt::Display for PlanReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (plan, outcome) in &self.plans {
            let separator = if first { "" } else { " " };
            first = false;
            match outcome {
                Outcome::Chosen => write!(f, "{separator}In use: {}.", plan.name())?,
                Outcome::FellOut(reason) => write!(f, "{separator}Not {}: {reason}.", plan.name())?,
                Outcome::NotTried => write!(f, "{separator}Not tried: {}.", plan.name())?,
            }
        }
        Ok(())
    }
}
