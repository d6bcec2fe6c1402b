//! The operator itself on a real control plane, with nodes whose agents do what they are told: what it knows steers
//! pods, and what it decides reaches nodes. It may do what deploy/rbac allows and nothing else.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod stage;

mod steering;

mod placing;

mod learning;

mod replicas;
