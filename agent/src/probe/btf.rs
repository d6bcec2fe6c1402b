//! A small reader of BTF, the kernel's description of its own types: byte offsets of members, sizes,
//! enumerators, and the prototypes of functions and tracepoints.
//!
//! It reads what the running kernel says of itself, or what a test has damaged: every access is
//! checked, chains of types are cut after a fixed number of steps, and what is not there is `None`.
//! Format: Documentation/bpf/btf.rst.

use rustc_hash::FxHashMap;
use thiserror::Error;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum BtfError {
    #[error("it is {len} bytes long, too short for a BTF header")]
    Short { len: usize },
    #[error("it does not begin with BTF's magic number in this machine's byte order")]
    Magic,
    #[error("its header points outside its {len} bytes")]
    Bounds { len: usize },
    #[error("type {id} is cut off or of a kind ({kind}) that this agent does not know")]
    Type { id: usize, kind: u8 },
}

const INT: u8 = 1;
const PTR: u8 = 2;
const ARRAY: u8 = 3;
const STRUCT: u8 = 4;
const UNION: u8 = 5;
const ENUM: u8 = 6;
const FWD: u8 = 7;
const TYPEDEF: u8 = 8;
const VOLATILE: u8 = 9;
const CONST: u8 = 10;
const RESTRICT: u8 = 11;
const FUNC: u8 = 12;
const FUNC_PROTO: u8 = 13;
const TYPE_TAG: u8 = 18;
const ENUM64: u8 = 19;

/// Steps along typedefs and qualifiers, and nested anonymous members: far more than any kernel has.
const DEPTH: u32 = 32;

#[derive(Debug)]
pub struct Btf {
    data: Vec<u8>,
    /// Where each type's header lies in `data`; type 0 is `void` and has none.
    types: Vec<usize>,
    strings: std::ops::Range<usize>,
    /// First type of that kind and name.
    names: FxHashMap<(u8, Box<[u8]>), u32>,
}

