//! Every metric's name and meaning, and no other file's business. Labels take values from closed sets.

/// By kind of object and result: `done` or `failed`.
pub const LOOKS: (&str, &str) = ("headrace_operator_looks", "Looks at objects by the reconcilers");

/// By kind.
pub const OBJECTS: (&str, &str) = ("headrace_operator_objects", "Objects known to this replica");

pub const LEADING: (&str, &str) = ("headrace_operator_leading", "1 while this replica leads and writes");

pub const TERMS: (&str, &str) = ("headrace_operator_terms", "How often this replica began to lead");
