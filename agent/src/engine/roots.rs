//! Which folder of its file system an NFS mount shows: asked of the kernel once for each mount, by threads that may
//! have to wait for its server.
//!
//! Until that is known the mount is not watched: names would be taken for others. A server that does not answer
//! keeps only its own mounts from being watched, and nobody reads there either.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::doctor::Check;
use crate::mounts::{Mount, MountTable, Namespace, escape};
use crate::probe::{AskError, Asker};

/// Mounts asked about at a time, and of one server: each is a thread that may wait for it.
const UNDER_WAY: usize = 64;
const OF_ONE: usize = 8;

/// One that could not be asked about is asked about again after so long.
const AGAIN: Duration = Duration::from_secs(30);

/// Mounts named in one finding.
const NAMED: usize = 8;

/// One mount for as long as it is there: the kernel gives numbers out again. The source of NFS is made of where the mount
/// lies, and so another when a folder is renamed on its server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Spot {
    id: u64,
    dev: u32,
    point: Box<[u8]>,
    source: Box<str>,
}

impl Spot {
    fn of(mount: &Mount) -> Self {
        Self { id: mount.id, dev: mount.dev, point: mount.point.clone(), source: mount.source.clone() }
    }
}

#[derive(Debug)]
enum State {
    Asked,
    Known(Box<[u8]>),
    Failed(Instant, String),
    /// For want of room: looked at again whenever another has come to its end, and now and then.
    PutOff(Instant),
}

/// What a thread found.
#[derive(Debug)]
pub struct Found {
    spot: Spot,
    root: Result<Box<[u8]>, Why>,
}

