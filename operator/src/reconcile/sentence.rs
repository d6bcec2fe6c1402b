//! Sentences for status and events, no longer than the apiserver takes: what it, an agent or a pod said is quoted in them,
//! and that may be of any length.

/// Bytes of a message in a status. The schemas count characters, of which there are never more.
pub const MOST: usize = 1_024;

/// The sentence, or as much of its beginning as fits.
pub fn bounded(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.into();
    }
    let end = text.floor_char_boundary(max.saturating_sub('…'.len_utf8()));
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_says_so_and_parts_no_character() {
        assert_eq!(bounded("abcd", 4), "abcd");
        assert_eq!(bounded("abcde", 4), "a…");
        assert_eq!(bounded("aöööö", 7), "aö…");
        assert_eq!(bounded("abcde", 0), "…");
    }
}
