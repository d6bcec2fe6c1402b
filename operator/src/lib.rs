//! Headrace's operator: knows which bytes are where, decides where they should be, and steers pods to them.
//!
//! What decides is pure (`inventory`, `placement`); what listens (`ingest`, behind `certs`, and `watch`) feeds it;
//! what acts (`schedule`, `reconcile`) asks it.

pub mod config;

pub mod args;

pub mod inventory;

pub mod clock;

pub mod placement;

pub mod certs;

mod entrance;

pub mod ingest;

pub mod marks;

pub mod watch;

pub mod schedule;

pub mod reconcile;

pub mod lease;

pub mod metrics;

pub mod health;

pub mod census;

pub mod steering;

pub mod agents;

pub mod doors;

pub mod placing;

pub mod learned;

pub mod run;
