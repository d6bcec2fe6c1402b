//! The store that speaks S3 in tests: versitygw (Apache-2.0), which keeps objects as files of a folder, so that a test
//! sees and alters them behind its back.

use std::time::Duration;

use anyhow::Result;

use super::State;
use super::gomodule::Module;
use crate::place::Place;

const VERSITYGW: Module = Module {
    title: "the s3 server",
    folder: "stores",
    requires: "github.com/versity/versitygw",
    programs: &[("versitygw", "github.com/versity/versitygw/cmd/versitygw")],
    fetch_limit: Duration::from_secs(10 * 60),
    // Two minutes on two free cores; more on busy ones.
    limit: Duration::from_secs(40 * 60),
    patience: "some two minutes, once",
    failure: "could not build the store that speaks S3 in tests. If the lines below speak of the network, check that \
              proxy.golang.org is reachable (GOPROXY names another), then run `cargo xtask setup` again",
};

pub fn check(place: &Place) -> Result<State> {
    VERSITYGW.check(place)
}

pub fn provide(place: &Place) -> Result<()> {
    VERSITYGW.provide(place, |_| "-s -w".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_a_tool_of_the_module() {
        VERSITYGW.names_its_tools();
    }
}
