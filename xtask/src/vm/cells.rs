//! The cells of the table: kernel × plan × case, as the acceptance program reports them.
//!
//! A line of results is `plan TAB case TAB verdict TAB milliseconds TAB detail`. A program announces all its cells by
//! ones with the verdict `expected` before it does anything, and each by `begun` when it comes to it, so that one that
//! dies fails the cell it died in and those that then never come. Beside these the guest's script writes `exit TAB program
//! TAB code` when a program has ended, and `end` at its own end.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::allowed::Terms;

/// The last word on the line of results.
pub const END: &str = "end";

/// The first field where a program has ended.
pub const EXIT: &str = "exit";

pub const EXPECTED: &str = "expected";
pub const BEGUN: &str = "begun";
pub const FAILED: &str = "failed";

/// Announced, and it never came: the account's word, in no line.
pub const MISSING: &str = "missing";

/// Of no plan.
pub const ANY: &str = "any";

/// The columns of a kernel, in the order of preference; what is of no plan stands under `any`.
pub const PLANS: [(&str, &str); 4] = [("fentry", "f"), ("btf", "b"), ("raw", "r"), ("kprobe", "k")];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    pub kernel: String,
    pub plan: String,
    pub case: String,
    pub verdict: String,
    pub detail: String,
}

impl Cell {
    pub fn failure(kernel: &str, plan: &str, case: &str, detail: String) -> Self {
        let (kernel, plan, case) = (kernel.to_owned(), plan.to_owned(), case.to_owned());
        Self { kernel, plan, case, verdict: FAILED.to_owned(), detail }
    }

    /// Whether it makes the run fail: what is neither seen nor accounted for. What may not be missing is `failed`
    /// when `parse` has looked at it.
    pub fn failed(&self) -> bool {
        !matches!(self.verdict.as_str(), "seen" | "misses" | "unseen" | "absent")
    }

    fn mark(&self) -> &'static str {
        match self.verdict.as_str() {
            "seen" => "+",
            "misses" => "m",
            "unseen" => "-",
            "absent" => ".",
            _ => "X",
        }
    }
}

