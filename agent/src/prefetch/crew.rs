//! The threads: as many as there are tasks under way, one that looks at the clock, and no more than bounded.
//!
//! A thread carries one task through all its steps and takes the next itself, so that a file costs no hand-over
//! (io_uring's workers are handed every step: the numbers are in `mod.rs`). Threads that a dead
//! store holds inside the kernel are replaced, up to a bound, and never waited for.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use agent_core::{MountId, Nanos};

use super::answers::Answers;
use super::queue::{Answer, Queue, Started};
use super::work::{Bench, now};

/// A thread without work ends after this; short bursts a few seconds apart find it still there.
const LINGER: Duration = Duration::from_secs(10);
/// How often the clerk looks for what is overdue; also the precision of a task's life.
const TICK: Duration = Duration::from_millis(250);
/// Stack of a thread: `Nowhere` takes 4 KiB and its iovecs as much, the rest is paths and texts of /proc.
const STACK: usize = 128 * 1024;
/// Threads called or made by one order: the called ones call further ones, the submitter does not wait.
const CALLED_AT_ONCE: usize = 4;
/// Stuck threads that are replaced by new ones; beyond it they count against `threads`.
const REPLACED: usize = 256;

#[derive(Debug)]
pub struct State {
    pub queue: Queue,
    threads: usize,
    /// Threads that wait for work, and how many of them have been called and not yet come.
    idle: usize,
    called: usize,
    /// Threads that have been made and have not begun.
    newborn: usize,
    /// Whether the clerk sleeps without end.
    clerk_rests: bool,
    clerk_lives: bool,
    closed: bool,
}

/// What all threads share.
#[derive(Debug)]
pub struct Crew {
    state: Mutex<State>,
    work: Condvar,
    clock: Condvar,
    gone: Condvar,
    pub answers: Answers,
    bench: Bench,
    threads: usize,
    root_idle: Nanos,
}

impl Crew {
    pub fn new(queue: Queue, answers: Answers, bench: Bench, threads: usize, root_idle: Nanos) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                queue,
                threads: 0,
                idle: 0,
                called: 0,
                newborn: 0,
                clerk_rests: false,
                clerk_lives: false,
                closed: false,
            }),
            work: Condvar::new(),
            clock: Condvar::new(),
            gone: Condvar::new(),
            answers,
            bench,
            threads,
            root_idle,
        })
    }

    /// Starts the clerk and the first thread: when these cannot be had, prefetching cannot.
    pub fn begin(self: &Arc<Self>) -> std::io::Result<()> {
        let crew = Arc::clone(self);
        let mut state = self.lock();
        named("prefetch-clerk").spawn(move || crew.clerk())?;
        state.clerk_lives = true;
        self.add_thread(&mut state)
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the queue, answers what that ends, and wakes or adds a thread when there is work for one more.
    pub fn change(self: &Arc<Self>, change: impl FnOnce(&mut Queue, &mut Vec<Answer>)) {
        let mut answers = Vec::new();
        let mut state = self.lock();
        change(&mut state.queue, &mut answers);
        self.call(&mut state);
        if std::mem::take(&mut state.clerk_rests) {
            self.clock.notify_one();
        }
        drop(state);
        if !answers.is_empty() {
            self.answers.give(answers, now());
        }
    }

    fn call(self: &Arc<Self>, state: &mut State) {
        if state.closed {
            return;
        }
        let wanted = state.queue.startable();
        for _ in 0..CALLED_AT_ONCE {
            if state.called + state.newborn >= wanted {
                return;
            }
            if state.idle > state.called {
                state.called += 1;
                self.work.notify_one();
            } else if state.threads < self.threads + state.queue.load().stuck.min(REPLACED) {
                // Where the system has no thread to give, those at work go on, and the clerk tries again.
                if self.add_thread(state).is_err() {
                    return;
                }
            }
        }
    }

    fn add_thread(self: &Arc<Self>, state: &mut State) -> std::io::Result<()> {
        let crew = Arc::clone(self);
        named("prefetch").spawn(move || crew.work())?;
        state.threads += 1;
        state.newborn += 1;
        Ok(())
    }

    fn work(self: Arc<Self>) {
        let mut answers = Vec::new();
        let mut state = self.lock();
        state.newborn -= 1;
        while !state.closed {
            let started = state.queue.start(now());
            if started.is_some() {
                self.call(&mut state);
            }
            if started.is_some() || !answers.is_empty() {
                // Told without the lock: it wakes the event loop, which would want the lock next.
                drop(state);
                if !answers.is_empty() {
                    self.answers.give(answers.drain(..), now());
                }
                let ended = started.map(|Started { ticket, task, leash }| {
                    let ending = self.bench.carry_out(&task, &leash);
                    (ticket, ending)
                });
                state = self.lock();
                if let Some((ticket, ending)) = ended {
                    state.queue.finish(ticket, ending, &mut answers);
                }
                continue;
            }
            state.idle += 1;
            let (woken, timeout) =
                self.work.wait_timeout(state, LINGER).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if !timeout.timed_out() {
                state.called = state.called.saturating_sub(1);
            }
            state.called = state.called.min(state.idle);
            if timeout.timed_out() && state.queue.startable() == 0 {
                break;
            }
        }
        state.threads -= 1;
        self.gone.notify_all();
    }

    fn clerk(self: Arc<Self>) {
        let mut answers = Vec::new();
        let mut state = self.lock();
        while !state.closed {
            let load = state.queue.load();
            let busy = load.queued + load.in_flight > 0;
            drop(state);
            let held = self.bench.roots.sweep(now(), self.root_idle);
            state = self.lock();
            state.queue.expire(now(), &mut answers);
            if !answers.is_empty() {
                self.answers.give(answers.drain(..), now());
            }
            self.call(&mut state);
            if state.closed {
                break;
            }
            state = if busy || held {
                self.clock.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0
            } else {
                state.clerk_rests = true;
                self.clock.wait(state).unwrap_or_else(PoisonError::into_inner)
            };
        }
        state.clerk_lives = false;
        self.gone.notify_all();
    }

    pub fn forget(self: &Arc<Self>, mount: MountId) {
        self.change(|queue, answers| queue.forget(mount, answers));
        self.bench.roots.forget(mount);
    }

    /// Ends all threads that come back within `grace`; the others end by themselves when the kernel lets go
    /// of them, or with the process.
    pub fn end(&self, grace: Duration) {
        let mut state = self.lock();
        state.closed = true;
        state.queue.close();
        self.work.notify_all();
        self.clock.notify_all();
        let all_gone = |state: &mut State| state.threads > 0 || state.clerk_lives;
        let begun = Instant::now();
        let waited = self.gone.wait_timeout_while(state, grace, all_gone);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.bench.roots.end(grace.saturating_sub(begun.elapsed()));
    }

    pub fn counts(&self) -> (super::queue::Load, usize) {
        let state = self.lock();
        (state.queue.load(), state.threads)
    }
}

fn named(name: &str) -> thread::Builder {
    thread::Builder::new().name(name.to_owned()).stack_size(STACK)
}
