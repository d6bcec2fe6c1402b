//! The running kernel's own NFS server, for the same kernel as its client: NFSv4.1 or later over loopback, without a
//! daemon. There is one in a machine, so this is for guests and other machines of one's own.
//!
//! The server asks user space who may have what through files of /proc/net/rpc and remembers the answers: they are
//! given before it asks (the formats are those of nfs-utils).

use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// A folder that is exported for as long as this lives, and what was mounted of it.
#[derive(Debug)]
pub struct Export {
    mounted: Vec<PathBuf>,
}

/// Seconds since 1970: longer than anything here lives.
const FOR_EVER: u64 = 4_000_000_000;

/// NFSEXP_INSECURE_PORT | NFSEXP_NOSUBTREECHECK | NFSEXP_FSID (include/uapi/linux/nfsd/export.h).
const FLAGS: u32 = 0x0002 | 0x0400 | 0x2000;

const THREADS: &str = "/proc/fs/nfsd/threads";

fn write(path: &str, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{path}: {error} (writing {text:?})"))
}

impl Export {
    /// Exports the root of a file system.
    pub fn of(path: &Path) -> Result<Self, String> {
        if !Path::new("/proc/fs/nfsd").exists() {
            return Err("this kernel has no NFS server".into());
        }
        if !Path::new(THREADS).exists() {
            mount("nfsd", "/proc/fs/nfsd", "nfsd", MountFlags::empty(), c"")
                .map_err(|error| format!("mounting nfsd: {error}"))?;
        }
        let path = path.to_str().ok_or("a path to export is UTF-8")?;
        // Only version 4 needs neither rpcbind nor mountd.
        write("/proc/fs/nfsd/versions", "-2 -3 +4 +4.1 +4.2\n")
            .or_else(|_| write("/proc/fs/nfsd/versions", "-3 +4 +4.1 +4.2\n"))?;
        // The least that it takes.
        write("/proc/fs/nfsd/nfsv4gracetime", "10\n")?;
        write("/proc/fs/nfsd/nfsv4leasetime", "10\n")?;
        write("/proc/net/rpc/auth.unix.ip/channel", &format!("nfsd 127.0.0.1 {FOR_EVER} here\n"))?;
        write(
            "/proc/net/rpc/nfsd.export/channel",
            &format!("here {path} {FOR_EVER} {FLAGS} 65534 65534 0\n"),
        )?;
        // FSID_NUM, file system 0: the root of NFSv4.
        write("/proc/net/rpc/nfsd.fh/channel", &format!("here 1 \\x00000000 {FOR_EVER} {path}\n"))?;
        // Newer kernels open no port by themselves; where it is open already there is nothing to do.
        let _ = write("/proc/fs/nfsd/portlist", "tcp 2049\n");
        write(THREADS, "2\n")?;
        Ok(Self { mounted: Vec::new() })
    }

    /// Mounts a folder of the export, "" for all of it.
    pub fn mount(&mut self, folder: &str, at: &Path) -> Result<(), String> {
        // It answers nobody's open before its grace has passed.
        let options =
            c"vers=4.1,addr=127.0.0.1,clientaddr=127.0.0.1,proto=tcp,port=2049,soft,timeo=100,retrans=3";
        mount(format!("127.0.0.1:/{folder}"), at, "nfs4", MountFlags::empty(), options)
            .map_err(|error| format!("mounting NFS: {error}"))?;
        self.mounted.push(at.to_owned());
        Ok(())
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        for at in &self.mounted {
            let _ = unmount(at, UnmountFlags::DETACH);
        }
        let _ = fs::write(THREADS, "0");
    }
}
