//! Which folder of its file system an NFS mount shows: asked of the kernel once for each mount, by threads that may
//! have to wait for its server.
//!
//! Until that is known nothing is looked for below the mount, and a file system none of whose mounts is known is not
//! watched: names would be taken for others. A server that does not answer keeps only its own mounts waiting, and nobody
//! reads there either.

use std::collections::HashMap;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tokio::sync::mpsc;

use crate::doctor::Check;
use crate::mounts::{Mount, Namespace, Spot, escape};
use crate::probe::{AskError, Asker};

/// Mounts asked about at a time, and of one server: each is a thread that may wait for it.
const UNDER_WAY: usize = 64;
const OF_ONE: usize = 8;

/// One that could not be asked about is asked about again after so long.
const AGAIN: Duration = Duration::from_secs(30);

/// Mounts named in one finding.
const NAMED: usize = 8;

#[derive(Debug)]
struct Entry {
    spot: Spot,
    state: State,
    /// Why it could not be told at the last try, through the next ones too.
    why: Option<String>,
}

#[derive(Debug)]
enum State {
    Asked,
    Known(Box<[u8]>),
    Failed(Instant),
    /// For want of room: looked at again whenever another has come to its end, and now and then.
    PutOff(Instant),
}

/// A place among the threads under way, and among those that wait for one server. The thread has it and hands it over with
/// its answer: a mount that goes meanwhile takes no thread with it.
#[derive(Debug)]
struct Turn {
    _of_all: Arc<()>,
    _of_server: Arc<()>,
}

/// What a thread found.
#[derive(Debug)]
struct Found {
    spot: Spot,
    root: Result<Box<[u8]>, Why>,
    _turn: Turn,
}

#[derive(Debug, thiserror::Error)]
enum Why {
    #[error("it cannot be opened: {0}")]
    Open(Errno),
    #[error("another mount lies over it")]
    Hidden,
    #[error(transparent)]
    Ask(#[from] AskError),
}

impl From<Errno> for Why {
    fn from(errno: Errno) -> Self {
        // What `Namespace::mounted` says of any other mount.
        if errno == Errno::NODEV { Self::Hidden } else { Self::Open(errno) }
    }
}

type Question = dyn Fn(&Spot) -> Result<Box<[u8]>, Why> + Send + Sync;

/// How much of a file system is seen without a mount that is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// It is not watched.
    Nothing,
    /// It is watched, and parts of it are mounted elsewhere.
    Parts,
    All,
}

pub struct Roots {
    /// None where the agent is blind, and no name has to be understood.
    question: Option<Arc<Question>>,
    /// By the mount's number.
    known: HashMap<u64, Entry>,
    told: mpsc::Sender<Found>,
    found: mpsc::Receiver<Found>,
    under_way: Arc<()>,
    /// Those that threads may be waiting for.
    servers: HashMap<Box<str>, Arc<()>>,
    /// Why this kernel can be asked about none.
    unable: Option<String>,
}

impl std::fmt::Debug for Roots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roots").field("known", &self.known).finish_non_exhaustive()
    }
}

impl Roots {
    pub fn new(namespace: Namespace, asker: Option<Arc<Asker>>) -> Self {
        Self::asking(asker.map(|asker| -> Arc<Question> {
            Arc::new(move |spot: &Spot| {
                let directory = namespace.mounted(spot)?;
                Ok([b"/", &*asker.path(directory.as_fd())?].concat().into())
            })
        }))
    }

    fn asking(question: Option<Arc<Question>>) -> Self {
        // No thread waits to be heard: a turn is free again only when its answer was taken.
        let (told, found) = mpsc::channel(UNDER_WAY);
        Self {
            question,
            known: HashMap::new(),
            told,
            found,
            under_way: Arc::default(),
            servers: HashMap::new(),
            unable: None,
        }
    }

    /// The mount with its root, where that is known; else it is asked about.
    pub fn resolve(&mut self, mount: &Mount) -> Option<Mount> {
        let Some(question) = self.question.clone().filter(|_| mount.hides_root()) else {
            return Some(mount.clone());
        };
        let mut why = None;
        if let Some(entry) = self.known.get_mut(&mount.id).filter(|entry| entry.spot.is(mount)) {
            match &entry.state {
                State::Known(root) => return Some(Mount { root: root.clone(), ..mount.clone() }),
                State::Asked => return None,
                State::Failed(at) if at.elapsed() < AGAIN => return None,
                State::Failed(_) | State::PutOff(_) => why = entry.why.take(),
            }
        }
        let spot = Spot::of(mount);
        let started = self.turn(server_of(&mount.source)).map(|turn| self.ask(question, spot.clone(), turn));
        let state = match started {
            None => State::PutOff(Instant::now()),
            Some(true) => State::Asked,
            Some(false) => {
                why = Some(
                    "the thread that asks cannot start; raise ulimit -u or the cgroup's pids.max".into(),
                );
                State::Failed(Instant::now())
            }
        };
        self.known.insert(mount.id, Entry { spot, state, why });
        None
    }

