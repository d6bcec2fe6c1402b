//! Text for a terminal: names that cannot harm it, sizes people read, tables that line up.
//!
//! Everything that comes from outside (paths, labels, sources, sentences of the agent) passes through
//! `printable` before it is shown. A file's name may hold an escape sequence, a newline or a character
//! that reverses the line; none of them may reach the terminal.

use std::fmt::Write;

/// Bytes as one line of harmless text. What is shown is never ambiguous: a backslash is doubled.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                '\r' => text.push_str("\\r"),
                c if is_unsafe(c) => {
                    let _ = write!(text, "\\u{{{:x}}}", u32::from(c));
                }
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// As `printable`, for sentences of the agent: newlines and escapes go, backslashes stay single, because
/// the agent has escaped the names in them.
pub fn sentence(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) { '\u{fffd}' } else { c }).collect()
}

/// Controls (C0, DEL, C1), and the invisible characters that reorder or hide text.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// "1.5 GiB".
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut name = "KiB";
    for unit in UNITS {
        name = unit;
        // 1023.95 would be shown as 1024.0: the next unit is due already.
        if value < 1023.95 {
            break;
        }
        if unit != "EiB" {
            value /= 1024.0;
        }
    }
    if value < 9.95 { format!("{value:.1} {name}") } else { format!("{value:.0} {name}") }
}

/// "12.3k".
pub fn count(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..1_000_000 => format!("{:.1}k", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}M", number as f64 / 1e6),
        _ => format!("{:.1}G", number as f64 / 1e9),
    }
}

/// "97 %", or "–" where there is nothing to take a share of.
pub fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    let percent = part as f64 * 100.0 / whole as f64;
    // Rounding must not claim all where something is missing, nor nothing where there is something.
    match () {
        () if part < whole && percent > 99.9 => "99.9 %".to_owned(),
        () if part > 0 && percent < 0.1 => "<0.1 %".to_owned(),
        () if !(10.0..99.5).contains(&percent) && part != whole && part != 0 => format!("{percent:.1} %"),
        () => format!("{percent:.0} %"),
    }
}

/// "1.25 ms".
pub fn duration(ns: u64) -> String {
    let ns = ns as f64;
    match ns {
        ns if ns < 1e6 => format!("{:.0} µs", ns / 1e3),
        ns if ns < 1e7 => format!("{:.2} ms", ns / 1e6),
        ns if ns < 1e9 => format!("{:.0} ms", ns / 1e6),
        ns => format!("{:.1} s", ns / 1e9),
    }
}

/// Cells on a terminal: characters, as none that is wider or narrower than one is common in paths of
/// datasets but for ideographs, which ratatui measures in `top`.
fn width(text: &str) -> usize {
    ratatui::text::Line::raw(text).width()
}

/// Where a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Rows under a header, aligned by their widest cell.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Cells beyond the columns are not shown.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn text(&self) -> String {
        let head: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let lines = || std::iter::once(&head).chain(&self.rows);
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|i| lines().filter_map(|row| row.get(i)).map(|cell| width(cell)).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for row in lines() {
            let mut line = String::new();
            for ((cell, most), (_, align)) in row.iter().zip(&widths).zip(&self.columns) {
                let pad = " ".repeat(most.saturating_sub(width(cell)));
                match align {
                    Align::Left => line.extend([cell.as_str(), &pad, "  "]),
                    Align::Right => line.extend([&pad, cell.as_str(), "  "]),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_unsafe_gets_through(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(!printable(&bytes).chars().any(is_unsafe));
        }

        #[test]
        fn different_names_look_different(
            a in proptest::collection::vec(any::<u8>(), 0..12), b in proptest::collection::vec(any::<u8>(), 0..12)
        ) {
            prop_assert_eq!(a == b, printable(&a) == printable(&b));
        }
    }

    #[test]
    fn names_are_escaped() {
        assert_eq!(printable(b"a\x1b[2Jb\nc\xff"), "a\\u{1b}[2Jb\\nc\\xff");
        assert_eq!(printable("\u{9b}2J\u{202e}".as_bytes()), "\\u{9b}2J\\u{202e}");
        assert_eq!(printable("Größe/日本".as_bytes()), "Größe/日本");
        assert_eq!(sentence("a\x1b]0;x\x07b"), "a\u{fffd}]0;x\u{fffd}b");
    }

    #[test]
    fn units_are_for_people() {
        assert_eq!((size(0), size(1023), size(1024)), ("0 B".into(), "1023 B".into(), "1.0 KiB".into()));
        assert_eq!(size((1 << 20) - 1), "1.0 MiB");
        assert_eq!(size(u64::MAX), "16 EiB");
        assert_eq!((count(9_999), count(12_345)), ("9999".into(), "12.3k".into()));
        assert_eq!(
            (share(0, 0), share(999_999, 1_000_000), share(1, 1)),
            ("–".into(), "99.9 %".into(), "100 %".into())
        );
        assert_eq!(
            (share(1, 1_000_000), share(0, 5), share(1, 2)),
            ("<0.1 %".into(), "0 %".into(), "50 %".into())
        );
        assert_eq!(
            (duration(5_000), duration(5_240_000), duration(1_500_000_000)),
            ("5 µs".into(), "5.24 ms".into(), "1.5 s".into())
        );
    }

    #[test]
    fn columns_line_up_whatever_is_in_them() {
        let mut table = Table::new(&[("NAME", Align::Left), ("SIZE", Align::Right)]);
        table.row(vec!["日本".into(), "1".into()]);
        table.row(vec!["a".into(), "12345".into()]);
        assert_eq!(table.text(), "NAME   SIZE\n日本      1\na     12345\n");
    }
}
