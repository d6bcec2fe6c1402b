//! What both sides of the codec remember within a block; both start it empty and change it alike.
//!
//! Written once for the writer (which looks numbers up) and the reader (which looks things up), so that
//! the two cannot drift apart.

use rustc_hash::FxHashMap;

use super::varint::{Cursor, Malformed, put, put_bytes, put_delta};
use crate::units::{FileKey, Nanos, Pages, Reader};

/// Paths longer than this share no more with the one before: it bounds what a few bytes can unfold to.
const MAX_SHARED: usize = 4096;

/// What is remembered of a file: where its last access and its last added pages ended, and its size.
#[derive(Clone, Copy, Debug)]
struct File {
    key: FileKey,
    read_end: u64,
    cache_end: u64,
    size: u64,
}

/// Which of a file's two positions a range is told from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Track {
    Read,
    Cache,
}

#[derive(Debug, Default)]
pub(super) struct Dictionary {
    time: u64,
    files: Vec<File>,
    last_file: usize,
    readers: Vec<Reader>,
    strings: Vec<Box<str>>,
    path: Vec<u8>,
    mtime: u64,
    order: u64,
    // The writer's side only.
    file_numbers: FxHashMap<FileKey, usize>,
    reader_numbers: FxHashMap<Reader, usize>,
    string_numbers: FxHashMap<Box<str>, usize>,
}

impl Dictionary {
    pub fn put_time(&mut self, out: &mut Vec<u8>, at: Nanos) {
        put_delta(out, self.time, at.0);
        self.time = at.0;
    }

    pub fn time(&mut self, from: &mut Cursor<'_>) -> Result<Nanos, Malformed> {
        self.time = from.delta(self.time)?;
        Ok(Nanos(self.time))
    }

    pub fn put_order(&mut self, out: &mut Vec<u8>, id: u64) {
        put_delta(out, self.order, id);
        self.order = id;
    }

    pub fn order(&mut self, from: &mut Cursor<'_>) -> Result<u64, Malformed> {
        self.order = from.delta(self.order)?;
        Ok(self.order)
    }

    pub fn put_mtime(&mut self, out: &mut Vec<u8>, mtime: i64) {
        put_delta(out, self.mtime, mtime as u64);
        self.mtime = mtime as u64;
    }

    pub fn mtime(&mut self, from: &mut Cursor<'_>) -> Result<i64, Malformed> {
        self.mtime = from.delta(self.mtime)?;
        Ok(self.mtime as i64)
    }

    /// 0: a new file, told from the newest one; 1: the last file again; n + 2: the n-th of the block.
    pub fn put_file(&mut self, out: &mut Vec<u8>, key: FileKey) {
        match self.file_numbers.get(&key) {
            Some(&number) if number == self.last_file => put(out, 1),
            Some(&number) => {
                put(out, number as u64 + 2);
                self.last_file = number;
            }
            None => {
                put(out, 0);
                let base = self.newest();
                put_delta(out, u64::from(base.dev), u64::from(key.dev));
                put_delta(out, base.ino, key.ino);
                self.file_numbers.insert(key, self.files.len());
                self.add_file(key);
            }
        }
    }

    pub fn file(&mut self, from: &mut Cursor<'_>) -> Result<FileKey, Malformed> {
        match from.length()? {
            0 => {
                let base = self.newest();
                let dev = u32::try_from(from.delta(u64::from(base.dev))?)
                    .map_err(|_| Malformed("a device has more than 32 bits"))?;
                let ino = from.delta(base.ino)?;
                let key = FileKey { dev, ino };
                self.add_file(key);
                Ok(key)
            }
            1 => Ok(self.current()?.key),
            number => {
                self.last_file = number - 2;
                Ok(self.current()?.key)
            }
        }
    }

    fn newest(&self) -> FileKey {
        self.files.last().map_or(FileKey { dev: 0, ino: 0 }, |file| file.key)
    }

    fn add_file(&mut self, key: FileKey) {
        self.last_file = self.files.len();
        self.files.push(File { key, read_end: 0, cache_end: 0, size: 0 });
    }

    fn current(&mut self) -> Result<&mut File, Malformed> {
        self.files.get_mut(self.last_file).ok_or(Malformed("a file was not introduced"))
    }

    /// The size of the file mentioned last, as told last.
    pub fn size(&self) -> Option<u64> {
        self.files.get(self.last_file).map(|file| file.size)
    }

