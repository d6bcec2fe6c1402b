//! The replay as text: whole numbers only, in a fixed order, so that two runs can be compared as bytes.

use std::fmt::{Display, Formatter, Result};

use super::{OrderCounts, Replay};
use crate::units::Nanos;
use crate::view::{Fate, LedgerRow, MountView, Survival, WorkloadView};

impl Display for Replay {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { observations, left_out, span, orders, flaws, further_flaws, node, workloads, ledger } =
            self;
        writeln!(f, "recording  {observations} observations over {} s", Millis(*span))?;
        writeln!(f, "           {left_out} of them left out: they answer the recorded agent's own orders")?;
        for flaw in flaws {
            writeln!(f, "damage     {flaw}")?;
        }
        if *further_flaws > 0 {
            writeln!(f, "damage     and {further_flaws} more")?;
        }
        for mount in &node.mounts {
            let MountView { source, fstype, survival, depth, miss_latency, .. } = mount;
            let survival = match survival {
                Survival::Unknown => "not known whether pages survive an open",
                Survival::Kept => "pages survive an open",
                Survival::Dropped => "pages are dropped at open",
                Survival::Refused => "root may not open files",
            };
            let miss = Millis(Nanos(miss_latency.0.saturating_mul(1000)));
            writeln!(f, "mount      {source} ({fstype}): depth {depth}, median miss {miss} ms, {survival}")?;
        }
        writeln!(
            f,
            "reads      {} of {} bytes; {} in memory when read",
            node.reads,
            node.read_bytes,
            Share(node.covered_bytes, node.read_bytes)
        )?;
        let OrderCounts { fetches, listings, cancels, done, absent, dropped, fetched_bytes } = orders;
        writeln!(
            f,
            "orders     {fetches} fetches, {listings} listings, {cancels} cancelled; {done} done, {absent} absent, \
             {dropped} turned away; {fetched_bytes} bytes fetched"
        )?;
        writeln!(f, "fate       {}", Fates(&node.fate))?;
        for workload in workloads {
            let WorkloadView {
                workload,
                files_read,
                read_bytes,
                covered_bytes,
                fetched_bytes,
                pattern,
                reason,
                ..
            } = workload;
            writeln!(f, "\nworkload   {workload}")?;
            writeln!(f, "  pattern  {pattern}: {reason}")?;
            writeln!(
                f,
                "  reads    {files_read} files, {read_bytes} bytes, {} in memory; {fetched_bytes} bytes fetched",
                Share(*covered_bytes, *read_bytes)
            )?;
            for row in ledger.iter().filter(|row| row.workload == *workload) {
                write_row(f, row)?;
            }
        }
        let known = |row: &&LedgerRow| !workloads.iter().any(|workload| workload.workload == row.workload);
        let mut last = None;
        for row in ledger.iter().filter(known) {
            if last != Some(&row.workload) {
                writeln!(f, "\nworkload   {}", row.workload)?;
                last = Some(&row.workload);
            }
            write_row(f, row)?;
        }
        Ok(())
    }
}

fn write_row(f: &mut Formatter<'_>, row: &LedgerRow) -> Result {
    let LedgerRow { workload: _, predictor, predictions, fetched_bytes, fate } = row;
    writeln!(
        f,
        "  {:<11} {predictions} predictions, {fetched_bytes} bytes fetched: {}",
        predictor.name(),
        Fates(fate)
    )
}

struct Fates<'a>(&'a Fate);

impl Display for Fates<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Fate { hit, late, wasted, pending } = self.0;
        write!(f, "{hit} bytes hit, {late} late, {wasted} wasted, {pending} pending")
    }
}

/// Seconds with three digits.
struct Millis(Nanos);

impl Display for Millis {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let millis = self.0.0 / 1_000_000;
        write!(f, "{}.{:03}", millis / 1000, millis % 1000)
    }
}

/// Per cent with two digits.
struct Share(u64, u64);

impl Display for Share {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let hundredths = (u128::from(self.0) * 10_000).checked_div(u128::from(self.1)).unwrap_or(0);
        write!(f, "{}.{:02} %", hundredths / 100, hundredths % 100)
    }
}
