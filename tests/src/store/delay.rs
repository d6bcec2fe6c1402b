//! Answers wait here until the link lets them go: one queue and one thread, however many wait.
//!
//! The link is first in first out, so the queue is sorted by itself, and the thread needs to be woken
//! only when it was idle: a store with many requests in flight makes few context switches.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::clock;

pub type Answer = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    answers: VecDeque<(u64, Answer)>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// The sending thread; what still waits when this is dropped is sent at once.
pub struct Delay {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the answer at the head to fall due. None when closed and empty.
    fn next(&self) -> Option<Answer> {
        let mut queue = self.lock();
        loop {
            let wait = match queue.answers.front() {
                None if queue.closed => return None,
                None => None,
                Some((due, _)) => match due.saturating_sub(clock::now()) {
                    left if left > 0 && !queue.closed => Some(Duration::from_nanos(left)),
                    _ => return queue.answers.pop_front().map(|(_, answer)| answer),
                },
            };
            queue = match wait {
                None => self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    self.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl Delay {
    pub fn start() -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let queue = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("store-delay".to_owned()).spawn(move || {
            // The default slack of 50 µs would be 1 % of the usual latency. Refused, it is only less exact.
            let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
            while let Some(answer) = queue.next() {
                answer();
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Runs `answer` at `due` (CLOCK_MONOTONIC), which must not be before the due time of the last call.
    pub fn send(&self, due: u64, answer: Answer) {
        let mut queue = self.shared.lock();
        let idle = queue.answers.is_empty();
        queue.answers.push_back((due, answer));
        drop(queue);
        if idle {
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Delay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delay").field("waiting", &self.shared.lock().answers.len()).finish()
    }
}
