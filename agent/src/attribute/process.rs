//! What is kept of a process, and how its workload is named.

use std::fmt::Write;
use std::path::Path;

use super::cgroup::{Container, Place};
use crate::mounts::escape;

/// Digits of a container ID that people read.
const SHORT_ID: usize = 12;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub tgid: u32,
    /// Clock ticks after boot; with the tgid it names one process for as long as the machine runs.
    pub started: u64,
    /// The kernel's name of it (comm), 15 bytes at most.
    pub name: Box<str>,
    /// As the process's own root has it. `None` for kernel threads, and where it may not be asked.
    pub exe: Option<Box<str>>,
    /// What an interpreter runs: a path, or the name of a module or class.
    pub script: Option<Box<str>>,
    pub place: Place,
}

impl Process {
    /// The key of what is learned: the same for all replicas and all processes of one program, on any node and in any
    /// run, also for a Job that has another name each time: the executable and the script.
    ///
    /// Neither pod UID nor container ID is in it: they are new with every start. Whose pod it is only the API knows;
    /// the operator finds that by the uids told with a profile.
    pub fn workload(&self) -> String {
        // The same path is another program in another image.
        let mut key = String::from(match &self.place {
            Place::Host => "host",
            Place::Container(_) => "container",
            Place::Pod { .. } => "pod",
        });
        match &self.exe {
            Some(exe) => field(&mut key, "exe", exe),
            None => field(&mut key, "name", &self.name),
        }
        if let Some(script) = &self.script {
            field(&mut key, "script", script);
        }
        key
    }

    /// What a person calls it: `python3.11 train.py`, and the pod or container it runs in.
    pub fn label(&self) -> String {
        let base = |path: &str| {
            Path::new(path).file_name().map_or(path.to_owned(), |name| name.to_string_lossy().into_owned())
        };
        let mut label = self.exe.as_deref().map_or(self.name.to_string(), base);
        if let Some(script) = &self.script {
            let _ = write!(label, " {}", base(script));
        }
        let short = |container: &Container| container.id.chars().take(SHORT_ID).collect::<String>();
        let _ = match &self.place {
            Place::Host => Ok(()),
            Place::Container(container) => write!(label, " (container {})", short(container)),
            Place::Pod { uid, container: Some(container), .. } => {
                write!(label, " (pod {uid}, container {})", short(container))
            }
            Place::Pod { uid, container: None, .. } => write!(label, " (pod {uid})"),
        };
        label
    }
}

/// ` name=value`; a space or a backslash in the value is escaped, so that no two keys look alike.
fn field(key: &mut String, name: &str, value: &str) {
    let _ = write!(key, " {name}={}", escape(value.as_bytes()).replace(' ', "\\x20"));
}
