//! The outer shape of a recording: the file header and the blocks, with their checksums.
//!
//! Header: magic (8), version (2), zero (2), CRC-32 of those (4). Block: mark (4), kind (1), zero (3),
//! length (4), observations (4), CRC-32 of the body (4), CRC-32 of all these (4), body. Numbers are
//! little-endian. An observation that no block has room for is spread over `First`, `Middle` and `Last`
//! blocks of its own. `End` closes a recording that was finished in order.

/// The format that this crate writes, and the only one that it reads.
pub const VERSION: u16 = 1;

/// Bytes of a block with its header at most: little is lost by a damaged one, and a queue of blocks is
/// bounded by their number.
pub const MAX_BLOCK: usize = 64 << 10;

/// As PNG's: a byte above 127, a line end of each kind and a ^Z show what a text-mode copy has changed.
const MAGIC: [u8; 8] = *b"\x89HRT\r\n\x1a\n";
const MARK: [u8; 4] = *b"HRb\xb1";

pub(super) const FILE_HEADER: usize = 16;
pub(super) const BLOCK_HEADER: usize = 24;
pub(super) const MAX_BODY: usize = MAX_BLOCK - BLOCK_HEADER;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Whole observations.
    Whole,
    First,
    Middle,
    Last,
    End,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Whole => 0,
            Self::First => 1,
            Self::Middle => 2,
            Self::Last => 3,
            Self::End => 4,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Whole),
            1 => Some(Self::First),
            2 => Some(Self::Middle),
            3 => Some(Self::Last),
            4 => Some(Self::End),
            _ => None,
        }
    }
}

pub(super) fn put_header(out: &mut Vec<u8>) {
    let mut header = Vec::with_capacity(FILE_HEADER);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&[0; 2]);
    let crc = crc32fast::hash(&header);
    out.extend_from_slice(&header);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// The version that an intact file header names.
pub(super) fn version(bytes: &[u8]) -> Option<u16> {
    let (covered, rest) = bytes.split_at_checked(12)?;
    let crc = u32_at(rest, 0)?;
    let intact = covered.starts_with(&MAGIC) && crc32fast::hash(covered) == crc;
    let version = u16::from_le_bytes([*covered.get(8)?, *covered.get(9)?]);
    intact.then_some(version)
}

pub(super) fn put_block(out: &mut Vec<u8>, kind: Kind, observations: u32, body: &[u8]) {
    let mut header = Vec::with_capacity(BLOCK_HEADER);
    header.extend_from_slice(&MARK);
    header.extend_from_slice(&[kind.code(), 0, 0, 0]);
    header.extend_from_slice(&(body.len() as u32).to_le_bytes());
    header.extend_from_slice(&observations.to_le_bytes());
    header.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    let crc = crc32fast::hash(&header);
    out.extend_from_slice(&header);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(body);
}

#[derive(Clone, Copy, Debug)]
pub(super) struct BlockHeader {
    pub kind: Kind,
    pub len: usize,
    pub observations: u32,
    pub crc: u32,
}

/// The block header at the start of `bytes`, if one is there and intact.
pub(super) fn block_header(bytes: &[u8]) -> Option<BlockHeader> {
    let header = bytes.get(..BLOCK_HEADER)?;
    let covered = header.get(..BLOCK_HEADER - 4)?;
    if !header.starts_with(&MARK) || u32_at(header, BLOCK_HEADER - 4)? != crc32fast::hash(covered) {
        return None;
    }
    let len = usize::try_from(u32_at(header, 8)?).ok()?;
    (len <= MAX_BODY).then_some(())?;
    Some(BlockHeader {
        kind: Kind::from_code(*header.get(4)?)?,
        len,
        observations: u32_at(header, 12)?,
        crc: u32_at(header, 16)?,
    })
}

/// Where the next intact block header begins, at or after `from`.
pub(super) fn next_block(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let rest = bytes.get(at..)?;
        let found = rest.windows(MARK.len()).position(|window| window == MARK)?;
        if rest.get(found..).and_then(block_header).is_some() {
            return Some(at + found);
        }
        at += found + 1;
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    bytes.try_into().ok().map(u32::from_le_bytes)
}
