//! A mounted store: from a configuration to a mount point that is unmounted when the guard goes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use rustix::mount::UnmountFlags;

use crate::store::filesystem::{Manners, Shelf, SlowFilesystem};
use crate::store::link::Link;
use crate::store::tree::{Tree, TreeError, TreeSpec};

/// The file system type in /proc/mounts is `fuse.` and this.
pub const SUBTYPE: &str = "headrace-slow";

/// The source in /proc/mounts, unless set otherwise.
pub const SOURCE: &str = "headrace-slow-store";

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error("cannot start the store's delay thread: {0}")]
    Delay(std::io::Error),
    #[error(
        "cannot mount the slow store at {}: {error}; it needs root, /dev/fuse, and an existing directory", at.display()
    )]
    Mount { at: PathBuf, error: std::io::Error },
    #[error("cannot start the store's session: {0}")]
    Session(std::io::Error),
    #[error("the store's session at {} ended with an error: {error}", at.display())]
    Ended { at: PathBuf, error: std::io::Error },
}

#[derive(Clone, Debug)]
pub struct StoreConfig {
    pub tree: TreeSpec,
    pub seed: u64,
    pub latency: Duration,
    pub jitter: Duration,
    /// Bytes a second; none is infinite.
    pub bandwidth: Option<u64>,
    /// Pages survive an open (NFS, CephFS); otherwise the kernel drops them at each open (s3fs).
    pub keep_pages: bool,
    /// An open costs a round trip (NFS close-to-open).
    pub charge_open: bool,
    /// Look-ups in one folder may run at the same time.
    pub parallel_dirops: bool,
    /// Listings in lexicographic instead of hash order.
    pub sorted_listings: bool,
    /// The source shown in /proc/mounts.
    pub source: String,
    pub max_background: u16,
    /// Session threads; one is enough for 20,000 requests a second.
    pub threads: usize,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            tree: TreeSpec::Small { dirs: 40, files: 100, size: 40_000 },
            seed: 1,
            latency: Duration::from_millis(5),
            jitter: Duration::ZERO,
            bandwidth: Some(60_000_000),
            keep_pages: true,
            charge_open: false,
            parallel_dirops: true,
            sorted_listings: false,
            source: SOURCE.to_owned(),
            max_background: 64,
            threads: 1,
        }
    }
}

/// A mounted store; dropping it detaches the mount, whoever still has files open there.
#[derive(Debug)]
pub struct Mounted {
    session: Option<BackgroundSession>,
    shelf: Arc<Shelf>,
    at: PathBuf,
}

impl StoreConfig {
    pub fn mount(&self, at: &Path) -> Result<Mounted, StoreError> {
        let Self {
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
        } = self;
        let mut tree = Tree::build(tree, *seed)?;
        if *sorted_listings {
            tree.sort_listings();
        }
        let shelf = Arc::new(Shelf::new(tree, *seed));
        let manners = Manners {
            keep_pages: *keep_pages,
            charge_open: *charge_open,
            parallel_dirops: *parallel_dirops,
            max_background: *max_background,
        };
        let link = Link::new(*latency, *bandwidth, *jitter, *seed);
        let filesystem = SlowFilesystem::new(Arc::clone(&shelf), link, manners).map_err(StoreError::Delay)?;
        let mut options = Config::default();
        options.acl = SessionACL::All;
        options.n_threads = Some((*threads).max(1));
        options.mount_options = vec![
            MountOption::FSName(source.clone()),
            // fuser drops `Subtype` when it mounts by itself; the kernel takes the option as it stands.
            MountOption::CUSTOM(format!("subtype={SUBTYPE}")),
            MountOption::RO,
            MountOption::NoSuid,
            MountOption::NoDev,
        ];
        let session = Session::new(filesystem, at, &options)
            .map_err(|error| StoreError::Mount { at: at.to_owned(), error })?;
        let session = session.spawn().map_err(StoreError::Session)?;
        Ok(Mounted { session: Some(session), shelf, at: at.to_owned() })
    }
}

impl Mounted {
    pub fn path(&self) -> &Path {
        &self.at
    }

    pub fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
    }

    /// Whether the mount has been taken away from outside (umount, or the FUSE connection aborted).
    pub fn ended(&self) -> bool {
        self.session.as_ref().is_none_or(|session| session.guard.is_finished())
    }

    /// Unmounts and waits for the session to end.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.detach()
    }

    fn detach(&mut self) -> Result<(), StoreError> {
        let Some(session) = self.session.take() else {
            return Ok(());
        };
        if !session.guard.is_finished() {
            // Refused means that it is unmounted already.
            let _ = rustix::mount::unmount(&self.at, UnmountFlags::DETACH);
        }
        // With files held open the session lives until they are closed: do not wait for strangers.
        if !session.guard.is_finished() {
            std::thread::sleep(Duration::from_millis(20));
        }
        if session.guard.is_finished() {
            session.join().map_err(|error| StoreError::Ended { at: self.at.clone(), error })
        } else {
            drop(session);
            Ok(())
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = self.detach();
    }
}
