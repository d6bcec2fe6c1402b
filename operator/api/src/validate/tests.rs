//! Objects that cannot work are refused with what to change; others are not; nothing panics.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::graph::Graph;
use super::schedule::Schedule;
use super::url::{StoreUrl, UrlError};
use super::*;
use crate::crd::operation::{OperationKind, OperationRef};

#[derive(Default)]
struct World {
    datasets: BTreeMap<(String, String), Arc<Dataset>>,
    claims: BTreeMap<(String, String), Claim>,
    operations: Graph,
    room: Option<Room>,
}

impl Known for World {
    fn dataset(&self, namespace: &str, name: &str) -> Option<Arc<Dataset>> {
        self.datasets.get(&(namespace.into(), name.into())).cloned()
    }
    fn claim(&self, namespace: &str, name: &str) -> Option<Claim> {
        self.claims.get(&(namespace.into(), name.into())).cloned()
    }
    fn operations(&self, _: &str) -> Graph {
        self.operations.clone()
    }
    fn roomiest_node(&self) -> Option<Room> {
        self.room
    }
    fn now(&self) -> Timestamp {
        "2026-11-24T09:00:00Z".parse().unwrap()
    }
}

fn dataset(spec: Value) -> String {
    json!({"apiVersion": "headrace.io/v1alpha1", "kind": "Dataset",
           "metadata": {"name": "data", "namespace": "a"}, "spec": spec})
    .to_string()
}

fn operation(kind: &str, spec: Value) -> String {
    json!({"apiVersion": "headrace.io/v1alpha1", "kind": kind,
           "metadata": {"name": "op", "namespace": "a"}, "spec": spec})
    .to_string()
}

/// Says that `text` is refused with a sentence that holds `words`.
fn refused(world: &World, kind: &str, text: &str, words: &str) {
    let refusal = object(kind, "a", text, world).expect_err(words).to_string();
    assert!(refusal.contains(words), "'{refusal}' does not say '{words}'");
}

#[test]
fn a_plain_dataset_is_admitted() {
    let text = dataset(json!({"mounts": [{"mountPoint": "s3://bucket/train", "name": "train"}],
        "sharing": {"grants": [{"namespace": "b"}]},
        "cache": {"replicas": "auto", "quota": "10Gi", "nodeSelector": {"headrace.io/cache": "yes"}}}));
    assert_eq!(
        object(
            "Dataset",
            "a",
            &text,
            &World { room: Some(Room { bytes: 10 << 30, nodes: 2 }), ..World::default() }
        ),
        Ok(())
    );
    assert_eq!(object("ConfigMap", "a", "no JSON at all", &World::default()), Ok(()));
}

#[test]
fn datasets_that_cannot_work_are_refused_with_what_to_change() {
    let mount = json!({"mountPoint": "s3://bucket/x", "name": "x"});
    let cases = [
        (json!({"mounts": [{"mountPoint": "ftp://host/x", "name": "x"}]}), "ftp:// is no store"),
        (json!({"mounts": [{"mountPoint": "s3://user:pass@b/x", "name": "x"}]}), "encryptOptions"),
        (json!({"mounts": [{"mountPoint": "s3:///x", "name": "x"}]}), "names no bucket"),
        (json!({"mounts": [{"mountPoint": "https://h/a/../../b", "name": "x"}]}), "'..'"),
        (
            json!({"mounts": [{"mountPoint": "s3://b", "name": "x"}, {"mountPoint": "s3://c", "path": "/x/"}]}),
            "another path",
        ),
        (
            json!({"mounts": [{"mountPoint": "s3://b", "name": "x", "options": {"aws.secretKey": "hush"}}]}),
            "in the clear",
        ),
        (
            json!({"mounts": [mount], "sharedOptions": {"metaurl": "redis://:hush@h/1"}}),
            "sharedOptions hold a password in the value of 'metaurl': put the value into a Secret and name it in shared",
        ),
        (json!({"mounts": [mount], "cache": {"quota": "2Ti"}}), "above what any node can cache"),
        (
            json!({"mounts": [mount], "cache": {"tieredstore": {"levels": [
            {"mediumtype": "MEM", "quota": "600Gi"}, {"mediumtype": "SSD", "quota": "600Gi"}]}}}),
            "the roomiest of the 2 whose agents have reported has 1.0TiB",
        ),
        (json!({"mounts": [mount], "cache": {"nodeSelector": {"a b": "c"}}}), "no label"),
        (
            json!({"mounts": [mount], "cache": {"tolerations": [{"operator": "Sometimes", "key": "k"}]}}),
            "Equal or Exists",
        ),
        (json!({"mounts": [mount], "sharing": {"grants": [{"namespace": "a"}]}}), "needs no grant"),
        (json!({"mounts": [mount], "sharing": {"grants": [{"namespace": "b"}]}}), "set claimName"),
        (json!({"mounts": "none"}), "cannot be read"),
    ];
    let claim = Claim { dataset: ("c".into(), "data".into()) };
    let world = World {
        room: Some(Room { bytes: 1 << 40, nodes: 2 }),
        claims: BTreeMap::from([(("b".into(), "data".into()), claim)]),
        ..World::default()
    };
    for (spec, words) in cases {
        refused(&world, "Dataset", &dataset(spec), words);
    }
}

