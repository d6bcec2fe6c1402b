//! What the screen shows and what keys do to it; no terminal here, so tests press keys on a value.

use std::collections::HashMap;
use std::time::Instant;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use operator_api::observability::v1 as wire;

use super::super::paths;
use super::super::text::{printable, sentence};

/// Characters of a filter at most.
const LONGEST_FILTER: usize = 60;

/// The agent's answers at one moment.
#[derive(Debug)]
pub struct Sample {
    pub at: Instant,
    pub node: wire::NodeReply,
    pub workloads: Vec<wire::Workload>,
    pub files: Vec<wire::File>,
    pub ledger: Vec<wire::LedgerRow>,
}

/// The table that keys act on, and that gets most room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pane {
    #[default]
    Workloads,
    Files,
    Ledger,
}

/// What rows are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Bytes read a second.
    #[default]
    Rate,
    /// Bytes read in all.
    Total,
    /// Least covered first: where something is to be gained.
    Uncovered,
    Name,
}

impl Sort {
    pub fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Total => "total",
            Self::Uncovered => "least covered",
            Self::Name => "name",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Rate => Self::Total,
            Self::Total => Self::Uncovered,
            Self::Uncovered => Self::Name,
            Self::Name => Self::Rate,
        }
    }
}

/// One row of workloads or files, ready to be painted.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Harmless text.
    pub name: String,
    pub pattern: String,
    /// Bytes a second.
    pub rate: f64,
    /// Accesses a second; files only.
    pub reads: f64,
    pub read_bytes: u64,
    pub covered_bytes: u64,
    pub agent_bytes: u64,
    pub wasted_bytes: u64,
}

#[derive(Debug, Default)]
pub struct Screen {
    pub now: Option<Sample>,
    before: Option<Sample>,
    pub pane: Pane,
    pub sort: Sort,
    pub paused: bool,
    pub help: bool,
    /// The filter's text while it is typed or in force.
    pub filter: String,
    pub typing: bool,
    /// First row shown of the pane in front.
    pub scroll: usize,
    /// Why there are no fresh values.
    pub trouble: Option<String>,
}

impl Screen {
    /// Takes a sample, unless paused.
    pub fn take(&mut self, sample: Sample) {
        self.trouble = None;
        if !self.paused {
            self.before = self.now.replace(sample);
        }
    }

    /// No sample could be had.
    pub fn trouble(&mut self, why: &str) {
        self.trouble = Some(sentence(why));
    }

