//! What tells one mount from another.

use super::mountinfo::Mount;

/// A mount for as long as it is there. The number alone does not say it: the kernel gives the lowest one that is free, so
/// that what is mounted next has that of what was unmounted last, and often its place and its device too. The source of NFS
/// says which folder of an export it is, and is another when the folder is renamed on its server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spot {
    pub id: u64,
    /// `super_block.s_dev`, as `FileKey::dev`.
    pub dev: u32,
    pub point: Box<[u8]>,
    /// As mountinfo says it: see `Mount::hides_root`.
    pub root: Box<[u8]>,
    pub source: Box<str>,
}

impl Spot {
    /// Also of a mount whose root was found out.
    pub fn of(mount: &Mount) -> Self {
        let root = if mount.hides_root() { b"/"[..].into() } else { mount.root.clone() };
        let Mount { id, dev, point, source, .. } = mount;
        Self { id: *id, dev: *dev, point: point.clone(), root, source: source.clone() }
    }

    /// Whether it is this mount.
    pub fn is(&self, mount: &Mount) -> bool {
        let Self { id, dev, point, root, source } = self;
        let Mount { id: its, dev: on, point: at, source: of, .. } = mount;
        (id, dev, point, source) == (its, on, at, of) && (mount.hides_root() || *root == mount.root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mounts::parse;

    fn mount(line: &str) -> Mount {
        parse(line.as_bytes()).0.remove(0)
    }

    #[test]
    fn a_number_that_was_given_out_again_is_another_mount() {
        let one = mount("45 1 0:50 / /mnt/x rw - nfs4 nas:/export/pvc-1 rw");
        let spot = Spot::of(&Mount { root: b"/pvc-1"[..].into(), ..one.clone() });
        assert_eq!(spot, Spot::of(&one));
        assert!(spot.is(&one) && spot.is(&Mount { root: b"/pvc-1"[..].into(), ..one }));
        for other in [
            "45 1 0:50 / /mnt/x rw - nfs4 nas:/export/pvc-2 rw",
            "46 1 0:50 / /mnt/x rw - nfs4 nas:/export/pvc-1 rw",
            "45 1 0:51 / /mnt/x rw - nfs4 nas:/export/pvc-1 rw",
            "45 1 0:50 / /mnt rw - nfs4 nas:/export/pvc-1 rw",
        ] {
            assert!(!spot.is(&mount(other)) && spot != Spot::of(&mount(other)), "{other}");
        }
        let bound = mount("45 1 0:50 /a /mnt/x rw - fuse.x store rw");
        let elsewhere = mount("45 1 0:50 /b /mnt/x rw - fuse.x store rw");
        assert!(Spot::of(&bound).is(&bound) && !Spot::of(&bound).is(&elsewhere));
    }
}
