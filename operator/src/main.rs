//! `headrace-operator`.

fn main() {}
