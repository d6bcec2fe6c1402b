//! Every metric's name and meaning, and no other file's business. Labels take values from closed sets.
//! docs/operator.md says the same; a test compares the two.

/// By kind of object and result: `done` or `failed`.
pub const LOOKS: (&str, &str) = ("headrace_operator_looks", "Looks at objects by the reconcilers");

/// By kind.
pub const OBJECTS: (&str, &str) = ("headrace_operator_objects", "Objects known to this replica");

pub const LEADING: (&str, &str) = ("headrace_operator_leading", "1 while this replica leads and writes");

pub const TERMS: (&str, &str) = ("headrace_operator_terms", "How often this replica began to lead");

/// By event: the tallies of `operator/src/ingest/counts.rs`, in lower case.
pub const WIRE: (&str, &str) =
    ("headrace_operator_wire_events", "What came over the wire and what was turned away");

pub const AGENTS: (&str, &str) =
    ("headrace_operator_agents", "Nodes whose agents have a stream to this replica");

pub const OPEN: (&str, &str) =
    ("headrace_operator_open_instructions", "Instructions for agents that have not ended");

/// By result: `answered` or `failed`.
pub const PASSED_ON: (&str, &str) =
    ("headrace_operator_passed_on", "Questions of webhooks and schedulers for the replica that leads");
