//! A file system to read from, a probe that watches it, and what the probe told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use agent::probe::{Plan, Probe, ProbeConfig, ReadEvent};
use agent_core::observation::Via;
use agent_core::units::{FileKey, Nanos};

static ALONE: Mutex<()> = Mutex::new(());

/// One probe at a time: they would count each other's start as reads of their own process.
pub fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn run(program: &str, args: &[&str]) {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; install it (e2fsprogs, mount)"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A mount that goes away with its value.
pub struct Mount(pub PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// ext4 on a loop device, alone to the test.
pub struct Disk {
    pub root: PathBuf,
    pub dev: u32,
    _mount: Mount,
    _folder: tempfile::TempDir,
}

impl Disk {
    pub fn make() -> Self {
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder below /var/tmp");
        let image = folder.path().join("image");
        File::create(&image).and_then(|file| file.set_len(400 << 20)).expect("an image");
        let image = image.to_str().expect("UTF-8");
        // ext4, which is everywhere; another by PROBE_TEST_FS, for engineers.
        match std::env::var("PROBE_TEST_FS") {
            Ok(other) => run(&format!("mkfs.{other}"), &["-q", "-f", image]),
            Err(_) => run("mkfs.ext4", &["-q", "-F", image]),
        }
        let root = folder.path().join("mnt");
        fs::create_dir(&root).expect("a mount point");
        run("mount", &["-o", "loop,noatime", image, root.to_str().expect("UTF-8")]);
        Self { dev: dev_of(&root), _mount: Mount(root.clone()), root, _folder: folder }
    }

    /// A file of `bytes` bytes that are its own, on disk and in the page cache.
    pub fn file(&self, path: impl AsRef<Path>, bytes: usize) -> PathBuf {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(&path, vec![7; bytes]).expect("writing");
        File::open(&path).and_then(|file| file.sync_all()).expect("syncing");
        path
    }
}

/// `super_block.s_dev` of the file system that holds `path` (not btrfs: its st_dev is another).
pub fn dev_of(path: &Path) -> u32 {
    let dev = fs::metadata(path).expect("metadata").dev();
    rustix::fs::major(dev) << 20 | rustix::fs::minor(dev)
}

/// Takes a file's pages out of the page cache.
pub fn chill(file: &File) {
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).expect("fadvise");
}

/// What the probe told since the last time, folded for comparing.
#[derive(Debug, Default)]
pub struct Told {
    pub events: Vec<ReadEvent>,
    pub paths: BTreeMap<FileKey2, Vec<u8>>,
}

/// `FileKey` in an order.
pub type FileKey2 = (u32, u64);

pub fn key(file: FileKey) -> FileKey2 {
    (file.dev, file.ino)
}

pub fn key_of(path: &Path) -> FileKey2 {
    (dev_of(path), fs::metadata(path).expect("metadata").ino())
}

impl Told {
    /// Pages of a file that were reached this way.
    pub fn pages(&self, of: &Path, via: Via) -> BTreeSet<u64> {
        let of = key_of(of);
        let mut set = BTreeSet::new();
        for event in &self.events {
            if let ReadEvent::Access { file, pages, via: how, .. } = event
                && key(*file) == of
                && *how == via
            {
                set.extend(pages.clone());
            }
        }
        set
    }

    pub fn count(&self, of: &Path) -> u32 {
        let of = key_of(of);
        let counts = self.events.iter().map(|event| match event {
            ReadEvent::Access { file, count, .. } if key(*file) == of => *count,
            _ => 0,
        });
        counts.sum()
    }

    /// Files that were accessed at all.
    pub fn accessed(&self) -> BTreeSet<FileKey2> {
        let files = self.events.iter().filter_map(|event| match event {
            ReadEvent::Access { file, .. } => Some(key(*file)),
            _ => None,
        });
        files.collect()
    }

    pub fn path(&self, of: &Path) -> Option<&[u8]> {
        self.paths.get(&key_of(of)).map(Vec::as_slice)
    }
}

pub struct Scene {
    pub disk: Disk,
    pub probe: Probe,
    plan: Plan,
    now: u64,
}

impl Scene {
    pub fn open(plan: Plan) -> Self {
        Self::with(plan, ProbeConfig { own_tgid: Some(1), ..ProbeConfig::default() })
    }

    pub fn with(plan: Plan, config: ProbeConfig) -> Self {
        let disk = Disk::make();
        let config = ProbeConfig { plan: Some(plan), ..config };
        let (mut probe, _) = Probe::start(config).unwrap_or_else(|error| panic!("{error}"));
        probe.watch(disk.dev).unwrap_or_else(|error| panic!("{error}"));
        Self { disk, probe, plan, now: 0 }
    }

    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// What was told until now, what runs have grown by in silence included.
    pub fn told(&mut self) -> Told {
        // Further on each time than any pause.
        self.now += 10_000_000_000;
        let mut told = Told::default();
        let events = &mut told.events;
        while self.probe.drain(Nanos(self.now), 4096, |event| events.push(event)) > 0 {}
        self.now += 10_000_000_000;
        self.probe.flush(Nanos(self.now), |event| events.push(event));
        for event in &told.events {
            if let ReadEvent::Sight { file, path, .. } = event {
                told.paths.insert(key(*file), path.to_vec());
            }
        }
        told
    }
}

/// `path` as the probe names it: below the file system's root.
pub fn below<'a>(path: &'a Path, root: &Path) -> &'a [u8] {
    path.strip_prefix(root).expect("a path below the root").as_os_str().as_bytes()
}

/// A BTF in which no name is `name` any more.
pub fn renamed(btf: &[u8], name: &[u8]) -> Vec<u8> {
    let mut bytes = btf.to_vec();
    let needle = [b"\0", name, b"\0"].concat();
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(needle.len()).position(|window| window == needle) {
        bytes[at + found + 1] = b'X';
        at += found + 1;
    }
    bytes
}

/// Links of this process's descriptors that speak of BPF.
pub fn bpf_descriptors() -> Vec<String> {
    let links = fs::read_dir("/proc/self/fd").expect("/proc").filter_map(Result::ok);
    let targets = links.filter_map(|link| fs::read_link(link.path()).ok());
    targets
        .map(|target| target.to_string_lossy().into_owned())
        .filter(|target| target.contains("bpf"))
        .collect()
}
