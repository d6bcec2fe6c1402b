//! An agent with a folder of its own, the stores and disks it watches, and processes that read from them.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::store::{Mounted, Store};

/// Beyond this a test has hung.
pub const LIMIT: Duration = Duration::from_secs(60);

pub const HEADRACE: &str = env!("CARGO_BIN_EXE_headrace");

/// Waits until it is so, and fails after `LIMIT`.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < LIMIT, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a program to its end, or fails after `LIMIT`.
pub fn run(program: &str, args: &[&OsStr]) -> Output {
    let child = Command::new(program)
        .args(args)
        .env_remove("HEADRACE_SOCKET")
        .env_remove("HEADRACE_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} is needed (apt install util-linux e2fsprogs): {error}"));
    let pid = child.id();
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(child.wait_with_output()));
    let output = ended.recv_timeout(LIMIT).unwrap_or_else(|_| {
        kill(pid, Signal::KILL);
        panic!("{program} {args:?} hangs")
    });
    output.unwrap()
}

pub fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Where agents of one test live, one after the other.
pub struct Home {
    pub folder: tempfile::TempDir,
    pub state: PathBuf,
}

impl Home {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("headrace-faults").tempdir().unwrap();
        let state = folder.path().join("state");
        Self { folder, state }
    }

    /// Apart from all else, to see what is left in it; the agent makes it and takes it away.
    pub fn run_folder(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    pub fn socket(&self) -> PathBuf {
        self.run_folder().join("agent.sock")
    }

    pub fn log(&self) -> String {
        let log = std::fs::read(self.folder.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// `headrace agent` with its folders, as words.
    pub fn agent_words(&self, more: &[&OsStr]) -> Vec<OsString> {
        let (socket, state) = (self.socket(), self.state.clone());
        let mut words: Vec<OsString> =
            vec![HEADRACE.into(), "agent".into(), "--socket".into(), socket.into()];
        words.extend(["--state".into(), state.into()]);
        words.extend(more.iter().map(|word| (*word).to_owned()));
        words
    }

    /// Starts an agent and waits until it answers; `before` are words of a program that becomes it.
    pub fn agent_behind(&self, before: &[&str], more: &[&OsStr]) -> Agent {
        self.started(before.iter().map(OsString::from).chain(self.agent_words(more)).collect(), |_| {})
    }

    /// Starts an agent by a command that is changed before.
    pub fn agent_changed(&self, change: impl FnOnce(&mut Command)) -> Agent {
        self.started(self.agent_words(&[]), change)
    }

    fn started(&self, words: Vec<OsString>, change: impl FnOnce(&mut Command)) -> Agent {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let (program, args) = words.split_first().unwrap();
        let mut command = Command::new(program);
        command.args(args).env_remove("HEADRACE_SOCKET").env_remove("HEADRACE_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        change(&mut command);
        let mut agent = Agent(command.spawn().unwrap());
        until("the agent answers", || {
            if let Some(status) = agent.0.try_wait().unwrap() {
                panic!("the agent ended with {status}: {}", self.log());
            }
            self.ask_raw(&["node".as_ref()]).status.success()
        });
        agent
    }

    pub fn agent(&self, watch: &Path) -> Agent {
        self.agent_behind(&[], &["--watch".as_ref(), watch.as_ref()])
    }

    pub fn ask_raw(&self, question: &[&OsStr]) -> Output {
        let socket = self.socket();
        let args: Vec<&OsStr> =
            question.iter().copied().chain(["--socket".as_ref(), socket.as_os_str()]).collect();
        run(HEADRACE, &args)
    }

    /// The answer as JSON; the agent must be there and well.
    pub fn ask(&self, question: &str) -> Value {
        let output = self.ask_raw(&[question.as_ref(), "-o".as_ref(), "json".as_ref()]);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{question}: {error}: {}\n{}", stderr(&output), self.log()))
    }

    pub fn number(&self, field: &str) -> u64 {
        self.ask("node")[field].as_u64().unwrap()
    }

    /// The check of this name in `headrace doctor`.
    pub fn check(&self, name: &str) -> Option<Value> {
        self.checks(name).into_iter().next()
    }

    /// All checks of this name.
    pub fn checks(&self, name: &str) -> Vec<Value> {
        let checks = self.ask("doctor")["checks"].as_array().unwrap().clone();
        checks.into_iter().filter(|check| check["name"] == name).collect()
    }

    /// Files in the state folder with this suffix.
    pub fn kept(&self, suffix: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.state).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.extension() == Some(suffix.as_ref())).collect()
    }

    /// Nothing was told as an error, and nothing has panicked.
    pub fn assert_calm(&self) {
        let log = self.log();
        assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
    }
}

/// Killed when dropped, should a test have failed before it stopped it.
pub struct Agent(Child);

impl Agent {
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn stop(&mut self, signal: Signal) -> ExitStatus {
        kill(self.id(), signal);
        self.wait()
    }

    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("the agent ends", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Ids of the BPF programs it holds, by the descriptors' fdinfo.
    pub fn programs(&self) -> BTreeSet<u32> {
        let folder = std::fs::read_dir(format!("/proc/{}/fdinfo", self.id())).unwrap();
        let texts = folder.flatten().filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
        let id = |text: String| {
            text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse::<u32>().ok())
        };
        texts.filter_map(id).collect()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// None of them is in the kernel any more; it lets go of programs a moment after their last descriptor.
pub fn assert_detached(programs: &BTreeSet<u32>) {
    assert!(!programs.is_empty(), "the agent held no program");
    until("the agent's programs are gone", || {
        let loaded = aya::programs::loaded_programs().filter_map(Result::ok);
        !loaded.into_iter().any(|program| programs.contains(&program.id()))
    });
}

/// A slow FUSE store, mounted in a folder of its own.
pub struct Remote {
    pub path: PathBuf,
    mounted: Option<Mounted>,
    _folder: tempfile::TempDir,
}

impl Remote {
    pub fn new(store: Store) -> Self {
        let folder = tempfile::Builder::new().prefix("headrace-store").tempdir().unwrap();
        let path = folder.path().join("mount");
        std::fs::create_dir(&path).unwrap();
        let mut remote = Self { path, mounted: None, _folder: folder };
        remote.mount(store);
        remote
    }

    pub fn mount(&mut self, store: Store) {
        self.mounted = None;
        self.mounted = Some(Mounted::start(&self.path, store, "store_process"));
    }

    /// To the server; the mount stays.
    pub fn signal(&self, signal: Signal) {
        kill(self.mounted.as_ref().unwrap().child.id(), signal);
    }

    pub fn files(&self, numbers: std::ops::Range<u64>) -> Vec<PathBuf> {
        numbers.map(|n| self.path.join(format!("f{n:05}"))).collect()
    }
}

/// An ext4 on a loop device.
pub struct Disk {
    pub path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Disk {
    pub fn new(bytes: u64) -> Self {
        let folder = tempfile::Builder::new().prefix("headrace-disk").tempdir().unwrap();
        let (image, path) = (folder.path().join("image"), folder.path().join("mount"));
        std::fs::create_dir(&path).unwrap();
        File::create(&image).unwrap().set_len(bytes).unwrap();
        let made = run("/usr/sbin/mkfs.ext4", &["-q".as_ref(), image.as_ref()]);
        assert!(made.status.success(), "{}", stderr(&made));
        let mounted = run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), path.as_ref()]);
        assert!(mounted.status.success(), "{}", stderr(&mounted));
        Self { path, _folder: folder }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.path, UnmountFlags::DETACH);
    }
}

/// A process that reads these files one after the other.
pub struct Reader(Child);

impl Reader {
    pub fn start(files: &[PathBuf]) -> Self {
        let child = Command::new("cat").args(files).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(child.unwrap())
    }

    pub fn wait(mut self) {
        until("the reader ends", || self.0.try_wait().unwrap().is_some());
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
