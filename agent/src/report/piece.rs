//! What is to be brought in of a file, or let go. Pure.

use agent_core::{MountId, PAGE, Pages};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub mount: MountId,
    /// From the root of the file system.
    pub path: Box<[u8]>,
    pub pages: Vec<Pages>,
}

impl Piece {
    pub fn bytes(&self) -> u64 {
        self.pages.iter().map(|range| range.end.saturating_sub(range.start) * PAGE).sum()
    }

    /// Takes the first pages out of it, no more than `most`.
    pub fn cut(&mut self, most: u64) -> Self {
        let (mut left, mut pages) = (most, Vec::new());
        self.pages.retain_mut(|range| {
            let end = range.end.min(range.start.saturating_add(left));
            if range.start < end {
                pages.push(range.start..end);
                left -= end - range.start;
                range.start = end;
            }
            range.start < range.end
        });
        Self { mount: self.mount, path: self.path.clone(), pages }
    }
}
