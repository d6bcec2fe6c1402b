//! The same accesses on every kind of file system, each of its own: a miss, a hit, a mapping, the name.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use agent::probe::Case;
use agent_core::observation::Via;

use super::ways::{faulted_once, mapped_once};
use super::{Reads, set, verdict, way};
use crate::disk::{self, Disk, Mount, chill, dev_of};
use crate::scene::{Scene, below};
use crate::server;
use crate::verdict::Verdict;

pub fn ext4(scene: &mut Scene) -> Verdict {
    on_disk(scene, "ext4")
}

pub fn xfs(scene: &mut Scene) -> Verdict {
    on_disk(scene, "xfs")
}

pub fn btrfs(scene: &mut Scene) -> Verdict {
    on_disk(scene, "btrfs")
}

fn on_disk(scene: &mut Scene, kind: &str) -> Verdict {
    let disk = match Disk::of(kind) {
        Ok(disk) => disk,
        Err(reason) => return Verdict::Absent(reason),
    };
    let path = disk.file("folder/file", 1 << 20);
    known(scene, &path, &disk.root, disk.dev)
}

/// A file of 1 MiB at `path`, read in every state it can be in.
fn known(scene: &mut Scene, path: &Path, root: &Path, dev: u32) -> Verdict {
    scene.watching(dev, |scene| accesses(scene, path, root, dev))
}

fn accesses(scene: &mut Scene, path: &Path, root: &Path, dev: u32) -> Verdict {
    scene.forget(dev);
    let file = File::open(path).expect("opening");
    chill(&file);
    scene.told();
    file.read_exact_at(&mut [0; 10], 0).expect("pread");
    let told = scene.told();
    assert_eq!(told.path(path), Some(below(path, root)), "{:?}", told.events);
    assert!(told.resident(path).contains(&0), "{:?}", told.events);
    assert_eq!(told.count(path), u32::from(scene.sees_hits()), "{:?}", told.events);

    let verdict = way(scene, path, set(24..26), |file| {
        file.read_exact_at(&mut [0; 5000], 100_000).expect("pread");
        Reads::exactly(1)
    });
    way(scene, path, set(0..256), |file| {
        file.read_exact_at(&mut vec![0; 1 << 20], 0).expect("pread of it all");
        Reads::exactly(1)
    });

    chill(&file);
    scene.told();
    // SAFETY: nobody truncates the file meanwhile.
    let map = unsafe { memmap2::Mmap::map(&file) }.expect("mmap");
    assert_eq!(map[100 * super::PAGE], 7);
    let told = scene.told();
    if scene.sees_hits() {
        assert!(told.pages(path, Via::Fault).contains(&100), "a fault: {:?}", told.events);
        faulted_once(&told, path);
    }
    assert!(told.resident(path).contains(&100), "{:?}", told.events);
    verdict
}

pub fn tmpfs(scene: &mut Scene) -> Verdict {
    let disk = Disk::tmpfs();
    scene.watching(disk.dev, |scene| on_tmpfs(scene, &disk))
}

fn on_tmpfs(scene: &mut Scene, disk: &Disk) -> Verdict {
    let path = disk.root.join("folder/file");
    fs::create_dir(disk.root.join("folder")).expect("a folder");
    fs::write(&path, vec![7; 1 << 20]).expect("writing");
    scene.forget(disk.dev);
    let file = File::open(&path).expect("opening");
    file.read_exact_at(&mut [0; 5000], 100_000).expect("pread");
    let told = scene.told();
    if !scene.sees(Case::Tmpfs) {
        assert_eq!(told.count(&path), 0, "{:?}", told.events);
        return Verdict::Unseen;
    }
    assert_eq!(told.pages(&path, Via::Read), set(24..26), "{:?}", told.events);
    assert_eq!(told.count(&path), 1, "{:?}", told.events);
    assert_eq!(told.path(&path), Some(&b"folder/file"[..]), "{:?}", told.events);
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    let mut offset = 40 * 4096;
    let sent = rustix::fs::sendfile(&writer, &file, Some(&mut offset), 16 * 4096).expect("sendfile");
    assert_eq!(sent, 16 * 4096);
    drop(reader);
    let told = scene.told();
    assert_eq!(told.pages(&path, Via::Read), set(40..56), "sendfile: {:?}", told.events);
    assert_eq!(told.count(&path), 1, "sendfile: {:?}", told.events);
    // SAFETY: nobody truncates the file meanwhile.
    let map = unsafe { memmap2::Mmap::map(&file) }.expect("mmap");
    assert_eq!(map[100 * super::PAGE], 7);
    let told = scene.told();
    let mut reached = told.pages(&path, Via::Mapped);
    reached.extend(told.pages(&path, Via::Fault).iter());
    assert!(reached.contains(&100), "a mapping: {:?}", told.events);
    mapped_once(&told, &path);
    Verdict::Seen
}

