//! Recordings under way: each gets every observation, encoded, and never makes the loop wait.

use agent_core::trace::Encoder;
use agent_core::{Nanos, Observation};
use prost::bytes::Bytes;

use crate::api::recording::{Phase, RecordSink};

/// Recordings at once; each costs the encoding of every observation.
const MOST: usize = 4;

/// Ticks for which the end of a recording is offered: ten seconds, twice as long as `headrace record` waits for it.
const TRIES: u32 = 100;

/// Bytes gathered before they are handed on.
const PORTION: usize = 32 << 10;

#[derive(Debug)]
struct Recorder {
    sink: RecordSink,
    encoder: Encoder,
    bytes: Vec<u8>,
    observations: u64,
    /// The client wants no more; `rest` is what it has not been given yet.
    ended: bool,
    rest: Bytes,
    tries_left: u32,
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
        let mut recorder = Recorder {
            sink,
            encoder: Encoder::new(),
            bytes: Vec::new(),
            observations: 0,
            ended: false,
            rest: Bytes::new(),
            tries_left: TRIES,
        };
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
            // A client that is slow just then is told of its last losses too, and of the end.
            Phase::Ending if recorder.tries_left > 0 => {
                recorder.tries_left -= 1;
                !recorder.end()
            }
            Phase::Ending => {
                dropped += recorder.give_up();
                false
            }
            Phase::Abandoned => false,
        });
        self.dropped += dropped;
    }

    pub fn close(&mut self) {
        for mut recorder in self.all.drain(..) {
            if !recorder.end() {
                self.dropped += recorder.give_up();
            }
        }
    }
}

impl Recorder {
    fn push(&mut self, observation: &Observation, now: Nanos) {
        if self.ended {
            return;
        }
        // One that is too large to be told in a block is left out and counted as lost with the next.
        match self.encoder.push(now, observation, &mut self.bytes) {
            Ok(()) => self.observations += 1,
            Err(_) => self.sink.lose(1),
        }
    }

    fn hand_on(&mut self) -> u64 {
        if self.ended {
            return 0;
        }
        self.encoder.flush(&mut self.bytes);
        if self.bytes.is_empty() {
            return 0;
        }
        let bytes = std::mem::take(&mut self.bytes);
        self.sink.offer(bytes.into(), std::mem::take(&mut self.observations))
    }

    /// Hands over the rest, and the mark that nothing is missing after it; false where there is no room for it yet.
    fn end(&mut self) -> bool {
        if !std::mem::replace(&mut self.ended, true) {
            std::mem::take(&mut self.encoder).finish(&mut self.bytes);
            self.rest = std::mem::take(&mut self.bytes).into();
        }
        self.sink.finish(&self.rest)
    }

    /// What the client will never know of.
    fn give_up(&mut self) -> u64 {
        std::mem::take(&mut self.observations)
    }
}
