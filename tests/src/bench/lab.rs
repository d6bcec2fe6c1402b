//! The laboratory: stores, agents and readers as processes, each on a guard.
//!
//! The agent is whatever `Subject` says: none, the headrace binary, or the oracle in its place, which is
//! how the benchmark itself is tested.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::hygiene::{Folder, MountGuard, Ward};
use crate::reader::itinerary::Workload;
use crate::reader::outcome::Outcome;
use crate::store::{Control, StoreConfig};

/// What is put beside the reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    None,
    /// The headrace binary.
    Agent(PathBuf),
    /// The prefetcher that knows everything, this many files at once.
    Oracle(usize),
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            _ if text == "none" => Ok(Self::None),
            Some(("oracle", depth)) => {
                let depth = depth.parse().map_err(|_| format!("`{depth}` is no depth: write oracle:64"))?;
                Ok(Self::Oracle(depth))
            }
            _ => Ok(Self::Agent(PathBuf::from(text))),
        }
    }
}

/// The agent has to load its probes, which takes the verifier some seconds on a busy machine.
const READY: Duration = Duration::from_secs(30);

/// How long after the reader's end what the agent still had under way may arrive.
const SETTLE: Duration = Duration::from_millis(700);

/// Where the programs are: beside the running one, as cargo puts them.
pub fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("finding the running program")?;
    // A test's executable lies one folder deeper, in deps/.
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.exists());
    found.with_context(|| {
        format!("{name} is not beside {}: build it with `cargo build --workspace --bins`", own.display())
    })
}

/// Drops page, dentry and inode caches.
pub fn drop_caches() -> Result<()> {
    std::fs::write("/proc/sys/vm/drop_caches", "3")
        .context("dropping the kernel's caches (/proc/sys/vm/drop_caches); run as root")
}

/// A slow store in a process of its own.
#[derive(Debug)]
pub struct StoreProcess {
    process: Ward,
    _mount: MountGuard,
    at: PathBuf,
    control: Control,
    control_path: PathBuf,
    config: StoreConfig,
    _folder: Folder,
}

impl StoreProcess {
    pub fn start(config: &StoreConfig) -> Result<Self> {
        let folder = Folder::new().context("making a folder in /tmp")?;
        let at = folder.path().join("mnt");
        std::fs::create_dir(&at)?;
        let control_path = folder.path().join("control");
        let StoreConfig {
            tree,
            seed,
            latency,
            jitter,
            bandwidth,
            keep_pages,
            charge_open,
            parallel_dirops,
            sorted_listings,
            source,
            max_background,
            threads,
        } = config;
        let mut command = Command::new(program("slow-store")?);
        command.arg("--mount").arg(&at).arg("--control").arg(&control_path);
        command.args(["--tree", &tree.to_string(), "--seed", &seed.to_string(), "--source", source]);
        command.args(["--latency", &format!("{}us", latency.as_micros())]);
        command.args(["--jitter", &format!("{}us", jitter.as_micros())]);
        command.args(["--bandwidth", &bandwidth.unwrap_or(0).to_string()]);
        command.args(["--max-background", &max_background.to_string(), "--threads", &threads.to_string()]);
        for (flag, wanted) in [
            ("--drop-pages", !keep_pages),
            ("--charge-open", *charge_open),
            ("--serial-dirops", !parallel_dirops),
            ("--sorted", *sorted_listings),
        ] {
            if wanted {
                command.arg(flag);
            }
        }
        command.arg("--with-parent").stdin(Stdio::null()).stdout(Stdio::piped());
        let mount = MountGuard::new(&at);
        let mut process = Ward::new(command.spawn().context("starting slow-store")?);
        let mut line = String::new();
        let out = process.child().stdout.take().context("slow-store's standard output")?;
        BufReader::new(out).read_line(&mut line)?;
        if !line.starts_with("mounted") {
            bail!(
                "slow-store did not mount (its message is above); is this run as root, and is there /dev/fuse?"
            );
        }
        // The root's attributes are asked for once and then valid for an hour.
        std::fs::metadata(&at).context("looking at the mounted store")?;
        Ok(Self {
            process,
            _mount: mount,
            at,
            control: Control::at(&control_path),
            control_path,
            config: config.clone(),
            _folder: folder,
        })
    }

    pub fn path(&self) -> &Path {
        &self.at
    }

    pub fn control(&self) -> &Control {
        &self.control
    }

