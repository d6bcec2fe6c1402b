//! What another process uses, by /proc.

use anyhow::{Context, Result};

/// Seconds of processor time that a process has used.
pub fn processor_time(process: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // utime and stime are the 14th and 15th, two of which stand before the name's end.
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    let ticks = ticks(11).zip(ticks(12)).context("/proc/PID/stat is not what it was")?;
    Ok((ticks.0 + ticks.1) / rustix::param::clock_ticks_per_second() as f64)
}

/// Its resident memory.
pub fn resident_mib(process: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}
