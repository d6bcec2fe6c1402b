//! What all streams share, and the rest of the operator's door to the agents.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::{Notify, broadcast};

use crate::clock;
use crate::inventory::hash::hash64;
use crate::inventory::{Fact, Inventory, Millis, Name, PodUse};
use crate::placement::Occupancy;

use super::counts::Counts;
use super::desk::{Desk, DeskError, Placed, Standing};
use super::directory::Directory;
use super::limits::{Allowance, Limits};
use super::profiles::{Profiles, Whose};
use super::work::Wish;

/// The inventory, folded into by streams and watches, asked by everything else. Held for microseconds.
pub type SharedInventory = Arc<RwLock<Inventory>>;

/// Nodes that have ever come, kept for their allowance; Kubernetes' bound of 5,000 and a generation of new ones.
const MOST_SEATS: usize = 16_384;

/// Ends of instructions kept for a slow listener; it can always ask for the standing.
const ENDS: usize = 4_096;

/// Sources remembered of a node, also those that are not on it any more: what was learned of one is told when its run
/// is over, and by then the volume may be unmounted. Four times as many as are watched at once.
const MOST_DECLARED: usize = 1_024;

/// A node's place: outlives its streams.
#[derive(Debug)]
pub(super) struct Seat {
    /// Wakes the stream when there is something to send.
    pub wake: Notify,
    pub state: Mutex<SeatState>,
}

#[derive(Debug)]
pub(super) struct SeatState {
    /// Which stream speaks for the node: the one that came last. 0: none.
    pub stream: u64,
    pub allowance: Allowance,
    /// Session and sequence of the last report that was folded in.
    pub applied: Option<(u64, u64)>,
    /// Datasets on its mounts, sorted.
    pub mounts: Vec<Name>,
    /// Sources that its agent has, or had, by hash: thousands of nodes have them. The latest come last.
    declared: VecDeque<u64>,
}

impl SeatState {
    pub fn declare<'a>(&mut self, sources: impl IntoIterator<Item = &'a str>) {
        for source in sources {
            let source = hash64(source);
            self.declared.retain(|known| *known != source);
            if self.declared.len() >= MOST_DECLARED {
                self.declared.pop_front();
            }
            self.declared.push_back(source);
        }
    }

    pub fn has_declared(&self, source: &str) -> bool {
        self.declared.contains(&hash64(source))
    }
}

#[derive(Debug)]
pub struct Hub {
    pub(super) limits: Limits,
    pub(super) life: u64,
    pub(super) inventory: SharedInventory,
    pub(super) counts: Counts,
    pub(super) directory: Directory,
    desk: Mutex<Desk>,
    profiles: Mutex<Profiles>,
    seats: Mutex<FxHashMap<Name, Arc<Seat>>>,
    streams: Mutex<u64>,
    /// Nodes with a stream whose agents have a Dataset on a mount.
    mounted: Mutex<FxHashMap<Name, FxHashSet<Name>>>,
    /// Who has been given room on which nodes, by placement's last look.
    occupancy: Mutex<Arc<Occupancy>>,
    admits: AtomicBool,
    whole: AtomicBool,
    pods_watched: OnceLock<Instant>,
    ends: broadcast::Sender<(Name, Box<str>)>,
}

