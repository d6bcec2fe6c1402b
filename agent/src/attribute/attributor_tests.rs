//! A folder that looks like /proc, and one real process.

use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use super::super::cgroup::Place;
use super::*;

/// A folder that looks like /proc.
struct FakeProc {
    dir: tempfile::TempDir,
}

impl FakeProc {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn stat(&self, tgid: u32, name: &str, state: char, parent: u32, started: u64) -> &Self {
        self.flagged(tgid, name, &format!("{state} {parent}"), 0x40_0000, started)
    }

    /// `before` are the fields from the state to the parent.
    fn flagged(&self, tgid: u32, name: &str, before: &str, flags: u32, started: u64) -> &Self {
        let zeros = "0 ".repeat(12);
        self.write(tgid, "stat", &format!("{tgid} ({name}) {before} 0 0 0 0 {flags} {zeros}{started} 0 0\n"))
    }

    fn write(&self, tgid: u32, file: &str, content: &str) -> &Self {
        let dir = self.dir.path().join(tgid.to_string());
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(file), content).unwrap();
        self
    }

    fn link(&self, tgid: u32, name: &str, target: &str) -> &Self {
        let link = self.dir.path().join(tgid.to_string()).join(name);
        let _ = fs::remove_file(&link);
        symlink(target, link).unwrap();
        self
    }

    /// A process that runs `cmdline` in /srv, where the script train.py is.
    fn run(&self, tgid: u32, parent: u32, exe: &str, cmdline: &str) -> &Self {
        let root = self.dir.path().join("rootfs");
        fs::create_dir_all(root.join("srv")).unwrap();
        fs::write(root.join("srv/train.py"), "").unwrap();
        self.stat(tgid, "python3", 'S', parent, 100 + u64::from(tgid))
            .write(tgid, "cmdline", cmdline)
            .write(tgid, "cgroup", "0::/user.slice\n")
            .link(tgid, "exe", exe)
            .link(tgid, "cwd", "/srv")
            .link(tgid, "root", root.to_str().unwrap())
    }

    fn attributor(&self) -> Attributor {
        Attributor::new(self.dir.path())
    }
}

fn known(identity: Identity) -> Arc<Process> {
    match identity {
        Identity::Known(process) => process,
        Identity::Gone => panic!("gone"),
    }
}

const PYTHON: &str = "/usr/bin/python3.11";

#[test]
fn workers_of_one_program_share_their_key() {
    let fake = FakeProc::new();
    fake.run(1, 0, "/sbin/init", "init\0")
        .run(10, 1, PYTHON, "python3\0train.py\0--key\0hunter2\0")
        // Forked.
        .run(11, 10, PYTHON, "python3\0train.py\0--key\0hunter2\0")
        // Spawned by multiprocessing, directly and through the fork server.
        .run(12, 10, PYTHON, "python3\0-c\0from multiprocessing.spawn import spawn_main\0")
        .run(13, 12, PYTHON, "python3\0-c\0from multiprocessing.forkserver import main\0")
        // Renamed itself.
        .run(14, 10, PYTHON, "pt_data_worker: 3")
        // Given by another path.
        .run(15, 1, PYTHON, "/usr/bin/python3\0-u\0../srv/./train.py\0");
    let mut attributor = fake.attributor();
    let first = known(attributor.identify(10));
    let key = first.workload();
    assert_eq!(key, "host exe=/usr/bin/python3.11 script=/srv/train.py");
    assert_eq!(first.label(), "python3.11 train.py");
    for tgid in 11..=15 {
        let worker = known(attributor.identify(tgid));
        assert_eq!(worker.workload(), key, "{tgid}");
        assert!(!format!("{worker:?}").contains("hunter2"));
    }
    assert_eq!(known(attributor.identify(1)).workload(), "host exe=/sbin/init");
    // No two keys look alike.
    fake.run(16, 1, "/opt/my app script=y", "app\0");
    let key = known(attributor.identify(16)).workload();
    assert_eq!(key, "host exe=/opt/my\\x20app\\x20script=y");
}

