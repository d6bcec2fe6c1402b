//! Without the rights or the kernel that probing needs: told in one sentence, or served blind.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use rustix::process::Signal;

use crate::fixture::{HEADRACE, Home, run, stderr};

const NOBODY: [&str; 6] =
    ["--bounding-set=-all", "--inh-caps=-all", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];

fn words(words: &[OsString]) -> Vec<&OsStr> {
    words.iter().map(OsString::as_os_str).collect()
}

/// Ended by itself, with one sentence on stderr that says this.
fn assert_refused(output: &Output, says: &str) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let fatal: Vec<&str> = text.lines().filter(|line| line.starts_with("headrace: ")).collect();
    assert!(matches!(fatal[..], [line] if line.contains(says)), "{text}");
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn without_root_it_says_so() {
    let mut home = Home::new();
    // Where nobody may come by: the program too.
    let program = home.folder.path().join("headrace");
    std::fs::copy(HEADRACE, &program).unwrap();
    std::fs::set_permissions(home.folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let start = |home: &Home| {
        let mut args: Vec<OsString> = NOBODY.iter().map(OsString::from).collect();
        args.push(program.clone().into());
        args.extend(home.agent_words(&[]).into_iter().skip(1));
        run("setpriv", &words(&args))
    };
    // The socket's folder would be root's.
    assert_refused(&start(&home), "run the agent as root");
    // It is one's own: then it is BPF that is refused.
    std::fs::create_dir(home.run_folder()).unwrap();
    std::os::unix::fs::chown(home.run_folder(), Some(65534), Some(65534)).unwrap();
    home.state = home.run_folder().join("state");
    assert_refused(&start(&home), "run the agent as root, or give it CAP_BPF");
    assert!(!home.socket().exists());
}

#[test]
fn root_without_a_capability_is_told_which() {
    let home = Home::new();
    for missing in ["-bpf,-sys_admin", "-perfmon,-sys_admin", "-bpf,-perfmon,-sys_admin"] {
        let mut args: Vec<OsString> = vec!["--bounding-set".into(), missing.into(), "--".into()];
        args.extend(home.agent_words(&[]));
        let refused = run("setpriv", &words(&args));
        assert_refused(&refused, "CAP_BPF, CAP_PERFMON");
        assert!(!home.run_folder().exists());
    }
}

#[test]
fn without_descriptors_it_names_the_limit() {
    let home = Home::new();
    // Enough for the threads and the socket, too few for the maps.
    let mut args: Vec<OsString> = vec!["--nofile=20".into(), "--".into()];
    args.extend(home.agent_words(&[]));
    assert_refused(&run("prlimit", &words(&args)), "every BPF map is one: raise the limit of open files");
    assert!(!home.run_folder().exists());
}

/// Starts an agent in a mount namespace changed by these commands; it must be blind, say so, and serve.
fn assert_blind(change: &str, says: &str) {
    let home = Home::new();
    let change = format!("{change} && exec \"$@\"");
    let mut agent = home.agent_behind(&["unshare", "-m", "sh", "-ec", &change, "sh"], &[]);
    let log = home.log();
    assert!(log.contains("no read is seen and nothing is prefetched"), "{log}");
    assert!(log.contains(says), "{log}");
    let node = home.ask("node");
    assert_eq!(node["plan"]["plan"], "");
    assert!(!node["plan"]["refused"].as_array().unwrap().is_empty());
    let check = home.check("probe plan").unwrap();
    assert_eq!(check["state"], "fail", "{check}");
    assert!(check["advice"].as_str().unwrap().contains("blind"), "{check}");
    let doctor = home.ask_raw(&["doctor".as_ref()]);
    assert_eq!(doctor.status.code(), Some(1));
    assert!(home.ask_raw(&["files".as_ref()]).status.success());
    assert!(agent.stop(Signal::TERM).success());
    assert!(!home.run_folder().exists());
}

#[test]
fn a_kernel_without_btf_is_served_blind() {
    assert_blind("mount -t tmpfs none /sys/kernel/btf", "CONFIG_DEBUG_INFO_BTF");
}

#[test]
fn a_kernel_that_takes_no_plan_is_served_blind() {
    // A well-formed description of types that knows none of those that are needed.
    let mut btf = vec![0x9f, 0xeb, 1, 0];
    for number in [24u32, 0, 16, 16, 5] {
        btf.extend_from_slice(&number.to_le_bytes());
    }
    for number in [1u32, 1 << 24, 4, 32] {
        btf.extend_from_slice(&number.to_le_bytes());
    }
    btf.extend_from_slice(b"\0int\0");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), btf).unwrap();
    let change = format!("mount --bind {} /sys/kernel/btf/vmlinux", file.path().display());
    assert_blind(&change, "none of its ways to watch reads works on this kernel");
}

#[test]
fn a_damaged_description_of_types_is_served_blind() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"no types here").unwrap();
    let change = format!("mount --bind {} /sys/kernel/btf/vmlinux", file.path().display());
    assert_blind(&change, "BTF");
}

#[test]
fn a_path_that_is_no_mount_is_refused() {
    let home = Home::new();
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent");
    let cases: [(&Path, &str); 3] = [
        (folder.path(), "no mount point"),
        (&absent, "cannot be reached"),
        (Path::new("/proc"), "in memory"),
    ];
    for (path, says) in cases {
        let (program, args) = (HEADRACE, home.agent_words(&["--watch".as_ref(), path.as_ref()]));
        let refused = run(program, &words(args.get(1..).unwrap()));
        assert_refused(&refused, says);
        assert!(stderr(&refused).contains(&path.display().to_string()));
        assert!(!home.run_folder().exists());
    }
}
