//! `slow-store`: mounts the emulated remote file system until SIGTERM, SIGINT or an unmount from outside.
//!
//! It prints one line when the mount is ready, and with `--control` answers questions about what was asked
//! of it (tests/src/store/control.rs).

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use rustix::process::Signal;
use tests::quantity;
use tests::store::control::ControlSocket;
use tests::store::mount::SOURCE;
use tests::store::{Mounted, StoreConfig, TreeSpec};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Parser)]
#[command(about = "An emulated remote file system with set latency and bandwidth (a test fixture)")]
struct Args {
    /// Where to mount; an existing directory.
    #[arg(long)]
    mount: PathBuf,
    /// small:DIRSxFILESxSIZE, large:SIZE, parquet:FILESxCOLUMNSxSIZE or dir:PATH (40k is 40,000, 1Gi is 2^30).
    #[arg(long, default_value = "small:40x100x40k")]
    tree: TreeSpec,
    /// Of names, contents, listing order and jitter.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Latency of a look-up, a listing and a read.
    #[arg(long, default_value = "5ms", value_parser = quantity::duration)]
    latency: Duration,
    /// Most that is added to the latency, at random.
    #[arg(long, default_value = "0", value_parser = quantity::duration)]
    jitter: Duration,
    /// Bytes a second of the one link; 0 is without limit.
    #[arg(long, default_value = "60M", value_parser = quantity::bytes)]
    bandwidth: u64,
    /// Let the kernel drop a file's pages at each open, as s3fs does.
    #[arg(long)]
    drop_pages: bool,
    /// Charge the latency for open too, as NFS close-to-open does.
    #[arg(long)]
    charge_open: bool,
    /// Look-ups in one folder one after the other (no FUSE_PARALLEL_DIROPS).
    #[arg(long)]
    serial_dirops: bool,
    /// Listings in lexicographic order instead of hash order.
    #[arg(long)]
    sorted: bool,
    /// The source shown in /proc/mounts.
    #[arg(long, default_value = SOURCE)]
    source: String,
    /// Background requests (read-ahead) the kernel sends at once.
    #[arg(long, default_value_t = 64)]
    max_background: u16,
    /// Threads that take requests.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Answer questions on this unix socket.
    #[arg(long)]
    control: Option<PathBuf>,
    /// End when the process that started this one ends.
    #[arg(long)]
    with_parent: bool,
}

impl Args {
    fn config(&self) -> StoreConfig {
        StoreConfig {
            tree: self.tree.clone(),
            seed: self.seed,
            latency: self.latency,
            jitter: self.jitter,
            bandwidth: Some(self.bandwidth).filter(|rate| *rate > 0),
            keep_pages: !self.drop_pages,
            charge_open: self.charge_open,
            parallel_dirops: !self.serial_dirops,
            sorted_listings: self.sorted,
            source: self.source.clone(),
            max_background: self.max_background,
            threads: self.threads,
        }
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.with_parent {
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
            .context("asking to end with the parent")?;
    }
    // A remote store takes no processor time from the reader's machine; where this is refused, a busy
    // machine only makes answers late.
    let _ = rustix::process::nice(-15);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(&args))
}

async fn serve(args: &Args) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mounted: Mounted = args.config().mount(&args.mount)?;
    let _socket = args
        .control
        .as_deref()
        .map(|path| ControlSocket::serve(path, mounted.shelf().clone()))
        .transpose()?;
    println!("mounted {} on {}", args.tree, args.mount.display());
    let mut pulse = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = pulse.tick() => if mounted.ended() { break },
        }
    }
    mounted.close().map_err(Into::into)
}
