//! What may be missing, by kernel, plan and case: docs/kernels.md as data. The acceptance takes a plan's own word for
//! what it cannot see; here nothing is taken on anybody's word.

/// What of a guest decides what may be missing there.
#[derive(Clone, Debug)]
pub struct Terms {
    /// "6.12".
    pub kernel: String,
    /// The plan that a kernel of this machine cannot carry.
    pub lacks: Option<&'static str>,
    /// Booted with lockdown=confidentiality, under which no plan may work.
    pub confidential: bool,
}

struct Row {
    verdict: &'static str,
    plans: &'static [&'static str],
    cases: &'static [&'static str],
    /// The first kernel on which it may not be any more.
    before: (u32, u32),
}

const TRACEPOINTS: &[&str] = &["btf", "raw"];

const EACH: (u32, u32) = (u32::MAX, 0);

const TABLE: [Row; 3] = [
    // mm_filemap_get_pages, _fault and _map_pages came with 6.12: before, reads of pages that are there pass unseen.
    Row {
        verdict: "misses",
        plans: TRACEPOINTS,
        cases: &[
            "read",
            "pread",
            "readv",
            "preadv2",
            "sendfile",
            "splice",
            "io_uring",
            "mmap",
            "clamped-to-size",
            "ext4",
            "xfs",
            "btrfs",
            "overlayfs",
            "fuse",
            "nfs",
            "awaited",
            "two-processes",
            "one-breath",
            "8-folders-deep",
            "odd-names",
            "hard-links",
            "unlinked",
            "renamed-and-reused",
            "residency",
            "large-folios",
            "full-register",
            "sequential",
            "small-reads",
            "seats",
            "interleaved",
            "flood",
            "without-details",
            "details-again",
            "unwatched",
            "full-ring",
            "churn",
        ],
        before: (6, 12),
    },
    // Direct I/O passes by the page cache, tmpfs has no tracepoints, and these tell a read once, at its end.
    Row { verdict: "unseen", plans: TRACEPOINTS, cases: &["direct", "tmpfs", "hit-latency"], before: EACH },
    // Told at its return.
    Row { verdict: "unseen", plans: &["kprobe"], cases: &["hit-latency"], before: EACH },
];

impl Terms {
    /// Why a verdict may not stand, in one sentence; `None` where it may.
    pub fn against(&self, plan: &str, case: &str, verdict: &str) -> Option<String> {
        let Self { kernel, lacks, confidential } = self;
        let allowed = match verdict {
            "misses" | "unseen" => TABLE.iter().any(|row| {
                row.verdict == verdict
                    && row.plans.contains(&plan)
                    && row.cases.contains(&case)
                    && version(kernel).is_some_and(|kernel| kernel < row.before)
            }),
            "absent" => match case {
                "loads" => *confidential || *lacks == Some(plan),
                "best-plan-chosen" => *confidential,
                _ => false,
            },
            _ => true,
        };
        let what = match verdict {
            "misses" => "it saw no hits",
            "unseen" => "it saw nothing",
            _ => "it was not to be had",
        };
        (!allowed).then(|| {
            format!(
                "on Linux {kernel} the plan {plan} must pass the case {case}, and {what}: mend it, or allow that in \
                 xtask/src/vm/allowed.rs and docs/kernels.md"
            )
        })
    }
}

fn version(kernel: &str) -> Option<(u32, u32)> {
    let (major, minor) = kernel.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const DOCS: &str = include_str!("../../../docs/kernels.md");

    /// The cases of the acceptance that came after the printed table.
    const SINCE: [&str; 3] = ["details-again", "small-reads", "seats"];

    fn terms(kernel: &str) -> Terms {
        Terms { kernel: kernel.to_owned(), lacks: None, confidential: false }
    }

    /// Kernel, plan, case and mark of every cell of the table that docs/kernels.md shows.
    fn printed() -> Vec<(&'static str, &'static str, &'static str, char)> {
        let mut lines = DOCS.lines().skip_while(|line| !line.trim_start().starts_with("| 5.10"));
        let kernels: Vec<&str> = lines.next().unwrap().split('|').map(str::trim).skip(1).collect();
        let mut cells = Vec::new();
        for row in lines.skip(2).take_while(|line| line.contains('|')) {
            let (case, columns) = row.split_once('|').unwrap();
            for (kernel, column) in kernels.iter().zip(columns.split('|')) {
                let marks: Vec<char> = column.chars().filter(|c| *c != ' ').collect();
                let plans: &[&str] =
                    if marks.len() == 1 { &["any"] } else { &["fentry", "btf", "raw", "kprobe"] };
                assert_eq!(marks.len(), plans.len(), "{row}");
                cells.extend(plans.iter().zip(marks).map(|(plan, mark)| (*kernel, *plan, case.trim(), mark)));
            }
        }
        cells
    }

    #[test]
    fn the_printed_table_is_allowed_and_nothing_else() {
        let printed = printed();
        assert!(printed.len() > 600, "{} cells", printed.len());
        for (kernel, plan, case, mark) in printed {
            for (verdict, of) in [("seen", '+'), ("misses", 'm'), ("unseen", '-'), ("absent", '.')] {
                let allowed = terms(kernel).against(plan, case, verdict).is_none();
                // To see more than was printed is no failure.
                let expected = mark == of || verdict == "seen";
                assert_eq!(
                    allowed, expected,
                    "{verdict} of {plan}, {case} on {kernel}, which is printed as {mark}"
                );
            }
        }
    }

    #[test]
    fn every_case_of_the_rules_is_printed() {
        let printed: BTreeSet<&str> = printed().into_iter().map(|(_, _, case, _)| case).collect();
        let known = |case: &&str| printed.contains(case) || SINCE.contains(case);
        let unknown: Vec<&str> =
            TABLE.iter().flat_map(|row| row.cases.iter().copied()).filter(|case| !known(case)).collect();
        assert_eq!(unknown, Vec::<&str>::new());
    }

    #[test]
    fn a_verdict_that_may_not_be_is_told_by_kernel_plan_and_case() {
        assert_eq!(terms("6.1").against("raw", "mmap", "misses"), None);
        let said = terms("6.12").against("raw", "mmap", "misses").unwrap();
        assert!(
            said.contains("Linux 6.12") && said.contains("plan raw") && said.contains("case mmap"),
            "{said}"
        );
        assert!(terms("6.12").against("fentry", "tmpfs", "unseen").is_some());
        assert!(terms("6.1").against("fentry", "read", "misses").is_some());
        // Neither what is of no plan nor what nobody has thought of yet.
        assert!(terms("5.10").against("any", "prototypes", "misses").is_some());
        assert!(terms("5.10").against("raw", "new-case", "misses").is_some());
        assert!(terms("next").against("raw", "read", "misses").is_some());
    }

    #[test]
    fn what_is_absent_is_known_to_be() {
        let absent = |terms: &Terms, plan, case| terms.against(plan, case, "absent").is_none();
        let arm64 = Terms { lacks: Some("fentry"), ..terms("6.1") };
        assert!(absent(&arm64, "fentry", "loads") && !absent(&arm64, "kprobe", "loads"));
        assert!(!absent(&terms("6.1"), "fentry", "loads"));
        assert!(!absent(&terms("6.12"), "btf", "nfs") && !absent(&arm64, "raw", "xfs"));
        let locked = Terms { confidential: true, ..terms("6.12") };
        assert!(absent(&locked, "raw", "loads") && absent(&locked, "any", "best-plan-chosen"));
        assert!(!absent(&locked, "raw", "nfs"));
    }
}
