//! `cargo test`, its output streamed, its results summed over all test programs.
//!
//! The sum comes from libtest's lines `test result: …`. A program that announces its tests and never
//! gives a result (it crashed, or was killed) counts as one failure, and so does an `ignored` test: a
//! test that is not run proves nothing.

use std::io::Write;
use std::process::Stdio;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::console;
use crate::place::Place;
use crate::step;

/// Longer than the slowest test, and than compiling everything on a slow machine without a line of output.
const SILENCE: Duration = Duration::from_secs(20 * 60);

/// What the suites add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
    /// Test programs that began and gave no result.
    pub unfinished: u64,
    begun: bool,
}

impl Tally {
    fn line(&mut self, line: &str) {
        if line.starts_with("running ") && (line.ends_with(" tests") || line.ends_with(" test")) {
            self.close();
            self.begun = true;
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.begun = false;
            self.passed += count(result, "passed");
            self.failed += count(result, "failed");
            self.ignored += count(result, "ignored");
        }
    }

    fn close(&mut self) {
        self.unfinished += u64::from(self.begun);
        self.begun = false;
    }

    /// Everything that is not a pass.
    pub fn failures(&self) -> u64 {
        self.failed + self.ignored + self.unfinished
    }
}

/// The number before `word` in "ok. 12 passed; 0 failed; …".
fn count(result: &str, word: &str) -> u64 {
    let words: Vec<&str> = result.split([' ', ';']).filter(|w| !w.is_empty()).collect();
    let number = words.windows(2).find(|pair| pair.get(1) == Some(&word)).and_then(|pair| pair.first());
    number.and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Compiles what `run` runs.
pub fn build(place: &Place) -> Result<()> {
    let mut command = place.cargo();
    command.args(["test", "--locked", "--no-run", "--quiet"]);
    step::stream(command).context("the tests do not compile")
}

/// Runs every test of the default members. The flag says whether cargo itself was content.
pub fn run(place: &Place) -> Result<(Tally, bool)> {
    let mut command = place.cargo();
    command.args(["test", "--locked", "--no-fail-fast"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let text = step::shown(&command);
    let mut child = command.spawn().with_context(|| format!("cannot start `{text}`"))?;
    let (lines, received) = mpsc::sync_channel(64);
    if let Some(out) = child.stdout.take() {
        step::forward(out, lines);
    }
    let mut tally = Tally::default();
    let mut heard = Instant::now();
    loop {
        match received.recv_timeout(Duration::from_secs(1)) {
            Ok(line) => {
                heard = Instant::now();
                tally.line(&line);
                // Whoever reads our output may have gone away; the tests' result matters all the same.
                let _ = writeln!(std::io::stdout(), "{line}");
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if heard.elapsed() > SILENCE => {
                console::note(&format!(
                    "xtask: no test has said a word for {}; stopping the one named last above",
                    console::span(SILENCE)
                ));
                step::end(&mut child);
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
    let status = child.wait().with_context(|| format!("cannot wait for `{text}`"))?;
    tally.close();
    Ok((tally, status.success()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(text: &str) -> Tally {
        let mut tally = Tally::default();
        text.lines().for_each(|l| tally.line(l));
        tally.close();
        tally
    }

    #[test]
    fn results_add_up_over_programs() {
        let text = "running 3 tests\ntest a ... ok\n\
            test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\
            running 1 test\n\
            test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n";
        let sum = tally(text);
        assert_eq!((sum.passed, sum.failed, sum.failures()), (3, 1, 1));
    }

    #[test]
    fn a_program_that_died_is_a_failure() {
        let text = "running 3 tests\ntest a ... ok\nrunning 1 test\n\
            test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n";
        assert_eq!(tally(text).failures(), 1);
        assert_eq!(tally("running 1 test\n").failures(), 1);
    }

    #[test]
    fn an_ignored_test_is_no_pass() {
        let text = "running 1 test\n\
            test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\n";
        assert_eq!(tally(text).failures(), 1);
    }
}
