//! Where an open directory lies in its file system, asked of the kernel by a BPF program that is run, not attached.
//!
//! Loaded at the first question: most nodes have no NFS and never ask. It has an object of its own, whose other
//! maps are let go of at once.

use std::borrow::Cow;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use agent_common::plain::Plain as _;
use agent_common::record::{ASKED_CUT, ASKED_FOUND, Asked};
use aya::Ebpf;
use aya::maps::{Array, MapData};
use aya::programs::{Program, ProgramError, RawTracePointRunOptions, TestRun as _};
use operator_api::causes::chain;

use super::layout::Offsets;
use super::lockdown;
use super::names::path;
use super::object::{self, Sizes};
use super::refusal::describe;

const PROGRAM: &str = "ask_path";
const ANSWER: &str = "ASKED";

type AnswerBytes = [u8; size_of::<Asked>()];

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AskError {
    /// It will not be otherwise while this kernel runs.
    #[error("this kernel cannot be asked where a directory lies in its file system: {0}")]
    Unable(String),
    #[error("its folders are more or longer than the agent reads")]
    Cut,
    #[error("the question failed: {0}")]
    Failed(String),
}

/// May be asked by any thread; one question is answered at a time, in microseconds.
pub struct Asker {
    object: Cow<'static, [u8]>,
    offsets: Offsets,
    state: Mutex<State>,
}

enum State {
    Unloaded,
    Loaded(Loaded),
    Unable(String),
}

struct Loaded {
    ebpf: Ebpf,
    answer: Array<MapData, AnswerBytes>,
}

impl std::fmt::Debug for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asker").finish_non_exhaustive()
    }
}

impl Asker {
    pub(super) fn new(object: Cow<'static, [u8]>, offsets: Offsets) -> Self {
        Self { object, offsets, state: Mutex::new(State::Unloaded) }
    }

    /// The path of a directory that this process has open, from the root of its file system: no slash at either end,
    /// empty for the root itself.
    pub fn path(&self, directory: BorrowedFd<'_>) -> Result<Box<[u8]>, AskError> {
        // Poisoned, it is at worst an answer that nobody has taken.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Unloaded) {
            *state = match load(&self.object, &self.offsets) {
                Ok(loaded) => State::Loaded(loaded),
                Err(AskError::Unable(why)) => State::Unable(why),
                // No descriptor or no memory was left: there may be some at the next question.
                Err(passing) => return Err(passing),
            };
        }
        match &*state {
            State::Loaded(loaded) => loaded.ask(directory),
            State::Unable(why) => Err(AskError::Unable(why.clone())),
            State::Unloaded => Err(AskError::Failed("it is not loaded".into())),
        }
    }
}

fn load(object: &[u8], offsets: &Offsets) -> Result<Loaded, AskError> {
    if let Some(field) = offsets.missing.as_ref().or(offsets.missing_for_asking.as_ref()) {
        return Err(AskError::Unable(format!("its types have no {field}")));
    }
    let failed = |error: &dyn std::error::Error| AskError::Failed(chain(error));
    let mut ebpf = object::load(object, offsets, Sizes::SMALL).map_err(|error| failed(&error))?;
    let Some(Program::RawTracePoint(program)) = ebpf.program_mut(PROGRAM) else {
        return Err(AskError::Unable(format!("the BPF object has no program {PROGRAM}")));
    };
    program.load().map_err(|error| match &error {
        ProgramError::LoadError { io_error, .. } if !is_passing(io_error) => {
            AskError::Unable(describe(&error, lockdown::is_confidential()))
        }
        _ => failed(&error),
    })?;
    let answer = object::take(&mut ebpf, ANSWER).map_err(|error| failed(&error))?;
    let answer = Array::try_from(answer).map_err(|error| failed(&error))?;
    // What the program does not use goes with its last descriptor.
    let others: Vec<String> = ebpf.maps().map(|(name, _)| name.to_owned()).collect();
    for name in others {
        drop(ebpf.take_map(&name));
    }
    Ok(Loaded { ebpf, answer })
}

/// What says nothing of the kernel, but of this moment.
fn is_passing(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN | libc::EINTR)
    )
}

impl Loaded {
    fn ask(&self, directory: BorrowedFd<'_>) -> Result<Box<[u8]>, AskError> {
        let failed = |error: &dyn std::error::Error| AskError::Failed(error.to_string());
        let Some(Program::RawTracePoint(program)) = self.ebpf.program(PROGRAM) else {
            return Err(AskError::Failed("the program is gone".into()));
        };
        let mut options = RawTracePointRunOptions::new();
        options.args[0] = u64::from(directory.as_raw_fd().unsigned_abs());
        program.test_run(options).map_err(|error| failed(&error))?;
        let bytes = self.answer.get(&0, 0).map_err(|error| failed(&error))?;
        let found = Asked::from_bytes(&bytes);
        match found.map_or(0, |found| found.answer) {
            ASKED_FOUND => {}
            ASKED_CUT => return Err(AskError::Cut),
            other => return Err(AskError::Failed(format!("the kernel answered {other}"))),
        }
        let found = found.map(|found| found.names.buffer);
        let names = found.as_ref().and_then(|found| found.names.get(..found.sight.len as usize));
        names.map(path).ok_or_else(|| AskError::Failed("the names are longer than their room".into()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::path::Path;

    use rustix::fs::{CWD, Mode, OFlags, openat};

    use super::*;
    use crate::mounts::Namespace;
    use crate::probe::{Probe, ProbeConfig};

    fn open(path: &Path) -> std::os::fd::OwnedFd {
        openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn a_directory_says_where_it_lies_in_its_file_system() {
        let (probe, _) = Probe::start(ProbeConfig::default()).expect("a probe: this test needs root");
        let asker = probe.asker();
        assert_eq!(&*asker.path(open(Path::new("/proc")).as_fd()).unwrap(), b"");
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a folder/of the name that is longer than a dentry has room for/x");
        std::fs::create_dir_all(&deep).unwrap();
        let table = Namespace::default().table().unwrap();
        let (_, inside) = table.inside(std::os::unix::ffi::OsStrExt::as_bytes(deep.as_os_str())).unwrap();
        assert_eq!(&*asker.path(open(&deep).as_fd()).unwrap(), inside);
        // As often as asked, from any thread.
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        assert_eq!(&*asker.path(open(&deep).as_fd()).unwrap(), inside);
                    }
                });
            }
        });
    }

    #[test]
    fn a_folder_too_deep_is_said_to_be() {
        let (probe, _) = Probe::start(ProbeConfig::default()).expect("a probe: this test needs root");
        let folder = tempfile::tempdir().unwrap();
        let deep = (0..40).fold(folder.path().to_owned(), |path, at| path.join(at.to_string()));
        std::fs::create_dir_all(&deep).unwrap();
        assert!(matches!(probe.asker().path(open(&deep).as_fd()), Err(AskError::Cut)));
    }

    #[test]
    fn a_kernel_that_cannot_be_asked_says_why() {
        let btf = super::super::btf::Btf::parse(std::fs::read("/sys/kernel/btf/vmlinux").unwrap()).unwrap();
        let mut offsets = super::super::layout::find(&btf, 4096);
        offsets.missing_for_asking = Some("fdtable.fd".into());
        let error =
            Asker::new(object::OBJECT.into(), offsets).path(open(Path::new("/")).as_fd()).unwrap_err();
        assert!(matches!(&error, AskError::Unable(_)) && error.to_string().contains("fdtable.fd"), "{error}");
    }
}
