//! Recordings under way: each gets every observation, encoded, and never makes the loop wait.

use agent_core::trace::Encoder;
use agent_core::{Nanos, Observation};

use crate::api::recording::{Phase, RecordSink};

/// Recordings at once; each costs the encoding of every observation.
const MOST: usize = 4;

/// Bytes gathered before they are handed on.
const PORTION: usize = 32 << 10;

#[derive(Debug)]
struct Recorder {
    sink: RecordSink,
    encoder: Encoder,
    bytes: Vec<u8>,
    observations: u64,
}

#[derive(Debug, Default)]
pub struct Recorders {
    all: Vec<Recorder>,
    /// Observations that a slow client lost.
    pub dropped: u64,
}

impl Recorders {
    /// Starts one with what the core must know before anything else; a sentence when there are too many.
    pub fn begin(&mut self, sink: RecordSink, known: &[Observation], now: Nanos) -> Result<(), Box<str>> {
        if self.all.len() >= MOST {
            return Err(format!("{MOST} recordings are under way already; wait for one to end").into());
        }
        let mut recorder = Recorder { sink, encoder: Encoder::new(), bytes: Vec::new(), observations: 0 };
        for observation in known {
            recorder.push(observation, now);
        }
        self.all.push(recorder);
        Ok(())
    }

    pub fn push(&mut self, observation: &Observation, now: Nanos) {
        for recorder in &mut self.all {
            recorder.push(observation, now);
            if recorder.bytes.len() >= PORTION {
                self.dropped += recorder.hand_on();
            }
        }
    }

    /// Ends the recordings whose clients are done; called at each tick.
    pub fn sweep(&mut self) {
        let mut dropped = 0;
        self.all.retain_mut(|recorder| match recorder.sink.phase() {
            Phase::Running => {
                dropped += recorder.hand_on();
                true
            }
            Phase::Ending => {
                dropped += recorder.end();
                false
            }
            Phase::Abandoned => false,
        });
        self.dropped += dropped;
    }

    pub fn close(&mut self) {
        for mut recorder in self.all.drain(..) {
            self.dropped += recorder.end();
        }
    }
}

impl Recorder {
    fn push(&mut self, observation: &Observation, now: Nanos) {
        // One that is too large to be told in a block is left out and counted as lost with the next.
        if self.encoder.push(now, observation, &mut self.bytes).is_ok() {
            self.observations += 1;
        }
    }

    fn hand_on(&mut self) -> u64 {
        self.encoder.flush(&mut self.bytes);
        if self.bytes.is_empty() {
            return 0;
        }
        let bytes = std::mem::take(&mut self.bytes);
        self.sink.offer(bytes.into(), std::mem::take(&mut self.observations))
    }

    /// The rest, and the mark that nothing is missing after it.
    fn end(&mut self) -> u64 {
        std::mem::take(&mut self.encoder).finish(&mut self.bytes);
        let bytes = std::mem::take(&mut self.bytes);
        self.sink.offer(bytes.into(), std::mem::take(&mut self.observations))
    }
}
