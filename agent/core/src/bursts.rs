//! How long walks last: the lengths of those that have ended tell where the next one will.

/// Lengths of the last finished bursts of a kind: of a kind of file in pages, of a run's walks in files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bursts {
    last: [u32; 8],
    seen: u32,
}

/// How far a burst goes on, judged by those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    Unknown,
    /// Bursts of this length were seen, the shortest that is longer than this one.
    Till(u64),
    /// Bursts like this one ended here.
    Ends,
}

impl Bursts {
    pub fn push(&mut self, length: u64) {
        self.last[self.seen as usize % self.last.len()] = u32::try_from(length).unwrap_or(u32::MAX);
        self.seen = self.seen.saturating_add(1);
    }

    fn known(&self) -> &[u32] {
        &self.last[..(self.seen as usize).min(self.last.len())]
    }

    pub fn outlook(&self, done: u64) -> Outlook {
        let lengths = || self.known().iter().map(|length| u64::from(*length));
        if let Some(longer) = lengths().filter(|length| *length > done).min() {
            return Outlook::Till(longer);
        }
        // A burst half as long again as any before it is a walk of another kind.
        if lengths().filter(|length| length * 3 >= done * 2).count() >= 2 {
            return Outlook::Ends;
        }
        Outlook::Unknown
    }

    /// How many of a window's steps a burst will still take.
    pub fn limit(&self, done: u32, window: u32) -> u32 {
        match self.outlook(u64::from(done)) {
            Outlook::Unknown => window,
            Outlook::Till(length) => {
                window.min(u32::try_from(length).unwrap_or(u32::MAX).saturating_sub(done))
            }
            Outlook::Ends => 0,
        }
    }

    /// The length that all recent bursts had.
    pub fn usual(&self) -> Option<u64> {
        let known = self.known();
        let (min, max) = (known.iter().min()?, known.iter().max()?);
        (known.len() >= 3 && u64::from(*max) <= u64::from(*min) * 3 / 2).then_some(u64::from(*max))
    }
}
