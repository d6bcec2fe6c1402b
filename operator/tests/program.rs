//! The program `headrace-operator` itself, as far as it needs no cluster: what it says of its arguments and of having none.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::process::{Command, Output};

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
