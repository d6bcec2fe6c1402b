//! The program itself, started as the operator's Job starts it.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::server::{KEY, SECRET};

pub struct Run {
    pub code: Option<i32>,
    pub report: Value,
    pub log: String,
}

impl Run {
    pub fn number(&self, field: &str) -> u64 {
        self.report[field].as_u64().unwrap_or_else(|| panic!("no {field}: {} {}", self.report, self.log))
    }

    pub fn error(&self) -> &str {
        self.report["error"].as_str().unwrap_or_else(|| panic!("no error: {} {}", self.report, self.log))
    }

    /// It went well.
    pub fn well(self) -> Self {
        assert_eq!(
            (self.code, &self.report["done"]),
            (Some(0), &json!(true)),
            "{} {}",
            self.report,
            self.log
        );
        self
    }
}

/// The program with a task; its result goes into `folder`.
pub fn command(task: &str, folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headrace-worker"));
    command.env_clear().env("HEADRACE_TASK", task).arg("--result").arg(folder.join("result"));
    for side in ["FROM", "TO"] {
        command.env(format!("HEADRACE_{side}_0"), KEY).env(format!("HEADRACE_{side}_1"), SECRET);
    }
    command.env("HEADRACE_REGION", "us-east-1");
    for port in task.split("HEADRACE_ENDPOINT_").skip(1) {
        let port: String = port.chars().take_while(char::is_ascii_digit).collect();
        command.env(format!("HEADRACE_ENDPOINT_{port}"), format!("http://127.0.0.1:{port}"));
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn ended(child: Child, folder: &Path) -> Run {
    let output = child.wait_with_output().unwrap();
    let text = std::fs::read_to_string(folder.join("result")).unwrap_or_default();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    for words in [&text, &log] {
        assert!(!words.contains(SECRET) && !words.contains(KEY), "a secret is said: {words}");
        assert!(!words.contains("panicked"), "{words}");
    }
    assert!(text.len() <= 4096, "the kubelet cuts it");
    Run { code: output.status.code(), report: serde_json::from_str(&text).unwrap_or(Value::Null), log }
}

pub fn run(task: &Value) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let child = command(&task.to_string(), folder.path()).spawn().unwrap();
    ended(child, folder.path())
}

pub fn migrate(from: &Value, to: &Value) -> Value {
    json!({"task": 1, "do": "migrate", "from": from, "to": to})
}

pub fn folder(at: &TempDir) -> Value {
    json!({"folder": at.path()})
}

/// A side that is a bucket; its secrets are in the side's variables.
pub fn bucket(side: &str, uri: &str, at: std::net::SocketAddr) -> Value {
    let variable = |number: u8| format!("HEADRACE_{side}_{number}");
    json!({"uri": uri, "options": {"access_key_id": variable(0), "secret_access_key": variable(1),
        "endpoint": format!("HEADRACE_ENDPOINT_{}", at.port()), "region": "HEADRACE_REGION"}})
}
