//! The kernel prototypes that the BPF programs rely on, in a form that is checked against the running
//! kernel's BTF: a kernel that changes one takes out the plans that use it, by name, instead of making
//! them read nonsense.

use std::fmt;

use super::btf::Btf;

/// A tracepoint or function, and the first parameters that a program reads. A `|` separates spellings
/// of different kernels; further parameters are nobody's business, save where a program reads the result.
#[derive(Clone, Copy, Debug)]
pub struct Prototype {
    pub name: &'static str,
    pub parameters: &'static [&'static str],
    /// Where a program reads what the function returned: its type, and how many parameters there are, because that
    /// is where fexit finds it.
    pub result: Option<(usize, &'static str)>,
    pub there: There,
}

/// The kernels that are known to have it, by version: of these, one without it has renamed it or taken it away.
/// The kernels that `cargo xtask vm` boots were asked.
#[derive(Clone, Copy, Debug)]
pub struct There {
    since: (u32, u32),
    /// The first one without it.
    until: (u32, u32),
}

const EVER: There = There { since: (0, 0), until: (u32::MAX, 0) };

const fn since(major: u32, minor: u32) -> There {
    There { since: (major, minor), ..EVER }
}

const fn before(major: u32, minor: u32) -> There {
    There { until: (major, minor), ..EVER }
}

impl There {
    pub fn holds(self, kernel: (u32, u32)) -> bool {
        (self.since..self.until).contains(&kernel)
    }
}

impl fmt::Display for There {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { since, until } = *self;
        match (since == EVER.since, until == EVER.until) {
            (true, true) => f.write_str("all kernels are known to have"),
            (false, true) => write!(f, "kernels from {}.{} on are known to have", since.0, since.1),
            (_, false) => write!(f, "kernels before {}.{} are known to have", until.0, until.1),
        }
    }
}

const MAPPING: &str = "struct address_space *";
const INDEX: &str = "long unsigned int|unsigned long";
const FOLIO: &str = "struct folio *|struct page *";
const FAULT: &str = "struct vm_fault *";

/// agent-ebpf/src/tracepoint_btf.rs, tracepoint_raw.rs.
pub const TRACEPOINTS: [Prototype; 6] = [
    Prototype {
        name: "mm_filemap_get_pages",
        parameters: &[MAPPING, INDEX, INDEX],
        result: None,
        there: since(6, 12),
    },
    Prototype { name: "mm_filemap_fault", parameters: &[MAPPING, INDEX], result: None, there: since(6, 12) },
    Prototype {
        name: "mm_filemap_map_pages",
        parameters: &[MAPPING, INDEX, INDEX],
        result: None,
        there: since(6, 12),
    },
    Prototype { name: "mm_filemap_add_to_page_cache", parameters: &[FOLIO], result: None, there: EVER },
    Prototype { name: "mm_filemap_delete_from_page_cache", parameters: &[FOLIO], result: None, there: EVER },
    Prototype {
        name: "sched_process_exit",
        parameters: &["struct task_struct *"],
        result: None,
        there: EVER,
    },
];

const IOCB: &str = "struct kiocb *";
const ITER: &str = "struct iov_iter *";
const SIZE: &str = "ssize_t|long int|long";
const FAULTED: &str = "vm_fault_t|unsigned int|int";
const FAULTED_IF_ANY: &str = "vm_fault_t|unsigned int|int|void";
const FILE: &str = "struct file *";
const POSITION: &str = "loff_t *|long long int *|long long *";

