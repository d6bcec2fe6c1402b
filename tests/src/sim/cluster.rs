//! Synthetic clusters: nodes in racks and zones, Datasets of many sizes, jobs that read them, misfortunes.

use operator::placement::Pieces;

use super::random::Random;

/// Seconds of a tick.
pub const TICK_S: u64 = 10;

const MB: u64 = 1_000_000;
const GB: u64 = 1_000 * MB;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// Jobs come and go.
    Steady,
    /// One node in twenty is lost half-way, for good.
    NodeLoss,
    /// A zone is lost for ten minutes.
    ZoneLoss,
    /// Within one tick a job comes with a pod for every fifth node, all on one Dataset.
    FlashCrowd,
    /// The store gives a tenth for ten minutes.
    SlowStore,
}

impl Scenario {
    pub const ALL: [Self; 5] =
        [Self::Steady, Self::NodeLoss, Self::ZoneLoss, Self::FlashCrowd, Self::SlowStore];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::NodeLoss => "node-loss",
            Self::ZoneLoss => "zone-loss",
            Self::FlashCrowd => "flash-crowd",
            Self::SlowStore => "slow-store",
        }
    }
}

/// How large a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub nodes: usize,
    pub datasets: usize,
    pub pods: usize,
    pub ticks: u64,
}

impl Size {
    /// Small enough for a test.
    pub const SMALL: Self = Self { nodes: 60, datasets: 120, pods: 600, ticks: 120 };
    pub const MEDIUM: Self = Self { nodes: 500, datasets: 1_000, pods: 5_000, ticks: 240 };
    /// What the issue asks for.
    pub const LARGE: Self = Self { nodes: 5_000, datasets: 10_000, pods: 50_000, ticks: 240 };
}

#[derive(Clone, Copy, Debug)]
pub struct Site {
    pub zone: usize,
    pub rack: usize,
}

#[derive(Clone, Copy, Debug)]
pub struct Pod {
    pub at: u64,
    pub dataset: usize,
    /// Bytes a second that it can take.
    pub rate: u64,
    /// Times that it reads its Dataset.
    pub epochs: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    NodeDown(usize),
    NodeUp(usize),
    /// A share of what the store usually gives.
    Store(f64),
}

#[derive(Clone, Debug)]
pub struct Cluster {
    pub sites: Vec<Site>,
    pub datasets: Vec<Pieces>,
    /// By the tick in which they come.
    pub pods: Vec<Pod>,
    pub events: Vec<(u64, Event)>,
    pub ticks: u64,
    /// Bytes of cache a node has, and of page cache beside it.
    pub cache: u64,
    pub ram: u64,
    /// Pods a node has room for.
    pub slots: usize,
    /// Bytes a second: of the store to all, of a node to others, into a node.
    pub store_rate: u64,
    pub node_rate: u64,
}

impl Cluster {
    pub fn new(size: Size, scenario: Scenario, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let Size { nodes, datasets: count, pods: wanted, ticks } = size;
        // Three zones; racks of sixteen.
        let sites: Vec<Site> = (0..nodes).map(|at| Site { zone: at % 3, rack: at / 48 }).collect();
        let datasets: Vec<Pieces> = (0..count)
            .map(|_| Pieces::of(random.magnitude(0.3 * GB as f64, 40.0 * GB as f64) as u64))
            .collect();
        // Popularity by Zipf's law, as those of web objects and training sets are found to be.
        let weights: Vec<f64> = (1..=count).map(|rank| (rank as f64).powf(-0.9)).collect();
        let mut reached = 0.0;
        let sums: Vec<f64> = weights
            .iter()
            .map(|w| {
                reached += w;
                reached
            })
            .collect();
        let mut pods = Vec::new();
        let last = ticks * 2 / 3;
        while pods.len() < wanted {
            let at = random.below(last as usize) as u64;
            let aim = random.unit() * reached;
            let dataset = sums.partition_point(|sum| *sum < aim).min(count - 1);
            let width = [1, 1, 1, 2, 4, 8, 16].get(random.below(7)).copied().unwrap_or(1);
            let rate = random.magnitude(50.0 * MB as f64, 500.0 * MB as f64) as u64;
            let epochs = 1 + random.below(4) as u32;
            let width = width.min(wanted - pods.len());
            pods.extend((0..width).map(|_| Pod { at, dataset, rate, epochs }));
        }
        let (half, minutes) = (ticks / 2, 600 / TICK_S);
        let mut events = Vec::new();
        match scenario {
            Scenario::Steady => {}
            Scenario::NodeLoss => {
                let lost = (0..nodes).filter(|at| at % 20 == 7);
                events.extend(lost.map(|at| (half, Event::NodeDown(at))));
            }
            Scenario::ZoneLoss => {
                let zone = || (0..nodes).filter(|at| sites.get(*at).is_some_and(|s| s.zone == 1));
                events.extend(zone().map(|at| (ticks / 3, Event::NodeDown(at))));
                events.extend(zone().map(|at| (ticks / 3 + minutes, Event::NodeUp(at))));
            }
            Scenario::FlashCrowd => {
                let dataset = count * 9 / 10; // Nobody has been reading it.
                let crowd = Pod { at: ticks / 3, dataset, rate: 300 * MB, epochs: 2 };
                pods.extend((0..nodes / 5).map(|_| crowd));
            }
            Scenario::SlowStore => {
                events.push((ticks / 3, Event::Store(0.1)));
                events.push((ticks / 3 + minutes, Event::Store(1.0)));
            }
        }
        pods.sort_by_key(|pod| pod.at);
        Self {
            sites,
            datasets,
            pods,
            events,
            ticks,
            cache: 16 * GB,
            ram: 4 * GB,
            slots: 8,
            // A tenth of what all nodes could take at once.
            store_rate: nodes as u64 * 125 * MB,
            node_rate: 1_250 * MB,
        }
    }
}
