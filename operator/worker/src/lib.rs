//! What a DataMigrate or DataBackup asks for, done: the program in the pod that the operator's Job starts.
//!
//! A migration copies files between folders and buckets: each is digested on its way and read back before it counts,
//! what is done is written down at the target, and a worker that was killed goes on from there. A backup keeps what
//! no store has: the Dataset, its versions, what was learned, and which files the stores held. See docs/operator.md.

pub mod hex;

pub mod name;

pub mod sealed;

pub mod hush;

pub mod say;

pub mod stop;

pub mod entry;

pub mod options;

pub mod uri;

pub mod task;

pub mod parts;

pub mod place;

pub mod journal;

pub mod plan;

pub mod ground;

pub mod large;

pub mod copy;

pub mod ledger;

pub mod report;

pub mod migrate;

pub mod stock;

pub mod mounts;

pub mod manifest;

pub mod archive;

pub mod backup;

pub mod restore;

pub mod args;

pub mod run;
