//! Checks of the machine alone: kernel, BTF, rights, lockdown, memory, PSI, mounts.
//!
//! Reads a handful of files of /proc and /sys and never the watched mounts themselves, which may hang.

use std::path::Path;

use super::Check;
use crate::mounts::{MountTable, Namespace, escape};
use crate::probe::{LOCKDOWN_PATH, kernel_version, lockdown_mode};

/// The first kernel whose page-cache tracepoints and ring buffer the agent can use.
const OLDEST: (u32, u32) = (5, 8);

/// The first kernel with mm_filemap_get_pages, which tells cached reads without fentry.
const CACHED_READS: (u32, u32) = (6, 12);

/// What the agent uses each capability for, by number (include/uapi/linux/capability.h).
const CAPABILITIES: [(u32, &str, &str); 5] = [
    (39, "CAP_BPF", "to load probes"),
    (38, "CAP_PERFMON", "to attach probes"),
    (21, "CAP_SYS_ADMIN", "to reach mounts of other namespaces"),
    (19, "CAP_SYS_PTRACE", "to prefetch through a reader's descriptor"),
    (2, "CAP_DAC_READ_SEARCH", "to open files it prefetches"),
];

/// All checks of the machine.
pub fn checks(namespace: Namespace) -> Vec<Check> {
    let mut checks = vec![
        kernel(&read("/proc/sys/kernel/osrelease")),
        btf(),
        capabilities(&read("/proc/self/status")),
        lockdown(&read(LOCKDOWN_PATH), securityfs()),
        memory(&read("/proc/meminfo"), cgroup_limit()),
        pressure(&read("/proc/pressure/memory")),
    ];
    checks.push(mounts(&namespace.table().unwrap_or_default()));
    checks
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn kernel(release: &str) -> Check {
    let release = release.trim();
    let Some(version) = kernel_version(release) else {
        return Check::warn(
            "kernel",
            format!("its release {release:?} cannot be read"),
            "look at uname -r: Linux 5.8 or newer is needed",
        );
    };
    if version < OLDEST {
        return Check::fail(
            "kernel",
            format!("Linux {release} is too old to be watched"),
            "Linux 5.8 or newer is needed, 6.12 or newer is best",
        );
    }
    if version < CACHED_READS {
        return Check::warn(
            "kernel",
            format!("Linux {release}: its tracepoints tell misses, not cached reads"),
            "where fentry or kprobes are taken nothing is missing (see probe plan); else use 6.12 or newer",
        );
    }
    Check::ok("kernel", format!("Linux {release}"))
}

fn btf() -> Check {
    match std::fs::metadata("/sys/kernel/btf/vmlinux") {
        Ok(meta) => Check::ok("BTF", format!("/sys/kernel/btf/vmlinux, {} KiB", meta.len() / 1024)),
        Err(_) => Check::fail(
            "BTF",
            "the kernel does not describe its types: /sys/kernel/btf/vmlinux is missing",
            "use a kernel built with CONFIG_DEBUG_INFO_BTF, as those of all current distributions are",
        ),
    }
}

fn capabilities(status: &str) -> Check {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    let Some(effective) = effective else {
        return Check::warn("rights", "/proc/self/status does not tell the capabilities", "mount /proc");
    };
    let has = |number: u32| effective >> number & 1 == 1;
    // Before 5.8, and still today, CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON.
    let holds = |number: u32| has(number) || (matches!(number, 38 | 39) && has(21));
    let missing: Vec<String> = CAPABILITIES
        .iter()
        .filter(|(number, _, _)| !holds(*number))
        .map(|(_, name, use_)| format!("{name} ({use_})"))
        .collect();
    if missing.is_empty() {
        return Check::ok("rights", "every capability the agent uses");
    }
    Check::fail(
        "rights",
        format!("missing: {}", missing.join(", ")),
        "run the agent as root, or its container privileged",
    )
}

/// Whether securityfs is mounted: the folder is there without it, but empty.
fn securityfs() -> bool {
    std::fs::read_dir("/sys/kernel/security").is_ok_and(|mut entries| entries.next().is_some())
}

fn lockdown(modes: &str, securityfs: bool) -> Check {
    let mode = match lockdown_mode(modes) {
        Some(mode) => mode,
        None if securityfs => return Check::ok("lockdown", "this kernel has none"),
        None => {
            return Check::warn(
                "lockdown",
                "not known: securityfs is not mounted",
                "mount -t securityfs securityfs /sys/kernel/security shows it; the probe plan below tells \
                 whether it stood in the way",
            );
        }
    };
    match mode {
        "none" => Check::ok("lockdown", "none"),
        "integrity" => Check::ok("lockdown", "integrity: BPF may read kernel memory"),
        _ => Check::fail(
            "lockdown",
            format!("{mode}: BPF may not read kernel memory, so no file can be named"),
            "boot without lockdown=confidentiality",
        ),
    }
}

/// memory.max of this process's cgroup v2, or the v1 limit, in bytes; `None` means no limit is known.
fn cgroup_limit() -> Option<u64> {
    let memberships = read("/proc/self/cgroup");
    let paths = memberships.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let path = path.trim_start_matches('/');
        match controllers {
            "" => Some(Path::new("/sys/fs/cgroup").join(path).join("memory.max")),
            c if c.split(',').any(|c| c == "memory") => {
                Some(Path::new("/sys/fs/cgroup/memory").join(path).join("memory.limit_in_bytes"))
            }
            _ => None,
        }
    });
    // cgroup v1 says "no limit" with a number near 2^63.
    paths
        .filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok())
        .filter(|limit| *limit < 1 << 60)
        .min()
}