#[test]
fn a_script_that_is_not_in_the_directory_stays_as_given() {
    let fake = FakeProc::new();
    fake.run(10, 0, PYTHON, "python3\0train.py\0")
        .write(10, "mountinfo", "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n")
        .link(10, "cwd", "/srv/outputs/2026-11-23");
    let process = known(fake.attributor().identify(10));
    assert_eq!(process.script.as_deref(), Some("train.py"));
    // A server is not asked; the script is taken to be where it was started from.
    for (at, fstype) in ["nfs4", "fuse.lxcfs", "fuse.fuse-overlayfs", "autofs"].into_iter().enumerate() {
        let cwd = format!("/srv/never-looked-up/{at}");
        fake.write(10, "mountinfo", &format!("1 0 0:50 / / rw - {fstype} nas:/ rw\n")).link(10, "cwd", &cwd);
        let process = known(fake.attributor().identify(10));
        assert_eq!(process.script.as_deref(), Some(&*format!("{cwd}/train.py")), "{fstype}");
    }
}

#[test]
fn pods_are_labelled_and_keyed_without_their_uid() {
    let fake = FakeProc::new();
    let uid = "0f90f31c-ebd9-4f8c-9f2d-3a1d1b9c7e55";
    let id = "7be92808767a".repeat(6);
    let cgroup = format!("0::/kubepods/burstable/pod{uid}/{}\n", &id[..64]);
    fake.run(10, 0, "/app/reader", "reader\0secret\0").write(10, "cgroup", &cgroup);
    let process = known(fake.attributor().identify(10));
    assert_eq!(process.workload(), "pod exe=/app/reader");
    assert_eq!(process.label(), format!("reader (pod {uid}, container 7be92808767a)"));
}

#[test]
fn gone_ended_and_reborn() {
    let fake = FakeProc::new();
    let mut attributor = fake.attributor();
    assert_eq!(attributor.identify(10), Identity::Gone);
    assert_eq!(attributor.counts().gone, 1);
    fake.run(10, 0, PYTHON, "python3\0train.py\0");
    let first = known(attributor.identify(10));
    assert_eq!(attributor.identify(10), Identity::Known(first.clone()));
    assert_eq!(attributor.counts().remembered, 1);
    // A zombie, and one that is gone with reads still to be told, are who they were.
    fake.stat(10, "python3", 'Z', 0, 110);
    assert_eq!(attributor.identify(10), Identity::Known(first.clone()));
    fs::rename(fake.dir.path().join("10"), fake.dir.path().join("x")).unwrap();
    assert_eq!(attributor.identify(10), Identity::Known(first.clone()));
    attributor.forget(10);
    assert_eq!(attributor.identify(10), Identity::Gone);
    // The number is given out again.
    fake.run(10, 0, "/bin/cat", "cat\0").stat(10, "cat", 'R', 0, 999);
    assert_eq!(known(attributor.identify(10)).exe.as_deref(), Some("/bin/cat"));
}

/// Between the word of its end and its end as a zombie a process has lost its executable already; its last records come
/// then, when it is forgotten. It was a workload of its own by its name.
#[test]
fn who_is_about_to_end_is_no_other_workload() {
    let fake = FakeProc::new();
    let mut attributor = fake.attributor();
    fake.run(10, 0, "/bin/cat", "cat\0").stat(10, "cat", 'R', 0, 7);
    let cat = known(attributor.identify(10));
    fake.flagged(10, "cat", "R 0", 0x40_0004, 7).write(10, "cmdline", "");
    fs::remove_file(fake.dir.path().join("10/exe")).unwrap();
    assert_eq!(known(attributor.identify(10)), cat);
    assert_eq!(known(attributor.look_again(10).unwrap()), cat);
    attributor.forget(10);
    assert_eq!(attributor.identify(10), Identity::Gone);
    assert_eq!(attributor.counts().veiled, 0);
}

