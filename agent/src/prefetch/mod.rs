//! Carries out the core's orders: brings files into the page cache of existing mounts and lists directories,
//! without ever making the event loop wait.
//!
//! The loop submits orders and drains answers; threads that may block do the rest, each carrying one task
//! from open to close. Parallelism within a file comes from asking for many pieces before waiting for the
//! first. Threads, not io_uring: on a FUSE store of 5 ms, 2,000 files of 40 KB took 90, 102 and 115 µs of
//! processor time a file with 128, 64 and 16 under way this way, and 108, 132 and 191 µs as linked
//! open-read-close requests on a ring at the same speed, because file systems without non-blocking opens and
//! reads make it hand every step to a kernel worker. It is also one path for every machine, where io_uring is
//! switched off too.
//!
//! Nothing here changes an atime (O_NOATIME or no read at all), follows a link, leaves its mount or changes a
//! setting of a mount or device. The agent's own process id tells the probe whose reads these are.

mod task;

mod outcome;

mod extent;

mod pages;

mod root;

mod door;

mod descriptor;

mod warm;

mod listing;

mod queue;

mod work;

mod answers;

mod crew;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use agent_core::{MountId, Nanos, Observation, Order, OrderId, Pages};
use rustix::io::Errno;

pub use answers::Outcomes;
pub use descriptor::copy_of;
pub use door::open_folder;
pub use pages::resident;
pub use queue::NO_TIME;
pub use root::{MountPoint, MountResolver};

use answers::Answers;
use crew::Crew;
use door::Door;
use queue::{Bounds, Queue};
use root::Roots;
use task::{Task, What};
use work::{Bench, now};

/// How long `Drop` waits for its threads; those inside a dead store are left behind.
const GRACE: Duration = Duration::from_millis(300);

/// Limits, and where mounts are. None of them needs tuning.
#[derive(Clone)]
pub struct PrefetchConfig {
    pub resolver: Arc<dyn MountResolver>,
    /// Orders taken in and not yet answered; more are answered `Dropped`.
    pub orders: usize,
    /// Threads at most; each holds one task, and about 24 KiB while it does.
    pub threads: usize,
    /// How long a task may run without going on, and an order that has a time may wait.
    pub life: Duration,
    /// Bytes one fetch may have asked for and not yet seen.
    pub window: u64,
    /// How long a mount's root stays open after its last order; meanwhile umount finds it busy.
    pub root_idle: Duration,
    /// Tasks that have stood still for their life at a mount until it is left alone.
    pub stuck: u32,
}

impl PrefetchConfig {
    pub fn new(resolver: Arc<dyn MountResolver>) -> Self {
        Self {
            resolver,
            orders: 16_384,
            threads: 384,
            life: Duration::from_secs(30),
            // 64 pieces of the usual 128 KiB: a 200 MB/s link at 40 ms.
            window: 8 << 20,
            root_idle: Duration::from_secs(2),
            stuck: 8,
        }
    }
}

impl std::fmt::Debug for PrefetchConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrefetchConfig").finish_non_exhaustive()
    }
}

/// Why prefetching cannot start.
#[derive(Debug, thiserror::Error)]
pub enum PrefetchError {
    #[error(
        "cannot open files for prefetching ({0}): openat2(2) below /proc/self/fd failed; the agent needs \
         Linux 5.6 or later, a mounted /proc, and a seccomp profile that allows openat2"
    )]
    Door(Errno),
    #[error(
        "cannot make an eventfd for the answers of prefetching ({0}): raise the limit of open files (ulimit -n)"
    )]
    Wake(Errno),
    #[error(
        "cannot start the threads that prefetch ({0}): raise the limit of processes (ulimit -u, pids.max)"
    )]
    Thread(std::io::Error),
}

/// What prefetching has done and is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    pub outcomes: Outcomes,
    pub queued: usize,
    pub in_flight: usize,
    /// Answered `Failed` for standing still, their thread still inside the kernel.
    pub stuck: usize,
    pub threads: usize,
}

/// The prefetch edge. Dropping it stops everything within a third of a second.
#[derive(Debug)]
pub struct Prefetch {
    crew: Arc<Crew>,
}

impl Prefetch {
    pub fn start(config: PrefetchConfig) -> Result<Self, PrefetchError> {
        let PrefetchConfig { resolver, orders, threads, life, window, root_idle, stuck } = config;
        let bounds =
            Bounds { orders, depth: 16, depth_max: 256, lists: 4, lists_in_all: 8, life: nanos(life), stuck };
        let bench =
            Bench { roots: Roots::new(resolver), door: Door::new().map_err(PrefetchError::Door)?, window };
        let answers = Answers::new().map_err(PrefetchError::Wake)?;
        let crew = Crew::new(Queue::new(bounds), answers, bench, threads.max(1), nanos(root_idle));
        // From here on dropping ends whatever has started.
        let prefetch = Self { crew };
        prefetch.crew.begin().map_err(PrefetchError::Thread)?;
        Ok(prefetch)
    }

    /// Takes an order; never blocks on I/O. Every `List` and `Fetch` is answered once through `drain`, also
    /// when it is turned away. `Detail` is the probe's and is ignored here.
    pub fn submit(&self, order: Order) {
        let (id, task, deadline) = match order {
            Order::List { id, mount, dir, limit, via } => {
                let what = What::List { limit };
                (id, Task { mount, path: dir, via, what }, Nanos::default())
            }
            Order::Fetch { id, mount, path, file, door, via, extent, deadline } => {
                let what = What::Fetch { file, door, extent };
                (id, Task { mount, path, via, what }, deadline)
            }
            Order::Cancel { id } => return self.crew.change(|queue, answers| queue.cancel(id, answers)),
            Order::Depth { mount, fetches } => {
                return self.crew.change(|queue, _| queue.set_depth(mount, fetches));
            }
            Order::Detail { .. } | Order::Resight { .. } => return,
        };
        self.crew.change(|queue, answers| answers.extend(queue.submit(id, task, deadline, now())));
    }

    /// Has pages of a file leave the page cache, where nobody maps or writes them. Answered once by `drain`, as a
    /// fetch is.
    pub fn let_go(&self, id: OrderId, mount: MountId, path: Box<[u8]>, pages: Vec<Pages>) {
        let task = Task { mount, path, via: 0, what: What::LetGo { pages } };
        self.crew.change(|queue, answers| answers.extend(queue.submit(id, task, NO_TIME, now())));
    }

    /// Appends the answers given since the last call, with the moment each was given.
    pub fn drain(&self, into: &mut Vec<(Nanos, Observation)>) {
        self.crew.answers.drain(into);
    }

    /// Lets go of a mount that is watched no more: what waits is dropped, its root is closed.
    pub fn forget(&self, mount: MountId) {
        self.crew.forget(mount);
    }

    pub fn statistics(&self) -> Statistics {
        let (load, threads) = self.crew.counts();
        Statistics {
            outcomes: self.crew.answers.outcomes(),
            queued: load.queued,
            in_flight: load.in_flight,
            stuck: load.stuck,
            threads,
        }
    }
}

/// Readable while `drain` would find something.
impl AsFd for Prefetch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.crew.answers.as_fd()
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.crew.end(GRACE);
    }
}

fn nanos(duration: Duration) -> Nanos {
    Nanos(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}