#[test]
fn what_fluid_writes_and_nobody_here_could_find_is_refused_with_what_to_write() {
    for (url, words) in [
        ("juicefs:///", ["write juicefs://NAME/folder", "/proc/mounts has JuiceFS:NAME"]),
        ("juicefs:///demo", ["write juicefs://NAME/folder", "takes the name from a Secret"]),
        (
            "demofs:///",
            [
                "demofs:// is no store that is known",
                "mounted://SOURCE/folder with the SOURCE of /proc/mounts",
            ],
        ),
        ("demofs://host/x", ["a slash in it as %2F", "known are s3, gs"]),
        ("dataset://default/phy", ["spec.sharing.grants", "use the claim that is then made here"]),
        ("nfs://nas:/export", ["its host and port cannot be told", "write nfs://host/export"]),
    ] {
        let spec = json!({"mounts": [{"mountPoint": url, "name": "x"}]});
        for words in words {
            refused(&World::default(), "Dataset", &dataset(spec.clone()), words);
        }
    }
    // What they say instead is understood, and found on nodes.
    for (url, source) in [("juicefs://data/demo", "JuiceFS:data"), ("mounted://demofs:%2Fx/y", "demofs:/x")] {
        assert_eq!(StoreUrl::parse(url).unwrap().mounted().unwrap().0, source);
    }
}