    pub fn set_size(&mut self, size: u64) {
        if let Ok(file) = self.current() {
            file.size = size;
        }
    }

    /// A range of the file mentioned last, told from where the one before ended.
    pub fn put_pages(&mut self, out: &mut Vec<u8>, track: Track, pages: &Pages) {
        let Ok(file) = self.current() else { return };
        let end = file.end_of(track);
        put_delta(out, *end, pages.start);
        put(out, pages.end.wrapping_sub(pages.start));
        *end = pages.end;
    }

    pub fn pages(&mut self, from: &mut Cursor<'_>, track: Track) -> Result<Pages, Malformed> {
        let end = self.current()?.end_of(track);
        let start = from.delta(*end)?;
        *end = start.wrapping_add(from.number()?);
        Ok(start..*end)
    }

    /// 0: a new reader; n + 1: the n-th of the block.
    pub fn put_reader(&mut self, out: &mut Vec<u8>, reader: Reader) {
        if let Some(&number) = self.reader_numbers.get(&reader) {
            return put(out, number as u64 + 1);
        }
        let Reader { tgid, tid } = reader;
        put(out, 0);
        put(out, u64::from(tgid));
        put_delta(out, u64::from(tgid), u64::from(tid));
        self.reader_numbers.insert(reader, self.readers.len());
        self.readers.push(reader);
    }

    pub fn reader(&mut self, from: &mut Cursor<'_>) -> Result<Reader, Malformed> {
        let Some(number) = from.length()?.checked_sub(1) else {
            let tgid = from.number32()?;
            let tid = u32::try_from(from.delta(u64::from(tgid))?)
                .map_err(|_| Malformed("a thread has more than 32 bits"))?;
            let reader = Reader { tgid, tid };
            self.readers.push(reader);
            return Ok(reader);
        };
        self.readers.get(number).copied().ok_or(Malformed("a reader was not introduced"))
    }

    /// 0: a new string; n + 1: the n-th of the block.
    pub fn put_string(&mut self, out: &mut Vec<u8>, string: &str) {
        if let Some(&number) = self.string_numbers.get(string) {
            return put(out, number as u64 + 1);
        }
        put(out, 0);
        put_bytes(out, string.as_bytes());
        self.string_numbers.insert(string.into(), self.string_numbers.len());
    }

    pub fn string(&mut self, from: &mut Cursor<'_>) -> Result<Box<str>, Malformed> {
        let Some(number) = from.length()?.checked_sub(1) else {
            let string: Box<str> =
                str::from_utf8(from.bytes()?).map_err(|_| Malformed("a string is not UTF-8"))?.into();
            self.strings.push(string.clone());
            return Ok(string);
        };
        self.strings.get(number).cloned().ok_or(Malformed("a string was not introduced"))
    }

    /// A path, told from the one before.
    pub fn put_path(&mut self, out: &mut Vec<u8>, path: &[u8]) {
        put_shared(out, &mut self.path, path, MAX_SHARED);
    }

    pub fn path(&mut self, from: &mut Cursor<'_>) -> Result<Box<[u8]>, Malformed> {
        let shared = from.length()?;
        unfold(from, &mut self.path, shared, MAX_SHARED)
    }
}

impl File {
    fn end_of(&mut self, track: Track) -> &mut u64 {
        match track {
            Track::Read => &mut self.read_end,
            Track::Cache => &mut self.cache_end,
        }
    }
}

/// How many bytes two names begin with alike, up to `most`.
pub(super) fn shared(before: &[u8], name: &[u8], most: usize) -> usize {
    let same = before.iter().zip(name).take_while(|(a, b)| a == b).count();
    same.min(most)
}

fn put_shared(out: &mut Vec<u8>, before: &mut Vec<u8>, name: &[u8], most: usize) {
    let same = shared(before, name, most);
    put(out, same as u64);
    put_bytes(out, name.get(same..).unwrap_or_default());
    before.truncate(same);
    before.extend_from_slice(name.get(same..).unwrap_or_default());
}

/// The name that shares `same` bytes with the one before and goes on with what is read.
pub(super) fn unfold(
    from: &mut Cursor<'_>,
    before: &mut Vec<u8>,
    same: usize,
    most: usize,
) -> Result<Box<[u8]>, Malformed> {
    if same > before.len() || same > most {
        return Err(Malformed("a path shares more than there is"));
    }
    let rest = from.bytes()?;
    before.truncate(same);
    before.extend_from_slice(rest);
    Ok(before.as_slice().into())
}
