//! What works on this node, what does not, and what to do about it.
//!
//! A `Check` is one line of `headrace doctor`. `machine` looks at the machine alone and needs no daemon;
//! `agent` judges what a running agent knows of itself, `operator` how it stands with its operator. Where
//! something cannot be found out, the check says so and warns: unknown is never shown as fine.

pub mod machine;

pub mod agent;

pub mod operator;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Ok,
    /// It works, with less than it could.
    Warn,
    /// The agent cannot work like this.
    Fail,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// A few words: "BTF", "probe plan".
    pub name: Box<str>,
    pub state: State,
    /// What was found.
    pub finding: Box<str>,
    /// What to do; empty when there is nothing.
    pub advice: Box<str>,
}

impl Check {
    pub fn ok(name: &str, finding: impl Into<Box<str>>) -> Self {
        Self { name: name.into(), state: State::Ok, finding: finding.into(), advice: "".into() }
    }

    pub fn warn(name: &str, finding: impl Into<Box<str>>, advice: impl Into<Box<str>>) -> Self {
        Self { name: name.into(), state: State::Warn, finding: finding.into(), advice: advice.into() }
    }

    pub fn fail(name: &str, finding: impl Into<Box<str>>, advice: impl Into<Box<str>>) -> Self {
        Self { name: name.into(), state: State::Fail, finding: finding.into(), advice: advice.into() }
    }
}