fn memory(meminfo: &str, limit: Option<u64>) -> Check {
    let field = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let (Some(total), Some(available)) = (field("MemTotal"), field("MemAvailable")) else {
        return Check::warn("memory", "/proc/meminfo does not tell MemAvailable", "mount /proc");
    };
    let mut finding = format!("{} of {} MiB available", available >> 10, total >> 10);
    if let Some(limit) = limit {
        finding.push_str(&format!("; this cgroup is limited to {} MiB", limit >> 20));
        // 64 MiB resident at 100,000 files, and as much again for fetches under way: pages that are
        // fetched are charged to the cgroup of whoever brings them in.
        if limit < 256 << 20 {
            return Check::warn(
                "memory",
                finding,
                "pages the agent fetches are charged to its cgroup and reclaimed at its limit: give it more \
                 than 256 MiB, or no limit",
            );
        }
    }
    if available < total / 20 {
        let advice = "under 5 % is left: the agent will fetch little until memory is free";
        return Check::warn("memory", finding, advice);
    }
    Check::ok("memory", finding)
}

fn pressure(psi: &str) -> Check {
    let some = psi.lines().find_map(|line| line.strip_prefix("some "));
    match some.and_then(|line| line.split_whitespace().find_map(|field| field.strip_prefix("avg10="))) {
        Some(avg10) => Check::ok("memory pressure", format!("PSI some avg10 is {avg10} %")),
        None => Check::warn(
            "memory pressure",
            "PSI is off: pressure is guessed from MemAvailable alone",
            "boot with psi=1",
        ),
    }
}

/// What the agent would watch by itself in this mount namespace.
fn mounts(table: &MountTable) -> Check {
    // A node has one of a pod's volume for each pod, and for each subPath.
    let mut seen = std::collections::BTreeSet::new();
    let remote = table.remote().filter(|mount| seen.insert((mount.dev, mount.source.clone())));
    let remote: Vec<String> =
        remote.map(|mount| format!("{} ({})", escape(&mount.point), mount.fstype)).collect();
    if remote.is_empty() {
        return Check::warn(
            "mounts found",
            "no network or FUSE mount in this mount namespace",
            "name what should be watched: headrace agent --watch PATH",
        );
    }
    Check::ok("mounts found", remote.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn kernels_are_judged_by_their_release() {
        assert_eq!(kernel("6.18.5-x\n").state, State::Ok);
        assert_eq!(kernel("6.1.0-30-cloud-amd64").state, State::Warn);
        assert_eq!(kernel("5.4.0").state, State::Fail);
        assert_eq!(kernel("").state, State::Warn);
        assert_eq!(kernel("99999999999.1").state, State::Warn);
    }

    #[test]
    fn rights_name_what_is_missing() {
        assert_eq!(capabilities("CapEff:\t000001ffffffffff\n").state, State::Ok);
        let none = capabilities("CapEff:\t0000000000000000\n");
        assert_eq!(none.state, State::Fail);
        assert!(none.finding.contains("CAP_BPF (to load probes)"));
        // CAP_SYS_ADMIN stands in for CAP_BPF and CAP_PERFMON.
        assert!(!capabilities("CapEff:\t0000000000200000\n").finding.contains("CAP_BPF"));
        assert_eq!(capabilities("").state, State::Warn);
    }

    #[test]
    fn lockdown_reads_the_bracketed_mode() {
        assert_eq!(lockdown("none [integrity] confidentiality\n", true).state, State::Ok);
        assert_eq!(lockdown("none integrity [confidentiality]\n", true).state, State::Fail);
        assert_eq!(lockdown("", true).state, State::Ok);
        assert_eq!(lockdown("", false).state, State::Warn);
    }

    #[test]
    fn memory_and_pressure() {
        let meminfo = "MemTotal:       1000000 kB\nMemFree: 1 kB\nMemAvailable:   900000 kB\n";
        assert_eq!(memory(meminfo, None).state, State::Ok);
        assert_eq!(memory(meminfo, Some(64 << 20)).state, State::Warn);
        assert_eq!(memory("", None).state, State::Warn);
        assert!(pressure("some avg10=1.25 avg60=0.00 avg300=0.00 total=1\n").finding.contains("1.25 %"));
        assert_eq!(pressure("").state, State::Warn);
    }

    #[test]
    fn mounts_are_told_by_file_system() {
        let table = MountTable::parse(
            b"36 35 98:0 / /mnt/a rw,noatime shared:1 - ext4 /dev/root rw\n\
             37 35 0:50 / /mnt/b rw - fuse.s3fs s3fs rw\n38 35 0:51 / /mnt/c rw - nfs4 host:/x rw\n",
        );
        let found = mounts(&table);
        assert_eq!(&*found.finding, "/mnt/b (fuse.s3fs), /mnt/c (nfs4)");
        assert_eq!(mounts(&MountTable::default()).state, State::Warn);
    }

    #[test]
    fn this_machine_gets_all_its_checks() {
        let checks = checks(Namespace::default());
        assert_eq!(checks.len(), 7);
        assert!(checks.iter().filter(|c| c.state != State::Ok).all(|c| !c.advice.is_empty()));
    }
}
