//! skeleton
pub mod mounts;

pub mod attribute;

pub mod pressure;

pub mod profiles;

pub mod record;