    pub fn config(&self) -> &StoreConfig {
        &self.config
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    fn reader(&self, before: &[&str], workload: Workload, order: u64) -> Result<Command> {
        let mut command = Command::new(program("bench-reader")?);
        command.args(before).args(arguments(workload)).arg("--mount").arg(&self.at);
        command.args(["--tree", &self.config.tree.to_string(), "--seed", &self.config.seed.to_string()]);
        command.args(["--order", &order.to_string(), "--with-parent"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(command)
    }

    /// Starts a reader; `ReaderProcess::epoch` waits for what it says.
    pub fn read(&self, workload: Workload, order: u64) -> Result<ReaderProcess> {
        let mut command = self.reader(&[], workload, order)?;
        command.args(["--accesses", "--pause"]);
        let mut process = Ward::new(command.spawn().context("starting bench-reader")?);
        let out = process.child().stdout.take().context("bench-reader's standard output")?;
        Ok(ReaderProcess { process, out: BufReader::new(out) })
    }
}

/// The command line of a workload, its name first.
fn arguments(workload: Workload) -> Vec<String> {
    let name = match workload {
        Workload::Sequential => "sequential",
        Workload::Mmap => "mmap",
        Workload::Strided => "strided",
        Workload::Directory => "directory",
        Workload::Shuffled { .. } => "shuffled",
        Workload::Footer => "footer",
        Workload::Random { .. } => "random",
    };
    let mut arguments = vec![name.to_owned()];
    match workload {
        Workload::Shuffled { epochs, files, workers } => {
            arguments.extend([format!("--epochs={epochs}"), format!("--workers={workers}")]);
            arguments.extend(files.map(|files| format!("--files={files}")));
        }
        Workload::Random { reads } => arguments.push(format!("--reads={reads}")),
        Workload::Sequential
        | Workload::Mmap
        | Workload::Strided
        | Workload::Directory
        | Workload::Footer => {}
    }
    arguments
}

#[derive(Debug)]
pub struct ReaderProcess {
    process: Ward,
    out: BufReader<ChildStdout>,
}

impl ReaderProcess {
    /// Waits for the end of an epoch.
    pub fn epoch(&mut self) -> Result<Outcome> {
        let mut line = String::new();
        self.out.read_line(&mut line)?;
        let outcome: Outcome =
            serde_json::from_str(&line).context("the reader ended without a result; its message is above")?;
        if outcome.wrong > 0 {
            bail!("{} reads returned wrong bytes", outcome.wrong);
        }
        Ok(outcome)
    }

    /// Lets the reader begin its next epoch.
    pub fn go_on(&mut self) -> Result<()> {
        let mut input = self.process.child().stdin.as_ref().context("the reader's standard input")?;
        Ok(input.write_all(b"\n")?)
    }

    /// Waits for the process to end.
    pub fn finish(mut self) -> Result<()> {
        let status = self.process.child().wait()?;
        if !status.success() {
            bail!("the reader ended with {status}; its message is above");
        }
        Ok(())
    }
}

/// The agent, or what stands in its place.
#[derive(Debug)]
pub struct Companion {
    process: Ward,
    socket: PathBuf,
}

impl Companion {
    /// Starts the subject on a store and waits until it is ready. None when there is no subject.
    pub fn start(
        subject: &Subject,
        store: &StoreProcess,
        state: &Path,
        workload: Workload,
        order: u64,
    ) -> Result<Option<Self>> {
        let socket = state.with_extension("sock");
        match subject {
            Subject::None => Ok(None),
            Subject::Agent(path) => Self::agent(path, &[store.path()], state).map(Some),
            Subject::Oracle(depth) => {
                let mut command = store.reader(&["oracle"], workload, order)?;
                command.arg("--control").arg(&store.control_path).args(["--depth", &depth.to_string()]);
                let process = Ward::new(command.spawn().context("starting the oracle")?);
                // It builds its itinerary and then waits for the reader's first request.
                std::thread::sleep(Duration::from_millis(300));
                Ok(Some(Self { process, socket }))
            }
        }
    }

    /// Starts `headrace agent` and waits until it answers a question: by then it watches. Its socket is there some
    /// tenths of a second sooner.
    pub fn agent(program: &Path, watch: &[&Path], state: &Path) -> Result<Self> {
        let socket = state.with_extension("sock");
        // Of an agent that had to be killed: whoever connects must reach the new one.
        let _ = std::fs::remove_file(&socket);
        let log = state.with_extension("log");
        let file = std::fs::File::create(&log).context("making the agent's log file")?;
        let mut command = Command::new(program);
        command.arg("agent").arg("--state").arg(state).arg("--socket").arg(&socket);
        for mount in watch {
            command.arg("--watch").arg(mount);
        }
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| {
            format!(
                "starting {}: build it with `cargo build -p agent`, or name another with --agent",
                program.display()
            )
        })?;
        let mut companion = Self { process: Ward::new(child), socket };
        let given_up = Instant::now() + READY;
        while UnixStream::connect(&companion.socket).is_err() || !companion.answers(program)? {
            let ended = companion.process.child().try_wait()?;
            if ended.is_some() || Instant::now() > given_up {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                bail!(
                    "the agent did not become ready within {} s ({ended:?}); it said:\n{said}",
                    READY.as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(companion)
    }

    fn answers(&self, program: &Path) -> Result<bool> {
        let mut question = Command::new(program);
        question.arg("--socket").arg(&self.socket).args(["top", "--once", "--output", "json"]);
        question.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(question.status().context("asking the agent whether it is ready")?.success())
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Lets what is under way arrive.
    pub fn settle(&self) {
        std::thread::sleep(SETTLE);
    }

    /// Ends it as an operator would, so that it writes down what it learned.
    pub fn stop(mut self) {
        if !self.process.end() {
            eprintln!("warning: the agent did not end within its grace after SIGTERM and was killed");
        }
    }
}

/// Copies a state folder, replacing what was at `to`.
pub fn copy_state(from: &Path, to: &Path) -> Result<()> {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_state(&entry.path(), &target)?;
        } else if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
