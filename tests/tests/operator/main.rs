//! The operator on a real control plane, as the ServiceAccount of deploy/rbac, with what RBAC allows it there and
//! nothing else.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod stage;

mod rights;

mod agent;

mod work;

mod told;

mod stores;

mod joined;

mod judged;

mod life;

mod faulty;

mod schemas;

mod given;

mod refusals;

mod status;

mod deployment;

mod agents;

mod faults;

mod skew;
