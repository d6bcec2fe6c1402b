//! How much memory there is for pages brought in ahead, and how hard the system works to find some.
//!
//! Pages that this agent brings in are charged to its own cgroup (and those above it), so their limits
//! count where they are lower than the machine's. Parsing is pure; one reader opens the files.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use agent_core::Observation;

use crate::mounts::{MountTable, read_table};

/// None of these files is larger: memory.stat has some 60 lines.
const MAX_FILE: u64 = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum PressureError {
    #[error("{}: cannot be read ({source}); the agent needs it to leave memory to others: is /proc mounted?", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: has no MemTotal and MemAvailable; the agent needs Linux 5.10 or newer", path.display())]
    Meminfo { path: PathBuf },
}

/// Memory as it may be used here. Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub available: u64,
    pub total: u64,
    /// Share of the last 10 s in which some task waited for memory, in hundredths of a per cent; 0 where
    /// PSI is off.
    pub psi: u32,
}

impl From<Memory> for Observation {
    fn from(memory: Memory) -> Self {
        let Memory { available, total, psi } = memory;
        Self::Memory { available, total, psi }
    }
}

/// MemAvailable and MemTotal of /proc/meminfo, in bytes.
pub fn parse_meminfo(meminfo: &str) -> Option<(u64, u64)> {
    let field = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    };
    Some((field("MemAvailable:")?, field("MemTotal:")?))
}

/// `some avg10=1.23` of /proc/pressure/memory, as 123.
pub fn parse_psi(pressure: &str) -> Option<u32> {
    let some = pressure.lines().find_map(|line| line.strip_prefix("some "))?;
    let share = some.split(' ').find_map(|field| field.strip_prefix("avg10="))?;
    let (whole, part) = share.split_once('.').unwrap_or((share, "0"));
    let part = format!("{part:0<2}");
    let (whole, part): (u32, u32) = (whole.parse().ok()?, part.get(..2)?.parse().ok()?);
    // A share of the time is no more than all of it.
    Some(whole.checked_mul(100)?.checked_add(part)?.min(10_000))
}

/// What a cgroup leaves free: its limit less what it uses, with the page cache that is reclaimed first.
/// `None` where there is no limit.
pub fn headroom(limit: &str, usage: &str, stat: &str) -> Option<(u64, u64)> {
    // v2 writes `max`; v1 writes the largest page-aligned number, above any machine's memory.
    let limit: u64 = limit.trim().parse().ok().filter(|&limit| limit < 1 << 60)?;
    let usage: u64 = usage.trim().parse().ok()?;
    let field = |name: &str| stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    // v1 counts its own pages, and with `total_` those of the cgroups below, as the usage does.
    let inactive: u64 = field("total_inactive_file ").or_else(|| field("inactive_file ")).unwrap_or(0);
    Some((limit.saturating_sub(usage.saturating_sub(inactive)), limit))
}

/// The folders whose limits hold for a process: its own memory cgroup and those above, up to where the
/// hierarchy is mounted; and which version's files they have.
fn limits_of(cgroup: &str, mounts: &MountTable) -> Vec<(PathBuf, Files)> {
    let mut found = Vec::new();
    for line in cgroup.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let files = match controllers {
            "" => V2,
            list if list.split(',').any(|controller| controller == "memory") => V1,
            _ => continue,
        };
        let mount = mounts.iter().find(|mount| match files.version {
            2 => &*mount.fstype == "cgroup2",
            _ => &*mount.fstype == "cgroup" && mount.option("memory").is_some(),
        });
        // Outside of the cgroup namespace (`/..`), or not below what is mounted: nothing to be seen.
        if path.split('/').any(|part| part == "..") {
            continue;
        }
        let Some(folder) = mount.and_then(|mount| mount.outside(path.as_bytes())) else {
            continue;
        };
        let Ok(folder) = String::from_utf8(folder) else {
            continue;
        };
        let point = mount.map_or(&b"/"[..], |mount| &mount.point);
        let above =
            Path::new(&folder).ancestors().take_while(|folder| folder.as_os_str().len() >= point.len());
        found.extend(above.map(|folder| (folder.to_owned(), files)));
    }
    found
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Files {
    version: u8,
    limit: &'static str,
    usage: &'static str,
}

const V2: Files = Files { version: 2, limit: "memory.max", usage: "memory.current" };

const V1: Files = Files { version: 1, limit: "memory.limit_in_bytes", usage: "memory.usage_in_bytes" };

/// Reads what there is, once a second or so.
#[derive(Debug)]
pub struct Gauge {
    proc: PathBuf,
    limits: Vec<(PathBuf, Files)>,
}

impl Gauge {
    /// `proc` is /proc; the agent's cgroup is looked up once, processes are seldom moved.
    pub fn open(proc: &Path) -> Self {
        let cgroup = read(&proc.join("self/cgroup")).unwrap_or_default();
        let mounts = read_table(&proc.join("self/mountinfo")).unwrap_or_default();
        Self { proc: proc.to_owned(), limits: limits_of(&cgroup, &mounts) }
    }

