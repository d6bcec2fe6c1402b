//! Names as the BPF programs gather them, put together to a path.

/// `names` come the file's own first, each ended by NULs.
pub fn path(names: &[u8]) -> Box<[u8]> {
    let mut path = Vec::with_capacity(names.len());
    for name in names.rsplit(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
    }
    path.into()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_last_name_is_the_first_folder() {
        assert_eq!(&*super::path(b"file\0\0\0\0folder\0\0top\0\0\0\0\0"), b"top/folder/file");
        assert_eq!(&*super::path(b""), b"");
    }
}
