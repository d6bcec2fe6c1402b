//! The command line and the environment, known to no other file (but for AWS_…, which S3's client reads itself).

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::hush::Hush;

/// Holds the task.
pub const TASK: &str = "HEADRACE_TASK";

/// Does what a DataMigrate or DataBackup asks for, as HEADRACE_TASK says; or reads a backup again.
#[derive(Debug, Parser)]
#[command(
    name = "headrace-worker",
    version,
    after_help = "Exit status: 0 done; 1 failed, trying again may help; 2 trying again cannot help: task or command line are wrong, or the sentence says what to change; 3 restored, and a store is not as the manifest says; 130, 143 told to stop, goes on where it was when started again."
)]
pub struct Args {
    /// Where the result goes, as JSON: the pod's termination message. A place that cannot be written is told, and changes
    /// nothing.
    #[arg(long, value_name = "FILE", default_value = "/dev/termination-log")]
    pub result: PathBuf,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Verify a backup and print what it holds as YAML, for `kubectl apply -f -`.
    Restore {
        /// A file, or s3://bucket/folder/file; then keys and endpoint come from AWS_ACCESS_KEY_ID,
        /// AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT.
        #[arg(value_name = "FILE|URL")]
        from: PathBuf,
        /// Compare a mount's manifest with what PLACE holds now: a folder, s3://bucket/folder or https://host/file.
        /// MOUNT is where the Dataset has it, and may be left out where there is one. As often as there are mounts.
        #[arg(long, value_name = "[MOUNT=]PLACE")]
        against: Vec<String>,
    },
}

/// The value of a variable, if it is set to text.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Every secret that the operator may have handed over, or the surroundings have: none of it belongs into a sentence.
pub fn secrets() -> Hush {
    let secret = |name: &str| {
        name.starts_with("HEADRACE_FROM_")
            || name.starts_with("HEADRACE_TO_")
            || ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"].contains(&name)
    };
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        if secret(&name) { value.into_string().ok() } else { None }
    });
    Hush::new(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
        assert!(Args::try_parse_from(["headrace-worker", "restore"]).is_err());
        assert!(Args::try_parse_from(["headrace-worker"]).unwrap().command.is_none());
    }
}