/// The cells of one kernel's lines as far as they came, held to what may be missing there.
pub fn parse(terms: &Terms, lines: &[String]) -> Vec<Cell> {
    let mut cells: Vec<Cell> = Vec::new();
    for line in lines {
        let mut fields = line.splitn(5, '\t');
        let (Some(plan), Some(case), Some(verdict)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if plan == EXIT {
            continue;
        }
        let detail = fields.nth(1).unwrap_or_default().to_owned();
        let of = |cell: &&mut Cell| cell.plan == plan && cell.case == case;
        match cells.iter_mut().find(of) {
            Some(cell) => (cell.verdict, cell.detail) = (verdict.to_owned(), detail),
            None => cells.push(Cell {
                kernel: terms.kernel.clone(),
                plan: plan.to_owned(),
                case: case.to_owned(),
                verdict: verdict.to_owned(),
                detail,
            }),
        }
    }
    for cell in &mut cells {
        let Some(against) = terms.against(&cell.plan, &cell.case, &cell.verdict) else { continue };
        let why = if cell.detail.is_empty() { String::new() } else { format!(" ({})", cell.detail) };
        (cell.verdict, cell.detail) = (FAILED.to_owned(), against + &why);
    }
    cells
}

/// What failed, in a paragraph each: cells that never came together by plan, as they are many where one died.
pub fn failures(cells: &[Cell]) -> Vec<String> {
    let mut paragraphs = Vec::new();
    let mut never: BTreeMap<(&str, &str, &str), Vec<&str>> = BTreeMap::new();
    for Cell { kernel, plan, case, verdict, detail } in cells.iter().filter(|cell| cell.failed()) {
        if verdict == MISSING {
            never.entry((kernel, plan, detail)).or_default().push(case);
        } else {
            paragraphs.push(format!("Linux {kernel}, {plan}, {case}: {detail}"));
        }
    }
    paragraphs.extend(never.into_iter().map(|((kernel, plan, detail), cases)| {
        format!("Linux {kernel}, {plan}: expected, and never came: {} ({detail})", cases.join(", "))
    }));
    paragraphs
}

/// One table: a row for each case, a group of columns for each kernel.
pub fn table(kernels: &[String], cells: &[Cell]) -> String {
    let mut rows: Vec<&str> = Vec::new();
    for cell in cells {
        if !rows.contains(&cell.case.as_str()) {
            rows.push(&cell.case);
        }
    }
    let by: BTreeMap<(&str, &str, &str), &Cell> = cells
        .iter()
        .map(|cell| ((cell.kernel.as_str(), cell.plan.as_str(), cell.case.as_str()), cell))
        .collect();
    let width = rows.iter().map(|row| row.len()).max().unwrap_or(0).max(4);
    let mut text = String::new();
    let _ = write!(text, "{:width$}", "");
    for kernel in kernels {
        let _ = write!(text, " | {kernel:<7}");
    }
    let _ = write!(text, "\n{:width$}", "case");
    for _ in kernels {
        let letters: Vec<&str> = PLANS.iter().map(|(_, letter)| *letter).collect();
        let _ = write!(text, " | {}", letters.join(" "));
    }
    let _ = writeln!(text, "\n{}{}", "-".repeat(width), "-+--------".repeat(kernels.len()));
    for row in rows {
        let _ = write!(text, "{row:width$}");
        for kernel in kernels {
            let mark = |plan: &str| by.get(&(kernel.as_str(), plan, row)).map_or(" ", |cell| cell.mark());
            let any = mark("any");
            let marks = match any {
                " " => PLANS.map(|(plan, _)| mark(plan)).join(" "),
                any => format!("{any:<7}"),
            };
            let _ = write!(text, " | {marks}");
        }
        let trimmed = text.trim_end().len();
        text.truncate(trimmed);
        text.push('\n');
    }
    text.push_str(
        "f fentry/fexit, b BTF tracepoints, r raw tracepoints, k kprobes. + all was told, m what was not in \
         the page\ncache was told (this plan sees no hits there), - not to be seen by this plan, \
         . not to be had there, X failed\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(text: &str) -> Vec<Cell> {
        let terms = Terms { kernel: "6.1".to_owned(), lacks: Some("kprobe"), confidential: false };
        parse(&terms, &text.lines().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_never_came_is_told_in_one_sentence_a_plan() {
        let lines = "btf\tread\tfailed\t1\ttorn\nbtf\tmmap\tmissing\t0\t\nbtf\tdirect\tmissing\t0\t\n\
                     raw\tmmap\tmissing\t0\t\nexit\tprobe\t1\n";
        let told = failures(&cells(lines));
        let [read, btf, raw] = &told[..] else { panic!("{told:?}") };
        assert_eq!(read, "Linux 6.1, btf, read: torn");
        assert!(btf.starts_with("Linux 6.1, btf: expected, and never came: mmap, direct"), "{btf}");
        assert!(raw.contains("raw: ") && raw.contains("mmap"), "{raw}");
        assert!(table(&["6.1".to_owned()], &cells(lines)).contains("\nmmap   |   X X\n"));
    }

    #[test]
    fn every_verdict_has_its_mark() {
        let lines = "any\tbest\tseen\t1\t\nfentry\tread\tseen\t1\t\nbtf\tread\tmisses\t1\t\n\
                     raw\ttmpfs\tunseen\t1\t\nkprobe\tloads\tabsent\t1\tnone\nbtf\tmmap\tgarbled\t1\t\n";
        let cells = cells(lines);
        let text = table(&["6.1".to_owned()], &cells);
        assert!(text.contains("\nbest  | +\n") && text.contains("\nread  | + m\n"), "{text}");
        assert!(text.contains("\ntmpfs |     -\n") && text.contains("\nloads |       .\n"), "{text}");
        assert!(text.contains("\nmmap  |   X\n"), "{text}");
        assert_eq!(cells.iter().filter(|cell| cell.failed()).count(), 1);
    }

    #[test]
    fn what_may_not_be_missing_is_a_failed_cell() {
        let lines = "fentry\tread\tmisses\t1\t\nraw\tread\tmisses\t1\t\nraw\tnfs\tabsent\t1\tno NFS server\n";
        let cells = cells(lines);
        let failed: Vec<bool> = cells.iter().map(Cell::failed).collect();
        assert_eq!(failed, [true, false, true]);
        assert!(
            cells[0].detail.contains("on Linux 6.1 the plan fentry must pass the case read"),
            "{cells:?}"
        );
        assert!(cells[2].detail.ends_with("(no NFS server)"), "{cells:?}");
        let text = table(&["6.1".to_owned()], &cells);
        assert!(text.contains("\nread | X   m\n") && text.contains("\nnfs  |     X\n"), "{text}");
    }
}