impl Btf {
    pub fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        let len = data.len();
        let word = |at: usize| read_u32(&data, at).ok_or(BtfError::Short { len });
        if data.get(..2).ok_or(BtfError::Short { len })? != 0xeb9f_u16.to_ne_bytes().as_slice() {
            return Err(BtfError::Magic);
        }
        let (header, type_offset, type_len) = (word(4)? as usize, word(8)? as usize, word(12)? as usize);
        let (string_offset, string_len) = (word(16)? as usize, word(20)? as usize);
        // u32 values: their sums fit a usize of 64 bits.
        let end = header + type_offset + type_len;
        let strings = header + string_offset..header + string_offset + string_len;
        if end > len || strings.end > len {
            return Err(BtfError::Bounds { len });
        }
        let mut btf = Self { data, types: vec![usize::MAX], strings, names: FxHashMap::default() };
        let mut at = header + type_offset;
        while at < end {
            at = btf.index(at, end)?;
        }
        Ok(btf)
    }

    /// Takes the type at `at` into the index and says where the next one begins.
    fn index(&mut self, at: usize, end: usize) -> Result<usize, BtfError> {
        let id = self.types.len();
        let info = read_u32(&self.data, at + 4).ok_or(BtfError::Type { id, kind: 0 })?;
        let (kind, members) = ((info >> 24 & 0x1f) as u8, (info & 0xffff) as usize);
        let extra = match kind {
            INT | 14 | 17 => 4,
            ARRAY => 12,
            STRUCT | UNION | 15 | ENUM64 => 12 * members,
            ENUM | FUNC_PROTO => 8 * members,
            PTR | FWD | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNC | 16 | TYPE_TAG => 0,
            _ => return Err(BtfError::Type { id, kind }),
        };
        let next = at + 12 + extra;
        if next > end {
            return Err(BtfError::Type { id, kind });
        }
        self.types.push(at);
        if matches!(kind, STRUCT | UNION | TYPEDEF | FUNC)
            && let Some(name) = self.string(read_u32(&self.data, at).unwrap_or(0))
            && !name.is_empty()
        {
            let key = (kind, Box::from(name));
            self.names.entry(key).or_insert(id as u32);
        }
        Ok(next)
    }

    /// Byte offset of a member, which may be nested (`"i_dentry.first"`) or inside anonymous parts.
    pub fn offset(&self, structure: &str, path: &str) -> Option<u32> {
        let mut id = self.structure(structure)?;
        let mut bits = 0_u32;
        for name in path.split('.') {
            let (offset, member) = self.member(id, name.as_bytes(), DEPTH)?;
            bits = bits.checked_add(offset)?;
            id = self.strip(member)?;
        }
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    /// Size of a structure in bytes.
    pub fn size(&self, structure: &str) -> Option<u32> {
        self.word(self.structure(structure)?, 8)
    }

    /// Value of an enumerator of any enum.
    pub fn enumerator(&self, name: &str) -> Option<u32> {
        (1..self.types.len() as u32).find_map(|id| {
            let (kind, members) = self.kind(id)?;
            if kind != ENUM {
                return None;
            }
            (0..members).find_map(|member| {
                let at = 12 + 8 * member;
                (self.string(self.word(id, at)?)? == name.as_bytes()).then(|| self.word(id, at + 4))?
            })
        })
    }

    /// Parameters of a kernel function, as types: `"struct kiocb *"`, `"long unsigned int"`.
    pub fn function(&self, name: &str) -> Option<Vec<String>> {
        let id = *self.names.get(&(FUNC, Box::from(name.as_bytes())))?;
        self.parameters(self.word(id, 8)?, 0)
    }

    /// Whether a kernel function returns nothing.
    pub fn is_void(&self, function: &str) -> Option<bool> {
        Some(self.returned(function)? == 0)
    }

    /// What a kernel function returns.
    pub fn result(&self, function: &str) -> Option<String> {
        Some(self.spell(self.returned(function)?, DEPTH))
    }

    /// The type's number; 0 is void.
    fn returned(&self, function: &str) -> Option<u32> {
        let id = *self.names.get(&(FUNC, Box::from(function.as_bytes())))?;
        self.word(self.word(id, 8)?, 8)
    }

    /// Parameters of a tracepoint, from the `btf_trace_…` typedef that the kernel makes for each.
    pub fn tracepoint(&self, name: &str) -> Option<Vec<String>> {
        let typedef = format!("btf_trace_{name}");
        let id = *self.names.get(&(TYPEDEF, Box::from(typedef.as_bytes())))?;
        let pointer = self.word(id, 8)?;
        // The first parameter is the tracepoint's own data.
        self.parameters(self.word(pointer, 8)?, 1)
    }

    fn parameters(&self, prototype: u32, skip: usize) -> Option<Vec<String>> {
        let (kind, members) = self.kind(prototype)?;
        if kind != FUNC_PROTO {
            return None;
        }
        (skip..members)
            .map(|member| Some(self.spell(self.word(prototype, 12 + 8 * member + 4)?, DEPTH)))
            .collect()
    }

    /// A type as C writes it, near enough to compare.
    fn spell(&self, id: u32, depth: u32) -> String {
        let name = || {
            let name = self.word(id, 0).and_then(|at| self.string(at)).unwrap_or_default();
            String::from_utf8_lossy(name).into_owned()
        };
        let inner = || {
            let id = self.word(id, 8).unwrap_or(0);
            self.spell(id, depth.saturating_sub(1))
        };
        match self.kind(id) {
            _ if depth == 0 => "?".into(),
            None => "void".into(),
            Some((PTR, _)) => format!("{} *", inner()),
            Some((STRUCT, _)) => format!("struct {}", name()),
            Some((UNION, _)) => format!("union {}", name()),
            Some((TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG, _)) => inner(),
            Some(_) => name(),
        }
    }

    fn structure(&self, name: &str) -> Option<u32> {
        let name: Box<[u8]> = Box::from(name.as_bytes());
        self.names.get(&(STRUCT, name)).copied()
    }

    /// Offset in bits and type of a member.
    fn member(&self, id: u32, name: &[u8], depth: u32) -> Option<(u32, u32)> {
        let (kind, members) = self.kind(id)?;
        if depth == 0 || !matches!(kind, STRUCT | UNION) {
            return None;
        }
        let has_bitfields = self.word(id, 4)? >> 31 == 1;
        for member in 0..members {
            let at = 12 + 12 * member;
            let (label, of, raw) = (self.word(id, at)?, self.word(id, at + 4)?, self.word(id, at + 8)?);
            let bits = if has_bitfields { raw & 0x00ff_ffff } else { raw };
            if label == 0 {
                let inside = self.strip(of).and_then(|of| self.member(of, name, depth - 1));
                if let Some((inner, of)) = inside {
                    return Some((bits.checked_add(inner)?, of));
                }
            } else if self.string(label)? == name {
                return Some((bits, of));
            }
        }
        None
    }

    /// The type behind typedefs and qualifiers.
    fn strip(&self, mut id: u32) -> Option<u32> {
        for _ in 0..DEPTH {
            match self.kind(id)?.0 {
                TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => id = self.word(id, 8)?,
                _ => return Some(id),
            }
        }
        None
    }

    fn kind(&self, id: u32) -> Option<(u8, usize)> {
        let info = self.word(id, 4)?;
        Some(((info >> 24 & 0x1f) as u8, (info & 0xffff) as usize))
    }

    /// The word `at` bytes into a type.
    fn word(&self, id: u32, at: usize) -> Option<u32> {
        read_u32(&self.data, self.types.get(id as usize)?.checked_add(at)?)
    }

    fn string(&self, at: u32) -> Option<&[u8]> {
        let rest = self.data.get(self.strings.clone())?.get(at as usize..)?;
        rest.split(|byte| *byte == 0).next()
    }
}

fn read_u32(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests;
