//! File systems of the test's own: disks on loop devices, tmpfs, FUSE, NFS from this very kernel.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn run(program: &str, args: &[&str]) {
    attempt(program, args).unwrap_or_else(|reason| panic!("{reason}"));
}

pub fn attempt(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// A mount that goes away with its value.
#[derive(Debug)]
pub struct Mount(pub PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// A file system alone to the test.
#[derive(Debug)]
pub struct Disk {
    pub root: PathBuf,
    pub dev: u32,
    _mount: Mount,
    folder: tempfile::TempDir,
}

/// Where images and mount points lie: on nothing that a plan might not see.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/var/tmp").expect("a folder below /var/tmp")
}

impl Disk {
    /// ext4, which is everywhere.
    pub fn make() -> Self {
        Self::of("ext4").unwrap_or_else(|reason| panic!("{reason}; install it (e2fsprogs, mount)"))
    }

    /// Of this kind, on a loop device; a sentence where the machine has not got it.
    pub fn of(kind: &str) -> Result<Self, String> {
        let folder = folder();
        let image = folder.path().join("image");
        // Sparse: what xfs wants at least.
        File::create(&image).and_then(|file| file.set_len(400 << 20)).expect("an image");
        let image = image.to_str().expect("UTF-8");
        let force = if kind == "ext4" { "-F" } else { "-f" };
        attempt(&format!("mkfs.{kind}"), &["-q", force, image])?;
        let root = folder.path().join("mnt");
        fs::create_dir(&root).expect("a mount point");
        attempt("mount", &["-t", kind, "-o", "loop,noatime", image, root.to_str().expect("UTF-8")])?;
        Ok(Self::mounted(root, folder))
    }

    pub fn tmpfs() -> Self {
        let folder = folder();
        let root = folder.path().to_owned();
        run("mount", &["-t", "tmpfs", "tmpfs", root.to_str().expect("UTF-8")]);
        Self::mounted(root, folder)
    }

    fn mounted(root: PathBuf, folder: tempfile::TempDir) -> Self {
        let mount = Mount(root.clone());
        Self { dev: dev_of(&root), root, _mount: mount, folder }
    }

    /// A file of `bytes` bytes that are its own, on disk and in the page cache.
    pub fn file(&self, path: impl AsRef<Path>, bytes: usize) -> PathBuf {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(&path, vec![7; bytes]).expect("writing");
        File::open(&path).and_then(|file| file.sync_all()).expect("syncing");
        path
    }

    /// Takes it away as an operator in a hurry does: open files stay open.
    pub fn unmount_lazily(&self) {
        run("umount", &["-l", self.root.to_str().expect("UTF-8")]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Some kernels let a loop device's file go only when the mount has gone, which `-l` does not wait for.
        let _ = fs::remove_file(self.folder.path().join("image"));
    }
}

/// `super_block.s_dev` of the file system that holds `path`, as mountinfo names it: stat(2) tells another
/// number on btrfs and overlayfs.
pub fn dev_of(path: &Path) -> u32 {
    let path = fs::canonicalize(path).expect("a path");
    let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let mut found = (0, None);
    for line in table.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let (Some(number), Some(point)) = (fields.get(2), fields.get(4)) else { continue };
        // The last of those with the longest mount point is on top.
        if path.starts_with(point) && point.len() >= found.0 {
            found = (point.len(), Some(*number));
        }
    }
    let (major, minor) = found.1.and_then(|number| number.split_once(':')).expect("a mount");
    let number = |text: &str| text.parse::<u32>().expect("a number");
    number(major) << 20 | number(minor)
}

/// Takes a file's pages out of the page cache.
pub fn chill(file: &File) {
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).expect("fadvise");
}

pub fn ino_of(path: &Path) -> u64 {
    fs::metadata(path).expect("metadata").ino()
}
