//! A simulated agent's memory of its instructions: what it was asked, what came of it, and whether it was ever asked
//! the same thing again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use operator_api::report::v1 as wire;
use wire::instruction::Work;
use wire::progress::State;

use super::deed::{self, Numbers};

/// Ends that are told again when the stream begins anew, as the real agent has it.
const REMEMBERED: usize = 1_024;

/// An instruction in words that outlast the operator's life.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    pub dataset: Option<Arc<str>>,
    pub work: Option<Work>,
}

#[derive(Debug, Default)]
pub struct Memory {
    /// Under way, by identity, and since when.
    open: BTreeMap<String, (Task, Instant)>,
    ended: VecDeque<wire::Progress>,
    /// Every identity that ever came.
    known: BTreeSet<String>,
    /// Instructions whose identity had come before, or whose work was under way.
    pub doubles: u64,
    /// What the last of them was, for people.
    pub twice: Option<String>,
}

impl Memory {
    /// Takes an instruction in; what is answered.
    pub fn take(
        &mut self,
        instruction: wire::Instruction,
        numbers: &Numbers,
        now: Instant,
    ) -> wire::Progress {
        let wire::Instruction { id, mut work, .. } = instruction;
        let extent = work.as_mut().and_then(deed::extent);
        // The number is of this life of the operator only.
        let dataset = extent.and_then(|extent| numbers.get(&std::mem::take(&mut extent.dataset)).cloned());
        let task = Task { dataset, work };
        if !self.known.insert(id.clone()) {
            self.double(format!("{id} again"));
            let ended = self.ended.iter().find(|end| end.id == id);
            return ended.cloned().unwrap_or_else(|| accepted(&id));
        }
        if let Some((other, _)) = self.open.iter().find(|(_, (known, _))| *known == task) {
            let words = format!("{id} as {other}, which is under way");
            self.double(words);
        }
        self.open.insert(id.clone(), (task, now));
        accepted(&id)
    }

    fn double(&mut self, words: String) {
        self.doubles += 1;
        self.twice = Some(words);
    }

    /// What is under way, then what ended lately.
    pub fn in_hand(&self) -> Vec<wire::Progress> {
        self.open.keys().map(|id| accepted(id)).chain(self.ended.iter().cloned()).collect()
    }

    /// What has been under way for so long.
    pub fn due(&mut self, takes: Duration, now: Instant) -> Vec<(String, Task)> {
        self.open
            .extract_if(.., |_, (_, since)| now.duration_since(*since) >= takes)
            .map(|(id, (task, _))| (id, task))
            .collect()
    }

    pub fn end(&mut self, end: wire::Progress) {
        self.ended.push_back(end);
        if self.ended.len() > REMEMBERED {
            self.ended.pop_front();
        }
    }

    /// It is of no use any more.
    pub fn withdraw(&mut self, id: &str) -> Option<wire::Progress> {
        self.open.remove(id)?;
        let end =
            wire::Progress { id: id.to_owned(), state: State::Dropped.into(), ..wire::Progress::default() };
        self.end(end.clone());
        Some(end)
    }
}

fn accepted(id: &str) -> wire::Progress {
    wire::Progress { id: id.into(), state: State::Accepted.into(), ..wire::Progress::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(id: &str, dataset: u32, chunks: &[u32]) -> wire::Instruction {
        let extent = wire::Extent { dataset, chunks: chunks.to_vec(), ..wire::Extent::default() };
        let work = Some(Work::Fetch(wire::Fetch { extent: Some(extent), tier: 0 }));
        wire::Instruction { id: id.into(), work, ..wire::Instruction::default() }
    }

    #[test]
    fn what_comes_twice_is_counted_whatever_it_is_called() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        let [one, other]: [Numbers; 2] = [7, 8].map(|number| [(number, "a/d".into())].into());
        memory.take(fetch("a", 7, &[0, 4]), &one, now);
        memory.take(fetch("b", 7, &[4, 4]), &one, now);
        assert_eq!(memory.doubles, 0);
        memory.take(fetch("a", 7, &[0, 4]), &one, now);
        assert_eq!(memory.doubles, 1, "the same identity");
        memory.take(fetch("c", 8, &[0, 4]), &other, now);
        assert_eq!(memory.doubles, 2, "the same work under another number");
        for (id, _) in memory.due(Duration::ZERO, now) {
            memory.end(wire::Progress { id, ..wire::Progress::default() });
        }
        memory.take(fetch("d", 7, &[0, 4]), &one, now);
        assert_eq!(memory.doubles, 2, "what went again may be asked for again");
        memory.take(fetch("a", 7, &[0, 4]), &one, now);
        assert_eq!(memory.doubles, 3, "but not as the same");
        assert_eq!(memory.in_hand().len(), 4);
    }
}
