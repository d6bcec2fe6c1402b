//! Secrets, kept out of every sentence.
//!
//! Stores quote what they were sent in their refusals. Whatever leaves this program as text goes through here: the
//! values of secret variables are blotted out, and the rest becomes one line of bounded length.

/// Values shorter than this are no secrets, and blotting them out would make every text unreadable.
const SHORTEST: usize = 4;

/// The termination message has 4,096 bytes in all.
const LONGEST: usize = 900;

#[derive(Clone, Default)]
pub struct Hush(Vec<String>);

impl std::fmt::Debug for Hush {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hush({})", self.0.len())
    }
}

impl Hush {
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut secrets: Vec<_> = secrets
            .into_iter()
            .map(|secret| secret.trim().to_owned())
            .filter(|s| s.len() >= SHORTEST)
            .collect();
        // One that holds another goes first.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self(secrets)
    }

    /// One line, without secrets.
    pub fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            text = text.replace(secret.as_str(), "***");
        }
        let mut line = String::new();
        for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()) {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        if line.len() > LONGEST {
            let end = (0..=LONGEST).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
            line.truncate(end);
            line.push('…');
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_lines_are_gone() {
        let hush = Hush::new(["AKIAKEY".into(), "AKIAKEYLONG\n".into(), "ab".into()]);
        let text = "<Error>\n<Id>AKIAKEYLONG</Id>\t\x1b[31m<Key>AKIAKEY</Key> ab";
        assert_eq!(hush.clean(text), "<Error> <Id>***</Id> [31m<Key>***</Key> ab");
        assert!(hush.clean(&"ü".repeat(5_000)).len() <= LONGEST + 3);
        assert!(!format!("{hush:?}").contains("AKIA"));
    }
}
