//! What a guest was to do, held against what came of it. A program that dies, never begins or leaves cells out fails the
//! guest, whatever the cells say that did come.
//!
//! A program announces its cells before the first of them, and the guest's script tells how each program ended
//! (`cells` has the lines).

use super::allowed::Terms;
use super::cells::{self, ANY, BEGUN, Cell, EXIT, EXPECTED, FAILED, MISSING, PLANS};
use super::guest::Ended;

/// What guests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Acceptance,
    Prefetch,
}

impl Program {
    /// In the guest's /bin.
    pub fn name(self) -> &'static str {
        match self {
            Self::Acceptance => "probe",
            Self::Prefetch => "guest-prefetch",
        }
    }

    /// Whether the case is one of this program's.
    pub fn runs(self, case: &str) -> bool {
        case.starts_with("prefetch-") == (self == Self::Prefetch)
    }
}

/// What a guest is to do.
#[derive(Clone, Debug)]
pub struct Asked {
    pub programs: Vec<Program>,
    /// Otherwise all of them.
    pub plan: Option<String>,
    /// None: all of them.
    pub cases: Vec<String>,
}

/// The first case of each plan. One that fails it or is not to be had runs no other.
const LOADS: &str = "loads";

/// The cells of one kernel: those that came, held to what may be missing there, and a failed one for each that did not.
pub fn settle(terms: &Terms, asked: &Asked, ended: &Ended) -> Vec<Cell> {
    let mut cells = cells::parse(terms, &ended.lines);
    let ends: Vec<End<'_>> = asked.programs.iter().map(|program| End::of(*program, terms, ended)).collect();
    let mut beside: Vec<Cell> = ends.iter().flat_map(|end| end.lacking(asked, &cells)).collect();
    let without: Vec<String> = cells
        .iter()
        .filter(|cell| cell.case == LOADS && matches!(cell.verdict.as_str(), FAILED | "absent"))
        .map(|cell| cell.plan.clone())
        .collect();
    cells.retain(|cell| cell.verdict != EXPECTED || !without.contains(&cell.plan));
    let caught = ends.iter().any(|end| end.code.is_none() && cells.iter().any(|cell| end.was_in(cell)));
    if let (Some(trouble), false) = (&ended.trouble, caught) {
        let detail = format!("{trouble}; its console's last lines:\n{}", ended.console);
        beside.push(Cell::failure(&terms.kernel, ANY, "guest", detail));
    }
    for end in &ends {
        end.charge(&mut cells);
    }
    beside.extend(ends.iter().filter_map(|end| end.unexplained(&cells)));
    cells.extend(beside);
    cells
}

/// How a program ended.
struct End<'a> {
    program: Program,
    kernel: &'a str,
    /// As the guest's script tells it; it tells nothing where the guest is gone first.
    code: Option<i32>,
    /// As the beginning of a sentence.
    how: String,
    ended: &'a Ended,
}

impl<'a> End<'a> {
    fn of(program: Program, terms: &'a Terms, ended: &'a Ended) -> Self {
        let name = program.name();
        let code = ended.lines.iter().find_map(|line| {
            let mut fields = line.split('\t');
            let told = fields.next() == Some(EXIT) && fields.next() == Some(name);
            fields.next().filter(|_| told)?.parse().ok()
        });
        let how = match (code, &ended.trouble) {
            (Some(code @ (126 | 127)), _) => format!("{name} could not be started (code {code})"),
            // So a shell tells of signals.
            (Some(code @ 129..), _) => format!("{name} ended with code {code} (signal {})", code - 128),
            (Some(code), _) => format!("{name} ended with code {code}"),
            (None, Some(trouble)) => trouble.clone(),
            (None, None) => format!("the guest did not tell how {name} ended"),
        };
        Self { program, kernel: &terms.kernel, code, how, ended }
    }

    fn was_in(&self, cell: &Cell) -> bool {
        cell.verdict == BEGUN && self.program.runs(&cell.case)
    }

