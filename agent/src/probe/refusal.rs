//! Why the kernel refused a program, from its error number and the verifier's log: the end of a sentence
//! for a person, and the lines that whoever looks further wants in the debug log.

use std::io;

use aya::programs::ProgramError;
use operator_api::causes::chain;
use rustix::io::Errno;

/// What the verifier says last, behind it all: the reason and some instructions before it.
const LAST_LINES: usize = 12;

/// Of one line that is quoted: the verifier's are shorter unless names of types are long.
const QUOTED: usize = 160;

/// What lockdown mode "confidentiality" takes away, and the way out.
const LOCKED: &str = "the kernel's lockdown forbids it (mode \"confidentiality\": nobody may read the kernel's memory, \
                      and no file that is read can be named without that): boot without lockdown=confidentiality";

/// An aya error as the end of a sentence; `confidential` is what is known of the kernel's lockdown.
pub fn describe(error: &ProgramError, confidential: bool) -> String {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            load(io_error, &verifier_log.to_string(), confidential)
        }
        ProgramError::SyscallError(error) => number(&error.io_error, confidential)
            .unwrap_or_else(|| format!("the kernel said: {}", error.io_error)),
        ProgramError::KProbeError(_) => format!("this kernel is built without kprobes ({})", chain(error)),
        other => chain(other),
    }
}

/// The verifier's last lines, where it was the verifier.
pub fn last_lines(error: &ProgramError) -> Option<String> {
    let ProgramError::LoadError { verifier_log, .. } = error else { return None };
    let log = verifier_log.to_string();
    let lines: Vec<_> = log.lines().collect();
    Some(lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default().join("\n"))
}

fn load(error: &io::Error, log: &str, confidential: bool) -> String {
    // In lockdown mode "confidentiality" the kernel hides the helpers that read its memory
    // (bpf_tracing_func_proto, kernel/trace/bpf_trace.c), and has no other reason to.
    let hidden = ["unknown func bpf_probe_read", "cannot use helper bpf_probe_read"];
    if hidden.iter().any(|words| log.contains(words)) {
        return LOCKED.into();
    }
    match Errno::from_io_error(error) {
        Some(Errno::TOOBIG) => {
            "its verifier gave up before it was through with the program: report this with `uname -a`".into()
        }
        Some(Errno::ACCESS | Errno::INVAL) => match reason(log) {
            Some(reason) => format!("its verifier does not accept the program: {reason} ({error})"),
            None => format!("it does not accept the program ({error})"),
        },
        _ => number(error, confidential).unwrap_or_else(|| format!("the kernel said: {error}")),
    }
}

fn number(error: &io::Error, confidential: bool) -> Option<String> {
    match Errno::from_io_error(error)? {
        // LOCKDOWN_KPROBES: perf_event_open says no more than this (kernel/trace/trace_kprobe.c).
        Errno::PERM if confidential => Some(LOCKED.into()),
        Errno::PERM => Some(format!("this kernel does not allow it ({error})")),
        Errno::ACCESS | Errno::INVAL => Some(format!("it does not accept the program ({error})")),
        Errno::NOENT => Some(format!("this kernel has no such hook ({error})")),
        _ => None,
    }
}

/// The line in which the verifier says what it minds: the last one before its statistics.
fn reason(log: &str) -> Option<String> {
    let statistics = ["processed ", "verification time ", "stack depth ", "mark_precise:"];
    let said = |line: &&str| !line.is_empty() && !statistics.iter().any(|word| line.starts_with(word));
    let line = log.lines().rev().map(str::trim).find(said)?;
    Some(line.chars().filter(|character| !character.is_control()).take(QUOTED).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(errno: Errno, log: &str) -> String {
        load(&errno.into(), log, false)
    }

    #[test]
    fn the_verifier_is_quoted_without_its_statistics() {
        let log = "0: R1=ctx() R10=fp0\n7: (79) r1 = *(u64 *)(r1 +16384)\n\
            access beyond struct address_space at off 16384 size 8\nverification time 12 usec\n\
            stack depth 0\nprocessed 8 insns (limit 1000000) max_states_per_insn 0 total_states 1 \
            peak_states 1 mark_read 0\n";
        let text = refused(Errno::ACCESS, log);
        assert!(text.contains("access beyond struct address_space at off 16384 size 8"), "{text}");
        assert!(!text.contains("processed"), "{text}");
        assert_eq!(reason("processed 8 insns\n\n"), None);
        let long = "x".repeat(1_000);
        assert_eq!(reason(&long).map(|line| line.len()), Some(QUOTED));
    }

    #[test]
    fn lockdown_is_told_by_the_helper_it_hides() {
        // Linux 5.10 and 6.1; 6.18.
        for line in [
            "unknown func bpf_probe_read_kernel#113",
            "program of this type cannot use helper bpf_probe_read_kernel#113",
        ] {
            let text = refused(Errno::INVAL, &format!("12: (85) call\n{line}\nprocessed 13 insns\n"));
            assert!(text.contains("lockdown=confidentiality"), "{text}");
            assert_eq!(text, number(&Errno::PERM.into(), true).unwrap_or_default());
        }
        // What is refused for another reason, or by a kernel that is not known to be locked down.
        for (errno, confidential) in [(Errno::PERM, false), (Errno::NOENT, true), (Errno::INVAL, true)] {
            let text = number(&errno.into(), confidential).unwrap_or_default();
            assert!(!text.is_empty() && !text.contains("lockdown"), "{errno}: {text}");
        }
        let text = refused(Errno::INVAL, "program of this type cannot use helper bpf_redirect#23\n");
        assert!(!text.contains("lockdown") && text.contains("bpf_redirect#23"), "{text}");
    }

    #[test]
    fn every_refusal_is_the_end_of_a_sentence() {
        for errno in [Errno::PERM, Errno::ACCESS, Errno::INVAL, Errno::TOOBIG, Errno::NOMEM, Errno::NOENT] {
            let text = refused(errno, "");
            assert!(text.len() > 20 && !text.ends_with('.') && !text.contains('\n'), "{errno}: {text}");
        }
    }
}
