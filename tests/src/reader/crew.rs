//! Worker processes, as a data loader has them: each reads its share of one order, all start together.

use std::io::{self, BufRead, BufReader};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use crate::clock;
use crate::reader::outcome::Outcome;

/// Which share of the order a worker reads: every `of`th file from file `number` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub number: u32,
    pub of: u32,
    /// When it begins, in nanoseconds of CLOCK_MONOTONIC.
    pub start: u64,
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('/').map(str::parse::<u64>);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(Ok(number)), Some(Ok(of)), Some(Ok(start))) if number < of && of <= 64 => {
                Ok(Self { number: number as u32, of: of as u32, start })
            }
            _ => Err(format!(
                "`{text}` is no share: write NUMBER/OF/START with NUMBER below OF, 64 at the most"
            )),
        }
    }
}

impl Share {
    pub fn takes(&self, place: usize) -> bool {
        place % (self.of.max(1) as usize) == self.number as usize
    }

    pub fn wait(&self) {
        std::thread::sleep(Duration::from_nanos(self.start.saturating_sub(clock::now())));
    }
}

/// Starts `workers` copies of this process with a share each and merges what they say.
pub fn run(workers: u32) -> io::Result<Outcome> {
    // Time for the last of them to have been started and to have built its itinerary.
    let start = clock::now() + 300_000_000;
    let program = std::env::current_exe()?;
    let children = (0..workers)
        .map(|number| {
            Command::new(&program)
                .args(std::env::args_os().skip(1))
                .arg("--share")
                .arg(format!("{number}/{workers}/{start}"))
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
        })
        .collect::<io::Result<Vec<_>>>()?;
    // Every child is waited for, whatever the others said.
    let outcomes: Vec<io::Result<Outcome>> = children
        .into_iter()
        .map(|mut child| {
            let mut line = String::new();
            let said = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line)).transpose();
            let status = child.wait()?;
            said?;
            if !status.success() {
                return Err(io::Error::other(format!("a worker ended with {status}")));
            }
            serde_json::from_str(&line).map_err(io::Error::other)
        })
        .collect();
    Ok(Outcome::merged(outcomes.into_iter().collect::<io::Result<Vec<_>>>()?))
}
