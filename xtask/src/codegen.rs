//! `cargo xtask codegen`: writes again what is written from code and kept in the tree.
//!
//! The writers are tests, which otherwise compare: what is stale fails `cargo xtask test`.

use anyhow::Result;

use crate::place::Place;
use crate::step;

/// (package, which of its tests): each writes its files when HEADRACE_BLESS is set.
const WRITERS: [(&str, [&str; 4]); 1] = [("operator-api", ["--features", "crd", "--test", "crds"])];

pub fn run(place: &Place) -> Result<()> {
    for (package, which) in WRITERS {
        let mut command = place.cargo();
        command.args(["test", "--quiet", "-p", package]).args(which).env("HEADRACE_BLESS", "1");
        step::stream(command)?;
    }
    Ok(())
}
