//! The log: one line a thing, to standard error, without secrets.

use std::io::Write;

use crate::hush::Hush;

#[derive(Clone, Debug, Default)]
pub struct Say(pub Hush);

impl Say {
    pub fn line(&self, text: &str) {
        // A terminal that is gone must not hide the exit status.
        let _ = writeln!(std::io::stderr(), "headrace-worker: {}", self.0.clean(text));
    }
}
