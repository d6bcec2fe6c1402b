//! A simulated agent's memory of its instructions: what it was asked, when that will be done, and whether it was
//! ever asked the same thing again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use operator_api::report::v1 as wire;
use prost::Message;
use wire::progress::State;

#[derive(Debug, Default)]
pub struct Memory {
    /// By identity: what was asked (encoded, without the identity), and since when.
    held: BTreeMap<String, (Vec<u8>, Instant, State)>,
    /// Instructions that came although the same identity or the same work had come before.
    pub doubles: u64,
    pub received: u64,
}

impl Memory {
    /// Takes an instruction in; what is answered.
    pub fn take(&mut self, instruction: wire::Instruction, now: Instant) -> wire::Progress {
        self.received += 1;
        let id = instruction.id.clone();
        let work = wire::Instruction { id: String::new(), ..instruction }.encode_to_vec();
        if let Some((_, _, state)) = self.held.get(&id) {
            self.doubles += 1;
            return progress(&id, *state);
        }
        self.doubles += u64::from(self.held.values().any(|(known, _, _)| *known == work));
        self.held.insert(id.clone(), (work, now, State::Accepted));
        progress(&id, State::Accepted)
    }

    pub fn in_hand(&self) -> Vec<wire::Progress> {
        self.held.iter().map(|(id, (_, _, state))| progress(id, *state)).collect()
    }

    /// What has been finished since the last call.
    pub fn finish(&mut self, takes: Duration, now: Instant) -> Vec<wire::Progress> {
        let mut ended = Vec::new();
        for (id, (_, since, state)) in &mut self.held {
            if *state == State::Accepted && now.duration_since(*since) >= takes {
                *state = State::Done;
                ended.push(progress(id, State::Done));
            }
        }
        ended
    }
}

fn progress(id: &str, state: State) -> wire::Progress {
    wire::Progress { id: id.into(), state: state.into(), ..wire::Progress::default() }
}
