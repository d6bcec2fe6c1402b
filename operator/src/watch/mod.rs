//! The cluster as it is: reflectors of what the operator reads, which all replicas keep, leader or not.
//!
//! Each kind is listed and watched once; nothing else GETs. What the operator made itself is selected by
//! label ([`owned`]). A change wakes whoever is concerned ([`wake`]); what the rest must hear of is told ([`heard`]), and becomes facts
//! for the inventory ([`facts`]); which kinds have been listed is kept in [`listings`]. Of kinds that people write, what
//! cannot be read is left out ([`readable`]); of large ones a part is kept (`partly`). Bound pods are watched in `schedule`, which acts on them.

pub mod wake;

pub mod changes;

pub mod owned;

pub mod facts;

pub mod listings;

pub mod pace;

pub mod heard;

pub mod readable;

mod follow;

mod partly;

pub mod kind;

pub mod stores;

pub mod judged;

pub use heard::{Heard, Sink};
pub use judged::Judged;
pub use kind::Operation;
pub use listings::Listings;
pub use owned::Owned;
pub use pace::Pace;
pub use stores::Stores;
pub use wake::{Wake, Wakes};
