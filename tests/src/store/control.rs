//! Asking a store that runs in another process: one JSON line each way over a unix socket.
//!
//! `{"ask":"counters"}`, `{"ask":"journal"}`, `{"ask":"reset"}`; the answer is the counters, the journal's
//! record, or `"done"`. A question takes a connection of its own and one is served at a time, each within
//! a few seconds, so a silent client cannot block the rest for long.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::store::filesystem::Shelf;
use crate::store::journal::{Counters, Record};

/// A full journal takes about half a second to write; nothing here takes longer than this.
const PATIENCE: Duration = Duration::from_secs(20);

/// A question is one short line.
const QUESTION: u64 = 1_024;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
enum Question {
    Counters,
    Journal,
    Reset,
}

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("cannot listen on {}: {error}; remove the file or choose another --control path", path.display())]
    Listen { path: PathBuf, error: std::io::Error },
    #[error("cannot ask the store at {}: {error}; is slow-store running with --control?", path.display())]
    Ask { path: PathBuf, error: std::io::Error },
    #[error("the store at {} answered what is no answer ({error}); are both of one build?", path.display())]
    Answer { path: PathBuf, error: serde_json::Error },
}

/// The listening side; the socket file goes when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
}

impl ControlSocket {
    pub fn serve(path: &Path, shelf: Arc<Shelf>) -> Result<Self, ControlError> {
        let failed = |error| ControlError::Listen { path: path.to_owned(), error };
        let listener = UnixListener::bind(path).map_err(failed)?;
        let socket = Self { path: path.to_owned() };
        std::thread::Builder::new()
            .name("store-control".to_owned())
            .spawn(move || {
                for stream in listener.incoming().flatten() {
                    // A client that went away mid-sentence is its own loss.
                    let _ = answer(&stream, &shelf);
                }
            })
            .map_err(failed)?;
        Ok(socket)
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// An answer is noted just after it was given; whoever has seen it may expect to find it noted. Requests
/// that really wait are not waited for.
fn quiesce(shelf: &Shelf) {
    for _ in 0..50 {
        if shelf.journal().counters().waiting == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn answer(mut stream: &UnixStream, shelf: &Shelf) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(QUESTION)).read_line(&mut line)?;
    let text = match serde_json::from_str(&line) {
        Ok(Question::Counters) => serde_json::to_vec(&shelf.journal().counters()),
        Ok(Question::Journal) => {
            quiesce(shelf);
            let record = shelf.journal().record();
            serde_json::to_vec(&record)
        }
        Ok(Question::Reset) => {
            shelf.reset();
            serde_json::to_vec("done")
        }
        Err(error) => serde_json::to_vec(&format!("not understood: {error}")),
    };
    let mut text = text.map_err(std::io::Error::other)?;
    text.push(b'\n');
    stream.write_all(&text)
}

/// The asking side.
#[derive(Clone, Debug)]
pub struct Control {
    path: PathBuf,
}

impl Control {
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub fn counters(&self) -> Result<Counters, ControlError> {
        self.ask(Question::Counters)
    }

    pub fn journal(&self) -> Result<Record, ControlError> {
        self.ask(Question::Journal)
    }

    /// Forgets counters, journal and which thread belongs to which process.
    pub fn reset(&self) -> Result<(), ControlError> {
        self.ask::<String>(Question::Reset).map(|_| ())
    }

    fn ask<T: DeserializeOwned>(&self, question: Question) -> Result<T, ControlError> {
        let line =
            self.exchange(question).map_err(|error| ControlError::Ask { path: self.path.clone(), error })?;
        serde_json::from_slice(&line).map_err(|error| ControlError::Answer { path: self.path.clone(), error })
    }

    fn exchange(&self, question: Question) -> std::io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut text = serde_json::to_vec(&question).map_err(std::io::Error::other)?;
        text.push(b'\n');
        stream.write_all(&text)?;
        let mut line = Vec::new();
        stream.read_to_end(&mut line)?;
        Ok(line)
    }
}
