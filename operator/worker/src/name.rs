//! Names of files below a folder or prefix, as stores give them: judged before they are used.
//!
//! A name that could lead out of the folder it is written into is refused here, once, for every store. What is
//! left is bytes: file systems know no encoding, and a name with a newline is a name.

use std::fmt::Write;

/// PATH_MAX, less room for the folder.
const LONGEST: usize = 3_500;

/// Characters of a name that a message shows.
const SHOWN: usize = 120;

/// Relative, its parts parted by one slash each; none is empty, `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("it is empty")]
    Empty,
    #[error("it begins with a slash")]
    Absolute,
    #[error("it has an empty part, '.' or '..', which no folder can hold")]
    Part,
    #[error("it holds a zero byte")]
    Zero,
    #[error("it is longer than {LONGEST} bytes")]
    Long,
}

impl Name {
    pub fn parse(bytes: &[u8]) -> Result<Self, NameError> {
        if bytes.is_empty() {
            return Err(NameError::Empty);
        }
        if bytes.first() == Some(&b'/') {
            return Err(NameError::Absolute);
        }
        if bytes.len() > LONGEST {
            return Err(NameError::Long);
        }
        if bytes.contains(&0) {
            return Err(NameError::Zero);
        }
        if bytes.split(|byte| *byte == b'/').any(|part| matches!(part, b"" | b"." | b"..")) {
            return Err(NameError::Part);
        }
        Ok(Self(bytes.into()))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn utf8(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// The last part.
    pub fn last(&self) -> Self {
        Self(self.parts().last().unwrap_or_default().into())
    }

    /// The folder it lies in, where it lies in one.
    pub fn folder(&self) -> Option<Self> {
        let at = self.0.iter().rposition(|byte| *byte == b'/')?;
        self.0.get(..at).map(|folder| Self(folder.into()))
    }

    pub fn below(&self, name: &Self) -> Self {
        Self([&self.0, &b"/"[..], &name.0].concat().into())
    }

    /// Whether it lies in this folder, which is one part.
    pub fn is_in(&self, folder: &[u8]) -> bool {
        self.parts().next() == Some(folder)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

/// A name for a person: no control character of it reaches a terminal, and its length is bounded.
pub fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (count, c) in String::from_utf8_lossy(bytes).chars().enumerate() {
        if count == SHOWN {
            text.push('…');
            break;
        }
        if c.is_control() {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}

/// A name as text that any line of a document may hold: letters, digits and a few signs as they are, the rest in
/// percent and hex.
pub fn encoded(name: &Name) -> String {
    let mut text = String::with_capacity(name.0.len());
    for &byte in name.0.iter() {
        if byte.is_ascii_alphanumeric() || b"/._-=+@ ".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02x}");
        }
    }
    text
}

/// The reverse of [`encoded`]; none where nobody could have written it.
pub fn decoded(text: &str) -> Option<Name> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            let digits = digits.map(|digit| char::from(digit).to_digit(16));
            let [Some(high), Some(low)] = digits else { return None };
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    Name::parse(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_leads_out_is_refused() {
        for bad in ["", "/etc/passwd", "..", "a/../b", "a//b", "a/", "./a", "a/.", "a\0b"] {
            assert!(Name::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(Name::parse(&vec![b'a'; 4096]).is_err());
        for good in ["a", "a/b", "...", "a/..b", "new\nline", "-rf", "a b"] {
            assert!(Name::parse(good.as_bytes()).is_ok(), "{good:?}");
        }
        let name = Name::parse(b"a/b/c").unwrap();
        assert_eq!((name.folder().unwrap().bytes(), name.last().bytes()), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(Name::parse(b"a").unwrap().folder(), None);
    }

    #[test]
    fn what_is_shown_is_one_line() {
        let name = Name::parse(b"a\n\x1b[31m\xff").unwrap();
        assert_eq!(name.to_string(), "a\\n\\u{1b}[31m\u{fffd}");
        assert!(Name::parse(&[b'x'; 900]).unwrap().to_string().chars().count() <= SHOWN + 1);
    }

    proptest! {
        #[test]
        fn no_name_is_lost_in_writing(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(name) = Name::parse(&bytes) {
                let text = encoded(&name);
                prop_assert!(!text.chars().any(char::is_control) && !text.contains('"'));
                prop_assert_eq!(decoded(&text), Some(name));
            }
        }

        #[test]
        fn nothing_read_leads_out(text in ".{0,40}") {
            if let Some(name) = decoded(&text) {
                prop_assert!(name.parts().all(|part| part != b".." && !part.is_empty()));
            }
        }
    }
}
