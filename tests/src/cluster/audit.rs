//! What the apiserver was asked, from its own audit log: the number of requests is not the operator's word.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

/// Requests by verb and resource, such as ("patch", "persistentvolumeclaims/status").
pub type Requests = BTreeMap<(String, String), u64>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    stage: String,
    verb: String,
    user: User,
    object_ref: Option<Object>,
    #[serde(default)]
    request_received_timestamp: String,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    subresource: String,
}

/// The requests of `user` that came in at or after `since` (RFC 3339 in UTC, as the log writes it; empty
/// for all). A watch counts when it has ended.
pub fn requests(log: &Path, user: &str, since: &str) -> io::Result<Requests> {
    count(BufReader::new(File::open(log)?), user, since)
}

fn count(log: impl BufRead, user: &str, since: &str) -> io::Result<Requests> {
    let mut requests = Requests::new();
    for line in log.lines() {
        // The last line may be half-written.
        let Ok(entry) = serde_json::from_str::<Entry>(&line?) else {
            continue;
        };
        let counts = entry.stage == "ResponseComplete" || entry.stage == "Panic";
        if !counts || entry.user.username != user || entry.request_received_timestamp.as_str() < since {
            continue;
        }
        let resource = match entry.object_ref {
            Some(Object { resource, subresource }) if subresource.is_empty() => resource,
            Some(Object { resource, subresource }) => format!("{resource}/{subresource}"),
            None => String::new(),
        };
        *requests.entry((entry.verb, resource)).or_default() += 1;
    }
    Ok(requests)
}

pub fn total(requests: &Requests) -> u64 {
    requests.values().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_counts_once_and_only_for_its_user() {
        let log = concat!(
            r#"{"stage":"ResponseComplete","verb":"patch","user":{"username":"a"},"objectRef":{"resource":"pods","subresource":"status"},"requestReceivedTimestamp":"2026-01-02T00:00:00.5Z"}"#,
            "\n",
            r#"{"stage":"ResponseStarted","verb":"watch","user":{"username":"a"},"objectRef":{"resource":"pods"},"requestReceivedTimestamp":"2026-01-02T00:00:00.5Z"}"#,
            "\n",
            r#"{"stage":"ResponseComplete","verb":"get","user":{"username":"b"},"requestReceivedTimestamp":"2026-01-02T00:00:00.5Z"}"#,
            "\n",
            r#"{"stage":"ResponseComplete","verb":"get","user":{"username":"a"},"requestReceivedTimestamp":"2026-01-01T00:00:00.5Z"}"#,
            "\n",
            r#"{"stage":"Respo"#,
        );
        let all = count(log.as_bytes(), "a", "").unwrap();
        assert_eq!(total(&all), 2);
        let late = count(log.as_bytes(), "a", "2026-01-01T12").unwrap();
        assert_eq!(late.into_iter().collect::<Vec<_>>(), [(("patch".into(), "pods/status".into()), 1)]);
    }
}
