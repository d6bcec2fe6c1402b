//! The kernel prototypes that the BPF programs rely on, in a form that is checked against the running
//! kernel's BTF: a kernel that changes one takes out the plans that use it, by name, instead of making
//! them read nonsense.

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
}

const MAPPING: &str = "struct address_space *";
const INDEX: &str = "long unsigned int|unsigned long";
const FOLIO: &str = "struct folio *|struct page *";
const FAULT: &str = "struct vm_fault *";

/// agent-ebpf/src/tracepoint_btf.rs, tracepoint_raw.rs.
pub const TRACEPOINTS: [Prototype; 6] = [
    Prototype { name: "mm_filemap_get_pages", parameters: &[MAPPING, INDEX, INDEX], result: None },
    Prototype { name: "mm_filemap_fault", parameters: &[MAPPING, INDEX], result: None },
    Prototype { name: "mm_filemap_map_pages", parameters: &[MAPPING, INDEX, INDEX], result: None },
    Prototype { name: "mm_filemap_add_to_page_cache", parameters: &[FOLIO], result: None },
    Prototype { name: "mm_filemap_delete_from_page_cache", parameters: &[FOLIO], result: None },
    Prototype { name: "sched_process_exit", parameters: &["struct task_struct *"], result: None },
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
    Prototype { name: "filemap_read", parameters: &[IOCB, ITER, SIZE], result: Some((3, SIZE)) },
    Prototype {
        name: "generic_file_buffered_read",
        parameters: &[IOCB, ITER, SIZE],
        result: Some((3, SIZE)),
    },
    Prototype { name: "generic_file_read_iter", parameters: &[IOCB, ITER], result: None },
    Prototype { name: "iomap_dio_rw", parameters: &[IOCB, ITER], result: None },
    Prototype { name: "shmem_file_read_iter", parameters: &[IOCB, ITER], result: Some((2, SIZE)) },
    Prototype { name: "filemap_splice_read", parameters: &[FILE, POSITION], result: Some((5, SIZE)) },
    Prototype { name: "shmem_file_splice_read", parameters: &[FILE, POSITION], result: Some((5, SIZE)) },
    Prototype { name: "filemap_fault", parameters: &[FAULT], result: Some((1, FAULTED)) },
    Prototype { name: "shmem_fault", parameters: &[FAULT], result: Some((1, FAULTED)) },
    Prototype {
        name: "filemap_map_pages",
        parameters: &[FAULT, INDEX, INDEX],
        result: Some((3, FAULTED_IF_ANY)),
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
    let Prototype { name, parameters: _, result } = *prototype;
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

/// All that differ, in one sentence each.
pub fn changed(btf: &Btf) -> Vec<String> {
    let tracepoints = TRACEPOINTS.iter().map(|prototype| tracepoint(btf, prototype));
    let functions = FUNCTIONS.iter().map(|prototype| function(btf, prototype));
    let sentence = |check| if let Check::Changed(sentence) = check { Some(sentence) } else { None };
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
mod tests {
    use super::*;

    #[test]
    fn running_kernel_changes_no_prototype() {
        let bytes = std::fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with CONFIG_DEBUG_INFO_BTF=y");
        let btf = Btf::parse(bytes).expect("the running kernel's BTF");
        assert_eq!(changed(&btf), Vec::<String>::new());
        assert_eq!(tracepoint(&btf, &TRACEPOINTS[3]), Check::Same);
    }

    #[test]
    fn change_is_told_by_name() {
        let bytes = std::fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with CONFIG_DEBUG_INFO_BTF=y");
        let btf = Btf::parse(bytes).expect("the running kernel's BTF");
        let other = Prototype { name: "sched_process_exit", parameters: &["struct inode *"], result: None };
        let Check::Changed(sentence) = tracepoint(&btf, &other) else {
            panic!("a changed prototype passed");
        };
        assert!(sentence.contains("sched_process_exit") && sentence.contains("struct task_struct *"));
        let wrong = |result| {
            let prototype = Prototype { result: Some(result), ..FUNCTIONS[0] };
            match function(&btf, &prototype) {
                Check::Changed(sentence) => sentence,
                other => panic!("a changed result passed: {other:?}"),
            }
        };
        assert!(wrong((3, "struct file *")).contains("filemap_read of this kernel returns"));
        assert!(wrong((4, SIZE)).contains("3 parameters, where 4"));
    }
}
