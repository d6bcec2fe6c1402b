//! Why an object is refused: a few sentences, bounded.

use std::fmt;

/// Sentences told at once. More help nobody, and an admission answer is one line in a terminal.
const MAX: usize = 6;

/// Bytes of a sentence: user text is quoted in it.
const MAX_SENTENCE: usize = 400;

/// Why an object is refused, in sentences that say what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    sentences: Vec<String>,
    more: usize,
}

impl Refusal {
    pub fn sentences(&self) -> &[String] {
        &self.sentences
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentences.join("; "))?;
        if self.more > 0 {
            write!(f, "; and {} more", self.more)?;
        }
        Ok(())
    }
}

/// Collects what speaks against an object.
#[derive(Debug, Default)]
pub struct Refusals {
    sentences: Vec<String>,
    more: usize,
}

impl Refusals {
    pub fn add(&mut self, sentence: impl Into<String>) {
        if self.sentences.len() == MAX {
            self.more += 1;
            return;
        }
        let mut sentence: String =
            sentence.into().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if sentence.len() > MAX_SENTENCE {
            let end = (0..=MAX_SENTENCE).rev().find(|&i| sentence.is_char_boundary(i)).unwrap_or(0);
            sentence.truncate(end);
            sentence.push('…');
        }
        self.sentences.push(sentence);
    }

    pub fn into_refusal(self) -> Refusal {
        Refusal { sentences: self.sentences, more: self.more }
    }

    pub fn into_result(self) -> Result<(), Refusal> {
        if self.sentences.is_empty() { Ok(()) } else { Err(self.into_refusal()) }
    }
}
