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
    /// Where the client wants no more: the last bytes, which it has not been given yet.
    rest: Option<Bytes>,
    tries_left: u32,
}

#[derive(Debug, Default)]
pub struct Recorders {
    all: Vec<Recorder>,
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
            rest: None,
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
                recorder.hand_on();
            }
        }
    }

    /// Ends the recordings whose clients are done; called at each tick.
    pub fn sweep(&mut self) {
        self.all.retain_mut(|recorder| match recorder.sink.phase() {
            Phase::Running => {
                recorder.hand_on();
                true
            }
            // A client that is slow just then is told of its last losses too, and of the end.
            Phase::Ending if recorder.tries_left > 0 => {
                recorder.tries_left -= 1;
                !recorder.end()
            }
            Phase::Ending | Phase::Abandoned => false,
        });
    }

    pub fn close(&mut self) {
        for mut recorder in self.all.drain(..) {
            recorder.end();
        }
    }
}

impl Recorder {
    fn push(&mut self, observation: &Observation, now: Nanos) {
        if self.rest.is_some() {
            return;
        }
        // One that is too large to be told in a block is left out and counted as lost with the next.
        match self.encoder.push(now, observation, &mut self.bytes) {
            Ok(()) => self.observations += 1,
            Err(_) => self.sink.lose(1),
        }
    }

    fn hand_on(&mut self) {
        self.encoder.flush(&mut self.bytes);
        if !self.bytes.is_empty() {
            let bytes = std::mem::take(&mut self.bytes);
            self.sink.offer(bytes.into(), std::mem::take(&mut self.observations));
        }
    }

    /// Hands over the rest, and the mark that nothing is missing after it; false where there is no room for it yet.
    fn end(&mut self) -> bool {
        let Self { sink, encoder, bytes, rest, .. } = self;
        let rest = rest.get_or_insert_with(|| {
            std::mem::take(encoder).finish(bytes);
            std::mem::take(bytes).into()
        });
        sink.finish(rest)
    }
}
