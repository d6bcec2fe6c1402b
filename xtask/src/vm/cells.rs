//! The cells of the table: kernel × plan × case, as the acceptance program reports them.
//!
//! A line of results is `plan TAB case TAB verdict TAB milliseconds TAB detail`. Each cell is announced by
//! one with the verdict `begun`, so that a guest that dies fails the cell it died in.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::allowed::Terms;

/// The columns of a kernel, in the order of preference; what is of no plan stands under `any`.
const PLANS: [(&str, &str); 4] = [("fentry", "f"), ("btf", "b"), ("raw", "r"), ("kprobe", "k")];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    pub kernel: String,
    pub plan: String,
    pub case: String,
    pub verdict: String,
    pub detail: String,
}

impl Cell {
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

/// The cells of one kernel's lines, held to what may be missing there; `trouble` is how its guest ended if not by
/// itself.
pub fn parse(terms: &Terms, lines: &[String], trouble: Option<&str>) -> Vec<Cell> {
    let mut cells: Vec<Cell> = Vec::new();
    let kernel = terms.kernel.as_str();
    for line in lines {
        let mut fields = line.splitn(5, '\t');
        let (Some(plan), Some(case), Some(verdict)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let detail = fields.nth(1).unwrap_or_default().to_owned();
        let of = |cell: &&mut Cell| cell.plan == plan && cell.case == case;
        match cells.iter_mut().find(of) {
            Some(cell) => (cell.verdict, cell.detail) = (verdict.to_owned(), detail),
            None => cells.push(Cell {
                kernel: kernel.to_owned(),
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
        (cell.verdict, cell.detail) = ("failed".to_owned(), against + &why);
    }
    let unfinished = cells.iter_mut().filter(|cell| cell.verdict == "begun");
    let mut blamed = false;
    for cell in unfinished {
        cell.detail = trouble.unwrap_or("the program ended within it").to_owned();
        blamed = true;
    }
    if let (Some(trouble), false) = (trouble, blamed) {
        cells.push(Cell {
            kernel: kernel.to_owned(),
            plan: "any".to_owned(),
            case: "guest".to_owned(),
            verdict: "failed".to_owned(),
            detail: trouble.to_owned(),
        });
    }
    cells
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

    fn cells(text: &str, trouble: Option<&str>) -> Vec<Cell> {
        let terms = Terms { kernel: "6.1".to_owned(), lacks: Some("kprobe"), confidential: false };
        parse(&terms, &text.lines().map(str::to_owned).collect::<Vec<_>>(), trouble)
    }

    #[test]
    fn a_guest_that_dies_fails_the_cell_it_died_in() {
        let lines = "btf\tread\tbegun\t0\t\nbtf\tread\tseen\t12\t\nbtf\tmmap\tbegun\t0\t\n";
        let cells = cells(lines, Some("it panicked"));
        assert!(!cells[0].failed());
        assert!(cells[1].failed());
        assert_eq!((cells[1].case.as_str(), cells[1].detail.as_str()), ("mmap", "it panicked"));
        assert_eq!(cells.len(), 2);
    }

    #[test]
    fn a_guest_that_never_booted_is_a_failed_cell() {
        let cells = cells("", Some("no console"));
        assert!(cells[0].failed() && cells[0].case == "guest");
    }

    #[test]
    fn every_verdict_has_its_mark() {
        let lines = "any\tbest\tseen\t1\t\nfentry\tread\tseen\t1\t\nbtf\tread\tmisses\t1\t\n\
                     raw\ttmpfs\tunseen\t1\t\nkprobe\tloads\tabsent\t1\tnone\nbtf\tmmap\tgarbled\t1\t\n";
        let cells = cells(lines, None);
        let text = table(&["6.1".to_owned()], &cells);
        assert!(text.contains("\nbest  | +\n") && text.contains("\nread  | + m\n"), "{text}");
        assert!(text.contains("\ntmpfs |     -\n") && text.contains("\nloads |       .\n"), "{text}");
        assert!(text.contains("\nmmap  |   X\n"), "{text}");
        assert_eq!(cells.iter().filter(|cell| cell.failed()).count(), 1);
    }

    #[test]
    fn what_may_not_be_missing_is_a_failed_cell() {
        let lines = "fentry\tread\tmisses\t1\t\nraw\tread\tmisses\t1\t\nraw\tnfs\tabsent\t1\tno NFS server\n";
        let cells = cells(lines, None);
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
