//! The program `headrace-operator` itself, as far as it needs no cluster: what it says of its arguments and of having none, and that it
//! ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn run(arguments: &[&str]) -> Output {
    // No cluster of whoever runs the tests.
    Command::new(env!("CARGO_BIN_EXE_headrace-operator"))
        .args(arguments)
        .env_clear()
        .env("KUBECONFIG", "/nowhere/kubeconfig")
        .output()
        .unwrap()
}

#[test]
fn help_names_the_flags() {
    let help = run(&["--help"]);
    let text = String::from_utf8(help.stdout).unwrap();
    assert_eq!(help.status.code(), Some(0), "{text}");
    for flag in ["--namespace", "--agents", "--scheduling", "--certificates", "--log-format"] {
        assert!(text.contains(flag), "{flag} is not in:\n{text}");
    }
}

#[test]
fn an_argument_that_is_not_understood_is_named() {
    for (arguments, named) in [(&["--agents", "nonsense"][..], "--agents"), (&["--agent"], "--agent")] {
        let refused = run(arguments);
        let words = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{words}");
        assert!(words.contains(named), "{words}");
    }
}

#[test]
fn without_a_cluster_it_says_what_to_do() {
    let ended = run(&["--health", "127.0.0.1:0"]);
    let words = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{words}");
    assert!(words.contains("no way to a cluster") && words.contains("KUBECONFIG"), "{words}");
}

/// Polled until `done`; false after half a minute.
fn wait_for(mut done: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while !done() {
        if begun.elapsed() > Duration::from_secs(30) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

#[test]
fn it_ends_when_told_to_where_the_cluster_has_not_answered_yet() {
    let folder = std::env::temp_dir().join(format!("headrace-program-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let kubeconfig = folder.join("kubeconfig");
    // Nobody listens there.
    let nobody = "{apiVersion: v1, kind: Config, current-context: x, users: [{name: x, user: {}}], clusters: [{name: x, \
                  cluster: {server: 'http://127.0.0.1:1'}}], contexts: [{name: x, context: {cluster: x, user: x}}]}";
    fs::write(&kubeconfig, nobody).unwrap();
    let mut program = Command::new("/bin/sh")
        .args(["-c", "ulimit -S -n 256; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_headrace-operator")])
        .args(["--health", "127.0.0.1:0"])
        .env_clear()
        .env("KUBECONFIG", &kubeconfig)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", program.id());
    let listens = wait_for(|| {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default();
        // SIGTERM is the 15th, SIGUSR1, which is looked for last, the 10th.
        u64::from_str_radix(caught.trim(), 16)
            .is_ok_and(|caught| caught >> 14 & 1 == 1 && caught >> 9 & 1 == 1)
    });
    let limits = fs::read_to_string(format!("/proc/{}/limits", program.id())).unwrap_or_default();
    let told = Command::new("kill").args(["-TERM", &program.id().to_string()]).status().unwrap().success();
    let ended = wait_for(|| program.try_wait().unwrap().is_some());
    let _ = program.kill();
    let ended_with = program.wait().unwrap();
    fs::remove_dir_all(&folder).unwrap();
    assert!(listens && told && ended, "listens {listens}, told {told}, ended {ended}");
    assert!(ended_with.success(), "{ended_with}");
    // As many agents as a large cluster has nodes, whatever the shell or the container runtime left.
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
    let [soft, hard] =
        [3, 4].map(|at| files.split_whitespace().nth(at).and_then(|most| most.parse::<u64>().ok()));
    assert_eq!(soft, Some(hard.map_or(16_384, |hard| hard.min(16_384))), "{limits}");
}
