//! `headrace top`: one frame as text, and the live screen in a real terminal (tmux).

use std::process::{Command, Stdio};

use crate::fixture::{Fixture, stderr, stdout, until};

#[test]
fn one_frame_fits_the_classic_terminal() {
    let fixture = Fixture::new();
    let once = fixture.ask(&["top", "--once", "--interval", "0.1"]);
    assert!(once.status.success(), "{}", stderr(&once));
    let text = stdout(&once);
    assert_eq!(text.lines().count(), 24, "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.chars().all(|c| c == '\n' || !agent::cli::text::is_unsafe(c)), "{text:?}");
    for part in
        ["btf-tracepoint", "covered 97 %", "kept", "dropped", "shuffled epoch", "valid/0001.jpg", "epoch"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = fixture.ask(&["top", "--once", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!(json["workloads"].as_array().unwrap().len(), 1);
}

#[test]
fn without_a_terminal_it_says_so() {
    let fixture = Fixture::new();
    let refused = fixture.ask(&["top"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("--once"), "{}", stderr(&refused));
}

/// A tmux server of its own; killed when dropped.
struct Tmux {
    socket: String,
}

impl Tmux {
    fn new(socket: String, width: u16, height: u16) -> Self {
        let tmux = Self { socket };
        let (width, height) = (width.to_string(), height.to_string());
        let shell = "PS1='ready> ' exec sh";
        tmux.run(&["-f", "/dev/null", "new-session", "-d", "-x", &width, "-y", &height, shell]);
        tmux
    }

    fn run(&self, args: &[&str]) -> String {
        let output = Command::new("tmux")
            .args(["-S", &self.socket])
            .args(args)
            .env_remove("TMUX")
            .stdin(Stdio::null())
            .output()
            .expect("tmux is missing: apt-get install tmux");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn keys(&self, keys: &[&str]) {
        self.run(&[&["send-keys"], keys].concat());
    }

    fn shows(&self, what: &str) {
        until(&format!("{what:?} on the screen"), || self.run(&["capture-pane", "-p"]).contains(what));
    }

    fn hides(&self, what: &str) {
        until(&format!("{what:?} off the screen"), || !self.run(&["capture-pane", "-p"]).contains(what));
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.run(&["kill-server"]);
    }
}

#[test]
fn keys_work_and_the_terminal_comes_back() {
    let fixture = Fixture::new();
    let tmux = Tmux::new(fixture.folder.path().join("tmux").to_str().unwrap().to_owned(), 80, 24);
    tmux.shows("ready>");
    let command = format!(
        "{} top --interval 0.1 --socket {}",
        env!("CARGO_BIN_EXE_headrace"),
        fixture.socket.display()
    );
    let start = || tmux.keys(&[&command, "Enter"]);

    start();
    tmux.shows("shuffled epoch");
    tmux.shows("valid/0001.jpg");
    tmux.keys(&["?"]);
    tmux.shows("Help");
    tmux.keys(&["Escape"]);
    tmux.hides("Help");
    tmux.keys(&["p"]);
    tmux.shows("PAUSED");
    tmux.keys(&["p"]);
    tmux.hides("PAUSED");
    tmux.keys(&["s"]);
    tmux.shows("by total");
    tmux.keys(&["/", "valid", "Enter"]);
    tmux.shows("filter valid");
    tmux.hides("train/0001");
    tmux.keys(&["Escape"]);
    // Not before it has taken effect: an escape and what comes right behind it are one key to a terminal's program.
    tmux.hides("filter valid");
    tmux.keys(&["Tab"]);
    tmux.run(&["resize-window", "-x", "100", "-y", "30"]);
    tmux.shows("train/0001.jpg");
    // So low that only the pane in front fits, which is the files'.
    tmux.run(&["resize-window", "-x", "80", "-y", "12"]);
    tmux.shows("Files");
    tmux.hides("Ledger");
    tmux.run(&["resize-window", "-x", "20", "-y", "3"]);
    tmux.run(&["resize-window", "-x", "80", "-y", "24"]);
    tmux.shows("Ledger");
    tmux.keys(&["q"]);
    tmux.hides("Ledger");
    tmux.shows("ready>");

    // SIGTERM puts the terminal back as well: the shell's echo works and the screen is the old one.
    start();
    tmux.shows("shuffled epoch");
    let pane = tmux.run(&["display-message", "-p", "#{pane_pid}"]);
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", pane.trim())).unwrap();
    let pid: u32 = children.split_whitespace().next().unwrap().parse().unwrap();
    crate::fixture::kill(pid, rustix::process::Signal::TERM);
    tmux.hides("shuffled epoch");
    tmux.keys(&["echo back again", "Enter"]);
    tmux.shows("back again");
}