#[test]
fn one_option_in_two_places_is_refused_where_no_rule_says_which_wins() {
    let secret =
        |name: &str| json!([{"name": name, "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]);
    let judged = |shared: Value, shared_secret: Value, own: Value, own_secret: Value| {
        let mount =
            json!({"mountPoint": "s3://b", "name": "x", "options": own, "encryptOptions": own_secret});
        let spec = json!({"mounts": [mount], "sharedOptions": shared, "sharedEncryptOptions": shared_secret});
        object("Dataset", "a", &dataset(spec), &World::default()).err().map(|refusal| refusal.to_string())
    };
    let (plain, hidden) = (json!({"endpoint": "http://h"}), secret("endpoint"));
    let (no, none) = (json!({}), json!([]));
    for (shared, shared_secret, own, own_secret, words) in [
        (&plain, &hidden, &no, &none, Some("is in sharedOptions and in sharedEncryptOptions")),
        (&no, &none, &plain, &hidden, Some("is in options and in encryptOptions")),
        (&plain, &none, &plain, &none, None),
        (&plain, &none, &no, &hidden, None),
        (&no, &hidden, &plain, &none, None),
        (&no, &hidden, &no, &hidden, None),
    ] {
        let said = judged(shared.clone(), shared_secret.clone(), own.clone(), own_secret.clone());
        match words {
            None => assert_eq!(said, None, "a mount's own wins"),
            Some(words) => assert!(said.as_ref().is_some_and(|said| said.contains(words)), "{said:?}"),
        }
    }
}

#[test]
fn a_container_of_an_account_is_no_user_name() {
    for scheme in ["abfs", "abfss", "wasbs"] {
        let host = "account.dfs.core.windows.net";
        let url = StoreUrl::parse(&format!("{scheme}://container@{host}/train")).unwrap();
        assert_eq!((url.authority, url.path), (format!("container@{host}"), "train".into()));
        for authority in ["user:pass@b", "a@b@c", "@b", "a@", "a@b:c@d", "@"] {
            let refused = StoreUrl::parse(&format!("{scheme}://{authority}/x"));
            assert_eq!(refused, Err(UrlError::Credentials), "{authority}");
        }
        assert!(StoreUrl::parse(&format!("{scheme}://container/x")).is_ok());
    }
    assert_eq!(StoreUrl::parse("s3://user@bucket/x"), Err(UrlError::Credentials));
    assert_eq!(StoreUrl::parse("az://user@bucket/x"), Err(UrlError::Credentials));
}

#[test]
fn a_secret_never_shows_in_a_refusal() {
    let text = dataset(json!({"mounts": [
        {"mountPoint": "s3://key:hunter2@bucket/x", "name": "x", "options": {"password": "hunter2"}}]}));
    let refusal = object("Dataset", "a", &text, &World::default()).unwrap_err().to_string();
    assert!(!refusal.contains("hunter2"), "{refusal}");
}

#[test]
fn a_grant_is_needed_across_namespaces_and_its_absence_tells_nothing() {
    let load =
        |namespace: &str| operation("DataLoad", json!({"dataset": {"name": "d", "namespace": namespace}}));
    let shared: Dataset = serde_json::from_value(json!({"metadata": {"name": "d"},
        "spec": {"mounts": [], "sharing": {"grants": [{"namespace": "a"}]}}}))
    .unwrap();
    let mut closed = shared.clone();
    closed.spec.sharing = None;
    let world = World {
        datasets: BTreeMap::from([
            (("open".into(), "d".into()), Arc::new(shared)),
            (("shut".into(), "d".into()), Arc::new(closed)),
        ]),
        ..World::default()
    };
    assert_eq!(object("DataLoad", "a", &load("open"), &world), Ok(()));
    assert_eq!(object("DataLoad", "a", &load("a"), &world), Ok(()), "not there yet is no fault");
    let say = |namespace| object("DataLoad", "a", &load(namespace), &world).unwrap_err().to_string();
    assert_eq!(say("shut").replace("shut", "none"), say("none"));
}

#[test]
fn circles_are_told_with_their_way() {
    let reference = |name: &str| OperationRef { kind: OperationKind::DataLoad, name: name.into() };
    let world = World {
        operations: BTreeMap::from([
            (reference("b"), vec![reference("c")]),
            (reference("c"), vec![reference("x"), reference("op")]),
        ]),
        ..World::default()
    };
    let after = |name: &str| {
        operation(
            "DataLoad",
            json!({"dataset": {"name": "d"},
        "runAfter": [{"kind": "DataLoad", "name": name}]}),
        )
    };
    refused(&world, "DataLoad", &after("b"), "DataLoad op → DataLoad b → DataLoad c → DataLoad op");
    refused(&world, "DataLoad", &after("op"), "DataLoad op → DataLoad op");
    assert_eq!(object("DataLoad", "a", &after("x"), &world), Ok(()));
}

#[test]
fn schedules_are_understood_or_refused() {
    let load = |schedule: &str, zone: Option<&str>| {
        let spec =
            json!({"dataset": {"name": "d"}, "policy": "Cron", "schedule": schedule, "timeZone": zone});
        operation("DataLoad", spec)
    };
    let world = World::default();
    assert_eq!(object("DataLoad", "a", &load("0 3 * * 1-5", Some("Europe/Berlin")), &world), Ok(()));
    refused(&world, "DataLoad", &load("0 3 * *", None), "make five");
    refused(&world, "DataLoad", &load("0 3 * * * UTC", None), "make five");
    refused(&world, "DataLoad", &load("61 3 * * *", None), "not understood");
    refused(&world, "DataLoad", &load("0 3 * * *", Some("Mars/Olympus")), "not understood");
    refused(&world, "DataLoad", &load("0 0 30 2 *", None), "a day that exists");
}

#[test]
fn a_schedule_has_its_next_time_in_its_zone() {
    let schedule = Schedule::parse("30 2 * * *", Some("Europe/Berlin")).unwrap();
    let next = schedule.next("2026-11-24T09:00:00Z".parse().unwrap()).unwrap();
    assert_eq!(next.to_string(), "2026-11-25T01:30:00Z");
}

#[test]
fn processes_and_copies_that_cannot_work_are_refused() {
    let world = World::default();
    let process = |pod: Value| {
        operation(
            "DataProcess",
            json!({
        "dataset": {"name": "d", "mountPath": "/data"}, "processor": {"job": {"podSpec": pod}}}),
        )
    };
    refused(&world, "DataProcess", &process(json!({"containers": []})), "no containers");
    let clash = json!({"restartPolicy": "Always", "containers": [{"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/data/"}]}]});
    refused(&world, "DataProcess", &process(clash.clone()), "choose another mountPath");
    refused(&world, "DataProcess", &process(clash), "Never or OnFailure");
    let backup = operation("DataBackup", json!({"dataset": "d", "backupPath": "local:///tmp/x"}));
    refused(&world, "DataBackup", &backup, "whatever node");
    let migrate = operation(
        "DataMigrate",
        json!({
        "from": {"externalStorage": {"uri": "gopher://x/y"}}, "to": {"dataset": {"name": "d", "namespace": "z"}}}),
    );
    refused(&world, "DataMigrate", &migrate, "from.externalStorage.uri");
    refused(&world, "DataMigrate", &migrate, "may not use Dataset z/d");
    let end = json!({"externalStorage": {"uri": "s3://b/x"}});
    let same = operation("DataMigrate", json!({"from": end, "to": end}));
    refused(&world, "DataMigrate", &same, "nothing to copy");
}

#[test]
fn a_migration_into_its_own_source_is_refused_however_that_is_written() {
    let shared: Dataset = serde_json::from_value(json!({"metadata": {"name": "d"}, "spec": {
        "accessModes": ["ReadWriteMany"], "mounts": [{"mountPoint": "s3://b", "name": "m"}],
        "sharing": {"grants": [{"namespace": "a", "claimName": "lent"}]}}}))
    .unwrap();
    let own_and_mounted: Dataset = serde_json::from_value(json!({"metadata": {"name": "m"}, "spec": {
        "accessModes": ["ReadWriteMany"], "mounts": [
            {"mountPoint": "nfs://nas/export", "path": "/in/nas"}, {"mountPoint": "s3://n/x", "name": "n"},
            {"mountPoint": "s3://plain", "name": "p", "options": {"endpoint": "http://minio:9000"}},
            {"mountPoint": "s3://over", "path": "/n/over"}]}}))
    .unwrap();
    let secret = |name: &str| json!({"secretKeyRef": {"name": name, "key": "k"}});
    let elsewhere: Dataset = serde_json::from_value(json!({"metadata": {"name": "e"}, "spec": {
        "accessModes": ["ReadWriteMany"], "sharedEncryptOptions": [{"name": "endpoint", "valueFrom": secret("r")}],
        "mounts": [{"mountPoint": "s3://e", "name": "shared"},
            {"mountPoint": "s3://f", "name": "own", "encryptOptions": [{"name": "endpoint", "valueFrom": secret("w")}]}]}}))
    .unwrap();
    let minio: Dataset = serde_json::from_value(json!({"metadata": {"name": "minio"}, "spec": {
        "sharedOptions": {"endpoint": "http://minio:9000"}, "mounts": [{"mountPoint": "s3://data", "name": "m"}]}}))
    .unwrap();
    let world = World {
        datasets: BTreeMap::from([
            (("z".into(), "d".into()), Arc::new(shared)),
            (("a".into(), "m".into()), Arc::new(own_and_mounted)),
            (("a".into(), "elsewhere".into()), Arc::new(elsewhere)),
            (("a".into(), "minio".into()), Arc::new(minio)),
        ]),
        claims: BTreeMap::from([(("a".into(), "lent".into()), Claim { dataset: ("z".into(), "d".into()) })]),
        ..World::default()
    };
    let dataset = |name: &str, path: Option<&str>| json!({"dataset": {"name": name, "path": path}});
    let lent = |path: &str| json!({"dataset": {"name": "d", "namespace": "z", "path": path}});
    let own = |path: &str| json!({"dataset": {"name": "d", "namespace": "a", "path": path}});
    let url = |uri: &str| json!({"externalStorage": {"uri": uri}});
    let at = |uri: &str, option: &str, secret: &str| {
        let value = json!({"secretKeyRef": {"name": secret, "key": "k"}});
        json!({"externalStorage": {"uri": uri, "encryptOptions": [{"name": option, "valueFrom": value}]}})
    };
    let judged = |from: &Value, to: &Value| {
        let text = operation("DataMigrate", json!({"from": from, "to": to}));
        object("DataMigrate", "a", &text, &world).err().map(|refusal| refusal.to_string())
    };
    let cases = [
        (dataset("d", None), dataset("d", Some("/")), "nothing to copy"),
        (dataset("d", Some("/x/")), own("/./x"), "nothing to copy"),
        (dataset("d", None), dataset("d", Some("/copy")), "to lies inside of from"),
        (dataset("d", Some("/x")), url("pvc://d/x/y"), "to lies inside of from"),
        (dataset("d", Some("/x")), dataset("d", None), "from lies inside of to"),
        (lent("/x"), lent("/x/copy"), "to lies inside of from"),
        (lent("/x"), url("pvc://lent"), "from lies inside of to"),
        (url("pvc://c"), url("pvc://c/copy"), "to lies inside of from"),
        (url("s3://b"), url("S3://b/copy/"), "to lies inside of from"),
        (url("s3://b/x//"), url("s3://b/x"), "nothing to copy"),
        (url("s3://b/x/y"), url("s3://b/x"), "from lies inside of to"),
        (at("s3://b", "access_key_id", "r"), at("s3://b/c", "access_key_id", "w"), "to lies inside of from"),
        (at("s3://b", "aws.endpoint", "r"), at("s3://b/c", "aws.endpoint", "r"), "to lies inside of from"),
        (dataset("m", None), url("nfs://nas/export/copy"), "(Dataset a/m has nfs://nas/export at /in/nas)"),
        (dataset("m", Some("/n/y")), url("s3://n/x/y/z"), "to lies inside of from"),
        (dataset("m", Some("/in/nas")), url("nfs://nas/export"), "nothing to copy"),
        (dataset("m", Some("/in")), url("nfs://nas/export"), "to lies inside of from"),
        (url("nfs://nas/export"), dataset("m", Some("in")), "from lies inside of to"),
        (url("s3://n"), dataset("m", Some("n")), "to lies inside of from"),
        (url("s3://n/x/y/z"), dataset("m", Some("n/y")), "from lies inside of to"),
        (lent("/m"), url("s3://b/copy"), "is not below from (behind Dataset z/d)"),
        (dataset("elsewhere", None), at("s3://e/copy", "endpoint", "r"), "to lies inside of from"),
        (dataset("elsewhere", Some("own")), at("s3://f/copy", "endpoint", "w"), "to lies inside of from"),
        (url("s3://b/copy"), url("pvc://lent/m"), "from lies inside of to"),
    ];
    for (from, to, words) in cases {
        let refusal = judged(&from, &to).unwrap_or_else(|| panic!("{from} to {to} is admitted"));
        assert!(refusal.contains(words), "{from} to {to}: {refusal}");
    }
    for (from, to) in [
        (dataset("d", Some("/x")), dataset("d", Some("/xy"))),
        (dataset("d", None), dataset("e", Some("/copy"))),
        (dataset("d", None), url("pvc://lent/copy")),
        (lent("/x"), dataset("d", Some("/x/y"))),
        (url("s3://b/x"), url("s3://b/y")),
        (url("s3://b"), url("s3://c/copy")),
        (url("s3://b"), url("gs://b/copy")),
        (at("s3://b", "endpoint", "r"), at("s3://b/copy", "endpoint", "w")),
        (dataset("m", Some("/n/y")), url("s3://n/x/z")),
        (dataset("m", Some("/in/other")), url("nfs://nas/export/copy")),
        (dataset("m", None), url("s3://plain/copy")),
        (dataset("m", None), at("s3://n/x/copy", "endpoint", "w")),
        (dataset("m", Some("/n/over")), url("s3://n/x/over/copy")),
        (dataset("elsewhere", None), url("s3://e/copy")),
        (dataset("elsewhere", None), at("s3://f/copy", "endpoint", "r")),
        (dataset("minio", None), url("s3://data/copy")),
    ] {
        let refusal = judged(&from, &to).unwrap_or_default();
        assert!(
            !refusal.contains("from and to") && !refusal.contains("lies inside"),
            "{from} to {to}: {refusal}"
        );
    }
}

#[test]
fn urls_name_mounts_of_nodes() {
    let mounted = |text: &str| StoreUrl::parse(text).unwrap().mounted();
    let named = |source: &str, path: &str| Some((source.to_string(), path.to_string()));
    assert_eq!(mounted("nfs://nas/export/train/"), named("nas:/export/train", ""));
    for (text, source) in [
        ("nfs://nas:2049/export", "nas:/export"),
        ("nfs://nas/export//./train", "nas:/export/train"),
        ("nfs://[fd00::1]/export", "[fd00::1]:/export"),
        ("nfs://[fd00::1]:2049/export", "[fd00::1]:/export"),
    ] {
        assert_eq!(mounted(text), named(source, ""), "{text}");
    }
    for text in [
        "nfs://nas:/export",
        "nfs://nas:99999/x",
        "nfs://nas:0/x",
        "nfs://nas:+1/x",
        "nfs://fd00::1/x",
        "nfs://[]/x",
    ] {
        assert_eq!(StoreUrl::parse(text), Err(UrlError::Host), "{text}");
    }
    assert!(matches!(StoreUrl::parse("nfs://:2049/x"), Err(UrlError::Authority { .. })));
    assert_eq!(mounted("juicefs://data/train"), named("JuiceFS:data", "train"));
    assert_eq!(mounted("mounted://nas:%2Fexport/train"), named("nas:/export", "train"));
    assert_eq!(mounted("s3://bucket/train"), None);
    assert_eq!(StoreUrl::parse("mounted://a%zz/b"), Err(UrlError::Encoding));
    assert_eq!(StoreUrl::parse("mounted://a%2"), Err(UrlError::Encoding));
}

#[test]
fn amounts_are_bytes() {
    assert_eq!(quantity::bytes("1.5Gi"), Some(3 << 29));
    assert_eq!(quantity::bytes("4096"), Some(4096));
    for wrong in ["", "-1Gi", "1 Gi", "Gi", "1.", ".5", "1e3", "99999999999999999999", "9000Pi"] {
        assert_eq!(quantity::bytes(wrong), None, "{wrong}");
    }
    assert_eq!(quantity::words(1_288_490_189), "1.2GiB");
    assert_eq!(quantity::words((1 << 30) - 1), "1.0GiB");
}

proptest! {
    #[test]
    fn nothing_panics(kind in "Dataset|DataLoad|DataMigrate|DataBackup|DataProcess", text in ".{0,200}") {
        let _ = object(&kind, "a", &text, &World::default());
        let _ = StoreUrl::parse(&text);
        let _ = StoreUrl::parse(&format!("mounted://{text}"));
        let _ = quantity::bytes(&text);
        let _ = Schedule::parse(&text, Some(&text));
        let _ = Schedule::parse("* * * * *", Some(&text));
    }

    #[test]
    fn a_circle_is_found_exactly_where_there_is_one(edges in proptest::collection::vec((0_u8..8, 0_u8..8), 0..20)) {
        let reference = |i: u8| OperationRef { kind: OperationKind::DataProcess, name: i.to_string() };
        let mut graph = Graph::new();
        for &(from, to) in &edges {
            graph.entry(reference(from)).or_default().push(reference(to));
        }
        // Reachability, the slow way.
        let mut reach = [[false; 8]; 8];
        edges.iter().for_each(|&(a, b)| reach[a as usize][b as usize] = true);
        for k in 0..8 { for i in 0..8 { for j in 0..8 { reach[i][j] |= reach[i][k] && reach[k][j]; } } }
        let found = graph::circle(&graph, &reference(0));
        prop_assert_eq!(found.is_some(), reach[0][0]);
        if let Some(circle) = found {
            for pair in circle.windows(2) {
                prop_assert!(graph[&pair[0]].contains(&pair[1]));
            }
        }
    }
}