    pub fn read(&self) -> Result<Memory, PressureError> {
        let path = self.proc.join("meminfo");
        let meminfo = match read(&path) {
            Ok(meminfo) => meminfo,
            Err(source) => return Err(PressureError::Read { path, source }),
        };
        let (mut available, mut total) = parse_meminfo(&meminfo).ok_or(PressureError::Meminfo { path })?;
        for (folder, files) in &self.limits {
            let file = |name| read(&folder.join(name)).unwrap_or_default();
            // The root of a hierarchy has no such files.
            let limit = file(files.limit);
            if limit.is_empty() || limit.trim() == "max" {
                continue;
            }
            if let Some((free, limit)) = headroom(&limit, &file(files.usage), &file("memory.stat")) {
                available = available.min(free);
                total = total.min(limit);
            }
        }
        // Absent without CONFIG_PSI; EOPNOTSUPP with psi=0.
        let pressure = read(&self.proc.join("pressure/memory")).unwrap_or_default();
        Ok(Memory { available, total, psi: parse_psi(&pressure).unwrap_or(0) })
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_FILE).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_the_kernel() {
        let meminfo = "MemTotal:       24682416 kB\nMemFree:  1 kB\nMemAvailable:   24181476 kB\n";
        assert_eq!(parse_meminfo(meminfo), Some((24_181_476 << 10, 24_682_416 << 10)));
        assert_eq!(parse_meminfo("MemTotal: 1 kB\n"), None);
        assert_eq!(parse_psi("some avg10=1.23 avg60=0.00 avg300=0.00 total=9\nfull avg10=9.99\n"), Some(123));
        assert_eq!(parse_psi("some avg10=100.00 avg60=0"), Some(10_000));
        assert_eq!(parse_psi(""), None);
    }

    #[test]
    fn limits_leave_room_for_what_is_reclaimed_first() {
        let stat = "anon 5\ninactive_file 300\nactive_file 7\n";
        assert_eq!(headroom("1000\n", "900\n", stat), Some((400, 1000)));
        assert_eq!(headroom("1000", "900", "total_inactive_file 100"), Some((200, 1000)));
        assert_eq!(headroom("100", "900", ""), Some((0, 100)));
        assert_eq!(headroom("max", "900", ""), None);
        assert_eq!(headroom("9223372036854771712", "900", ""), None);
    }

    #[test]
    fn folders_of_both_versions() {
        let mounts = MountTable::parse(
            b"1 0 0:1 / / rw - ext4 a rw\n\
              2 1 0:35 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
              3 1 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        );
        let folders = limits_of("4:memory:/a/b\n3:cpu:/x\n0::/\n", &mounts);
        let paths: Vec<_> =
            folders.iter().map(|(path, files)| (path.to_str().unwrap(), files.version)).collect();
        let root = "/sys/fs/cgroup/memory";
        assert_eq!(
            paths,
            [
                (&*format!("{root}/a/b"), 1),
                (&*format!("{root}/a"), 1),
                (root, 1),
                ("/sys/fs/cgroup/unified", 2)
            ]
        );
    }

    #[test]
    fn this_machine() {
        let memory = Gauge::open(Path::new("/proc")).read().unwrap();
        assert!(memory.available > 0 && memory.available <= memory.total, "{memory:?}");
    }

    #[test]
    fn a_limit_above_is_found_and_psi_may_be_off() {
        let dir = tempfile::tempdir().unwrap();
        let point = dir.path().join("cgroup");
        fs::create_dir_all(dir.path().join("self")).unwrap();
        fs::create_dir_all(point.join("pod/agent")).unwrap();
        let write = |path: &str, text: &str| fs::write(dir.path().join(path), text).unwrap();
        write("meminfo", "MemTotal: 1000000 kB\nMemAvailable: 900000 kB\n");
        write("self/cgroup", "0::/pod/agent\n");
        write("self/mountinfo", &format!("1 0 0:38 / {} rw - cgroup2 cgroup2 rw\n", point.display()));
        write("cgroup/pod/agent/memory.max", "max\n");
        write("cgroup/pod/memory.max", "1048576\n");
        write("cgroup/pod/memory.current", "1000000\n");
        write("cgroup/pod/memory.stat", "inactive_file 1424\n");
        let memory = Gauge::open(dir.path()).read().unwrap();
        let expected = Memory { available: 50_000, total: 1 << 20, psi: 0 };
        assert_eq!(memory, expected);
        fs::remove_file(dir.path().join("meminfo")).unwrap();
        assert!(matches!(Gauge::open(dir.path()).read(), Err(PressureError::Read { .. })));
    }

    proptest! {
        #[test]
        fn any_text_parses(text in ".{0,200}", number in any::<u64>()) {
            parse_meminfo(&text);
            parse_psi(&text);
            parse_psi(&format!("some avg10={number}.{text}"));
            headroom(&text, &number.to_string(), &text);
            headroom(&number.to_string(), &text, &text);
            limits_of(&text, &MountTable::default());
        }
    }
}
