//! The mounts of a backup's Dataset: where each is seen, and the store behind it or why that is not reached. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::options::concerns;
use crate::task::{self, Backup, End, Reach};
use crate::uri::relative;

#[derive(Clone, Debug, PartialEq)]
pub struct Mount {
    /// Where it is seen in the Dataset.
    pub at: String,
    pub url: String,
    pub end: Result<End, String>,
}

/// In the order of the spec. `variable` gives the value of an environment variable: options name those that hold secrets.
pub fn of(task: &Backup, variable: &dyn Fn(&str) -> Option<String>) -> Vec<Mount> {
    let mounts = task.spec["mounts"].as_array().into_iter().flatten();
    let mounts = mounts.enumerate().map(|(index, mount)| {
        let url = mount["mountPoint"].as_str().unwrap_or_default().to_owned();
        match task.mounts.get(index) {
            None => {
                let why = "the operator says nothing of it: operator and worker must be of one release";
                Mount { at: url.clone(), url, end: Err(why.into()) }
            }
            Some(reach) => {
                let options = [&task.spec["sharedOptions"], &mount["options"]];
                Mount { at: reach.at.clone(), end: end(reach, &url, options, variable), url }
            }
        }
    });
    mounts.collect()
}

/// A mount's own options win over the shared ones, whichever of them are secret.
fn end(
    reach: &Reach,
    url: &str,
    [shared, own]: [&Value; 2],
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<End, String> {
    let Reach { at: _, folder, path, options, unreached } = reach;
    if let Some(why) = unreached {
        return Err(why.clone());
    }
    if let Some(folder) = folder {
        let path = relative(path.as_deref().unwrap_or_default()).map_err(|why| why.to_string())?;
        return Ok(End::Folder { at: folder.into(), path });
    }
    let mut values = BTreeMap::new();
    let mut add = |options: &Value| {
        let options = options.as_object().into_iter().flatten();
        values.extend(options.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))));
    };
    add(shared);
    let mut secret = serde_json::Map::new();
    for (name, holder) in options {
        let absent = || format!("the Secret of option {} is not there", crate::name::shown(name.as_bytes()));
        secret.insert(name.clone(), Value::String(variable(holder).ok_or_else(absent)?));
    }
    add(&Value::Object(secret));
    add(own);
    values.retain(|name, _| concerns(name));
    task::store("from", url, &values).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::task::Task;

    #[test]
    fn each_mount_has_its_store_or_why_not() {
        let spec = json!({"sharedOptions": {"region": "shared", "endpoint": "http://shared", "juice.buffer": "1"}, "mounts": [
            {"mountPoint": "s3://b/x", "name": "x", "options": {"aws.endpoint": "http://own"}},
            {"mountPoint": "s3://b/y", "path": "/in/y", "options": {"region": "own"}},
            {"mountPoint": "pvc://c/z", "name": "z"}, {"mountPoint": "juicefs://j", "name": "j"},
            {"mountPoint": "s3://b/k", "name": "k"}, {"mountPoint": "s3://b/late", "name": "late"}]});
        let text = json!({"task": 1, "do": "backup", "to": {"folder": "/to"}, "include": ["Manifests"],
            "dataset": {"name": "d", "namespace": "n", "spec": spec}, "mounts": [
            {"at": "/x", "options": {}}, {"at": "/in/y", "options": {"access_key_id": "ID", "secret_access_key": "KEY", "region": "REGION"}},
            {"at": "/z", "folder": "/headrace/from-2", "path": "z"}, {"at": "/j", "unreached": "nobody speaks it"},
            {"at": "/k", "options": {"secret_access_key": "GONE"}}]});
        let variable = |name: &str| (name != "GONE").then(|| name.to_lowercase());
        let Task::Backup(task) = task::parse(&text.to_string(), &variable).unwrap() else { panic!() };
        assert!(task.named && task.manifests);
        let mounts = of(&task, &variable);
        let seen: Vec<_> = mounts.iter().map(|mount| &*mount.at).collect();
        assert_eq!(seen, ["/x", "/in/y", "/z", "/j", "/k", "s3://b/late"]);
        assert!(mounts[0].end.as_ref().unwrap_err().contains("is given twice"), "{mounts:?}");
        let Ok(End::Bucket { bucket, prefix, settings }) = &mounts[1].end else { panic!("{mounts:?}") };
        assert_eq!((&**bucket, prefix.as_ref().unwrap().utf8()), ("b", Some("y")));
        assert_eq!(settings.region.as_deref(), Some("own"), "a mount's own wins");
        assert_eq!(
            (settings.secret_key.as_deref(), settings.endpoint.as_deref()),
            (Some("key"), Some("http://shared"))
        );
        assert!(
            matches!(&mounts[2].end, Ok(End::Folder { path: Some(path), .. }) if path.utf8() == Some("z"))
        );
        for (at, words) in [(3, "nobody speaks it"), (4, "is not there"), (5, "of one release")] {
            assert!(mounts[at].end.as_ref().unwrap_err().contains(words), "{:?}", mounts[at]);
        }
    }
}
