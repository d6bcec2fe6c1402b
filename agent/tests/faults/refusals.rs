//! A kernel that refuses what the agent brings: the next plan, or blind and serving, told in one sentence.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::Signal;

use crate::damage;
use crate::fixture::{Agent, Home};

/// `BPF_PROG_LOAD`, in include/uapi/linux/bpf.h.
const LOAD: u32 = 5;

/// Fails bpf(2) with EPERM for what is started from here on: each call, or those with this command.
fn forbid(command: Option<u32>) -> io::Result<()> {
    const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    // struct seccomp_data: the call's number at 0, the low half of its first argument at 16.
    let mut filter = [
        step(LOAD_WORD, 0, 0, 0),
        step(EQUAL, libc::SYS_bpf as u32, 0, 3),
        step(LOAD_WORD, 16, 0, 0),
        step(EQUAL, command.unwrap_or(0), 0, 1),
        step(RETURN, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0, 0),
        step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    if command.is_none() {
        // Whatever the command is.
        filter[3] = step(EQUAL, 0, 0, 0);
    }
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: `program` and the filter that it points to live through the call, which copies them.
    let failed = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn agent_without_bpf(home: &Home, command: Option<u32>) -> Agent {
    home.agent_changed(|agent: &mut Command| {
        // SAFETY: `forbid` makes one system call and allocates nothing, as is asked of what runs after a fork.
        unsafe {
            agent.pre_exec(move || forbid(command));
        }
    })
}

fn assert_blind_and_serving(home: &Home, agent: &mut Agent, says: &str) {
    let log = home.log();
    assert!(log.contains("no read is seen and nothing is prefetched") && log.contains(says), "{log}");
    let node = home.ask("node");
    assert_eq!(node["plan"]["plan"], "");
    assert!(!node["plan"]["refused"].as_array().unwrap().is_empty());
    assert_eq!(home.check("probe plan").unwrap()["state"], "fail");
    assert!(home.ask_raw(&["files".as_ref()]).status.success());
    assert!(agent.stop(Signal::TERM).success());
    assert!(!home.log().contains("panicked"));
}

/// What the plan in use cannot see, `headrace doctor` names, each case in a line of its own, and so does the node's
/// answer.
fn assert_gaps_are_named(home: &Home, gaps: &[&str]) {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let doctor: Vec<String> =
        home.checks("cannot be seen").iter().map(|check| text(&check["finding"])).collect();
    let node: Vec<String> = home.ask("node")["plan"]["unseen"].as_array().unwrap().iter().map(text).collect();
    assert_eq!(doctor, node);
    for gap in gaps {
        assert_eq!(doctor.iter().filter(|line| line.starts_with(gap)).count(), 1, "{gap}{doctor:?}");
    }
}

#[test]
fn a_forbidden_call_is_served_blind() {
    for command in [None, Some(LOAD)] {
        let home = Home::new();
        let mut agent = agent_without_bpf(&home, command);
        assert_blind_and_serving(&home, &mut agent, "a seccomp profile or a security module forbids");
    }
}

/// As in agent/tests/refusals/main.rs, told by the daemon.
#[test]
fn a_plan_that_the_verifier_refuses_is_told_and_the_next_one_goes_on() {
    let home = Home::new();
    let btf = std::fs::read("/sys/kernel/btf/vmlinux").unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), damage::moved(&btf, b"address_space", b"host", 0x4000)).unwrap();
    let change = format!("mount --bind {} /sys/kernel/btf/vmlinux && exec \"$@\"", file.path().display());
    let before = ["unshare", "-m", "sh", "-ec", &change, "sh", "env", "HEADRACE_LOG=debug"];
    let mut agent = home.agent_behind(&before, &[]);
    let log = home.log();
    assert!(log.contains("Not BTF tracepoints: ") && log.contains("In use: raw tracepoints."), "{log}");
    assert!(log.contains("its verifier does not accept the program"), "{log}");
    assert!(log.contains("the verifier's last lines:"), "{log}");
    assert_eq!(home.ask("node")["plan"]["plan"], "raw tracepoints");
    let told = home.check("plan not taken").unwrap();
    assert!(told["finding"].as_str().unwrap().len() > 40, "{told}");
    assert_gaps_are_named(
        &home,
        &["direct I/O is not seen: ", "tmpfs is not seen: ", "latency of hits is not seen: "],
    );
    assert!(agent.stop(Signal::TERM).success());
}
