//! One recording on its way from the engine to the client that writes the file.
//!
//! The engine encodes and offers blocks; it never waits. When the client is too slow a block is given up
//! and its observations counted, and the count reaches the client before the next block that does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prost::bytes::Bytes;
use tokio::sync::mpsc;

/// Blocks on their way to one client. At 64 KiB a block this holds 4 MiB at the most.
const BLOCKS: usize = 64;

/// What travels: the next bytes of the file, or how much is missing here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    Data(Bytes),
    /// Observations that were given up because the client was slow.
    Lost(u64),
}

/// What the engine should do with a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Go on.
    Running,
    /// The client wants no more: offer what is still in the encoder, then drop the sink.
    Ending,
    /// The client has left: drop the sink.
    Abandoned,
}

/// The engine's end. Dropping it ends the client's stream.
#[derive(Debug)]
pub struct RecordSink {
    blocks: mpsc::Sender<Block>,
    ending: Arc<AtomicBool>,
    lost: u64,
}

/// The API's end.
#[derive(Debug)]
pub struct RecordSource {
    pub blocks: mpsc::Receiver<Block>,
    ending: Arc<AtomicBool>,
}

/// Both ends of one recording.
pub fn recording() -> (RecordSink, RecordSource) {
    let (sender, blocks) = mpsc::channel(BLOCKS);
    let ending = Arc::new(AtomicBool::new(false));
    let sink = RecordSink { blocks: sender, ending: ending.clone(), lost: 0 };
    (sink, RecordSource { blocks, ending })
}

impl RecordSink {
    /// Hands over whole bytes of the file (its header, or a block with its checksum) that hold so many
    /// observations. Never waits. Returns how many observations were given up, 0 when all went through.
    pub fn offer(&mut self, data: Bytes, observations: u64) -> u64 {
        if self.finish(&data) {
            return 0;
        }
        self.lost = self.lost.saturating_add(observations);
        observations
    }

    /// Observations that are left out for another reason.
    pub fn lose(&mut self, observations: u64) {
        self.lost = self.lost.saturating_add(observations);
    }

    /// Hands over the last bytes, after the count of what is missing before them; false where the client has no room yet.
    pub fn finish(&mut self, data: &Bytes) -> bool {
        // A count of losses takes a place of its own, so that the client can say where the hole is.
        if self.lost > 0 && self.blocks.try_send(Block::Lost(self.lost)).is_ok() {
            self.lost = 0;
        }
        self.lost == 0 && self.blocks.try_send(Block::Data(data.clone())).is_ok()
    }

    pub fn phase(&self) -> Phase {
        if self.blocks.is_closed() {
            Phase::Abandoned
        } else if self.ending.load(Ordering::Relaxed) {
            Phase::Ending
        } else {
            Phase::Running
        }
    }
}

impl RecordSource {
    /// Tells the engine to flush and finish.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_client_loses_blocks_and_is_told_where() {
        let (mut sink, mut source) = recording();
        let block = Bytes::from_static(b"block");
        let mut lost = 0;
        for _ in 0..BLOCKS + 10 {
            lost += sink.offer(block.clone(), 3);
        }
        assert_eq!(lost, 30);
        for _ in 0..BLOCKS {
            assert_eq!(source.blocks.try_recv().unwrap(), Block::Data(block.clone()));
        }
        assert_eq!(sink.offer(block.clone(), 3), 0);
        assert_eq!(source.blocks.try_recv().unwrap(), Block::Lost(30));
        assert_eq!(source.blocks.try_recv().unwrap(), Block::Data(block));
    }

    #[test]
    fn the_end_waits_for_room_and_comes_after_what_is_missing() {
        let (mut sink, mut source) = recording();
        let (block, end) = (Bytes::from_static(b"block"), Bytes::from_static(b"end"));
        for _ in 0..=BLOCKS {
            sink.offer(block.clone(), 3);
        }
        sink.lose(1);
        assert!(!sink.finish(&end), "there is no room");
        let mut took = Vec::new();
        while !sink.finish(&end) {
            took.push(source.blocks.try_recv().unwrap());
        }
        took.extend(std::iter::from_fn(|| source.blocks.try_recv().ok()));
        assert_eq!(took.len(), BLOCKS + 2);
        assert_eq!(took[BLOCKS..], [Block::Lost(4), Block::Data(end)]);
    }

    #[test]
    fn phases_follow_the_client() {
        let (sink, source) = recording();
        assert_eq!(sink.phase(), Phase::Running);
        source.end();
        assert_eq!(sink.phase(), Phase::Ending);
        drop(source);
        assert_eq!(sink.phase(), Phase::Abandoned);
    }
}
