//! One program of a control plane: started with a log of its own, stopped and continued, ended by its pid.
//!
//! Children die with this process, whatever ends it: the kernel kills them when the thread that started
//! them is gone. That thread must therefore outlive the test that asked for a cluster, so one thread starts
//! all of them and never ends.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use thiserror::Error;

use super::programs::{self, Absent, Program};
use crate::hygiene::Ward;

#[derive(Debug, Error)]
pub enum ProcessError {
    #[error(transparent)]
    Absent(#[from] Absent),
    #[error("cannot start {}: {error}", .path.display())]
    Start { path: PathBuf, error: io::Error },
    #[error("cannot signal {name}: {error}")]
    Signal { name: &'static str, error: io::Error },
}

/// A running program.
#[derive(Debug)]
pub struct Process {
    program: Program,
    arguments: Vec<String>,
    log: PathBuf,
    ward: Ward,
}

impl Process {
    /// Starts a program; its output goes to NAME.log in `folder`, after what is there already.
    pub fn start(program: Program, arguments: Vec<String>, folder: &Path) -> Result<Self, ProcessError> {
        let log = folder.join(format!("{}.log", program.name()));
        let ward = Ward::expendable(spawn(program, &arguments, &log)?);
        Ok(Self { program, arguments, log, ward })
    }

    pub fn name(&self) -> &'static str {
        self.program.name()
    }

    pub fn id(&self) -> u32 {
        self.ward.id()
    }

    /// Whether it still runs; a program that has ended by itself is a failure to tell.
    pub fn runs(&mut self) -> bool {
        matches!(self.ward.child().try_wait(), Ok(None))
    }

    /// Ends it at once and starts it again with the same arguments.
    pub fn restart(&mut self) -> Result<(), ProcessError> {
        self.kill();
        self.ward = Ward::expendable(spawn(self.program, &self.arguments, &self.log)?);
        Ok(())
    }

    /// Ends it at once, as a lost machine would.
    pub fn kill(&mut self) {
        self.ward.end();
    }

    /// It goes on after this guard, and after this process if `outlive` was said before its start.
    pub fn stay(self) {
        self.ward.release();
    }

    /// It gets no processor until `resume`.
    pub fn pause(&self) -> Result<(), ProcessError> {
        self.signal(Signal::STOP)
    }

    pub fn resume(&self) -> Result<(), ProcessError> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        let sent = pid.ok_or(rustix::io::Errno::SRCH).and_then(|pid| kill_process(pid, signal));
        sent.map_err(|error| ProcessError::Signal { name: self.name(), error: error.into() })
    }

    /// The last lines of its log, for an error.
    pub fn last_words(&self) -> String {
        const LINES: usize = 15;
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

fn spawn(program: Program, arguments: &[String], log: &Path) -> Result<Child, ProcessError> {
    let path = programs::find(program)?;
    let failed = |error| ProcessError::Start { path: path.clone(), error };
    let output = File::options().create(true).append(true).open(log).map_err(failed)?;
    let errors = output.try_clone().map_err(failed)?;
    let mut command = Command::new(&path);
    command.args(arguments).stdin(Stdio::null()).stdout(output).stderr(errors);
    // A Ctrl-C at the terminal is ours to answer.
    command.process_group(0);
    on_the_lasting_thread(command).map_err(failed)
}

/// From now on what is started outlives this process, unless it is ended.
pub fn outlive() {
    OUTLIVE.store(true, Ordering::Relaxed);
}

static OUTLIVE: AtomicBool = AtomicBool::new(false);

type Order = (Command, Sender<io::Result<Child>>);

/// Starts a child that is killed when this process ends.
fn on_the_lasting_thread(mut command: Command) -> io::Result<Child> {
    static THREAD: OnceLock<Mutex<Option<Sender<Order>>>> = OnceLock::new();
    if !OUTLIVE.load(Ordering::Relaxed) {
        // SAFETY: between fork and exec only async-signal-safe calls are allowed; prctl(2) is one system
        // call, which takes no lock and allocates nothing.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
    }
    let (answer, answered) = channel();
    {
        let slot = THREAD.get_or_init(|| Mutex::new(None));
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let orders = match &*slot {
            Some(orders) => orders.clone(),
            None => {
                let (orders, received) = channel::<Order>();
                std::thread::Builder::new().name("cluster-parent".to_owned()).spawn(move || {
                    for (mut command, answer) in received {
                        let _ = answer.send(command.spawn());
                    }
                })?;
                slot.insert(orders).clone()
            }
        };
        orders.send((command, answer)).map_err(|_| io::ErrorKind::BrokenPipe)?;
    }
    answered.recv().map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?
}
