//! What the apiserver was asked, from its own audit log: the number of requests is not the operator's word.

use std::collections::{BTreeMap, BTreeSet};
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
    response_status: Status,
    #[serde(default)]
    request_received_timestamp: String,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    #[serde(default)]
    api_group: String,
    #[serde(default)]
    resource: String,
    #[serde(default)]
    subresource: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
}

impl Object {
    /// Such as `pods/status`, as roles name it.
    fn resource(&self) -> String {
        if self.subresource.is_empty() {
            return self.resource.clone();
        }
        format!("{}/{}", self.resource, self.subresource)
    }
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
}

/// What was asked of the apiserver, in the words of a role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    pub verb: String,
    pub group: String,
    /// With its subresource, such as `pods/status`.
    pub resource: String,
    /// Empty: all, or none.
    pub namespace: String,
    /// Empty: a list, or an object that has no name yet.
    pub name: String,
    /// The object was not there before: where a patch makes one, RBAC asks for the right to create too.
    pub created: bool,
}

/// The requests of `user` that came in at or after `since` (RFC 3339 in UTC, as the log writes it; empty
/// for all). A watch counts when it has ended.
pub fn requests(log: &Path, user: &str, since: &str) -> io::Result<Requests> {
    count(BufReader::new(File::open(log)?), user, since)
}

/// What `user` asked of objects, each once.
pub fn asked(log: &Path, user: &str) -> io::Result<BTreeSet<Asked>> {
    let mut asked = BTreeSet::new();
    each(BufReader::new(File::open(log)?), user, "", |verb, object, status| {
        let Some(object) = object else { return };
        asked.insert(Asked {
            verb,
            resource: object.resource(),
            group: object.api_group,
            namespace: object.namespace,
            name: object.name,
            created: status.code == 201,
        });
    })?;
    Ok(asked)
}

fn count(log: impl BufRead, user: &str, since: &str) -> io::Result<Requests> {
    let mut requests = Requests::new();
    each(log, user, since, |verb, object, _| {
        let resource = object.map(|object| object.resource()).unwrap_or_default();
        *requests.entry((verb, resource)).or_default() += 1;
    })?;
    Ok(requests)
}

fn each(
    log: impl BufRead,
    user: &str,
    since: &str,
    mut tell: impl FnMut(String, Option<Object>, Status),
) -> io::Result<()> {
    for line in log.lines() {
        // The last line may be half-written.
        let Ok(entry) = serde_json::from_str::<Entry>(&line?) else {
            continue;
        };
        let counts = entry.stage == "ResponseComplete" || entry.stage == "Panic";
        if !counts || entry.user.username != user || entry.request_received_timestamp.as_str() < since {
            continue;
        }
        tell(entry.verb, entry.object_ref, entry.response_status);
    }
    Ok(())
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
