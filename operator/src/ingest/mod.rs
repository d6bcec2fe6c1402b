//! The agents' end of the wire: reports in, instructions out, over mutual TLS.
//!
//! `accept` lets connections in, `service` carries one stream, `session` (pure) says what each message means,
//! `check` (pure) turns a report into facts or refuses it, and the inventory folds them in. `desk` (pure) knows
//! which instruction is where; `directory` knows which Dataset lies on which file system. An agent can harm
//! nobody but itself: what it may say is bounded by its certificate, its bindings and its allowance.

pub mod limits;

pub mod counts;

pub mod directory;

pub mod work;

pub mod desk;

mod patterns;

mod profiles;

mod check;

pub mod hub;

mod session;

mod service;

mod places;

mod accept;

mod server;

pub use counts::{Counts, Tally};
pub use desk::{DeskError, Placed, Standing};
pub use directory::{Directory, Folder};
pub use hub::{Hub, SharedInventory};
pub use limits::Limits;
pub use profiles::{Profiles, Whose};
pub use server::{IngestError, Listening, bind};
pub use work::{Extent, FOR_PODS, Progress, State, Wish, Work};
