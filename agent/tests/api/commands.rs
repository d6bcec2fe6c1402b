//! Every command against a live server, as text and as JSON.

use std::process::Stdio;

use serde_json::Value;

use crate::fixture::{Fixture, headrace, run, stderr, stdout};

const COMMANDS: [&[&str]; 9] = [
    &["node"],
    &["workloads"],
    &["files"],
    &["files", "/mnt/data/train/", "--limit", "2"],
    &["explain", "/mnt/data/train/0001.jpg"],
    &["ledger"],
    &["residency"],
    &["latency"],
    &["version"],
];

fn harmless(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || !agent::cli::text::is_unsafe(c))
}

#[test]
fn every_command_answers_in_both_forms() {
    let fixture = Fixture::new();
    for args in COMMANDS {
        let text = fixture.ask(args);
        assert!(text.status.success(), "{args:?}: {}", stderr(&text));
        assert!(!text.stdout.is_empty() && harmless(&stdout(&text)), "{args:?}: {:?}", stdout(&text));
        let json = fixture.ask(&[args, &["--output", "json"]].concat());
        assert!(json.status.success(), "{args:?}: {}", stderr(&json));
        assert!(harmless(&stdout(&json)), "{args:?}: {:?}", stdout(&json));
        serde_json::from_str::<Value>(&stdout(&json)).unwrap_or_else(|e| panic!("{args:?}: {e}"));
    }
}

#[test]
fn tables_say_what_the_engine_knows() {
    let fixture = Fixture::new();
    let node = stdout(&fixture.ask(&["node"]));
    for part in ["btf-tracepoint", "97 % of it in memory", "/mnt/data", "kept", "dropped", "5.00 ms"] {
        assert!(node.contains(part), "{part}: {node}");
    }
    let files = stdout(&fixture.ask(&["files", "/mnt/data/valid"]));
    assert!(files.contains("/mnt/data/valid/0001.jpg") && !files.contains("train"), "{files}");
    let explain = stdout(&fixture.ask(&["explain", "/mnt/data/train/0001.jpg"]));
    assert!(explain.contains("train/0002.jpg (directory): the 12 files before"), "{explain}");
    let latency = stdout(&fixture.ask(&["latency"]));
    assert!(latency.contains("all"), "{latency}");
}

#[test]
fn names_reach_scripts_exactly() {
    let fixture = Fixture::new();
    let json: Value = serde_json::from_str(&stdout(&fixture.ask(&["files", "-o", "json"]))).unwrap();
    let hex = json["files"][1]["path_hex"].as_str().unwrap();
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
    assert_eq!(bytes, [b"/mnt/data/".as_slice(), crate::fixture::EVIL].concat());
    assert_eq!(json["files"][0]["path_hex"], Value::Null);
    assert_eq!(json["files"][0]["path"], "/mnt/data/train/0001.jpg");
}

#[test]
fn latencies_of_mounts_are_merged() {
    let fixture = Fixture::new();
    let json: Value = serde_json::from_str(&stdout(&fixture.ask(&["latency", "-o", "json"]))).unwrap();
    assert_eq!(json["mounts"].as_array().unwrap().len(), 2);
    assert_eq!(json["merged"][0]["count"], 200);
}

#[test]
fn refusals_have_a_sentence_and_a_status() {
    let fixture = Fixture::new();
    let unknown = fixture.ask(&["explain", "/mnt/data/never/seen"]);
    assert_eq!(unknown.status.code(), Some(4), "{}", stderr(&unknown));
    assert!(stderr(&unknown).contains("has not seen this file"), "{}", stderr(&unknown));
    let elsewhere = fixture.ask(&["files", "/nowhere/at/all"]);
    assert_eq!(elsewhere.status.code(), Some(1));
    assert!(stderr(&elsewhere).contains("on no watched mount (/mnt/data)"), "{}", stderr(&elsewhere));
    let absent = run(&mut headrace(&["node", "--socket", "/nonexistent/agent.sock"]));
    assert_eq!(absent.status.code(), Some(3));
    assert!(stderr(&absent).contains("sudo headrace agent"), "{}", stderr(&absent));
}

#[test]
fn a_dead_engine_is_told_not_waited_for() {
    for fixture in [Fixture::dead(), Fixture::gone()] {
        let node = fixture.ask(&["node"]);
        assert_eq!(node.status.code(), Some(1));
        assert!(stderr(&node).contains("engine"), "{}", stderr(&node));
        // The doctor is asked when something is wrong: it names the engine and still tells the rest.
        let doctor = fixture.ask(&["doctor"]);
        assert_eq!(doctor.status.code(), Some(1));
        assert!(stdout(&doctor).contains("fail engine"), "{}", stdout(&doctor));
        assert!(stdout(&doctor).contains("kernel"), "{}", stdout(&doctor));
        assert!(fixture.metrics.api_refusals() > 0);
    }
}

#[test]
fn the_doctor_works_with_and_without_an_agent() {
    let fixture = Fixture::new();
    let with = stdout(&fixture.ask(&["doctor"]));
    assert!(with.contains("O_DIRECT") && with.contains("BTF"), "{with}");
    let without = run(&mut headrace(&["doctor", "--socket", "/nonexistent/x", "-o", "json"]));
    let json: Value = serde_json::from_str(&stdout(&without)).unwrap();
    let names: Vec<_> =
        json["checks"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"kernel") && names.contains(&"agent"), "{names:?}");
}

#[test]
fn a_reader_that_leaves_is_no_fault() {
    let fixture = Fixture::new();
    let mut child =
        fixture.command(&["files"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), stderr(&ended).as_str()), (Some(0), ""));
}

#[test]
fn a_replay_prints_the_same_bytes_twice() {
    use agent_core::{MountId, Nanos, Observation, trace::Encoder};
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace");
    let (mut encoder, mut bytes) = (Encoder::new(), Vec::new());
    let mount = Observation::Mount {
        mount: MountId(0),
        dev: 50,
        source: "store".into(),
        fstype: "fuse".into(),
        read_ahead_bytes: 131_072,
    };
    encoder.push(Nanos(1), &mount, &mut bytes).unwrap();
    for tick in 1..100 {
        encoder.push(Nanos::from_millis(tick * 100), &Observation::Tick, &mut bytes).unwrap();
    }
    encoder.finish(&mut bytes);
    std::fs::write(&file, &bytes).unwrap();
    let replay = || run(&mut headrace(&["replay", file.to_str().unwrap(), "-o", "json"]));
    let (first, second) = (replay(), replay());
    assert!(first.status.success(), "{}", stderr(&first));
    assert_eq!(first.stdout, second.stdout);
    let json: Value = serde_json::from_str(&stdout(&first)).unwrap();
    assert_eq!(json["observations"], 100);

    // Cut and flipped: told, and what is good is used.
    bytes.truncate(bytes.len() - 3);
    std::fs::write(&file, &bytes).unwrap();
    let torn = replay();
    assert!(!stderr(&torn).is_empty());
    serde_json::from_str::<Value>(&stdout(&torn)).unwrap();
    std::fs::write(&file, b"not a recording").unwrap();
    let foreign = replay();
    assert_eq!(foreign.status.code(), Some(1));
    assert!(stderr(&foreign).contains("no headrace recording"), "{}", stderr(&foreign));
}