/// A file seen through overlayfs is the file below: that is what the mount's data live on.
pub fn overlay(scene: &mut Scene) -> Verdict {
    let path = scene.disk.file("lower/folder/file", 20_000);
    for folder in ["upper", "work", "merged"] {
        fs::create_dir(scene.disk.root.join(folder)).expect("a folder");
    }
    let root = scene.disk.root.to_str().expect("UTF-8").to_owned();
    let options = format!("lowerdir={root}/lower,upperdir={root}/upper,workdir={root}/work");
    let mounted =
        disk::attempt("mount", &["-t", "overlay", "overlay", "-o", &options, &format!("{root}/merged")]);
    if let Err(reason) = mounted {
        return Verdict::Absent(reason);
    }
    let _mount = Mount(scene.disk.root.join("merged"));
    let dev = scene.disk.dev;
    scene.forget(dev);
    let merged = scene.disk.root.join("merged/folder/file");
    let told = super::whole_file(scene, &path, || {
        File::open(&merged).and_then(|file| file.read_exact_at(&mut [0; 20_000], 0)).expect("pread");
    });
    assert_eq!(super::reached(scene, &told, &path), set(0..5), "{:?}", told.events);
    assert_eq!(told.count(&path), u32::from(scene.sees_hits()), "{:?}", told.events);
    assert_eq!(told.path(&path).expect("a name"), b"lower/folder/file");
    verdict(scene)
}

pub fn fuse(scene: &mut Scene) -> Verdict {
    served(scene, server::fuse())
}

/// Of a read that finds its first pages filled and waits for others, tracepoints tell the end alone. That must not
/// pass for the end of the read before, which was of the same pages.
pub fn awaited(scene: &mut Scene) -> Verdict {
    let served = match server::far_fuse() {
        Ok(served) => served,
        Err(reason) => return Verdict::Absent(reason),
    };
    let path = served.root.join("folder/file");
    scene.watching(dev_of(&served.root), |scene| {
        way(scene, &path, set(40..44), |file| {
            // No more than what is asked for.
            rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Random).expect("fadvise");
            file.read_exact_at(&mut [0; 4 * super::PAGE], 40 * 4096).expect("pread");
            Reads::exactly(1)
        })
    })
}

pub fn nfs(scene: &mut Scene) -> Verdict {
    served(scene, server::nfs())
}

/// Folders of an export that are mounted share a device, and names go up to the export's root, of which mountinfo
/// says nothing: the kernel is asked where each of them lies.
pub fn nfs_folders(scene: &mut Scene) -> Verdict {
    let (_served, mounted) = match server::nfs_folders() {
        Ok(served) => served,
        Err(reason) => return Verdict::Absent(reason),
    };
    let dev = dev_of(&mounted[0].1);
    assert_eq!(dev_of(&mounted[1].1), dev, "one export is one file system");
    scene.watching(dev, |scene| {
        for (lies, seen) in &mounted {
            let path = seen.join("file");
            let file = File::open(&path).expect("opening");
            chill(&file);
            scene.told();
            file.read_exact_at(&mut [0; 10], 0).expect("pread");
            let told = scene.told();
            let directory = File::open(seen).expect("opening the folder");
            let asked = scene.probe.asker().path(directory.as_fd()).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(asked.escape_ascii().to_string(), *lies);
            let expected = format!("{lies}/file");
            let path = told.path(&path).map(|path| path.escape_ascii().to_string());
            assert_eq!(path.as_ref(), Some(&expected), "{:?}", told.events);
        }
    });
    Verdict::Seen
}

fn served(scene: &mut Scene, served: Result<server::Served, String>) -> Verdict {
    let served = match served {
        Ok(served) => served,
        Err(reason) => return Verdict::Absent(reason),
    };
    let path = served.root.join("folder/file");
    known(scene, &path, &served.root, dev_of(&served.root))
}