    fn turn(&mut self, server: &str) -> Option<Turn> {
        let taken = |of: &Arc<()>| Arc::strong_count(of) - 1;
        if taken(&self.under_way) >= UNDER_WAY {
            return None;
        }
        let of_server = match self.servers.get(server) {
            Some(known) if taken(known) >= OF_ONE => return None,
            Some(known) => known.clone(),
            None => self.servers.entry(server.into()).or_default().clone(),
        };
        Some(Turn { _of_all: self.under_way.clone(), _of_server: of_server })
    }

    fn ask(&self, question: Arc<Question>, spot: Spot, turn: Turn) -> bool {
        let told = self.told.clone();
        let ask = move || {
            let root = question(&spot);
            // The engine has ended where nobody takes it.
            let _ = told.blocking_send(Found { spot, root, _turn: turn });
        };
        std::thread::Builder::new().name("headrace-root".into()).spawn(ask).is_ok()
    }

    /// Takes over what threads have found; whether there was anything, so that the mounts are to be resolved anew.
    pub fn take(&mut self, without: impl Fn(u32) -> Without) -> bool {
        let mut any = false;
        while let Ok(found) = self.found.try_recv() {
            if let Some(said) = self.took(found, &without) {
                tracing::warn!("{said}");
            }
            any = true;
        }
        any
    }

    /// Returns what is to be said of it: once, not at every try.
    fn took(&mut self, found: Found, without: impl Fn(u32) -> Without) -> Option<String> {
        let Found { spot, root, _turn } = found;
        // None: it has gone meanwhile, or is not wanted any more.
        let entry = self.known.get_mut(&spot.id).filter(|entry| entry.spot == spot)?;
        match root {
            Ok(root) => {
                entry.state = State::Known(root);
                None
            }
            Err(Why::Ask(AskError::Unable(why))) => {
                entry.state = State::Known(b"/"[..].into());
                let said = format!("NFS mounts are taken to show their file systems from the root: {why}");
                self.unable.replace(why).is_none().then_some(said)
            }
            Err(why) => {
                entry.state = State::Failed(Instant::now());
                let why = why.to_string();
                let lacks = match without(spot.dev) {
                    Without::Nothing => Some("what is read there is not watched"),
                    Without::Parts => {
                        Some("reads there are seen, but of what only it shows nothing is brought in ahead")
                    }
                    Without::All => None,
                };
                let said = lacks.filter(|_| entry.why.as_ref() != Some(&why)).map(|lacks| {
                    format!(
                        "{}: which folder of its file system is mounted there cannot be told ({why}); {lacks} until it can, \
                         which is tried every {} s",
                        escape(&spot.point),
                        AGAIN.as_secs()
                    )
                });
                entry.why = Some(why);
                said
            }
        }
    }

    /// Forgets all but these: mounts that have gone, and those that nobody wants to know about any more.
    pub fn keep(&mut self, wanted: &[&Mount]) {
        if !self.known.is_empty() {
            let wanted: HashMap<u64, &Mount> = wanted.iter().map(|mount| (mount.id, *mount)).collect();
            self.known.retain(|id, entry| wanted.get(id).is_some_and(|mount| entry.spot.is(mount)));
        }
        self.servers.retain(|_, server| Arc::strong_count(server) > 1);
    }

    /// What `headrace doctor` says of mounts that are not watched, or not as they should be; nothing where all are.
    pub fn check(&self, without: impl Fn(u32) -> Without) -> Option<Check> {
        if let Some(why) = &self.unable {
            let advice = "where folders of an export are mounted nothing is brought in ahead; mount the exports as a whole, or \
                          give the nodes a kernel that can be asked";
            return Some(Check::warn("NFS mounts", why.as_str(), advice));
        }
        let (mut unwatched, mut partly) = (Vec::new(), Vec::new());
        for Entry { spot, state, why } in self.known.values() {
            let reason = match (state, why) {
                (State::Known(_), _) => continue,
                (_, Some(why)) => why,
                (State::PutOff(_), None) => "others are asked about first",
                (State::Asked | State::Failed(_), None) => "its server has not answered",
            };
            let named = format!("{} ({reason})", escape(&spot.point));
            match without(spot.dev) {
                Without::Nothing => unwatched.push(named),
                Without::Parts => partly.push(named),
                Without::All => {}
            }
        }
        let finding = [
            named("not watched yet", unwatched),
            named("reads are seen, but nothing is brought in ahead yet of what is mounted at", partly),
        ];
        let finding = finding.into_iter().flatten().collect::<Vec<_>>().join("; ");
        (!finding.is_empty()).then(|| {
            Check::warn(
                "NFS mounts",
                finding,
                "look whether `ls` answers there, and whether another mount lies over it; the agent tries it again by itself",
            )
        })
    }

