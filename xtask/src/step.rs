//! Running other programs: always an argument vector, always an end.
//!
//! `stream` hands the terminal over to the child; `quiet` shows one progress line, keeps the last lines
//! of the child's output and shows them only when it fails; `retry` repeats what the network may spoil.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::console::{self, Progress};

/// Enough to hold a compiler error with its notes.
const KEPT_LINES: usize = 40;

/// Two pauses of 2 and 4 s outlast a name server's hiccup; an outage is better told than waited for.
const ATTEMPTS: u32 = 3;

/// "cargo build --release", for messages.
pub fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|a| a.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs a command on our own terminal.
pub fn stream(mut command: Command) -> Result<()> {
    let text = shown(&command);
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot start `{text}`"))?;
    succeeded(&text, status)
}

/// Runs a command, shows one line of progress, and returns its output's last lines.
/// It is killed when it takes longer than `limit`.
pub fn quiet(title: &str, mut command: Command, limit: Duration) -> Result<Vec<String>> {
    let text = shown(&command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start `{text}`"))?;
    let (lines, received) = mpsc::sync_channel(64);
    if let Some(out) = child.stdout.take() {
        forward(out, lines.clone());
    }
    if let Some(err) = child.stderr.take() {
        forward(err, lines.clone());
    }
    drop(lines);

    let mut progress = Progress::start(title);
    let mut kept = VecDeque::with_capacity(KEPT_LINES);
    let started = Instant::now();
    loop {
        match received.recv_timeout(Duration::from_secs(1)) {
            Ok(line) => {
                progress.line(&line);
                if kept.len() == KEPT_LINES {
                    kept.pop_front();
                }
                kept.push_back(line);
            }
            Err(RecvTimeoutError::Timeout) => progress.alive(),
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if started.elapsed() > limit {
            end(&mut child);
            bail!(
                "{title}: `{text}` did not end within {} and was stopped; its last lines:\n{}",
                console::span(limit),
                indented(&kept)
            );
        }
    }
    let status = child.wait().with_context(|| format!("cannot wait for `{text}`"))?;
    if !status.success() {
        bail!("{title}: `{text}` failed ({status}); its last lines:\n{}", indented(&kept));
    }
    progress.done();
    Ok(kept.into())
}

/// Tries up to three times; the last error is the one that is told.
pub fn retry<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let mut number = 1;
    loop {
        match attempt() {
            Err(error) if number < ATTEMPTS => {
                let pause = Duration::from_secs(1 << number);
                let text = error.to_string();
                let first = text.lines().next().unwrap_or_default().trim_end_matches("; its last lines:");
                console::note(&format!(
                    "  {first}\n  attempt {number} of {ATTEMPTS} failed, again in {}",
                    console::span(pause)
                ));
                thread::sleep(pause);
                number += 1;
            }
            result => return result,
        }
    }
}

/// Sends the lines of a pipe until it closes; a reader that has gone away ends it too.
pub fn forward(pipe: impl Read + Send + 'static, lines: SyncSender<String>) {
    thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        loop {
            line.clear();
            match reader.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if lines.send(text).is_err() {
                return;
            }
        }
    });
}

/// Stops a child and everything below it, gently first, so that mounts and programs are let go.
pub fn end(child: &mut Child) {
    let Ok(pid) = i32::try_from(child.id()) else {
        return;
    };
    let mut family = descendants(pid);
    family.push(pid);
    signal(&family, Signal::TERM);
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline && family.iter().any(|&p| runs(p, child)) {
        thread::sleep(Duration::from_millis(50));
    }
    signal(&family, Signal::KILL);
    let _ = child.wait();
}

fn runs(pid: i32, child: &mut Child) -> bool {
    if i32::try_from(child.id()) == Ok(pid) {
        return matches!(child.try_wait(), Ok(None));
    }
    parent(pid).is_some()
}

fn signal(pids: &[i32], signal: Signal) {
    for pid in pids.iter().filter_map(|&p| Pid::from_raw(p)) {
        // It may have ended by itself in the meantime.
        let _ = kill_process(pid, signal);
    }
}

/// The processes below `root`, deepest last.
fn descendants(root: i32) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pairs: Vec<(i32, i32)> = entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let mut found = vec![root];
    let mut at = 0;
    while let Some(&above) = found.get(at) {
        found.extend(pairs.iter().filter(|(_, p)| *p == above).map(|(pid, _)| *pid));
        at += 1;
    }
    found.remove(0);
    found
}

/// proc(5): `pid (comm) state ppid …`, where comm may hold spaces and brackets. Zombies count as gone.
fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" {
        return None;
    }
    fields.next()?.parse().ok()
}

fn succeeded(text: &str, status: ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    bail!("`{text}` failed ({status})")
}

fn indented(lines: &VecDeque<String>) -> String {
    lines.iter().map(|l| format!("    {l}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bash(script: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failure_shows_the_last_lines() {
        let error = quiet("say", bash("echo why it failed; exit 3"), Duration::from_secs(30)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("why it failed") && text.contains("exit status: 3"), "{text}");
    }

    #[test]
    fn a_step_that_does_not_end_is_stopped_with_its_children() {
        let error =
            quiet("hang", bash("echo begun; sleep 987 & wait"), Duration::from_millis(10)).unwrap_err();
        assert!(error.to_string().contains("was stopped"), "{error}");
        let left = descendants(i32::try_from(std::process::id()).unwrap());
        let sleeping = left
            .iter()
            .filter(|p| std::fs::read(format!("/proc/{p}/cmdline")).is_ok_and(|c| c == b"sleep\x00987\x00"));
        assert_eq!(sleeping.count(), 0);
    }

    #[test]
    fn the_third_attempt_is_the_last() {
        let mut tries = 0;
        let result: Result<()> = retry(|| {
            tries += 1;
            if tries == 2 { Ok(()) } else { bail!("no network") }
        });
        assert!(result.is_ok());
        assert_eq!(tries, 2);
    }
}
