//! `top`: a live screen of the node.
//!
//! `screen` holds what is shown and what keys do to it, `draw` paints it, and this file waits: for keys,
//! for the next sample, for a signal. The terminal is put back however the screen is left: by `q`, by a
//! signal, by an error, by a panic.

mod screen;

mod draw;

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossterm::event::{self, Event, KeyEventKind};
use operator_api::observability::v1 as wire;
use ratatui::backend::TestBackend;
use ratatui::layout::Size;
use ratatui::{DefaultTerminal, Terminal};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::client::{Client, ClientError};
use super::{CliError, json as as_json, paths, print};
use crate::config::Output;
use screen::{Sample, Screen};

/// Rows asked for: more than any screen shows after filtering and sorting by what matters.
const ROWS: u32 = 500;

/// Where the terminal's size is not known: what every terminal has.
const CLASSIC: Size = Size { width: 80, height: 24 };

#[derive(Debug, thiserror::Error)]
pub enum TopError {
    #[error(
        "the screen needs a terminal, and this output is none: use --once for one screen as text, or --output json"
    )]
    NoTerminal,
    #[error("the terminal could not be used: {0}; is TERM set, and the terminal still there?")]
    Terminal(io::Error),
}

/// Shows the screen until it is left.
pub async fn top(mut client: Client, output: Output, once: bool, interval_ms: u64) -> Result<(), CliError> {
    let interval = Duration::from_millis(interval_ms);
    match (output, once) {
        (Output::Json, once) => loop {
            let sample = sample(&mut client).await?;
            print(&as_json::line(&value(&sample)))?;
            if once {
                return Ok(());
            }
            tokio::time::sleep(interval).await;
        },
        (Output::Text, true) => {
            let mut screen = Screen::default();
            screen.take(sample(&mut client).await?);
            // Rates need two samples.
            tokio::time::sleep(interval).await;
            screen.take(sample(&mut client).await?);
            let size = match io::stdout().is_terminal() {
                true => crossterm::terminal::size().map_or(CLASSIC, Size::from),
                false => CLASSIC,
            };
            print(&plain(&screen, size))
        }
        (Output::Text, false) => {
            if !io::stdout().is_terminal() {
                return Err(TopError::NoTerminal.into());
            }
            live(client, interval).await
        }
    }
}

/// Asks everything the screen shows.
async fn sample(client: &mut Client) -> Result<Sample, ClientError> {
    let node = client.node(wire::NodeRequest {}).await?.into_inner();
    let workloads = client.workloads(wire::WorkloadsRequest { limit: ROWS }).await?.into_inner();
    let request = wire::FilesRequest { limit: ROWS, ..Default::default() };
    let files = client.files(request).await?.into_inner();
    let ledger = client.ledger(wire::LedgerRequest {}).await?.into_inner();
    Ok(Sample {
        at: Instant::now(),
        node,
        workloads: workloads.workloads,
        files: files.files,
        ledger: ledger.rows,
    })
}

fn value(sample: &Sample) -> Value {
    let shown = |file: &wire::File| paths::shown(&sample.node.mounts, file.mount, &file.path);
    json!({
        "node": as_json::node(&sample.node),
        "workloads": sample.workloads.iter().map(as_json::workload).collect::<Vec<_>>(),
        "files": sample.files.iter().map(|file| as_json::file(file, &shown(file))).collect::<Vec<_>>(),
        "ledger": sample.ledger.iter().map(as_json::ledger_row).collect::<Vec<_>>(),
    })
}

/// One screen as plain text.
fn plain(screen: &Screen, size: Size) -> String {
    // A terminal in memory has nothing that could fail: its error type is empty.
    let Ok(mut terminal) = Terminal::new(TestBackend::new(size.width, size.height));
    let Ok(_) = terminal.draw(|frame| draw::draw(screen, frame));
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for y in 0..size.height {
        let mut line = String::new();
        let mut x = 0;
        while let Some(cell) = buffer.cell((x, y)).filter(|_| x < size.width) {
            line.push_str(cell.symbol());
            // A wide character's second cell is empty and not printed.
            x += u16::try_from(ratatui::text::Line::raw(cell.symbol()).width()).unwrap_or(1).max(1);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Puts the terminal back when dropped; a panic does so by ratatui's own hook.
struct Restored(DefaultTerminal);

impl Drop for Restored {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

async fn live(client: Client, interval: Duration) -> Result<(), CliError> {
    let signals = || -> io::Result<_> {
        Ok((
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        ))
    };
    let (mut terminate, mut interrupt, mut hangup) = signals().map_err(TopError::Terminal)?;
    let mut terminal = Restored(ratatui::try_init().map_err(TopError::Terminal)?);
    let (mut keys, reading) = keyboard();
    let mut samples = sampler(client, interval);
    let mut screen = Screen::default();
    loop {
        terminal.0.draw(|frame| draw::draw(&screen, frame)).map_err(TopError::Terminal)?;
        tokio::select! {
            event = keys.recv() => match event {
                Some(Event::Key(key)) if key.kind == KeyEventKind::Press => {
                    if screen.key(key) {
                        break;
                    }
                }
                // A resize, or a key's release: the next draw is enough.
                Some(_) => {}
                // The terminal is gone.
                None => break,
            },
            sampled = samples.recv() => match sampled {
                Some(Ok(sample)) => screen.take(sample),
                Some(Err(error)) => screen.trouble(&error.to_string()),
                None => break,
            },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => break,
        }
    }
    reading.store(false, Ordering::Relaxed);
    Ok(())
}

/// Samples in a task of its own: an agent that answers slowly must not make keys slow. The agent may go
/// and come back; the channel connects again by itself.
fn sampler(mut client: Client, interval: Duration) -> mpsc::Receiver<Result<Sample, ClientError>> {
    let (to_screen, samples) = mpsc::channel(1);
    tokio::spawn(async move {
        while to_screen.send(sample(&mut client).await).await.is_ok() {
            tokio::time::sleep(interval).await;
        }
    });
    samples
}

/// Reads keys in a thread, because a terminal can only be read blockingly; it ends within a tenth of a
/// second after the flag is cleared.
fn keyboard() -> (mpsc::Receiver<Event>, Arc<AtomicBool>) {
    let (to_screen, keys) = mpsc::channel(64);
    let reading = Arc::new(AtomicBool::new(true));
    let still = reading.clone();
    std::thread::spawn(move || {
        while still.load(Ordering::Relaxed) {
            match event::poll(Duration::from_millis(100)) {
                Ok(false) => continue,
                Ok(true) => {}
                Err(_) => return,
            }
            let Ok(event) = event::read() else { return };
            if to_screen.blocking_send(event).is_err() {
                return;
            }
        }
    });
    (keys, reading)
}
