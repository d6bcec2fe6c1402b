//! Patterns, evidence and expectations in words.

use crate::catalog::FileId;
use crate::core::Core;
use crate::past::REPEAT_PROOF;
use crate::run::{EPOCH_PROOF, Run};
use crate::stream::Pattern;
use crate::thread::Thread;
use crate::units::{FileKey, PAGE};
use crate::view::{Expectation, Explanation, Predictor};
use crate::walk::Ahead;

/// Expectations shown at most.
const SHOWN: u32 = 8;

/// A pattern within a file in a word or two.
pub(crate) fn words(pattern: Pattern) -> String {
    match pattern {
        Pattern::New => "too little seen".into(),
        Pattern::Sequential => "sequential".into(),
        Pattern::Reverse { pages } => format!("reverse, {} KiB a step", pages * PAGE / 1024),
        Pattern::Strided { stride, pages } => {
            let every = stride.unsigned_abs() * PAGE / 1024;
            format!("strided, {} KiB every {every} KiB", pages * PAGE / 1024)
        }
        Pattern::Random { pages: Some(pages) } => format!("random, {} KiB a read", pages * PAGE / 1024),
        Pattern::Random { pages: None } => "random".into(),
    }
}

impl Run {
    /// The pattern that leads among files, and the evidence for it.
    pub(crate) fn pattern(&self) -> (&'static str, String) {
        let repeated = self.cursor.map_or(0, |cursor| self.past.proof(cursor));
        if repeated >= REPEAT_PROOF {
            let reason = format!(
                "the last {repeated} files came in the order of an earlier run or epoch of {} files",
                self.past.len()
            );
            return ("repetition", reason);
        }
        let walking = self.threads.values().filter(|thread| thread.walks().next().is_some()).count();
        let surest = self.threads.values().flat_map(Thread::walks).max_by_key(|(_, walker)| walker.proof());
        if let Some((track, pace)) = surest.and_then(|(_, walker)| walker.leading()) {
            let step = match pace.round() {
                (1, 1) => String::new(),
                (step, 1) => format!(", every {}th", step.abs()),
                (files, read) => format!(", {read} of {} in turns", files.abs()),
            };
            let of_each = if track.same_name { ", one file of each" } else { "" };
            let order = track.order.words();
            return ("directory", format!("{walking} reader(s) walk directories {order}{of_each}{step}"));
        }
        if self.is_known_epoch() {
            let reason = format!(
                "earlier runs read most of the set ({} files), in another order; this one has read {}",
                self.past.len(),
                self.distinct()
            );
            return ("shuffled epoch", reason);
        }
        if self.distinct() >= EPOCH_PROOF {
            let reason = format!(
                "{} files of {} known, none twice, in no order: guessed at in proportion to what was read",
                self.distinct(),
                self.known_files()
            );
            return ("shuffled, no profile yet", reason);
        }
        match self.visit_count {
            0 | 1 => ("one file", "see the pattern of the file".into()),
            visits => ("too little seen", format!("{visits} files visited")),
        }
    }
}

impl Core {
    pub fn explain(&self, key: FileKey) -> Option<Explanation> {
        let id = self.catalog.by_key(key)?;
        let file = self.file_view(id)?;
        let known = self.catalog.file(id)?;
        let mut patterns: Vec<Box<str>> = Vec::new();
        let mut next = Vec::new();
        if let Some(active) = self.active.get(&id) {
            for (pattern, at) in active.streams.walking() {
                patterns.push(format!("{} at byte {}", words(pattern), at * PAGE).into());
                self.expect_in_file(pattern, at, &mut next);
            }
        }
        let mount = self.catalog.mount_of(id)?;
        for run in self.runs.values().filter(|run| run.mount == mount && run.was_visited(id)) {
            let label = self.workloads.get(run.workload as usize).map_or("", |workload| &workload.label);
            let (pattern, reason) = run.pattern();
            patterns.push(format!("{label}: {pattern}: {reason}").into());
            if let Some(class) = run.class(&known.name) {
                let evidence = format!(
                    "{label}: of this kind of file {} were read whole, {} in part{}",
                    class.whole,
                    class.part,
                    if class.is_shaped() { ", always the same part" } else { "" }
                );
                patterns.push(evidence.into());
            }
            self.expect_files(run, &mut next);
        }
        let resident = known.residency.as_deref().map_or(Vec::new(), |residency| {
            let mut all = residency.reader.clone();
            for set in [&residency.readahead, &residency.agent, &residency.fresh] {
                for range in set.iter() {
                    all.insert(&range);
                }
            }
            all.iter().take(1024).collect()
        });
        Some(Explanation { file, resident, patterns, next })
    }

    fn expect_in_file(&self, pattern: Pattern, at: u64, next: &mut Vec<Expectation>) {
        let (predictor, what) = match pattern {
            Pattern::Sequential => (Predictor::Sequential, format!("bytes from {}", at * PAGE)),
            Pattern::Strided { stride, .. } => {
                (Predictor::Strided, format!("{} KiB further on, again and again", stride * 4))
            }
            Pattern::Reverse { .. } => (Predictor::Reverse, format!("bytes before {}", at * PAGE)),
            Pattern::New | Pattern::Random { .. } => return,
        };
        next.push(Expectation { what: what.into(), predictor, reason: words(pattern).into() });
    }

    fn expect_files(&self, run: &Run, next: &mut Vec<Expectation>) {
        let mut name = |id: FileId, predictor, reason: String| {
            let what = String::from_utf8_lossy(&self.catalog.path(id)).into_owned().into();
            next.push(Expectation { what, predictor, reason: reason.into() });
        };
        if let Some(cursor) = run.cursor.filter(|cursor| run.past.proof(*cursor) >= REPEAT_PROOF) {
            let at = run.past.position(cursor);
            for (step, id) in (1u32..=SHOWN).zip(run.past.order().iter().skip(at + 1)) {
                name(*id, Predictor::Repetition, format!("{step} further in the order of before"));
            }
            return;
        }
        for (_, walker) in run.threads.values().flat_map(Thread::walks).take(4) {
            for (step, ahead) in walker.clone().rewound().ahead(&self.catalog, SHOWN) {
                if let Ahead::File(id) = ahead {
                    name(id, Predictor::Directory, format!("{step} further in the directory"));
                }
            }
        }
    }
}
