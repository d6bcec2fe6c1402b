//! Helm, as `cargo xtask setup` builds it, on deploy/chart.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::programs;

/// Where the chart is.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("deploy").join("chart")
}

/// What it writes to its standard output; an error has what it writes to the other.
pub fn run(
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    kubeconfig: Option<&Path>,
) -> Result<String> {
    let folder = tempfile::tempdir().context("a folder for Helm's own files")?;
    let mut command = Command::new(program()?);
    // Nobody's repositories, plugins and cluster.
    command.env_clear().env("HELM_DRIVER", "secret");
    for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "HOME"] {
        command.env(name, folder.path());
    }
    command.env("KUBECONFIG", kubeconfig.unwrap_or(Path::new("/dev/null")));
    let output = command.args(arguments).output().context("starting helm")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "helm ended with {}: {words}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// The documents of a manifest, comments and empty ones left out.
pub fn documents(manifest: &str) -> Result<Vec<Value>> {
    let parts = manifest.split("\n---").map(serde_saphyr::from_str::<Value>);
    let documents: Result<Vec<Value>, _> = parts.collect();
    Ok(documents.context("a manifest is not understood")?.into_iter().filter(|one| !one.is_null()).collect())
}

fn program() -> Result<PathBuf> {
    let version = programs::pinned("helm", "helm.sh/helm/v3")?;
    let program = programs::cache()?.join("helm").join(version).join("helm");
    ensure!(
        program.is_file(),
        "this needs Helm, and {} is not there: run `cargo xtask setup`, which builds it once",
        program.display()
    );
    Ok(program)
}
