//! The worker on folders and on a real store that speaks S3: what is copied is what was there, whatever happens on
//! the way.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

mod server;

mod spoiler;

mod worker;

mod folders;

mod interrupted;

mod resumed;

mod web;

mod buckets;

mod trouble;

mod changing;

mod backups;
