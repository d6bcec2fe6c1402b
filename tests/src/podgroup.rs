//! The cgroup of a pod's container, as a kubelet and its runtime make it: what runs in it is that pod's to the agent.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Processes in it end before it goes.
#[derive(Debug)]
pub struct PodGroup(PathBuf);

impl PodGroup {
    pub fn of(uid: &str) -> Result<Self> {
        let mounts = std::fs::read_to_string("/proc/mounts").context("reading /proc/mounts")?;
        let mut roots: Vec<(bool, &str)> = mounts
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(' ').skip(1);
                let (point, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
                // Of version 1 one that takes a process without being told more.
                let takes = kind == "cgroup2" || options.split(',').any(|option| option == "freezer");
                (kind.starts_with("cgroup") && takes).then_some((kind != "cgroup2", point))
            })
            .collect();
        roots.sort_unstable();
        let id: String = "7be92808767a".repeat(6).chars().take(64).collect();
        let container = format!("kubepods/burstable/pod{uid}/{id}");
        let mut made = roots.into_iter().map(|(_, root)| Path::new(root).join(&container));
        let made = made.find(|folder| std::fs::create_dir_all(folder).is_ok());
        made.map(Self).context(
            "no cgroup could be made for a pod: run as root, and `mount -t cgroup2 none /sys/fs/cgroup`",
        )
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PodGroup {
    fn drop(&mut self) {
        // The node's own stay: they are not empty.
        for folder in self.0.ancestors().take(4) {
            let _ = std::fs::remove_dir(folder);
        }
    }
}