    /// What was asked for and was not even announced: nobody is believed to have announced all.
    fn lacking(&self, asked: &Asked, cells: &[Cell]) -> Vec<Cell> {
        let Self { program, kernel, code, how, ended } = self;
        let name = program.name();
        if !cells.iter().any(|cell| program.runs(&cell.case)) {
            let why = "it never began, or no plan or case has the name that was asked for";
            // Of a guest that is gone, its own cell has the last lines.
            let last =
                code.map_or_else(String::new, |_| format!("; the guest's last lines:\n{}", ended.console));
            let detail = format!("on Linux {kernel} {name} announced no cell: {why}; {how}{last}");
            return vec![Cell::failure(kernel, ANY, name, detail)];
        }
        let Asked { programs: _, plan, cases } = asked;
        let mut lacking = Vec::new();
        let mut lacks = |plan: &str, case: &str| {
            let detail = format!("it was asked for on Linux {kernel}, and {name} did not announce it");
            lacking.push(Cell::failure(kernel, plan, case, detail));
        };
        for case in cases.iter().filter(|case| program.runs(case)) {
            if !cells.iter().any(|cell| cell.case == *case) {
                lacks(ANY, case);
            }
        }
        // A single case may be of no plan.
        let every = *program == Program::Acceptance && cases.is_empty();
        for (wanted, _) in PLANS.iter().filter(|_| every) {
            let is_in = |cell: &Cell| cell.plan == *wanted && cell.case == LOADS;
            if plan.as_deref().is_none_or(|only| only == *wanted) && !cells.iter().any(is_in) {
                lacks(wanted, LOADS);
            }
        }
        lacking
    }

    /// Fails the cell that the program was in, and those that it did not come to.
    fn charge(&self, cells: &mut [Cell]) {
        let Self { program, kernel, code: _, how, ended } = self;
        for cell in cells.iter_mut().filter(|cell| program.runs(&cell.case)) {
            let (verdict, detail) = match cell.verdict.as_str() {
                BEGUN => {
                    let last = &ended.console;
                    (FAILED, format!("on Linux {kernel} {how}, within it; the guest's last lines:\n{last}"))
                }
                EXPECTED => (MISSING, format!("{how}, and it had not come to it")),
                _ => continue,
            };
            (cell.verdict, cell.detail) = (verdict.to_owned(), detail);
        }
    }

