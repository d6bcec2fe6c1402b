//! How the agent stands with its operator, noted by the reporter and shown by `headrace doctor`.
//!
//! Without it a node whose agent reaches no operator looks well: it goes on alone, and says so in its log only.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Check;

/// Characters of the operator's own words that are kept.
const WORDS: usize = 600;

/// Shared between the reporter and the engine; held for a copy only.
#[derive(Clone, Debug, Default)]
pub struct Standing(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// None while no operator is to be reported to.
    address: Option<String>,
    talk: Talk,
    /// Mounted folders that did not fit into what the operator was told.
    left_out: usize,
}

#[derive(Debug, Default)]
enum Talk {
    /// Since the start.
    #[default]
    NotYet,
    Now,
    /// Why it ended, or did not come about.
    Ended(String),
}

impl Standing {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is an operator to report to.
    pub fn expect(&self, address: &str) {
        self.state().address = Some(address.to_owned());
    }

    /// It has taken the agent's first words.
    pub fn talks(&self) {
        self.state().talk = Talk::Now;
    }

    /// It does not, or no longer.
    pub fn ended(&self, why: &str) {
        self.state().talk = Talk::Ended(why.chars().take(WORDS).collect());
    }

    /// It was told of the mounted folders, but for so many.
    pub fn left_out(&self, folders: usize) {
        self.state().left_out = folders;
    }

    pub fn checks(&self) -> Vec<Check> {
        let state = self.state();
        let Some(address) = &state.address else {
            return Vec::new();
        };
        let alone = "the agent watches and prefetches on its own and tries again by itself; until then \
                     the operator hears nothing new of this node, and brings nothing here";
        let mut checks = vec![match &state.talk {
            Talk::Now => Check::ok("operator", format!("reporting to {address}")),
            Talk::NotYet => Check::warn("operator", format!("{address} has not answered yet"), alone),
            Talk::Ended(why) => Check::warn("operator", format!("not reporting to {address}: {why}"), alone),
        }];
        if state.left_out > 0 && matches!(state.talk, Talk::Now) {
            checks.push(Check::warn(
                "reported folders",
                format!("{} mounted folders do not fit into what the operator takes in one message", state.left_out),
                "of Datasets that lie there nothing is reported, and nothing is brought in; mount fewer folders of one \
                 file system on this node, or ones with shorter paths",
            ));
        }
        checks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State as Found;

    #[test]
    fn what_is_said_is_how_it_stands_now() {
        let standing = Standing::default();
        let seen = || -> Vec<(Found, String)> {
            let checks = standing.checks();
            checks.into_iter().map(|check| (check.state, check.finding.into_string())).collect()
        };
        assert!(seen().is_empty(), "an agent without an operator lacks nothing");
        standing.expect("op:9443");
        assert_eq!(seen(), [(Found::Warn, "op:9443 has not answered yet".to_owned())]);
        standing.ended("the certificate is not known");
        let why = "not reporting to op:9443: the certificate is not known".to_owned();
        assert_eq!(seen(), [(Found::Warn, why)]);
        standing.talks();
        standing.left_out(3);
        let reporting = (Found::Ok, "reporting to op:9443".to_owned());
        assert_eq!(seen()[0], reporting);
        assert!(seen()[1].1.starts_with("3 mounted folders"), "{:?}", seen());
        standing.ended("it went");
        assert_eq!(seen().len(), 1, "what is told of nothing is not told of in part");
        standing.talks();
        standing.left_out(0);
        assert_eq!(seen(), [reporting]);
    }

    #[test]
    fn an_operator_that_talks_much_is_cut_short() {
        let standing = Standing::default();
        standing.expect("op:9443");
        standing.ended(&"ü".repeat(1 << 20));
        assert!(standing.checks()[0].finding.chars().count() < WORDS + 100);
    }
}