    /// Whether there are mounts to be asked about again.
    pub fn due(&self) -> bool {
        let again = |entry: &Entry| match entry.state {
            State::Failed(at) | State::PutOff(at) => at.elapsed() >= AGAIN,
            State::Asked | State::Known(_) => false,
        };
        self.known.values().any(again)
    }
}

/// "nas" of "nas:/export".
fn server_of(source: &str) -> &str {
    source.split_once(":/").map_or(source, |(server, _)| server)
}

fn named(what: &str, mut mounts: Vec<String>) -> Option<String> {
    if mounts.is_empty() {
        return None;
    }
    mounts.sort_unstable();
    let more = mounts.len().saturating_sub(NAMED);
    mounts.truncate(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!("{what}: {}{more}", mounts.join(", ")))
}

#[cfg(test)]
impl Roots {
    /// With answers of a test's own.
    pub fn answered(answer: impl Fn(&Spot) -> Result<Box<[u8]>, String> + Send + 'static) -> Self {
        // One at a time: what it holds may be no more than `Send`.
        let answer = std::sync::Mutex::new(answer);
        Self::asking(Some(Arc::new(move |spot: &Spot| {
            let answer = answer.lock().unwrap();
            answer(spot).map_err(|why| Why::Ask(AskError::Failed(why)))
        })))
    }

