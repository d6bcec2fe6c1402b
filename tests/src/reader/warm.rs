//! `Warm` walks a tree of warm small files over and over: list, open, read to the end, close.
//!
//! It gives the time of a file in each stretch of a thousand, pass by pass: whoever watches meets each file
//! for the first time in the first pass, and knows it in the others.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::clock;

/// Files whose time is taken together: some milliseconds, shorter than a turn of the scheduler.
const STRETCH: usize = 1_000;

/// What `cp` and `cat` read at a time.
const BLOCK: usize = 128 << 10;

#[derive(Clone, Debug, Args)]
pub struct Warm {
    /// The folder of folders.
    #[arg(long)]
    pub folder: PathBuf,
    #[arg(long, default_value_t = 5)]
    pub passes: u32,
}

/// Nanoseconds a file, stretch by stretch, in each pass.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WarmOutcome {
    pub passes: Vec<Vec<f64>>,
    /// Of one pass.
    pub files: u64,
    pub bytes: u64,
}

impl Warm {
    pub fn run(&self) -> io::Result<WarmOutcome> {
        let mut outcome = WarmOutcome::default();
        let mut buffer = vec![0; BLOCK];
        for _ in 0..self.passes {
            let mut pass = Pass { begun: clock::now(), ..Pass::default() };
            walk(&self.folder, &mut buffer, &mut pass)?;
            outcome.files = pass.files;
            outcome.bytes = pass.bytes;
            outcome.passes.push(pass.stretches);
        }
        Ok(outcome)
    }
}

#[derive(Debug, Default)]
struct Pass {
    begun: u64,
    stretches: Vec<f64>,
    files: u64,
    bytes: u64,
}

impl Pass {
    fn file(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
        if self.files.is_multiple_of(STRETCH as u64) {
            let now = clock::now();
            self.stretches.push(now.saturating_sub(self.begun) as f64 / STRETCH as f64);
            self.begun = now;
        }
    }
}

fn walk(folder: &Path, buffer: &mut [u8], pass: &mut Pass) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), buffer, pass)?;
            continue;
        }
        let mut file = File::open(entry.path())?;
        let mut bytes = 0;
        loop {
            match file.read(buffer)? {
                0 => break,
                read => bytes += read as u64,
            }
        }
        pass.file(bytes);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_read_in_every_pass() {
        let folder = tempfile::tempdir().unwrap();
        for at in 0..2_500 {
            let inner = folder.path().join(format!("d{}", at % 3));
            std::fs::create_dir_all(&inner).unwrap();
            std::fs::write(inner.join(format!("f{at}")), [1; 10]).unwrap();
        }
        let warm = Warm { folder: folder.path().to_path_buf(), passes: 2 };
        let outcome = warm.run().unwrap();
        assert_eq!((outcome.files, outcome.bytes), (2_500, 25_000));
        assert!(outcome.passes.iter().all(|pass| pass.len() == 2) && outcome.passes.len() == 2);
        assert!(outcome.passes.iter().flatten().all(|time| *time > 0.0));
    }
}
