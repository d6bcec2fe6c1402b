//! Helm (Apache-2.0), which renders and installs deploy/chart in tests.

use std::time::Duration;

use anyhow::Result;

use super::State;
use super::gomodule::Module;
use crate::place::Place;

const HELM: Module = Module {
    title: "Helm",
    folder: "helm",
    requires: "helm.sh/helm/v3",
    programs: &[("helm", "helm.sh/helm/v3/cmd/helm")],
    fetch_limit: Duration::from_secs(10 * 60),
    // Two minutes on two free cores; more on busy ones.
    limit: Duration::from_secs(40 * 60),
    patience: "some two minutes, once",
    failure: "could not build Helm, by which the chart is tested. If the lines below speak of the network, check that \
              proxy.golang.org is reachable (GOPROXY names another), then run `cargo xtask setup` again",
};

pub fn check(place: &Place) -> Result<State> {
    HELM.check(place)
}

pub fn provide(place: &Place) -> Result<()> {
    HELM.provide(place, |version| format!("-s -w -X helm.sh/helm/v3/internal/version.version={version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_a_tool_of_the_module() {
        HELM.names_its_tools();
    }
}
