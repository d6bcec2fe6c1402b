//! A real store that speaks S3, on loopback: versitygw over a folder, ended with its guard.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, set_parent_process_death_signal};
use tempfile::TempDir;

pub const KEY: &str = "HEADRACETESTKEY";
pub const SECRET: &str = "headrace-test-secret-geheim";

const LIMIT: Duration = Duration::from_secs(30);

pub struct Server {
    child: Child,
    pub at: SocketAddr,
    /// A folder for each bucket, a file for each object.
    pub folder: TempDir,
}

/// Where `cargo xtask setup` puts it.
fn program() -> PathBuf {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/stores/go.mod");
    let text = std::fs::read_to_string(&module).unwrap();
    let version = text.lines().find_map(|line| line.trim().strip_prefix("github.com/versity/versitygw "));
    let version = version.and_then(|rest| rest.split_whitespace().next()).unwrap();
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"));
    let program = cache.join("headrace/stores").join(version).join("versitygw");
    assert!(
        program.is_file(),
        "this needs a store that speaks S3, and {} is not there: run `cargo xtask setup`, which builds it once",
        program.display()
    );
    program
}

impl Server {
    pub fn start() -> Self {
        // Another may take the port before the server does: then it ends, and the next is tried.
        for _ in 0..5 {
            let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            if let Some(server) = Self::start_at(at) {
                return server;
            }
        }
        panic!("the store found no port");
    }

    fn start_at(at: SocketAddr) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(program());
        command
            .args(["--region", "us-east-1", "--port", &at.to_string(), "--quiet"])
            .args(["posix", "--sidecar"])
            .arg(folder.path().join("side"))
            .arg(folder.path().join("data"))
            .env_clear()
            .envs([("ROOT_ACCESS_KEY", KEY), ("ROOT_SECRET_KEY", SECRET)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        std::fs::create_dir_all(folder.path().join("side")).unwrap();
        std::fs::create_dir_all(folder.path().join("data/bucket")).unwrap();
        // SAFETY: between fork and exec only async-signal-safe calls are allowed; prctl(2) is one system call, which
        // takes no lock and allocates nothing.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let mut child = command.spawn().unwrap();
        let began = Instant::now();
        while TcpStream::connect(at).is_err() {
            if child.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(began.elapsed() < LIMIT, "the store does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { child, at, folder })
    }

    /// The files behind the bucket.
    pub fn bucket(&self) -> PathBuf {
        self.folder.path().join("data/bucket")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file of these bytes, folders and all.
pub fn put(root: &Path, name: &str, bytes: &[u8]) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::File::create(path).unwrap().write_all(bytes).unwrap();
}
