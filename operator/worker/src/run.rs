//! The worker's life: read the task, do it, say what became of it.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::{self, Args, Command, TASK};
use crate::place::bucket::Patience;
use crate::report::Report;
use crate::restore::{self, Restored};
use crate::say::Say;
use crate::stop::Stop;
use crate::task::{self, Task, TaskError};
use crate::{backup, migrate};

const FAILED: u8 = 1;

/// Another try cannot help. clap ends with it too; the operator's Jobs name it in their podFailurePolicy.
pub const HOPELESS: u8 = 2;

/// A store is not as a backup's manifest has it.
const DIFFERS: u8 = 3;

/// What is under way has so long to come to an end after SIGTERM; Kubernetes gives thirty seconds in all.
const GRACE: Duration = Duration::from_secs(20);

pub fn run(args: &Args) -> ExitCode {
    let say = Say(args::secrets());
    // Two threads serve any number of files: what blocks has threads of its own, at most this many.
    let runtime =
        Builder::new_multi_thread().worker_threads(2).max_blocking_threads(512).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            say.line(&format!("no threads can be had: {error}"));
            return ExitCode::from(FAILED);
        }
    };
    match &args.command {
        Some(Command::Restore { from, against }) => restored(&runtime, from, against, &say),
        None => worked(runtime, &args.result, &say),
    }
}

fn restored(runtime: &Runtime, from: &Path, against: &[String], say: &Say) -> ExitCode {
    match runtime.block_on(restore::run(from, against, Patience::default())) {
        Ok(Restored { yaml, compared, differs }) => {
            // Whoever pipes the output away reads it here.
            compared.iter().for_each(|line| say.line(line));
            match std::io::stdout().write_all(yaml.as_bytes()) {
                Ok(()) if differs => ExitCode::from(DIFFERS),
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    say.line(&format!("the output cannot be written: {error}"));
                    ExitCode::from(FAILED)
                }
            }
        }
        Err(error) => {
            say.line(&error.to_string());
            ExitCode::from(FAILED)
        }
    }
}

fn worked(runtime: Runtime, result: &Path, say: &Say) -> ExitCode {
    let read = args::variable(TASK).ok_or(TaskError::Missing { variable: TASK.into() });
    let task = match read.and_then(|text| task::parse(&text, &args::variable)) {
        Ok(task) => task,
        Err(error) => {
            tell(result, Report::failed(say.0.clean(&error.to_string())), say);
            return ExitCode::from(HOPELESS);
        }
    };
    let (report, code) = runtime.block_on(until_told(task, say));
    tell(result, report, say);
    // A read that hangs in a dead mount must not keep the process.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// Does the task, and comes back within [`GRACE`] of a signal.
async fn until_told(task: Task, say: &Say) -> (Report, u8) {
    let (teller, stop) = Stop::new();
    let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let [Ok(mut term), Ok(mut int)] = signals else {
        return (Report::failed("signals cannot be received".into()), FAILED);
    };
    let mut work = std::pin::pin!(work(&task, &stop, say));
    let told = tokio::select! {
        done = &mut work => return done,
        code = told(&mut term, 143) => code,
        code = told(&mut int, 130) => code,
    };
    let _ = teller.send(true);
    say.line("told to stop: what is under way is left, what is done is written down");
    let (mut report, code) = match tokio::time::timeout(GRACE, work).await {
        Ok(done) => done,
        Err(_) => (Report::failed(migrate::MigrateError::Stopped.to_string()), FAILED),
    };
    if report.done {
        return (report, code);
    }
    report.error.get_or_insert_with(|| migrate::MigrateError::Stopped.to_string());
    (report, told)
}

async fn told(signal: &mut Signal, code: u8) -> u8 {
    if signal.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
    code
}

async fn work(task: &Task, stop: &Stop, say: &Say) -> (Report, u8) {
    let (mut report, error) = match task {
        Task::Migrate(task) => {
            let (report, result) = migrate::run(task, Patience::default(), stop, say).await;
            (report, result.err().map(|error| (error.is_final(), error.to_string())))
        }
        Task::Backup(task) => {
            let made = made();
            match backup::run(task, &args::variable, &made, Patience::default(), say).await {
                Ok(report) => (report, None),
                Err(error) => (Report::new(), Some((error.is_final(), error.to_string()))),
            }
        }
    };
    let Some((is_final, error)) = error else { return (report, 0) };
    report.error = Some(say.0.clean(&error));
    (report, if is_final { HOPELESS } else { FAILED })
}

fn made() -> String {
    let now = jiff::Timestamp::now();
    now.round(jiff::Unit::Second).unwrap_or(now).to_string()
}

/// Says it in the log, and where the kubelet and the operator look.
fn tell(result: &Path, report: Report, say: &Say) {
    match &report.error {
        None => say.line(&format!("done: {}", report.words())),
        Some(error) => say.line(&format!("failed: {error}; {}", report.words())),
    }
    if let Err(error) = std::fs::write(result, report.message()) {
        say.line(&format!("the result cannot be written to {}: {error}", result.display()));
    }
}