#[test]
fn exec_makes_another_workload() {
    let fake = FakeProc::new();
    let mut attributor = fake.attributor();
    fake.run(10, 0, "/bin/bash", "bash\0").stat(10, "bash", 'S', 0, 7);
    assert_eq!(known(attributor.identify(10)).workload(), "host exe=/bin/bash");
    fake.link(10, "exe", "/usr/bin/duckdb (deleted)").stat(10, "duckdb", 'S', 0, 7);
    assert_eq!(known(attributor.identify(10)).workload(), "host exe=/usr/bin/duckdb");
}

#[test]
fn who_is_looked_at_again_is_gone_or_runs_another_program() {
    let fake = FakeProc::new();
    let mut attributor = fake.attributor();
    fake.run(10, 0, "/bin/bash", "bash\0").stat(10, "bash", 'S', 0, 7);
    known(attributor.identify(10));
    // What it is called says what it does just now.
    fake.stat(10, "ray::IDLE", 'S', 0, 7).write(10, "cmdline", "ray::IDLE\0");
    assert_eq!(known(attributor.look_again(10).unwrap()).workload(), "host exe=/bin/bash");
    fake.link(10, "exe", "/usr/bin/duckdb").stat(10, "duckdb", 'S', 0, 7);
    assert_eq!(known(attributor.look_again(10).unwrap()).workload(), "host exe=/usr/bin/duckdb");
    fake.stat(10, "duckdb", 'Z', 0, 7);
    assert_eq!(known(attributor.look_again(10).unwrap()).workload(), "host exe=/usr/bin/duckdb");
    // What cannot be read has not ended.
    let stat = fake.dir.path().join("10/stat");
    fs::remove_file(&stat).unwrap();
    fs::create_dir(&stat).unwrap();
    assert_eq!(attributor.look_again(10), None);
    fs::rename(fake.dir.path().join("10"), fake.dir.path().join("x")).unwrap();
    assert_eq!(attributor.look_again(10), Some(Identity::Gone));
}

#[test]
fn names_with_parentheses_and_kernel_threads() {
    let fake = FakeProc::new();
    fake.stat(2, "a) R (b", 'S', 0, 5).write(2, "cmdline", "");
    let mut attributor = fake.attributor();
    let process = known(attributor.identify(2));
    assert_eq!((&*process.name, process.started, &process.exe), ("a) R (b", 5, &None));
    assert_eq!(process.workload(), "host name=a)\\x20R\\x20(b");
    assert_eq!(attributor.counts().veiled, 1);
    assert!(Stat::parse(b"1 (x S 0").is_none() && Stat::parse(b")(").is_none());
}

#[test]
fn memory_is_bounded() {
    let fake = FakeProc::new();
    fake.run(1, 0, "/sbin/init", "init\0");
    let mut attributor = fake.attributor();
    let process = known(attributor.identify(1));
    for tgid in 2..MAX_KNOWN as u32 + 100 {
        attributor.remember(Arc::new(Process { tgid, ..(*process).clone() }));
    }
    assert_eq!(attributor.known.len(), MAX_KNOWN);
    assert_eq!(attributor.uses.len(), MAX_KNOWN);
    assert_eq!(attributor.counts().evicted, 99);
    assert!(!attributor.known.contains_key(&1), "the oldest goes first");
}

#[test]
fn a_real_process() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("wait.sh"), "read line\n").unwrap();
    let mut child = Command::new("sh")
        .args(["./wait.sh", "--password=hunter2"])
        .current_dir(dir.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut attributor = Attributor::new("/proc");
    let expected = dir.path().canonicalize().unwrap().join("wait.sh");
    // Between fork and exec the child is still this test.
    let script = (0..1000).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        known(attributor.identify(child.id())).script.clone()
    });
    assert_eq!(script.as_deref(), expected.to_str());
    assert_eq!(known(attributor.identify(child.id())).place, Place::Host);
    drop(child.stdin.take());
    child.wait().unwrap();
    attributor.forget(child.id());
    assert_eq!(attributor.identify(child.id()), Identity::Gone);
}
