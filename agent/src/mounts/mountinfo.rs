//! One line of mountinfo, taken apart (proc_pid_mountinfo(5), fs/proc_namespace.c `show_mountinfo`).
//!
//! Names hold any byte but NUL; the kernel writes space, tab, newline and backslash as `\ooo`, so that
//! lines and fields can be split first and unescaped after.

/// A mount as one mount namespace sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Reused by the kernel once the mount is gone.
    pub id: u64,
    pub parent: u64,
    /// `super_block.s_dev` as the kernel holds it: major << 20 | minor, `FileKey::dev`.
    pub dev: u32,
    /// The directory of the file system that is mounted here: `/`, or deeper for bind mounts and subvolumes. See
    /// `hides_root`.
    pub root: Box<[u8]>,
    /// Where it is mounted, as seen from the root of the process whose mountinfo was read.
    pub point: Box<[u8]>,
    /// With its subtype: `fuse.sshfs`.
    pub fstype: Box<str>,
    /// Names the store (`nas:/export`); user and password of a URL are taken out.
    pub source: Box<str>,
    /// The options of the mount, then those of the file system, as the kernel prints them.
    pub options: Box<[u8]>,
}

impl Mount {
    pub fn major(&self) -> u32 {
        self.dev >> 20
    }

    pub fn minor(&self) -> u32 {
        self.dev & 0xf_ffff
    }

    /// The value of `name=value` among the options; for a bare option the empty string.
    pub fn option(&self, name: &str) -> Option<&[u8]> {
        self.options.split(|&byte| byte == b',').find_map(|option| {
            let rest = option.strip_prefix(name.as_bytes())?;
            match rest.split_first() {
                None => Some(rest),
                Some((b'=', value)) => Some(value),
                Some(_) => None,
            }
        })
    }

    /// Whether `root` says nothing: of NFS it is always "/", also where a folder of an export was mounted or a part of that
    /// bound elsewhere (fs/nfs/super.c, `nfs_show_path`).
    pub fn hides_root(&self) -> bool {
        matches!(&*self.fstype, "nfs" | "nfs4")
    }

    /// Where a path below this mount's point lies in the file system: relative to its root, no leading slash.
    pub fn inside(&self, path: &[u8]) -> Option<Vec<u8>> {
        let below = below(&self.point, path)?;
        Some(join(trim(&self.root), below))
    }

    /// Where a path of the file system is seen below this mount's point, if it is.
    pub fn outside(&self, path: &[u8]) -> Option<Vec<u8>> {
        let below = below(trim(&self.root), trim(path))?;
        let mut seen = vec![b'/'];
        seen.extend(join(trim(&self.point), below));
        Some(seen)
    }
}

/// All lines that can be understood, and how many could not.
pub fn parse(mountinfo: &[u8]) -> (Vec<Mount>, usize) {
    let mut bad = 0;
    let lines = mountinfo.split(|&byte| byte == b'\n');
    let mounts = lines
        .filter(|line| !line.is_empty())
        .filter_map(|line| {
            let mount = parse_line(line);
            bad += usize::from(mount.is_none());
            mount
        })
        .collect();
    (mounts, bad)
}

/// The mount of this number.
pub fn numbered(mountinfo: &[u8], id: u64) -> Option<Mount> {
    let start = format!("{id} ");
    mountinfo
        .split(|&byte| byte == b'\n')
        .find(|line| line.starts_with(start.as_bytes()))
        .and_then(parse_line)
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let dev = device(fields.next()?)?;
    let root = unescape(fields.next()?);
    let point = unescape(fields.next()?);
    let own = fields.next()?;
    // Any number of optional fields (shared:1 master:2 …) ends with a lone hyphen.
    fields.find(|field| *field == b"-")?;
    let rest: Vec<&[u8]> = fields.collect();
    // Kernels before 4.15 did not escape spaces in every source: what stands between the first and the
    // last field is the source.
    let (fstype, rest) = rest.split_first()?;
    let (of_super, source) = rest.split_last()?;
    let source = escape(&unescape(&source.join(&b' ')));
    Some(Mount {
        id,
        parent,
        dev,
        root: root.into(),
        point: point.into(),
        fstype: escape(&unescape(fstype)).into(),
        source: without_login(&source).into(),
        options: [&unescape(own), &b","[..], &unescape(of_super)].concat().into(),
    })
}