impl Hub {
    /// `life` is drawn at random at each start.
    pub fn new(limits: Limits, life: u64, inventory: SharedInventory) -> Arc<Self> {
        let (ends, _) = broadcast::channel(ENDS);
        Arc::new(Self {
            limits,
            life,
            inventory,
            counts: Counts::default(),
            directory: Directory::default(),
            desk: Mutex::default(),
            profiles: Mutex::default(),
            seats: Mutex::default(),
            streams: Mutex::new(0),
            mounted: Mutex::default(),
            occupancy: Mutex::default(),
            admits: AtomicBool::new(true),
            whole: AtomicBool::new(true),
            pods_watched: OnceLock::new(),
            ends,
        })
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Which Dataset lies where; set it whenever Datasets change.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    pub fn inventory(&self) -> &SharedInventory {
        &self.inventory
    }

    /// The clock of facts: milliseconds since 1970, as everybody's who tells the inventory.
    pub fn now(&self) -> Millis {
        clock::millis()
    }

    /// Nodes whose agents are here.
    pub fn connected(&self) -> usize {
        lock(&self.seats).values().filter(|seat| lock(&seat.state).stream != 0).count()
    }

    /// Instructions that have not ended.
    pub fn open(&self) -> usize {
        self.desk().open()
    }

    /// Whether agents are listened to. A replica that does not lead sends them on, so that one knows everything.
    pub fn admit(&self, admits: bool) {
        self.admits.store(admits, Ordering::Release);
        if !admits {
            // As after a restart: who leads asks, and agents tell whoever does what they have in hand.
            *self.desk() = Desk::default();
            *lock(&self.occupancy) = Arc::default();
            self.wake_all();
        }
    }

    pub(super) fn admits(&self) -> bool {
        self.admits.load(Ordering::Acquire)
    }

    /// Whether the directory has every Dataset. Until then agents that have come are told of none: told of half, they
    /// would hear of the other half seconds later, and meanwhile pass for nodes that cannot have it.
    pub fn directory_is_whole(&self, whole: bool) {
        self.whole.store(whole, Ordering::Release);
        if whole {
            self.wake_all();
        }
    }

    pub(super) fn binds(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }

    /// The inventory is told which pods use Datasets where, and knows it from that moment on.
    pub fn watch_pods(&self, from: Instant) {
        let _ = self.pods_watched.set(from);
    }

    /// Whether a node's agent can have learned how a file system is read: where Datasets lie on it that pods use, such a
    /// pod is there, or was lately. Where no pod does, they are read by other ways than their claims, and nobody knows where.
    pub(super) fn may_teach(&self, node: &str, datasets: &[Name]) -> bool {
        if self.pods_watched.get().is_none_or(|from| *from > Instant::now()) {
            return true;
        }
        let inventory = self.inventory.read().unwrap_or_else(PoisonError::into_inner);
        let users = |dataset: &Name| {
            inventory.dataset_id(dataset).and_then(|id| inventory.dataset(id)?.users().next()).is_some()
        };
        !datasets.iter().any(users) || datasets.iter().any(|dataset| inventory.used_on(node, dataset))
    }

    /// Whose pods a workload ran in that reads the file system on which these Datasets lie, and which of them they use;
    /// rather one of `first`, of which it is told what is read. Of pods that an agent names only those of its own node
    /// count, and those that have ended after those that run.
    pub(super) fn whose(
        &self,
        node: &str,
        pods: &[String],
        datasets: &[Name],
        first: &[Name],
    ) -> Option<Whose> {
        let inventory = self.inventory.read().unwrap_or_else(PoisonError::into_inner);
        let running = pods.iter().filter_map(|pod| inventory.pod_on(node, pod));
        let known = inventory.node_id(node).and_then(|id| inventory.node(id));
        let ended = pods.iter().filter_map(|pod| known?.ended(pod).cloned());
        running.chain(ended).find_map(|PodUse { workload, datasets: used }| {
            let here = |dataset: &&Name| used.contains(dataset);
            let dataset = first.iter().find(here).or_else(|| datasets.iter().find(here))?;
            Some(Whose { owner: workload, dataset: dataset.clone() })
        })
    }

    /// Nodes whose agents are here and have the Dataset on a mount, sorted.
    pub fn mounted(&self, dataset: &str) -> Vec<Name> {
        let mut nodes: Vec<Name> =
            lock(&self.mounted).get(dataset).map(|nodes| nodes.iter().cloned().collect()).unwrap_or_default();
        nodes.sort_unstable();
        nodes
    }

    /// Placement has looked. A look that ends after its term says nothing of the next one.
    pub fn occupy(&self, occupancy: Occupancy) {
        let mut known = lock(&self.occupancy);
        if self.admits() {
            *known = Arc::new(occupancy);
        }
    }

    pub fn occupancy(&self) -> Arc<Occupancy> {
        lock(&self.occupancy).clone()
    }

    /// What a node has on its mounts now, in place of what it had, by the word of the stream of that number; by 0 of
    /// one that has ended. Who does not speak for the node any more changes nothing.
    pub(super) fn mounts(&self, node: &Name, seat: &Seat, number: u64, now: Vec<Name>) {
        let mut mounted = lock(&self.mounted);
        let mut state = lock(&seat.state);
        if state.stream != number {
            return;
        }
        for dataset in &now {
            mounted.entry(dataset.clone()).or_default().insert(node.clone());
        }
        let former = std::mem::replace(&mut state.mounts, now);
        for dataset in former.iter().filter(|dataset| state.mounts.binary_search(dataset).is_err()) {
            if let Some(nodes) = mounted.get_mut(dataset) {
                nodes.remove(node);
                if nodes.is_empty() {
                    mounted.remove(dataset);
                }
            }
        }
    }

    /// Puts a wish on the desk; it is sent when the node's agent is there. The same identity again changes nothing.
    pub fn instruct(&self, wish: Wish) -> Result<Placed, DeskError> {
        if !self.admits() {
            return Err(DeskError::NotLeading);
        }
        let node = wish.node.clone();
        let placed = self.desk().instruct(wish)?;
        if placed == Placed::New {
            self.wake(&node);
        }
        Ok(placed)
    }

    pub fn withdraw(&self, node: &str, id: &str) {
        self.desk().withdraw(node, id);
        self.wake(node);
    }

    /// How far a wish is; `None` where none of that identity is known.
    pub fn standing(&self, node: &str, id: &str) -> Option<Standing> {
        self.desk().standing(node, id).cloned()
    }

    /// What has not ended on a node is not wanted any more, of identities that begin so.
    pub fn call_off(&self, node: &str, prefix: &str) {
        if self.desk().call_off(node, prefix) {
            self.wake(node);
        }
    }

    /// What nodes were told to bring in and have not yet: (node, Dataset, bytes), as far as bytes are known. Where no
    /// agent is nothing is on its way.
    pub fn under_way(&self) -> Vec<(Name, Name, u64)> {
        let mut under_way = self.desk().under_way();
        let seats = lock(&self.seats);
        under_way.retain(|(node, ..)| seats.get(node).is_some_and(|seat| lock(&seat.state).stream != 0));
        under_way
    }

    /// What agents have in hand, or have done, and nobody here has asked for; of identities that begin so.
    pub fn unasked(&self, prefix: &str) -> Vec<(Name, Box<str>, Standing)> {
        self.desk().unasked(prefix)
    }

    /// Whoever wished it has taken note of its end.
    pub fn forget(&self, node: &str, id: &str) {
        self.desk().forget(node, id);
    }

    /// Tells of instructions that have ended, as (node, identity). A slow listener misses some, and asks.
    pub fn ends(&self) -> broadcast::Receiver<(Name, Box<str>)> {
        self.ends.subscribe()
    }

    /// A node is no more. Its agent may live on, where only the Node object was deleted and kubelet makes it again:
    /// its stream is ended, so that it comes back and is known anew.
    pub fn lose(&self, node: &str) {
        self.desk().lose(node, self.now());
        let Some((name, seat)) = lock(&self.seats).remove_entry(node) else { return };
        lock(&seat.state).stream = 0;
        self.mounts(&name, &seat, 0, Vec::new());
        // The stream holds the seat, and looks who speaks when it is woken.
        seat.wake.notify_one();
    }

    /// Learned profiles and patterns.
    pub fn profiles<T>(&self, ask: impl FnOnce(&mut Profiles) -> T) -> T {
        ask(&mut lock(&self.profiles))
    }

    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        lock(&self.desk)
    }

