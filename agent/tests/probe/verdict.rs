//! How a case ended under a plan.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All that was done was told, and nothing else.
    Seen,
    /// What was not in the page cache was told; hits are invisible to this plan on this kernel, and the
    /// plan says so.
    Misses,
    /// Invisible to this plan, and the plan says so.
    Unseen,
    /// The kernel or the machine has not got what the case needs.
    Absent(String),
    Failed(String),
}

impl Verdict {
    /// The word in a results file.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Misses => "misses",
            Self::Unseen => "unseen",
            Self::Absent(_) => "absent",
            Self::Failed(_) => "failed",
        }
    }

    pub fn detail(&self) -> &str {
        match self {
            Self::Seen | Self::Misses | Self::Unseen => "",
            Self::Absent(detail) | Self::Failed(detail) => detail,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seen => f.write_str("ok"),
            Self::Misses => f.write_str("ok (misses; this plan sees no hits here)"),
            Self::Unseen => f.write_str("ok (not to be seen by this plan)"),
            Self::Absent(why) => write!(f, "- ({why})"),
            Self::Failed(_) => f.write_str("FAILED"),
        }
    }
}
