//! cpio's "newc" format, as the kernel unpacks an initramfs from (Documentation/driver-api/early-userspace/
//! buffer-format.rst): a head of thirteen hexadecimal numbers, name, content, each padded to four bytes.

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    folders: Vec<String>,
    entries: u32,
}

impl Archive {
    /// A file that may be executed, and the folders above it. `path` is without a leading slash.
    pub fn file(&mut self, path: &str, content: &[u8]) {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.folder(folder);
        }
        self.entry(path, PROGRAM, content);
    }

    pub fn folder(&mut self, path: &str) {
        if self.folders.iter().any(|known| known == path) {
            return;
        }
        if let Some((above, _)) = path.rsplit_once('/') {
            self.folder(above);
        }
        self.folders.push(path.to_owned());
        self.entry(path, FOLDER, b"");
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let (ino, length, name) = (self.entries, content.len() as u32, path.len() as u32 + 1);
        // ino, mode, uid, gid, nlink, mtime, size, device and its node (major, minor each), name, checksum.
        let head = [ino, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, name, 0];
        self.bytes.extend_from_slice(b"070701");
        for number in head {
            self.bytes.extend_from_slice(format!("{number:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, b"");
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn busybox_reads_it_back() {
        let mut archive = Archive::default();
        archive.file("lib/m/first", b"one");
        archive.file("lib/m/second", b"three");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let mut command = Command::new("busybox");
        command.args(["cpio", "-t"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("busybox, which `cargo xtask test` installs");
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "lib\nlib/m\nlib/m/first\nlib/m/second\n");
    }
}
