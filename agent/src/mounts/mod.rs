//! Which file systems there are, which of them are watched, and how a path on one is told from its root.
//!
//! Everything comes from `/proc/PID/mountinfo`, and a device is always the `s_dev` it prints: `st_dev`
//! differs from it on btrfs, and asking for it may hang on a dead server. A mount that exists only in
//! another mount namespace (a pod's) is found in the mountinfo of a process that uses it, and reached
//! through that process's root.

mod mountinfo;

mod spot;

mod kind;

mod table;

mod shown;

mod change;

mod device;

mod fdinfo;

mod source;

mod namespace;

mod watch;

mod select;

pub use change::{Changes, changes};
pub use fdinfo::{Fdinfo, device_of};
pub use kind::{Kind, kind};
pub use mountinfo::{Mount, below, escape, numbered, parse, trim};
pub use namespace::Namespace;
pub use select::{SelectError, select, selected};
pub use shown::{FileSystem, MOST_MOUNTS};
pub use source::{MountError, read_table};
pub use spot::Spot;
pub use table::MountTable;
pub use watch::MountWatch;

pub use device::{DEFAULT_READ_AHEAD, read_ahead_bytes};