    /// As if what failed and what was put off had been so for long.
    pub fn age(&mut self) {
        for Entry { state, .. } in self.known.values_mut() {
            if let State::Failed(at) | State::PutOff(at) = state {
                *at = at.checked_sub(AGAIN).unwrap();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mounts::MountTable;
    use crate::probe::{Probe, ProbeConfig};

    /// The mounts of this process, as if they were NFS's.
    fn disguised() -> MountTable {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let lines = text.lines().map(|line| {
            let (own, rest) = line.split_once(" - ").unwrap();
            format!("{own} - nfs4 {} rw\n", rest.split(' ').nth(1).unwrap())
        });
        MountTable::parse(lines.collect::<String>().as_bytes())
    }

    fn probed() -> Roots {
        let (probe, _) = Probe::start(ProbeConfig::default()).expect("a probe: this test needs root");
        Roots::new(Namespace::default(), Some(probe.asker()))
    }

    /// Takes the next answer over; returns what is said of it.
    fn take(roots: &mut Roots) -> Option<String> {
        let found = roots.found.blocking_recv().unwrap();
        roots.took(found, |_| Without::Nothing)
    }

    fn finding(roots: &Roots) -> String {
        roots.check(|_| Without::Nothing).map_or(String::new(), |check| check.finding.into())
    }

    fn count(roots: &Roots, of: fn(&State) -> bool) -> usize {
        roots.known.values().filter(|entry| of(&entry.state)).count()
    }

    fn asked(state: &State) -> bool {
        matches!(state, State::Asked)
    }

    fn put_off(state: &State) -> bool {
        matches!(state, State::PutOff(_))
    }

    #[test]
    fn a_mount_is_asked_about_once_and_is_then_known() {
        let mut roots = probed();
        let table = disguised();
        let mount = table.covering(b"/proc").unwrap();
        assert!(roots.resolve(mount).is_none() && roots.resolve(mount).is_none());
        assert!(finding(&roots).contains(": /proc (its server"));
        take(&mut roots);
        assert_eq!((roots.resolve(mount).as_ref(), finding(&roots)), (Some(mount), String::new()));
        assert!(roots.found.try_recv().is_err() && !roots.due());
        roots.keep(&table.iter().collect::<Vec<_>>());
        assert!(roots.resolve(mount).is_some());
        roots.keep(&[]);
        assert!(roots.resolve(mount).is_none(), "it has gone, and is another now");
    }

    #[test]
    fn one_server_is_asked_about_a_few_mounts_at_a_time_and_another_beside_it() {
        let mut roots = probed();
        let lines: String = (0..=OF_ONE)
            .map(|n| format!("{} 1 0:4000 / /no/such/{n} rw - nfs4 nas:/{n} rw\n", n + 10))
            .chain(["9 1 0:4001 / /no/other rw - nfs4 other:/x rw\n".to_owned()])
            .collect();
        let table = MountTable::parse(lines.as_bytes());
        assert!(table.iter().all(|mount| roots.resolve(mount).is_none()));
        assert_eq!((count(&roots, asked), count(&roots, put_off)), (OF_ONE + 1, 1));
        assert!(!roots.due(), "it is looked at when one comes to its end, and not at every tick");
        for _ in 0..=OF_ONE {
            take(&mut roots);
        }
        assert!(table.iter().all(|mount| roots.resolve(mount).is_none()));
        assert_eq!(count(&roots, put_off), 0);
    }

    /// Lazy unmounts leave the threads waiting.
    #[test]
    fn a_dead_server_whose_mounts_go_has_no_more_threads_than_before() {
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let held = std::sync::Mutex::new(held);
        let mut roots = Roots::asking(Some(Arc::new(move |spot: &Spot| {
            if spot.source.starts_with("dead:") {
                let _ = held.lock().unwrap().recv();
            }
            Ok(b"/"[..].into())
        })));
        let round = |roots: &mut Roots, first: usize| {
            let line = |n| format!("{n} 1 0:4000 / /m/{n} rw - nfs4 dead:/{n} rw\n");
            let lines: String = (first..first + 2 * OF_ONE).map(line).collect();
            let table = MountTable::parse(lines.as_bytes());
            roots.keep(&table.iter().collect::<Vec<_>>());
            assert!(table.iter().all(|mount| roots.resolve(mount).is_none()));
            (count(roots, asked), count(roots, put_off))
        };
        assert_eq!(round(&mut roots, 10), (OF_ONE, OF_ONE));
        assert_eq!(round(&mut roots, 100), (0, 2 * OF_ONE), "its eight still hang");
        let well = MountTable::parse(b"9 1 0:4001 / /well rw - nfs4 well:/x rw\n");
        let well = well.iter().next().unwrap();
        assert!(roots.resolve(well).is_none());
        take(&mut roots);
        assert!(roots.resolve(well).is_some());
        drop(hold);
        (0..OF_ONE).for_each(|_| drop(take(&mut roots)));
        assert_eq!(round(&mut roots, 100), (OF_ONE, OF_ONE));
        (0..OF_ONE).for_each(|_| drop(take(&mut roots)));
        roots.keep(&[]);
        assert!(roots.servers.is_empty());
    }

    #[test]
    fn one_that_cannot_be_opened_is_not_watched_and_tried_again() {
        let mut roots = probed();
        let gone = MountTable::parse(b"7 1 0:4000 / /no/such/mount rw - nfs4 nas:/x rw\n");
        let mount = gone.iter().next().unwrap();
        assert!(roots.resolve(mount).is_none());
        take(&mut roots);
        assert!(roots.resolve(mount).is_none() && !roots.due());
        assert!(finding(&roots).contains("No such file"));
        roots.age();
        assert!(roots.due());
        assert!(roots.resolve(mount).is_none() && roots.found.blocking_recv().is_some());
    }

    #[test]
    fn why_it_cannot_be_told_is_said_once_and_not_at_every_try() {
        let mut roots = Roots::answered(|_| Err("away".into()));
        let table = MountTable::parse(b"7 1 0:50 / /data rw - nfs4 nas:/x rw\n");
        let mount = table.iter().next().unwrap();
        assert!(roots.resolve(mount).is_none());
        assert!(take(&mut roots).is_some_and(|said| said.contains("/data") && said.contains("away")));
        for _ in 0..2 {
            roots.age();
            assert!(roots.resolve(mount).is_none());
            assert_eq!(count(&roots, asked), 1);
            assert!(finding(&roots).contains("/data (the question failed: away)"), "while it is asked again");
            assert_eq!(take(&mut roots), None);
        }
    }

    #[test]
    fn what_is_said_of_a_mount_is_what_is_missing_without_it() {
        let mut roots = Roots::answered(|_| Err("away".into()));
        let table = MountTable::parse(b"7 1 0:50 / /data rw - nfs4 nas:/x rw\n");
        assert!(roots.resolve(table.iter().next().unwrap()).is_none());
        take(&mut roots);
        let told = |without| roots.check(|_| without).map(|check| check.finding.to_string());
        assert_eq!(told(Without::Nothing).unwrap(), "not watched yet: /data (the question failed: away)");
        assert!(told(Without::Parts).unwrap().starts_with("reads are seen, but nothing is brought in ahead"));
        assert_eq!(told(Without::All), None);
    }

    #[test]
    fn others_say_their_root_themselves_and_a_blind_agent_asks_nothing() {
        let table =
            MountTable::parse(b"7 1 0:40 /sub /a rw - fuse.x store rw\n8 1 0:41 / /b rw - nfs nas:/x rw\n");
        let mut roots = Roots::new(Namespace::default(), None);
        for mount in table.iter() {
            assert_eq!(roots.resolve(mount).as_ref(), Some(mount));
        }
    }
}
