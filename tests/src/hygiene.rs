//! Nothing is left behind: children end, mounts go, whatever way this process ends.
//!
//! Guards clean up when dropped. SIGINT and SIGTERM run no destructors, so every guard is also entered in a
//! list that `on_signals` works through before it exits, and `at_exit` for what statics hold. What a killed process left is found by the next:
//! mounts of our file system type below a folder whose name carries the number of a process that is gone.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, WaitOptions};

use crate::store::mount::SUBTYPE;

/// How long a child may take to end by itself before it is killed. The agent detaches its probes and
/// writes its profiles in this time.
const GRACE: Duration = Duration::from_secs(10);

/// Folders of harness runs: this and the process's number.
const FOLDER: &str = "/tmp/headrace-run-";

/// How a child is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Asked first: it has things of its own to put back.
    Gentle,
    /// Killed: all that it could lose goes anyway.
    Sudden,
}

#[derive(Debug, Default)]
struct Obligations {
    children: Vec<(u32, Ending)>,
    mounts: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

static OBLIGATIONS: Mutex<Obligations> =
    Mutex::new(Obligations { children: Vec::new(), mounts: Vec::new(), folders: Vec::new() });

fn obligations() -> MutexGuard<'static, Obligations> {
    OBLIGATIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child that is ended when this is dropped: SIGTERM, and SIGKILL when that did not do.
#[derive(Debug)]
pub struct Ward {
    child: Child,
    ending: Ending,
    released: bool,
}

impl Ward {
    pub fn new(child: Child) -> Self {
        Self::with(child, Ending::Gentle)
    }

    /// A child that is killed without being asked, because nothing of it is kept.
    pub fn expendable(child: Child) -> Self {
        Self::with(child, Ending::Sudden)
    }

    fn with(child: Child, ending: Ending) -> Self {
        obligations().children.push((child.id(), ending));
        Self { child, ending, released: false }
    }

    /// The child goes on by itself.
    pub fn release(mut self) {
        let id = self.child.id();
        obligations().children.retain(|(child, _)| *child != id);
        self.released = true;
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Asks the child to end and waits; true when it went without being killed.
    pub fn end(&mut self) -> bool {
        let id = self.child.id();
        let given_up = Instant::now() + GRACE;
        let mut ended = matches!(self.child.try_wait(), Ok(Some(_)));
        if !ended {
            terminate(id, self.ending.signal());
        }
        while !ended && Instant::now() < given_up {
            std::thread::sleep(Duration::from_millis(5));
            ended = matches!(self.child.try_wait(), Ok(Some(_)));
        }
        if !ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        obligations().children.retain(|(child, _)| *child != id);
        ended
    }
}

impl Drop for Ward {
    fn drop(&mut self) {
        if !self.released {
            self.end();
        }
    }
}

impl Ending {
    fn signal(self) -> Signal {
        match self {
            Self::Gentle => Signal::TERM,
            Self::Sudden => Signal::KILL,
        }
    }
}

fn terminate(id: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// A mount that is detached when this is dropped, if it is still there.
#[derive(Debug)]
pub struct MountGuard(PathBuf);

impl MountGuard {
    pub fn new(at: &Path) -> Self {
        obligations().mounts.push(at.to_owned());
        Self(at.to_owned())
    }
}

impl Drop for MountGuard {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
        obligations().mounts.retain(|at| *at != self.0);
    }
}

/// A folder of this process's own, removed when this is dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("{FOLDER}{}/{number}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        obligations().folders.push(path.clone());
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove(&self.0);
        obligations().folders.retain(|path| *path != self.0);
    }
}

fn remove(path: &Path) {
    let _ = std::fs::remove_dir_all(path);
    // Goes with the last folder of this process.
    let _ = path.parent().map(std::fs::remove_dir);
}

/// From now on SIGINT and SIGTERM end children and take mounts away before this process exits.
pub fn on_signals() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            let code = tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            };
            eprintln!("\nstopping: ending what was started and unmounting");
            clean();
            std::process::exit(code);
        });
    })?;
    Ok(())
}

/// From now on the end of this process, without a signal, cleans up too. What statics hold is never dropped:
/// a cluster that the tests of one program share would outlive them.
pub fn at_exit() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    extern "C" fn cleaned() {
        clean();
    }
    ONCE.call_once(|| {
        // SAFETY: `cleaned` is a plain function that lives as long as the program; it unwinds nowhere (what
        // it calls returns errors) and, as atexit(3) asks, does not call exit itself.
        let registered = unsafe { libc::atexit(cleaned) };
        if registered != 0 {
            eprintln!("warning: what tests start may outlive them: atexit has no room");
        }
    });
}

fn clean() {
    // A signal ends in an exit, which comes here again.
    static BEGUN: AtomicBool = AtomicBool::new(false);
    if BEGUN.swap(true, Ordering::SeqCst) {
        return;
    }
    // The lock is kept: no guard may start or end anything from here on.
    let owed = obligations();
    for (id, ending) in &owed.children {
        terminate(*id, ending.signal());
    }
    let given_up = Instant::now() + GRACE;
    for (id, _) in &owed.children {
        let Some(pid) = i32::try_from(*id).ok().and_then(Pid::from_raw) else {
            continue;
        };
        while matches!(rustix::process::waitpid(Some(pid), WaitOptions::NOHANG), Ok(None)) {
            if Instant::now() >= given_up {
                terminate(*id, Signal::KILL);
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    for at in &owed.mounts {
        let _ = rustix::mount::unmount(at, UnmountFlags::DETACH);
    }
    for path in &owed.folders {
        remove(path);
    }
    std::mem::forget(owed);
}

/// Takes away mounts and folders that a harness process left when it was killed. Says which mounts.
pub fn remove_stale() -> io::Result<Vec<PathBuf>> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let ours = format!("fuse.{SUBTYPE}");
    let mut removed = Vec::new();
    for line in mounts.lines() {
        let Some((front, back)) = line.split_once(" - ") else {
            continue;
        };
        let at = front.split(' ').nth(4).map(PathBuf::from).filter(|at| abandoned(at));
        let mine = back.split(' ').next() == Some(&ours)
            || back.split(' ').nth(1).is_some_and(|source| source.starts_with("/dev/loop"));
        if let Some(at) = at.filter(|_| mine) {
            rustix::mount::unmount(&at, UnmountFlags::DETACH)?;
            removed.push(at);
        }
    }
    for entry in std::fs::read_dir("/tmp")?.flatten() {
        if abandoned(&entry.path()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    Ok(removed)
}

/// Whether a path lies in the folder of a harness process that is gone.
fn abandoned(path: &Path) -> bool {
    let Some(rest) = path.to_str().and_then(|path| path.strip_prefix(FOLDER)) else {
        return false;
    };
    let number = rest.split('/').next().and_then(|number| number.parse::<u32>().ok());
    number.is_some_and(|number| !Path::new(&format!("/proc/{number}")).exists())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_ward_ends_with_its_guard() {
        let ward = Ward::new(Command::new("sleep").arg("60").spawn().unwrap());
        let id = ward.id();
        drop(ward);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }

    #[test]
    fn only_folders_of_gone_processes_are_abandoned() {
        assert!(!abandoned(Path::new("/home/someone")));
        assert!(!abandoned(&PathBuf::from(format!("{FOLDER}{}/0", std::process::id()))));
        assert!(abandoned(&PathBuf::from(format!("{FOLDER}4194305/0"))));
        assert!(!abandoned(&PathBuf::from(format!("{FOLDER}x"))));
    }
}