    pub(super) fn ended(&self, node: &Name, id: Box<str>) {
        // Nobody listens: nothing is lost, the standing can be asked for.
        let _ = self.ends.send((node.clone(), id));
    }

    fn wake(&self, node: &str) {
        if let Some(seat) = lock(&self.seats).get(node) {
            seat.wake.notify_one();
        }
    }

    fn wake_all(&self) {
        for seat in lock(&self.seats).values() {
            seat.wake.notify_one();
        }
    }

    /// The node's seat, for a new stream with the number given back; the former stream is told to end.
    pub(super) fn sit(&self, node: &Name) -> (Arc<Seat>, u64) {
        let number = {
            let mut streams = lock(&self.streams);
            *streams += 1;
            *streams
        };
        let mut seats = lock(&self.seats);
        if seats.len() >= MOST_SEATS && !seats.contains_key(node) {
            seats.retain(|_, seat| lock(&seat.state).stream != 0);
        }
        let seat = seats.entry(node.clone()).or_insert_with(|| {
            let allowance = Allowance::new(Instant::now());
            let (mounts, declared) = (Vec::new(), VecDeque::new());
            let state = SeatState { stream: 0, allowance, applied: None, mounts, declared };
            Arc::new(Seat { wake: Notify::new(), state: Mutex::new(state) })
        });
        let seat = seat.clone();
        drop(seats);
        lock(&seat.state).stream = number;
        // Two permits cannot be stored: the former stream looks at its number whenever it is woken.
        seat.wake.notify_waiters();
        seat.wake.notify_one();
        (seat, number)
    }