    /// Acts on a key; true means leave.
    pub fn key(&mut self, key: KeyEvent) -> bool {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return matches!(key.code, KeyCode::Char('c' | 'd'));
        }
        if self.typing {
            self.type_filter(key.code);
            return false;
        }
        match key.code {
            KeyCode::Char('q') => return true,
            KeyCode::Esc if self.help => self.help = false,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('?' | 'h') => self.help = !self.help,
            KeyCode::Tab => {
                self.pane = match self.pane {
                    Pane::Workloads => Pane::Files,
                    Pane::Files => Pane::Ledger,
                    Pane::Ledger => Pane::Workloads,
                };
                self.scroll = 0;
            }
            KeyCode::BackTab => {
                self.pane = match self.pane {
                    Pane::Workloads => Pane::Ledger,
                    Pane::Files => Pane::Workloads,
                    Pane::Ledger => Pane::Files,
                };
                self.scroll = 0;
            }
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Down | KeyCode::Char('j') => self.scroll = self.scroll.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown => self.scroll = self.scroll.saturating_add(10),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(10),
            KeyCode::Home => self.scroll = 0,
            _ => {}
        }
        // Scrolling stops at the last row, or a held key would have to be undone press by press.
        self.scroll = self.scroll.min(self.rows_in_front().saturating_sub(1));
        false
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(c) if self.filter.chars().count() < LONGEST_FILTER => self.filter.push(c),
            _ => {}
        }
        self.scroll = 0;
    }

    fn rows_in_front(&self) -> usize {
        match self.pane {
            Pane::Workloads => self.workloads().len(),
            Pane::Files => self.files().len(),
            Pane::Ledger => self.ledger().len(),
        }
    }

    /// Seconds between the two samples, if there are two.
    fn seconds(&self) -> Option<f64> {
        let (now, before) = (self.now.as_ref()?, self.before.as_ref()?);
        let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
        (seconds > 0.0).then_some(seconds)
    }

    fn rate(&self, now: u64, before: Option<u64>) -> f64 {
        match (self.seconds(), before) {
            // A row that was not there before began within the interval.
            (Some(seconds), before) => now.saturating_sub(before.unwrap_or(0)) as f64 / seconds,
            (None, _) => 0.0,
        }
    }

    /// Bytes a second and accesses a second of the whole node.
    pub fn node_rates(&self) -> (f64, f64) {
        let Some(now) = &self.now else { return (0.0, 0.0) };
        let before = self.before.as_ref().map(|sample| &sample.node);
        let bytes = self.rate(now.node.read_bytes, before.map(|node| node.read_bytes));
        (bytes, self.rate(now.node.reads, before.map(|node| node.reads)))
    }

    pub fn workloads(&self) -> Vec<Row> {
        let before: HashMap<&str, u64> = self
            .before
            .iter()
            .flat_map(|sample| &sample.workloads)
            .map(|row| (row.workload.as_str(), row.read_bytes))
            .collect();
        let rows = self.now.iter().flat_map(|sample| &sample.workloads).map(|row| Row {
            name: printable(row.label.as_bytes()),
            pattern: sentence(&row.pattern),
            rate: self.rate(row.read_bytes, before.get(row.workload.as_str()).copied()),
            reads: 0.0,
            read_bytes: row.read_bytes,
            covered_bytes: row.covered_bytes,
            agent_bytes: row.fetched_bytes,
            wasted_bytes: row.fate.unwrap_or_default().wasted_bytes,
        });
        self.arranged(rows)
    }

    pub fn files(&self) -> Vec<Row> {
        let Some(now) = &self.now else { return Vec::new() };
        let name = |file: &wire::File| file.key.map(|key| (key.dev, key.ino));
        let before: HashMap<_, (u64, u64)> = self
            .before
            .iter()
            .flat_map(|sample| &sample.files)
            .map(|row| (name(row), (row.read_bytes, row.reads)))
            .collect();
        let rows = now.files.iter().map(|row| {
            let before = before.get(&name(row));
            Row {
                name: printable(&paths::shown(&now.node.mounts, row.mount, &row.path)),
                pattern: sentence(&row.pattern),
                rate: self.rate(row.read_bytes, before.map(|(bytes, _)| *bytes)),
                reads: self.rate(row.reads, before.map(|(_, reads)| *reads)),
                read_bytes: row.read_bytes,
                covered_bytes: row.covered_bytes,
                agent_bytes: row.agent_bytes,
                wasted_bytes: 0,
            }
        });
        self.arranged(rows)
    }

    /// Filtered and sorted; ties by name, so that rows do not dance.
    fn arranged(&self, rows: impl Iterator<Item = Row>) -> Vec<Row> {
        let filter = self.filter.to_lowercase();
        let matches = |row: &Row| filter.is_empty() || row.name.to_lowercase().contains(&filter);
        let mut rows: Vec<Row> = rows.filter(matches).collect();
        let covered = |row: &Row| row.covered_bytes as f64 / row.read_bytes.max(1) as f64;
        rows.sort_by(|a, b| {
            let order = match self.sort {
                Sort::Rate => b.rate.total_cmp(&a.rate).then(b.read_bytes.cmp(&a.read_bytes)),
                Sort::Total => b.read_bytes.cmp(&a.read_bytes),
                Sort::Uncovered => covered(a).total_cmp(&covered(b)),
                Sort::Name => std::cmp::Ordering::Equal,
            };
            order.then_with(|| a.name.cmp(&b.name))
        });
        rows
    }

    /// The ledger summed over workloads, by predictor, most fetched first.
    pub fn ledger(&self) -> Vec<(i32, wire::LedgerRow)> {
        let mut sums: Vec<(i32, wire::LedgerRow)> = Vec::new();
        for row in self.now.iter().flat_map(|sample| &sample.ledger) {
            let sum = match sums.iter().position(|(predictor, _)| *predictor == row.predictor) {
                Some(at) => sums.get_mut(at),
                None => {
                    sums.push((row.predictor, wire::LedgerRow::default()));
                    sums.last_mut()
                }
            };
            let Some((_, sum)) = sum else { continue };
            let (fate, more) = (sum.fate.get_or_insert_default(), row.fate.unwrap_or_default());
            fate.hit_bytes = fate.hit_bytes.saturating_add(more.hit_bytes);
            fate.late_bytes = fate.late_bytes.saturating_add(more.late_bytes);
            fate.wasted_bytes = fate.wasted_bytes.saturating_add(more.wasted_bytes);
            fate.pending_bytes = fate.pending_bytes.saturating_add(more.pending_bytes);
            sum.predictions = sum.predictions.saturating_add(row.predictions);
            sum.fetched_bytes = sum.fetched_bytes.saturating_add(row.fetched_bytes);
        }
        sums.sort_by(|a, b| (b.1.fetched_bytes, a.0).cmp(&(a.1.fetched_bytes, b.0)));
        sums
    }
}