/// agent-ebpf/src/function.rs, kprobe.rs.
pub const FUNCTIONS: [Prototype; 10] = [
    Prototype {
        name: "filemap_read",
        parameters: &[IOCB, ITER, SIZE],
        result: Some((3, SIZE)),
        there: since(5, 12),
    },
    Prototype {
        name: "generic_file_buffered_read",
        parameters: &[IOCB, ITER, SIZE],
        result: Some((3, SIZE)),
        there: before(5, 12),
    },
    Prototype { name: "generic_file_read_iter", parameters: &[IOCB, ITER], result: None, there: EVER },
    Prototype { name: "iomap_dio_rw", parameters: &[IOCB, ITER], result: None, there: EVER },
    Prototype {
        name: "shmem_file_read_iter",
        parameters: &[IOCB, ITER],
        result: Some((2, SIZE)),
        there: EVER,
    },
    Prototype {
        name: "filemap_splice_read",
        parameters: &[FILE, POSITION],
        result: Some((5, SIZE)),
        there: since(6, 5),
    },
    Prototype {
        name: "shmem_file_splice_read",
        parameters: &[FILE, POSITION],
        result: Some((5, SIZE)),
        there: since(6, 5),
    },
    Prototype { name: "filemap_fault", parameters: &[FAULT], result: Some((1, FAULTED)), there: EVER },
    Prototype { name: "shmem_fault", parameters: &[FAULT], result: Some((1, FAULTED)), there: EVER },
    Prototype {
        name: "filemap_map_pages",
        parameters: &[FAULT, INDEX, INDEX],
        result: Some((3, FAULTED_IF_ANY)),
        there: EVER,
    },
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    Same,
    Absent,
    /// What differs, in one sentence.
    Changed(String),
}

pub fn tracepoint(btf: &Btf, prototype: &Prototype) -> Check {
    compare("tracepoint", prototype, btf.tracepoint(prototype.name))
}

pub fn function(btf: &Btf, prototype: &Prototype) -> Check {
    let Prototype { name, parameters: _, result, there: _ } = *prototype;
    let found = btf.function(name);
    let count = found.as_ref().map(Vec::len);
    let check = compare("function", prototype, found);
    let (Check::Same, Some((expected, spellings))) = (&check, result) else { return check };
    let returned = btf.result(name).unwrap_or_default();
    if count != Some(expected) {
        return Check::Changed(format!(
            "the function {name} of this kernel has {} parameters, where {expected} were expected",
            count.unwrap_or_default(),
        ));
    }
    if !spellings.split('|').any(|spelling| spelling == returned) {
        return Check::Changed(format!(
            "the function {name} of this kernel returns {returned}, where {} was expected",
            spellings.replace('|', " or "),
        ));
    }
    check
}

/// All that differ on a kernel of this version, or are gone though it is known to have them, in one sentence each.
pub fn changed(btf: &Btf, kernel: (u32, u32)) -> Vec<String> {
    let tracepoints =
        TRACEPOINTS.iter().map(|prototype| ("tracepoint", prototype, tracepoint(btf, prototype)));
    let functions = FUNCTIONS.iter().map(|prototype| ("function", prototype, function(btf, prototype)));
    let sentence = |(what, prototype, check): (&str, &Prototype, Check)| match check {
        Check::Changed(sentence) => Some(sentence),
        Check::Absent if prototype.there.holds(kernel) => Some(format!(
            "Linux {}.{} has no {what} {}, which {}: it was renamed or taken away, and what it tells goes unseen \
             until its successor is hooked",
            kernel.0, kernel.1, prototype.name, prototype.there,
        )),
        Check::Same | Check::Absent => None,
    };
    tracepoints.chain(functions).filter_map(sentence).collect()
}

fn compare(what: &str, prototype: &Prototype, found: Option<Vec<String>>) -> Check {
    let Some(found) = found else {
        return Check::Absent;
    };
    for (number, expected) in prototype.parameters.iter().enumerate() {
        let actual = found.get(number).map_or("nothing", String::as_str);
        if !expected.split('|').any(|spelling| spelling == actual) {
            return Check::Changed(format!(
                "the {what} {} of this kernel has {actual} as parameter {}, where {} was expected",
                prototype.name,
                number + 1,
                expected.replace('|', " or "),
            ));
        }
    }
    Check::Same
}

#[cfg(test)]
mod tests;
