//! `doctor` and `version`: what can be said with an agent, and without one.

use std::path::Path;
use std::process::ExitCode;

use operator_api::observability::v1 as wire;
use serde_json::json;

use super::client::connect;
use super::text::sentence;
use super::{CliError, json as as_json, show};
use crate::api::convert;
use crate::config::Output;
use crate::doctor::{Check, machine};
use crate::mounts::Namespace;

/// Asks the agent; where none answers, looks at the machine itself. Fails when a check does.
pub async fn doctor(socket: &Path, output: Output) -> Result<ExitCode, CliError> {
    let asked = async {
        let mut client = connect(socket).await?;
        Ok::<_, CliError>(client.doctor(wire::DoctorRequest {}).await?.into_inner().checks)
    };
    let checks = match asked.await {
        Ok(checks) => checks,
        Err(error) => {
            let mut checks = machine::checks(Namespace::default());
            checks.push(Check::warn(
                "agent",
                error.to_string(),
                "what an agent knows (its probe plan, its mounts) is missing here; the rest was looked at from \
                 this command, with your rights",
            ));
            checks.into_iter().map(convert::check).collect()
        }
    };
    let failed = checks.iter().any(|check| check.state == i32::from(wire::CheckState::Fail));
    show(
        output,
        || json!({ "checks": checks.iter().map(as_json::check).collect::<Vec<_>>() }),
        || text(&checks),
    )?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn text(checks: &[wire::Check]) -> String {
    let widest = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let state = as_json::check_state(check.state);
        let name = sentence(&check.name);
        text.push_str(&format!("{state:<5}{name:<widest$}  {}\n", sentence(&check.finding)));
        if !check.advice.is_empty() {
            let indent = " ".repeat(5 + widest);
            text.push_str(&format!("{indent}  → {}\n", sentence(&check.advice)));
        }
    }
    text
}

pub async fn version(socket: &Path, output: Output) -> Result<ExitCode, CliError> {
    let own = env!("CARGO_PKG_VERSION");
    let agent = match connect(socket).await {
        Ok(mut client) => match client.node(wire::NodeRequest {}).await {
            Ok(node) => Some(node.into_inner().version),
            Err(_) => None,
        },
        Err(_) => None,
    };
    show(
        output,
        || json!({"version": own, "agent": agent}),
        || match &agent {
            Some(agent) => format!("headrace {own}, agent {}\n", sentence(agent)),
            None => format!("headrace {own}, no agent answers\n"),
        },
    )?;
    Ok(ExitCode::SUCCESS)
}
