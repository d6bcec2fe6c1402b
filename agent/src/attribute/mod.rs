//! Who reads: the process behind a tgid, and the workload it belongs to.
//!
//! A process is looked up once in /proc and remembered; what tells one workload from another is its
//! executable and the script it runs. Of the arguments only the
//! script's path is ever kept: any other may be a secret, and the environment is not read at all. A process
//! that is gone before it could be asked is a value, `Identity::Gone`, and counted.

pub mod cgroup;

mod script;

mod process;

mod attributor;

pub use attributor::{Attributor, Counts, Identity};
pub use cgroup::{Container, Place, Qos, Runtime};
pub use process::Process;
