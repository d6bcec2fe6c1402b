//! Where the time of a run goes: processor time of each program a pod, and how long kube-scheduler's one scheduling
//! thread was at a pod, by its own metrics.

use std::fmt;
use std::time::Instant;

use anyhow::{Context, Result};

use super::stage::Stage;
use crate::bench::usage::processor_time;

/// The clocks of all that shares the processors, at one moment. Seconds.
#[derive(Debug)]
pub struct Clocks {
    at: Instant,
    idle: f64,
    programs: Vec<(&'static str, f64)>,
}

impl Clocks {
    pub fn read(stage: &Stage) -> Result<Self> {
        let mut programs = vec![("answers", processor_time(std::process::id())?)];
        for process in stage.plane.processes() {
            programs.push((process.name(), processor_time(process.id())?));
        }
        Ok(Self { at: Instant::now(), idle: idle()?, programs })
    }

    /// What was spent until `after`, and by the scheduling thread between two looks at it.
    pub fn spent(&self, after: &Self, thread: (Thread, Thread)) -> Spent {
        let pods = thread.1.pods - thread.0.pods;
        let a_pod = |seconds: f64| if pods > 0.0 { seconds * 1e3 / pods } else { 0.0 };
        let programs = after.programs.iter().filter_map(|&(name, time)| {
            let (_, earlier) = self.programs.iter().find(|(other, _)| *other == name)?;
            Some((name, a_pod(time - earlier)))
        });
        Spent {
            pods,
            programs: programs.collect(),
            idle: a_pod(after.idle - self.idle),
            thread: a_pod(thread.1.busy - thread.0.busy),
            plugins: a_pod(thread.1.plugins - thread.0.plugins),
            whole: a_pod((after.at - self.at).as_secs_f64()),
        }
    }
}

/// What kube-scheduler says of its scheduling thread since it was started.
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    pods: f64,
    /// Seconds.
    busy: f64,
    /// Of that, in its own plugins: what is left is the extender's answer and the scheduler's books.
    plugins: f64,
}

impl Thread {
    /// A scheduler that is stopped does not answer.
    pub async fn read(stage: &Stage) -> Result<Self> {
        let client = stage.plane.scheduler_access().client().await?;
        Ok(Self::of(&client.request_text(http::Request::get("/metrics").body(Vec::new())?).await?))
    }

    fn of(metrics: &str) -> Self {
        // None of these is there before the first pod.
        let sum = |name: &str| -> f64 {
            let of = |line: &str| line.strip_prefix(name)?.rsplit(' ').next()?.parse::<f64>().ok();
            metrics.lines().filter_map(of).sum()
        };
        let points = ["PreFilter", "Filter", "PreScore", "Score"];
        let point = |point: &str| {
            sum(&format!(
                "scheduler_framework_extension_point_duration_seconds_sum{{extension_point=\"{point}\""
            ))
        };
        Self {
            pods: sum("scheduler_scheduling_algorithm_duration_seconds_count "),
            busy: sum("scheduler_scheduling_algorithm_duration_seconds_sum "),
            plugins: points.into_iter().map(point).sum(),
        }
    }
}

/// Milliseconds a pod.
#[derive(Debug)]
pub struct Spent {
    pods: f64,
    programs: Vec<(&'static str, f64)>,
    idle: f64,
    thread: f64,
    plugins: f64,
    whole: f64,
}

impl fmt::Display for Spent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:.0} pods, {:.2} ms each, {:.2} of it", self.pods, self.whole, self.thread)?;
        write!(out, " on the scheduling thread, {:.2} in its plugins; processors:", self.plugins)?;
        for (name, time) in &self.programs {
            write!(out, " {name} {time:.2}")?;
        }
        write!(out, " idle {:.2}", self.idle)
    }
}

/// Both processors' time without work since the machine started.
fn idle() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/uptime")?;
    Ok(text.split_whitespace().nth(1).context("/proc/uptime is not what it was")?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheduling_thread_is_told_by_its_metrics() {
        let seconds = |point: &str, status: &str, value: f64| {
            format!(
                "scheduler_framework_extension_point_duration_seconds_sum{{extension_point=\"{point}\",\
                 profile=\"default-scheduler\",status=\"{status}\"}} {value}\n"
            )
        };
        let metrics = [
            "# HELP scheduler_scheduling_algorithm_duration_seconds Scheduling algorithm latency\n"
                .to_owned(),
            "scheduler_scheduling_algorithm_duration_seconds_sum 7.5\n".to_owned(),
            "scheduler_scheduling_algorithm_duration_seconds_count 1500\n".to_owned(),
            seconds("Filter", "Success", 2.0),
            seconds("Filter", "Unschedulable", 0.5),
            seconds("Score", "Success", 1.0),
            // Not on that thread.
            seconds("Bind", "Success", 40.0),
        ];
        let thread = Thread::of(&metrics.concat());
        assert_eq!((thread.pods, thread.busy, thread.plugins), (1500.0, 7.5, 3.5));
        let none = Thread::of("");
        assert_eq!((none.pods, none.busy, none.plugins), (0.0, 0.0, 0.0));
    }
}