    /// A stream has ended: unless another one has taken over, the node is silent from now on.
    pub(super) fn leave(&self, node: &Name, seat: &Seat, number: u64) {
        {
            let mut state = lock(&seat.state);
            if state.stream != number {
                drop(state);
                // What woke this one may have been meant for its successor.
                seat.wake.notify_one();
                return;
            }
            state.stream = 0;
            // While the seat is held: the next stream's first words must not come before this one's last.
            let now = self.now();
            let mut inventory = self.inventory.write().unwrap_or_else(PoisonError::into_inner);
            inventory.apply(Fact::NodeSilent { node: node.clone() }, now);
        }
        self.mounts(node, seat, 0, Vec::new());
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked left a value that each method keeps whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::ingest::work::{Extent, Work};
    use crate::inventory::{CHUNK, Tier, Version};

    #[tokio::test]
    async fn what_wakes_a_replaced_stream_wakes_its_successor() {
        let (hub, node) = (Hub::new(Limits::default(), 1, Arc::default()), Name::from("n"));
        let (_, former) = hub.sit(&node);
        let (seat, latter) = hub.sit(&node);
        // The former one takes it, and ends.
        seat.wake.notified().await;
        hub.leave(&node, &seat, former);
        assert!(seat.wake.notified().now_or_never().is_some());
        hub.leave(&node, &seat, latter);
        assert!(seat.wake.notified().now_or_never().is_none(), "nobody is left");
    }

    #[test]
    fn nothing_is_on_its_way_to_a_node_without_an_agent() {
        let (hub, node) = (Hub::new(Limits::default(), 1, Arc::default()), Name::from("n"));
        let chunks = Some((Version(1), std::iter::once(0..2).collect()));
        let extent = Extent { dataset: "a/b".into(), path: Box::default(), chunks };
        let work = Work::Fetch(extent, Tier::Ram);
        let (id, reason) = ("bound/u/1".into(), "test".into());
        hub.instruct(Wish {
            id,
            node: node.clone(),
            work,
            reason,
            useful_ms: 0,
            priority: 0,
            awaits_mount: false,
        })
        .unwrap();
        assert_eq!(hub.under_way(), []);
        let (seat, number) = hub.sit(&node);
        assert_eq!(hub.under_way(), [(node.clone(), "a/b".into(), 2 * CHUNK)]);
        hub.leave(&node, &seat, number);
        assert_eq!(hub.under_way(), []);
    }

    #[test]
    fn a_datasets_nodes_come_sorted_and_go_with_the_mount() {
        let hub = Hub::new(Limits::default(), 1, Arc::default());
        let mut names: Vec<Name> = (0..64).rev().map(|number| format!("n{number:02}").into()).collect();
        for node in &names {
            let (seat, number) = hub.sit(node);
            hub.mounts(node, &seat, number, vec!["a/b".into()]);
        }
        names.sort_unstable();
        assert_eq!(hub.mounted("a/b"), names);
        for node in &names {
            let (seat, number) = hub.sit(node);
            hub.mounts(node, &seat, number - 1, vec!["a/c".into()]);
            hub.mounts(node, &seat, number, Vec::new());
        }
        assert!(lock(&hub.mounted).is_empty(), "no room is kept for what is on no mount");
    }
}
