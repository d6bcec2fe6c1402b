//! Whether one folder of a store lies in another. Pure.

/// How the folder that is written lies to the one that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nested {
    Same,
    Inside,
    Around,
}

/// The folders of a path, one by one.
pub fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !matches!(*part, "" | "."))
}

/// None: neither holds the other. Slashes at the ends or in a row, and `.`, mean nothing; an empty path is everything.
pub fn nested(from: &str, to: &str) -> Option<Nested> {
    let (mut from, mut to) = (parts(from), parts(to));
    loop {
        match (from.next(), to.next()) {
            (None, None) => return Some(Nested::Same),
            (None, Some(_)) => return Some(Nested::Inside),
            (Some(_), None) => return Some(Nested::Around),
            (Some(one), Some(other)) if one == other => {}
            (Some(_), Some(_)) => return None,
        }
    }
}

impl Nested {
    /// What is wrong with that, and what to change.
    pub fn words(self) -> &'static str {
        match self {
            Self::Same => "from and to are the same: nothing to copy; name another destination",
            Self::Inside => {
                "to lies inside of from: each run would copy what the runs before it have copied, until the store is \
                 full; name a destination that is not below from"
            }
            Self::Around => {
                "from lies inside of to: what is copied could come to lie in from itself, over what is still to be \
                 read; name a destination that does not hold from"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_compared_by_their_parts() {
        for (from, to, expected) in [
            ("", "/", Some(Nested::Same)),
            ("/a/./b/", "a//b", Some(Nested::Same)),
            ("", "/copy", Some(Nested::Inside)),
            ("/a", "/a/b/c", Some(Nested::Inside)),
            ("/a/b", "./a", Some(Nested::Around)),
            ("/a", ".", Some(Nested::Around)),
            ("/a", "/ab", None),
            ("/a/b", "/a/c", None),
        ] {
            assert_eq!(nested(from, to), expected, "{from} {to}");
        }
    }
}