fn number(field: &[u8]) -> Option<u64> {
    str::from_utf8(field).ok()?.parse().ok()
}

fn device(field: &[u8]) -> Option<u32> {
    let (major, minor) = str::from_utf8(field).ok()?.split_once(':')?;
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    // MKDEV of include/linux/kdev_t.h: 12 bits and 20 bits.
    (major < 1 << 12 && minor < 1 << 20).then_some(major << 20 | minor)
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if byte == b'\\' => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        out.push(octal.unwrap_or(byte));
        rest = after.get(if octal.is_some() { 3 } else { 0 }..).unwrap_or_default();
    }
    out
}

/// Bytes as text that is one line and comes from one byte string only: what is not printable, and the
/// backslash, is written as `\xNN`.
pub fn escape(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            if char.is_control() || char == '\\' {
                let mut buffer = [0; 4];
                for byte in char.encode_utf8(&mut buffer).bytes() {
                    let _ = write!(out, "\\x{byte:02x}");
                }
            } else {
                out.push(char);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// `https://user:secret@host/path` without `user:secret@`: sources are shown and stored.
fn without_login(source: &str) -> String {
    let Some((scheme, rest)) = source.split_once("://") else {
        return source.to_owned();
    };
    let (host, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// Without slashes at either end.
pub fn trim(path: &[u8]) -> &[u8] {
    let mut path = path;
    while let [b'/', rest @ ..] | [rest @ .., b'/'] = path {
        path = rest;
    }
    path
}

/// What of `path` lies below `base`, whole components only.
pub fn below<'a>(base: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    let (base, path) = (trim(base), trim(path));
    let rest = path.strip_prefix(base)?;
    match rest.first() {
        _ if base.is_empty() => Some(rest),
        None | Some(b'/') => Some(trim(rest)),
        Some(_) => None,
    }
}

/// A path without slashes at either end and the folders above it, up to the root, which is empty.
pub(super) fn upward(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(path), |path| {
        let above = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        (!path.is_empty()).then(|| path.get(..above).unwrap_or_default())
    })
}

fn join(base: &[u8], rest: &[u8]) -> Vec<u8> {
    match (base.is_empty(), rest.is_empty()) {
        (true, _) => rest.to_vec(),
        (false, true) => base.to_vec(),
        (false, false) => [base, rest].join(&b'/'),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(line: &[u8]) -> Mount {
        let (mut mounts, bad) = parse(line);
        assert_eq!((mounts.len(), bad), (1, 0), "{}", escape(line));
        mounts.remove(0)
    }

    #[test]
    fn optional_fields_of_any_number() {
        for optional in ["", "shared:1 ", "shared:1 master:2 propagate_from:3 unbindable "] {
            let line =
                format!("36 35 98:7 /root /mnt rw,noatime {optional}- ext3 /dev/root rw,errors=continue\n");
            let mount = one(line.as_bytes());
            assert_eq!(mount.dev, 98 << 20 | 7);
            assert_eq!((mount.major(), mount.minor()), (98, 7));
            assert_eq!(&*mount.root, b"/root");
            assert_eq!(&*mount.source, "/dev/root");
            assert_eq!(mount.option("errors"), Some(&b"continue"[..]));
            assert_eq!(mount.option("noatime"), Some(&b""[..]));
            assert_eq!(mount.option("err"), None);
        }
    }

    #[test]
    fn names_of_any_bytes() {
        let mount = one(b"1 0 0:50 / /mnt/a\\040b\\011c\\012d\\134e\xff rw - nfs4 nas:/x\\040y rw");
        assert_eq!(&*mount.point, b"/mnt/a b\tc\nd\\e\xff");
        assert_eq!(&*mount.source, "nas:/x y");
        let long = [b"1 0 0:50 / /".to_vec(), vec![b'x'; 100_000], b" rw - nfs a b".to_vec()].concat();
        assert_eq!(one(&long).point.len(), 100_001);
    }

    #[test]
    fn sources_that_are_empty_or_spaced() {
        assert_eq!(&*one(b"1 0 0:5 / /a rw - fuse.x  rw").source, "");
        assert_eq!(&*one(b"1 0 0:5 / /a rw - cifs //srv/my share rw").source, "//srv/my share");
    }

    #[test]
    fn logins_are_taken_out_of_sources() {
        assert_eq!(
            &*one(b"1 0 0:5 / /a rw - fuse https://me:pw@dav.example/p@th rw").source,
            "https://dav.example/p@th"
        );
        assert_eq!(&*one(b"1 0 0:5 / /a rw - fuse.sshfs me@host:/x rw").source, "me@host:/x");
    }

    #[test]
    fn lines_that_are_none_are_counted() {
        let (mounts, bad) =
            parse(b"x\n1 0 0:5 / /a rw - nfs a rw\n1 0 9999999:5 / /a rw - nfs a rw\n1 0 0:5 / /a rw\n");
        assert_eq!((mounts.len(), bad), (1, 3));
    }

    #[test]
    fn one_is_found_by_its_number() {
        let text = b"145 0 0:5 / /a rw - nfs a rw\n45 0 0:6 / /b rw - nfs a rw\n46\n";
        assert_eq!(numbered(text, 45).map(|mount| mount.dev), Some(6));
        assert_eq!((numbered(text, 5), numbered(text, 46), numbered(b"", 0)), (None, None, None));
    }

    #[test]
    fn upward_ends_at_the_root() {
        let all = |path: &'static str| upward(path.as_bytes()).collect::<Vec<_>>();
        assert_eq!(all("a/bc/d"), [&b"a/bc/d"[..], b"a/bc", b"a", b""]);
        assert_eq!(all(""), [b""]);
    }

    #[test]
    fn paths_go_in_and_out() {
        let whole = one(b"1 0 0:5 / /mnt/data rw - nfs a rw");
        assert_eq!(whole.inside(b"/mnt/data/x/y").unwrap(), b"x/y");
        assert_eq!(whole.inside(b"/mnt/data").unwrap(), b"");
        assert_eq!(whole.inside(b"/mnt/database/x"), None);
        assert_eq!(whole.outside(b"x/y").unwrap(), b"/mnt/data/x/y");
        let part = one(b"1 0 0:5 /vol/7 /data rw - nfs a rw");
        assert_eq!(part.inside(b"/data/x").unwrap(), b"vol/7/x");
        assert_eq!(part.outside(b"vol/7/x").unwrap(), b"/data/x");
        assert_eq!(part.outside(b"vol/7").unwrap(), b"/data");
        assert_eq!(part.outside(b"vol/70/x"), None);
        let root = one(b"1 0 0:5 / / rw - nfs a rw");
        assert_eq!(root.inside(b"/x").unwrap(), b"x");
        assert_eq!(root.outside(b"x").unwrap(), b"/x");
    }

    proptest! {
        #[test]
        fn any_bytes_parse(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            parse(&bytes);
            unescape(&bytes);
        }

        #[test]
        fn what_the_kernel_escapes_comes_back(name in proptest::collection::vec(1..=255u8, 1..300)) {
            // mangle_path of fs/seq_file.c with " \t\n\\".
            let escaped: Vec<u8> = name.iter().flat_map(|&byte| match byte {
                b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
                byte => vec![byte],
            }).collect();
            prop_assert_eq!(unescape(&escaped), name.clone());
            let other = [&name[..], b"x"].concat();
            prop_assert_ne!(escape(&name), escape(&other));
        }

        #[test]
        fn out_is_the_reverse_of_in(point in "(/[a-c ]{1,2}){0,3}", root in "(/[a-c]{1,2}){0,3}", rest in "([a-c]{1,2}(/[a-c]{1,2}){0,2})?") {
            let mut mount = one(b"1 0 0:5 / / rw - nfs a rw");
            mount.point = format!("{point}/").into_bytes().into();
            mount.root = format!("{root}/").into_bytes().into();
            let seen = mount.outside(&join(trim(&mount.root), rest.as_bytes())).unwrap();
            prop_assert_eq!(mount.inside(&seen).unwrap(), join(trim(&mount.root), rest.as_bytes()));
        }
    }
}
