//! Rust text with comments and literals blanked out, line for line, and the string literals apart.
//!
//! Enough of Rust's lexical structure for rules that look for names: nested block comments, raw and byte
//! strings, character literals told from lifetimes. Items under `#[cfg(test)]` are blanked too, since
//! tests may do what production code may not.

/// What the rules look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Code {
    /// Same length in lines as the source; comments, literals and test items are spaces.
    pub text: String,
    /// String literals outside test items, with their line (from 1).
    pub strings: Vec<(usize, String)>,
}

pub fn read(source: &str) -> Code {
    let (text, strings) = blank(source);
    let mut chars: Vec<char> = text.chars().collect();
    let tests = test_items(&chars);
    for (from, to) in &tests {
        for c in chars.iter_mut().take(*to).skip(*from).filter(|c| **c != '\n') {
            *c = ' ';
        }
    }
    let inside = |at: usize| tests.iter().any(|(from, to)| (*from..*to).contains(&at));
    let strings = strings.into_iter().filter(|s| !inside(s.at)).map(|s| (s.line, s.value)).collect();
    Code { text: chars.into_iter().collect(), strings }
}

/// As `read`, but with test items left in.
pub fn without_literals(source: &str) -> String {
    blank(source).0
}

struct Literal {
    at: usize,
    line: usize,
    value: String,
}

struct Cursor<'a> {
    source: &'a [char],
    at: usize,
    line: usize,
    out: String,
}

impl Cursor<'_> {
    fn peek(&self, ahead: usize) -> char {
        self.source.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn done(&self) -> bool {
        self.at >= self.source.len()
    }

    fn step(&mut self, keep: bool) -> char {
        let c = self.peek(0);
        self.at += 1;
        self.line += usize::from(c == '\n');
        self.out.push(if keep || c == '\n' { c } else { ' ' });
        c
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.step(false);
        }
    }

    fn line_comment(&mut self) {
        while !self.done() && self.peek(0) != '\n' {
            self.step(false);
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0_u32;
        while !self.done() {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => {
                    depth += 1;
                    self.skip(2);
                }
                ('*', '/') => {
                    depth -= 1;
                    self.skip(2);
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.skip(1),
            }
        }
    }

    /// The opening quote is next; the text up to the closing one, escapes as they are written.
    fn string(&mut self) -> String {
        let mut value = String::new();
        self.skip(1);
        while !self.done() {
            match self.step(false) {
                '\\' => {
                    value.push('\\');
                    value.push(self.step(false));
                }
                '"' => break,
                c => value.push(c),
            }
        }
        value
    }

    /// `hashes` hashes and a quote are next.
    fn raw_string(&mut self, hashes: usize) -> String {
        let mut value = String::new();
        self.skip(hashes + 1);
        while !self.done() {
            if self.peek(0) == '"' && (1..=hashes).all(|i| self.peek(i) == '#') {
                self.skip(hashes + 1);
                break;
            }
            value.push(self.step(false));
        }
        value
    }

    /// How many hashes of a raw string start `ahead` from here, if one does.
    fn raw_hashes(&self, ahead: usize) -> Option<usize> {
        let hashes = (0..).take_while(|&i| self.peek(ahead + i) == '#').count();
        (self.peek(ahead + hashes) == '"').then_some(hashes)
    }

    fn quote(&mut self) {
        // 'a' and '\n' are characters, 'a without a second quote is a lifetime.
        if self.peek(1) == '\\' {
            self.skip(3);
            while !self.done() && self.step(false) != '\'' {}
        } else if self.peek(2) == '\'' {
            self.skip(3);
        } else {
            self.step(true);
        }
    }
}

fn blank(source: &str) -> (String, Vec<Literal>) {
    let chars: Vec<char> = source.chars().collect();
    let mut cursor = Cursor { source: &chars, at: 0, line: 1, out: String::with_capacity(source.len()) };
    let mut strings = Vec::new();
    while !cursor.done() {
        let (at, line) = (cursor.at, cursor.line);
        let c = cursor.peek(0);
        let word_before = at > 0 && chars.get(at - 1).is_some_and(|p| p.is_alphanumeric() || *p == '_');
        let value = match (c, cursor.peek(1)) {
            ('/', '/') => {
                cursor.line_comment();
                None
            }
            ('/', '*') => {
                cursor.block_comment();
                None
            }
            ('"', _) => Some(cursor.string()),
            ('\'', _) => {
                cursor.quote();
                None
            }
            ('r', '"' | '#') if !word_before => match cursor.raw_hashes(1) {
                Some(hashes) => {
                    cursor.skip(1);
                    Some(cursor.raw_string(hashes))
                }
                None => {
                    cursor.step(true);
                    None
                }
            },
            ('b' | 'c', 'r') if !word_before && cursor.raw_hashes(2).is_some() => {
                let hashes = cursor.raw_hashes(2).unwrap_or(0);
                cursor.skip(2);
                Some(cursor.raw_string(hashes))
            }
            _ => {
                cursor.step(true);
                None
            }
        };
        if let Some(value) = value {
            strings.push(Literal { at, line, value });
        }
    }
    (cursor.out, strings)
}

/// Character ranges of the items that `#[cfg(test)]` stands before: to the matching brace, or to the `;`.
fn test_items(text: &[char]) -> Vec<(usize, usize)> {
    let marker: Vec<char> = "#[cfg(test)]".chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(window) = text.get(at..at + marker.len()) {
        if window != marker.as_slice() {
            at += 1;
            continue;
        }
        let mut end = at + marker.len();
        let mut depth = 0_i64;
        while let Some(c) = text.get(end) {
            end += 1;
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ';' if depth == 0 => break,
                _ => continue,
            }
            if *c == '}' && depth <= 0 {
                break;
            }
        }
        found.push((at, end));
        at = end;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_lines_kept() {
        let source = "let a = \"x // y\"; // use std::fs\n/* a /* b */ c */ let b = 'q'; let c: &'a str = r#\"z\"z\"#;\nb\"w\";\n";
        let code = read(source);
        assert_eq!(code.text.lines().count(), source.lines().count());
        assert!(!code.text.contains("std::fs") && !code.text.contains('z') && !code.text.contains('q'));
        assert!(code.text.contains("&'a str") && code.text.contains("let b"));
        let values: Vec<(usize, &str)> = code.strings.iter().map(|(l, s)| (*l, s.as_str())).collect();
        assert_eq!(values, [(1, "x // y"), (2, "z\"z"), (3, "w")]);
    }

    #[test]
    fn test_items_are_blanked() {
        let source = "use a::b;\n#[cfg(test)]\nmod tests {\n use std::fs; fn f() { \"s\"; }\n}\nuse c::d;\n#[cfg(test)]\nmod fixture;\nfn e() {}\n";
        let code = read(source);
        assert!(!code.text.contains("std::fs") && !code.text.contains("fixture"));
        assert!(code.text.contains("a::b") && code.text.contains("c::d") && code.text.contains("fn e"));
        assert!(code.strings.is_empty());
    }

    #[test]
    fn quotes_do_not_run_away() {
        let code = read("let a = '\"'; let b = '\\''; let c = '\\u{1F}'; use x::y;");
        assert!(code.text.contains("use x::y") && code.strings.is_empty());
        assert!(read("'static \"open").text.contains("'static"));
    }
}
