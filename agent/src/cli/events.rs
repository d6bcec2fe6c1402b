//! `events`: what happens, one line each, until it is interrupted.

use std::path::Path;
use std::time::Instant;

use operator_api::observability::v1 as wire;
use operator_api::observability::v1::event::What;

use super::answers::ask_node;
use super::client::{Client, ClientError};
use super::text::{printable, sentence, size};
use super::{CliError, json, paths, print};
use crate::config::Output;

pub async fn events(
    mut client: Client,
    output: Output,
    prefix: Option<&Path>,
    count: Option<u64>,
) -> Result<(), CliError> {
    let request = match prefix {
        Some(prefix) => {
            let mounts = ask_node(&mut client).await?.mounts;
            let paths::Spot { mount, path } = paths::spot(&mounts, prefix)?;
            wire::EventsRequest { prefix: path, mount }
        }
        None => wire::EventsRequest::default(),
    };
    let mut stream = client.events(request).await?.into_inner();
    let started = Instant::now();
    let mut left = count.unwrap_or(u64::MAX);
    while left > 0 {
        // The agent ends streams only when it ends itself.
        let Some(event) = stream.message().await? else {
            return Err(ClientError::Ended.into());
        };
        match output {
            Output::Json => print(&json::line(&json::event(&event)))?,
            Output::Text => print(&line(&event, started.elapsed().as_secs_f64()))?,
        }
        left -= 1;
    }
    Ok(())
}

fn line(event: &wire::Event, seconds: f64) -> String {
    let told = match &event.what {
        Some(What::Read(read)) => {
            let pages = read.pages.unwrap_or_default();
            let covered = if read.covered { "in memory" } else { "missed" };
            format!(
                "read     {} pages {}..{} by {} ({} reads, {covered})",
                printable(&read.path),
                pages.start,
                pages.end,
                read.tgid,
                read.count
            )
        }
        Some(What::Fetch(fetch)) => format!(
            "fetch    {} {} ({}: {})",
            printable(&fetch.path),
            size(fetch.bytes),
            json::predictor(fetch.predictor),
            sentence(&fetch.reason)
        ),
        Some(What::Pattern(found)) => {
            format!("pattern  {} by {}: {}", printable(&found.path), found.tgid, sentence(&found.pattern))
        }
        Some(What::Mount(mount)) => {
            let survival = json::survival(mount.survival);
            format!("mount    {}: warmed pages {survival}", printable(mount.source.as_bytes()))
        }
        Some(What::KernelLost(lost)) => {
            format!(
                "lost     {} records were dropped by the kernel side: what was learned has holes",
                lost.records
            )
        }
        Some(What::Lagged(lagged)) => {
            format!("skipped  {} events: this command was too slow for them", lagged.events)
        }
        None => "unknown  an event this version has no name for: upgrade this command".to_owned(),
    };
    format!("{seconds:>9.3}  {told}\n")
}

#[cfg(test)]
mod tests {
    use super::super::text::is_unsafe;
    use super::*;

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let what =
            What::Read(wire::event::Read { path: b"a\x1b]0;owned\x07\n\xff".to_vec(), ..Default::default() });
        let line = line(&wire::Event { what: Some(what) }, 0.0);
        assert!(!line.trim_end().chars().any(is_unsafe), "{line:?}");
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn an_event_of_a_newer_agent_is_named_unknown() {
        assert!(line(&wire::Event { what: None }, 0.0).contains("unknown"));
    }
}