#[derive(Debug, thiserror::Error)]
enum Why {
    #[error("it cannot be opened: {0}")]
    Open(#[from] rustix::io::Errno),
    #[error("another mount lies over it")]
    Hidden,
    #[error(transparent)]
    Ask(#[from] AskError),
}

#[derive(Debug)]
pub struct Roots {
    namespace: Namespace,
    /// None where the agent is blind, and no name has to be understood.
    asker: Option<Arc<Asker>>,
    known: HashMap<Spot, State>,
    told: mpsc::Sender<Found>,
    alive: Arc<()>,
    /// Why this kernel can be asked about none.
    unable: Option<String>,
}

impl Roots {
    pub fn new(namespace: Namespace, asker: Option<Arc<Asker>>) -> (Self, mpsc::Receiver<Found>) {
        let (told, found) = mpsc::channel(UNDER_WAY);
        let known = HashMap::new();
        (Self { namespace, asker, known, told, alive: Arc::default(), unable: None }, found)
    }

    /// The mount with its root, where that is known; else it is asked about.
    pub fn resolve(&mut self, mount: &Mount) -> Option<Mount> {
        if !mount.hides_root() || self.asker.is_none() {
            return Some(mount.clone());
        }
        let spot = Spot::of(mount);
        match self.known.get(&spot) {
            Some(State::Known(root)) => return Some(Mount { root: root.clone(), ..mount.clone() }),
            Some(State::Asked) => return None,
            Some(State::Failed(at, _)) if at.elapsed() < AGAIN => return None,
            Some(State::Failed(..) | State::PutOff(_)) | None => {}
        }
        let state = if !self.has_room(server_of(&mount.source)) {
            State::PutOff(Instant::now())
        } else if self.ask(spot.clone()) {
            State::Asked
        } else {
            let why = "the thread that asks cannot start; raise ulimit -u or the cgroup's pids.max";
            State::Failed(Instant::now(), why.to_owned())
        };
        self.known.insert(spot, state);
        None
    }

    fn has_room(&self, of: &str) -> bool {
        let asked =
            |(spot, state): &(&Spot, &State)| matches!(state, State::Asked) && server_of(&spot.source) == of;
        Arc::strong_count(&self.alive) <= UNDER_WAY && self.known.iter().filter(asked).count() < OF_ONE
    }

    fn ask(&self, spot: Spot) -> bool {
        let Some(asker) = self.asker.clone() else { return false };
        let (namespace, told, alive) = (self.namespace, self.told.clone(), self.alive.clone());
        let ask = move || {
            let root = root(namespace, &asker, &spot);
            drop(alive);
            // The engine has ended where nobody takes it.
            let _ = told.blocking_send(Found { spot, root });
        };
        std::thread::Builder::new().name("headrace-root".into()).spawn(ask).is_ok()
    }

    /// Takes over what a thread found.
    pub fn found(&mut self, found: Found) {
        let Found { spot, root } = found;
        // Of a mount that has gone meanwhile.
        let Some(state) = self.known.get_mut(&spot) else { return };
        *state = match root {
            Ok(root) => State::Known(root),
            Err(Why::Ask(AskError::Unable(why))) => {
                if self.unable.is_none() {
                    tracing::warn!("NFS mounts are taken to show their file systems from the root: {why}");
                }
                self.unable = Some(why);
                State::Known(b"/"[..].into())
            }
            Err(why) => {
                let why = why.to_string();
                // Said once, not at every try.
                if !matches!(state, State::Failed(_, known) if *known == why) {
                    tracing::warn!(
                        "{}: which folder of its file system is mounted there cannot be told ({why}); what is read there is \
                         not watched until it can, which is tried every {} s",
                        escape(&spot.point),
                        AGAIN.as_secs()
                    );
                }
                State::Failed(Instant::now(), why)
            }
        };
    }

    /// Forgets mounts that have gone.
    pub fn keep(&mut self, table: &MountTable) {
        if !self.known.is_empty() {
            let there: std::collections::HashSet<Spot> =
                table.iter().filter(|mount| mount.hides_root()).map(Spot::of).collect();
            self.known.retain(|spot, _| there.contains(spot));
        }
    }

    /// What `headrace doctor` says of mounts that are not watched, or not as they should be; nothing where all are.
    pub fn check(&self) -> Option<Check> {
        if let Some(why) = &self.unable {
            let advice = "where folders of an export are mounted nothing is brought in ahead; mount the exports as a whole, or \
                          give the nodes a kernel that can be asked";
            return Some(Check::warn("NFS mounts", why.as_str(), advice));
        }
        let mut unknown: Vec<String> = Vec::new();
        for (spot, state) in &self.known {
            match state {
                State::Known(_) => {}
                State::Asked => {
                    unknown.push(format!("{} (its server has not answered)", escape(&spot.point)))
                }
                State::PutOff(_) => {
                    unknown.push(format!("{} (others are asked about first)", escape(&spot.point)))
                }
                State::Failed(_, why) => unknown.push(format!("{} ({why})", escape(&spot.point))),
            }
        }
        if unknown.is_empty() {
            return None;
        }
        unknown.sort_unstable();
        let more = unknown.len().saturating_sub(NAMED);
        unknown.truncate(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let finding = format!("not watched yet: {}{more}", unknown.join(", "));
        Some(Check::warn(
            "NFS mounts",
            finding,
            "look whether `ls` answers there, and whether another mount lies over it; the agent tries it again by itself",
        ))
    }

    /// Whether there are mounts to be asked about again.
    pub fn due(&self) -> bool {
        let again = |state: &State| match state {
            State::Failed(at, _) | State::PutOff(at) => at.elapsed() >= AGAIN,
            State::Asked | State::Known(_) => false,
        };
        self.known.values().any(again)
    }
}

/// "nas" of "nas:/export".
fn server_of(source: &str) -> &str {
    source.split_once(":/").map_or(source, |(server, _)| server)
}

fn root(namespace: Namespace, asker: &Asker, spot: &Spot) -> Result<Box<[u8]>, Why> {
    let point = PathBuf::from(OsString::from_vec(spot.point.to_vec()));
    let (directory, id) = namespace.found(&point, spot.dev)?;
    if id != spot.id {
        return Err(Why::Hidden);
    }
    Ok([b"/", &*asker.path(directory.as_fd())?].concat().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{Probe, ProbeConfig};

    /// The mounts of this process, as if they were NFS's.
    fn disguised() -> MountTable {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let lines = text.lines().map(|line| {
            let (own, _) = line.split_once(" - ").unwrap();
            format!("{own} - nfs4 nas:/export rw\n")
        });
        MountTable::parse(lines.collect::<String>().as_bytes())
    }

    fn roots() -> (Roots, mpsc::Receiver<Found>) {
        let (probe, _) = Probe::start(ProbeConfig::default()).expect("a probe: this test needs root");
        Roots::new(Namespace::default(), Some(probe.asker()))
    }

    #[test]
    fn a_mount_is_asked_about_once_and_is_then_known() {
        let (mut roots, mut found) = roots();
        let table = disguised();
        let mount = table.covering(b"/proc").unwrap();
        assert!(roots.resolve(mount).is_none() && roots.resolve(mount).is_none());
        assert!(roots.check().is_some_and(|check| check.finding.contains(": /proc (its server")));
        roots.found(found.blocking_recv().unwrap());
        assert_eq!((roots.resolve(mount).as_ref(), roots.check()), (Some(mount), None));
        assert!(found.try_recv().is_err() && !roots.due());
        roots.keep(&table);
        assert!(roots.resolve(mount).is_some());
        roots.keep(&MountTable::default());
        assert!(roots.resolve(mount).is_none(), "it has gone, and is another now");
    }

    #[test]
    fn one_server_is_asked_about_a_few_mounts_at_a_time_and_another_beside_it() {
        let (mut roots, mut found) = roots();
        let lines: String = (0..=OF_ONE)
            .map(|n| format!("{} 1 0:4000 / /no/such/{n} rw - nfs4 nas:/{n} rw\n", n + 10))
            .chain(["9 1 0:4001 / /no/other rw - nfs4 other:/x rw\n".to_owned()])
            .collect();
        let table = MountTable::parse(lines.as_bytes());
        assert!(table.iter().all(|mount| roots.resolve(mount).is_none()));
        let count = |roots: &Roots, of: fn(&State) -> bool| roots.known.values().filter(|s| of(s)).count();
        let put_off = |roots: &Roots| count(roots, |state| matches!(state, State::PutOff(_)));
        assert_eq!((count(&roots, |state| matches!(state, State::Asked)), put_off(&roots)), (OF_ONE + 1, 1));
        assert!(!roots.due(), "it is looked at when one comes to its end, and not at every tick");
        for _ in 0..=OF_ONE {
            roots.found(found.blocking_recv().unwrap());
        }
        assert!(table.iter().all(|mount| roots.resolve(mount).is_none()));
        assert_eq!(put_off(&roots), 0);
    }

    #[test]
    fn one_that_cannot_be_opened_is_not_watched_and_tried_again() {
        let (mut roots, mut found) = roots();
        let gone = MountTable::parse(b"7 1 0:4000 / /no/such/mount rw - nfs4 nas:/x rw\n");
        let mount = gone.iter().next().unwrap();
        assert!(roots.resolve(mount).is_none());
        roots.found(found.blocking_recv().unwrap());
        assert!(roots.resolve(mount).is_none() && !roots.due());
        assert!(roots.check().is_some_and(|check| check.finding.contains("No such file")));
        for state in roots.known.values_mut() {
            *state = State::Failed(Instant::now().checked_sub(AGAIN).unwrap(), String::new());
        }
        assert!(roots.due());
        assert!(roots.resolve(mount).is_none() && found.blocking_recv().is_some());
    }

    #[test]
    fn others_say_their_root_themselves_and_a_blind_agent_asks_nothing() {
        let table =
            MountTable::parse(b"7 1 0:40 /sub /a rw - fuse.x store rw\n8 1 0:41 / /b rw - nfs nas:/x rw\n");
        let (mut roots, _found) = Roots::new(Namespace::default(), None);
        for mount in table.iter() {
            assert_eq!(roots.resolve(mount).as_ref(), Some(mount));
        }
    }
}