    /// A bad end that no cell accounts for. Where the guest was gone, that is told already.
    fn unexplained(&self, cells: &[Cell]) -> Option<Cell> {
        let Self { program, kernel, code, how, ended } = self;
        let ours = |cell: &&Cell| program.runs(&cell.case);
        let told = *code == Some(0) || ended.trouble.is_some() && code.is_none();
        // Without any, `lacking` has said so.
        let explained =
            told || cells.iter().filter(ours).any(Cell::failed) || !cells.iter().any(|cell| ours(&cell));
        (!explained).then(|| {
            let last = &ended.console;
            let detail = format!(
                "on Linux {kernel} {how}, and none of its cells failed; the guest's last lines:\n{last}"
            );
            Cell::failure(kernel, ANY, program.name(), detail)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "thread 'main' panicked";

    fn terms() -> Terms {
        Terms { kernel: "6.1".to_owned(), lacks: Some("kprobe"), confidential: false }
    }

    fn asked(programs: &[Program], cases: &[&str]) -> Asked {
        let cases = cases.iter().map(|case| (*case).to_owned()).collect();
        Asked { programs: programs.to_vec(), plan: Some("btf".to_owned()), cases }
    }

    fn of(asked: &Asked, text: &str, trouble: Option<&str>) -> Vec<Cell> {
        let lines = text.lines().map(str::to_owned).collect();
        let trouble = trouble.map(str::to_owned);
        settle(&terms(), asked, &Ended { lines, trouble, console: CONSOLE.to_owned() })
    }

    /// The acceptance of one plan.
    fn probe(text: &str, trouble: Option<&str>) -> Vec<Cell> {
        of(&asked(&[Program::Acceptance], &[]), text, trouble)
    }

    /// Plan, case and detail of what failed.
    fn failed(cells: &[Cell]) -> Vec<(&str, &str, &str)> {
        let failed = cells.iter().filter(|cell| cell.failed());
        failed.map(|cell| (cell.plan.as_str(), cell.case.as_str(), cell.detail.as_str())).collect()
    }

    const ANNOUNCED: &str = "btf\tloads\texpected\t0\t\nbtf\tread\texpected\t0\t\nbtf\tmmap\texpected\t0\t\n";
    const LOADED: &str = "btf\tloads\tbegun\t0\t\nbtf\tloads\tseen\t9\t\n";
    const READ: &str = "btf\tread\tbegun\t0\t\nbtf\tread\tmisses\t9\t\n";
    const MAPPED: &str = "btf\tmmap\tbegun\t0\t\nbtf\tmmap\tmisses\t9\t\n";

    #[test]
    fn what_was_announced_and_came_is_good() {
        let cells = probe(&format!("{ANNOUNCED}{LOADED}{READ}{MAPPED}exit\tprobe\t0\nend\n"), None);
        assert_eq!((failed(&cells), cells.len()), (vec![], 3));
    }

    #[test]
    fn a_bad_code_without_a_failed_cell_fails_the_guest() {
        let cells = probe(&format!("{ANNOUNCED}{LOADED}{READ}{MAPPED}exit\tprobe\t139\nend\n"), None);
        let [(plan, case, detail)] = failed(&cells)[..] else { panic!("{cells:?}") };
        assert_eq!((plan, case), ("any", "probe"));
        assert!(detail.contains("on Linux 6.1 probe ended with code 139 (signal 11)"), "{detail}");
        assert!(detail.ends_with(CONSOLE), "{detail}");
    }

    #[test]
    fn a_bad_code_is_accounted_for_by_a_failed_cell_of_the_same_program() {
        let seen = format!("{ANNOUNCED}{LOADED}{READ}btf\tmmap\tfailed\t9\tno fault\nexit\tprobe\t1\n");
        assert_eq!(failed(&probe(&format!("{seen}end\n"), None)), [("btf", "mmap", "no fault")]);
        let both = asked(&[Program::Acceptance, Program::Prefetch], &[]);
        let more =
            "any\tprefetch-nfs\texpected\t0\t\nany\tprefetch-nfs\tseen\t9\t\nexit\tguest-prefetch\t1\nend\n";
        let cells = of(&both, &format!("{seen}{more}"), None);
        assert_eq!(failed(&cells).len(), 2, "{cells:?}");
        assert_eq!(failed(&cells)[1].1, "guest-prefetch");
    }

    #[test]
    fn a_cell_that_never_came_is_failed() {
        // Between two cells, whatever the code.
        for (code, how) in [(0, "probe ended with code 0"), (137, "probe ended with code 137 (signal 9)")] {
            let cells = probe(&format!("{ANNOUNCED}{LOADED}{READ}exit\tprobe\t{code}\nend\n"), None);
            let [(plan, case, detail)] = failed(&cells)[..] else { panic!("{cells:?}") };
            assert_eq!((plan, case), ("btf", "mmap"));
            assert!(detail.starts_with(how), "{detail}");
            assert_eq!(cells[2].verdict, MISSING);
        }
    }

    #[test]
    fn a_program_that_dies_fails_the_cell_it_died_in_and_those_behind_it() {
        let cells =
            probe(&format!("{ANNOUNCED}{LOADED}btf\tread\tbegun\t0\t\nexit\tprobe\t139\nend\n"), None);
        let [(_, read, within), (_, mmap, _)] = failed(&cells)[..] else { panic!("{cells:?}") };
        assert_eq!((read, mmap), ("read", "mmap"));
        assert!(within.contains("code 139 (signal 11), within it") && within.ends_with(CONSOLE), "{within}");
    }

    #[test]
    fn a_program_that_never_began_is_failed_by_name() {
        let both = asked(&[Program::Acceptance, Program::Prefetch], &[]);
        let text =
            format!("{ANNOUNCED}{LOADED}{READ}{MAPPED}exit\tprobe\t0\nexit\tguest-prefetch\t127\nend\n");
        let cells = of(&both, &text, None);
        let [(plan, case, detail)] = failed(&cells)[..] else { panic!("{cells:?}") };
        assert_eq!((plan, case), ("any", "guest-prefetch"));
        assert!(
            detail.contains("Linux 6.1") && detail.contains("could not be started (code 127)"),
            "{detail}"
        );
        assert!(detail.ends_with(CONSOLE), "{detail}");
        // With a good code too.
        assert_eq!(failed(&probe("exit\tprobe\t0\nend\n", None)).len(), 1);
    }

    #[test]
    fn what_was_asked_for_and_not_announced_is_failed() {
        let named = asked(&[Program::Acceptance], &["read", "raed"]);
        let text = "btf\tloads\tseen\t1\t\nbtf\tread\tmisses\t1\t\nexit\tprobe\t0\nend\n";
        assert_eq!(failed(&of(&named, text, None)).iter().map(|cell| cell.1).collect::<Vec<_>>(), ["raed"]);
        let every = Asked { plan: None, ..asked(&[Program::Acceptance], &[]) };
        let cells = of(&every, text, None);
        let plans: Vec<&str> = failed(&cells).iter().map(|cell| cell.0).collect();
        assert_eq!(plans, ["fentry", "raw", "kprobe"]);
    }

    #[test]
    fn a_plan_that_is_not_to_be_had_runs_no_case() {
        let kprobe = Asked { plan: Some("kprobe".to_owned()), ..asked(&[Program::Acceptance], &["read"]) };
        let announced = "kprobe\tloads\texpected\t0\t\nkprobe\tread\texpected\t0\t\n";
        let cells =
            of(&kprobe, &format!("{announced}kprobe\tloads\tabsent\t1\tnone\nexit\tprobe\t0\nend\n"), None);
        assert_eq!((failed(&cells), cells.len()), (vec![], 1));
        let cells =
            of(&kprobe, &format!("{announced}kprobe\tloads\tfailed\t1\tnone\nexit\tprobe\t1\nend\n"), None);
        assert_eq!(failed(&cells), [("kprobe", "loads", "none")]);
        // One that died in it has said nothing.
        let cells =
            of(&kprobe, &format!("{announced}kprobe\tloads\tbegun\t0\t\nexit\tprobe\t137\nend\n"), None);
        assert_eq!(failed(&cells).iter().map(|cell| cell.1).collect::<Vec<_>>(), ["loads", "read"]);
    }

    #[test]
    fn a_guest_that_dies_fails_the_cell_it_died_in() {
        let lines = format!("{ANNOUNCED}{LOADED}btf\tread\tmisses\t12\t\nbtf\tmmap\tbegun\t0\t\n");
        let cells = probe(&lines, Some("it panicked"));
        let [(_, case, detail)] = failed(&cells)[..] else { panic!("{cells:?}") };
        assert!(case == "mmap" && detail.contains("it panicked") && detail.ends_with(CONSOLE), "{detail}");
        assert_eq!(cells.len(), 3);
    }

    #[test]
    fn a_guest_that_dies_between_two_cells_fails_itself_and_the_rest() {
        let cells = probe(&format!("{ANNOUNCED}{LOADED}{READ}"), Some("it panicked"));
        let [(_, mmap, _), (_, guest, detail)] = failed(&cells)[..] else { panic!("{cells:?}") };
        assert_eq!((mmap, guest), ("mmap", "guest"));
        assert!(detail.starts_with("it panicked") && detail.ends_with(CONSOLE), "{detail}");
    }

    #[test]
    fn a_guest_that_never_booted_is_a_failed_cell() {
        let cells = probe("", Some("no console"));
        assert!(failed(&cells).iter().any(|cell| cell.1 == "guest"), "{cells:?}");
    }
}
