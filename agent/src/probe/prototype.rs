//! The kernel prototypes that the BPF programs rely on, in a form that is checked against the running
//! kernel's BTF: a kernel that changes one takes out the plans that use it, by name, instead of making
//! them read nonsense.

use super::btf::Btf;

/// A tracepoint or function, and the first parameters that a program reads. A `|` separates spellings
/// of different kernels; further parameters are nobody's business.
#[derive(Clone, Copy, Debug)]
pub struct Prototype {
    pub name: &'static str,
    pub parameters: &'static [&'static str],
}

const MAPPING: &str = "struct address_space *";
const INDEX: &str = "long unsigned int|unsigned long";
const FOLIO: &str = "struct folio *|struct page *";
const FAULT: &str = "struct vm_fault *";

/// agent-ebpf/src/tracepoint_btf.rs, tracepoint_raw.rs.
pub const TRACEPOINTS: [Prototype; 6] = [
    Prototype { name: "mm_filemap_get_pages", parameters: &[MAPPING, INDEX, INDEX] },
    Prototype { name: "mm_filemap_fault", parameters: &[MAPPING, INDEX] },
    Prototype { name: "mm_filemap_map_pages", parameters: &[MAPPING, INDEX, INDEX] },
    Prototype { name: "mm_filemap_add_to_page_cache", parameters: &[FOLIO] },
    Prototype { name: "mm_filemap_delete_from_page_cache", parameters: &[FOLIO] },
    Prototype { name: "sched_process_exit", parameters: &["struct task_struct *"] },
];

const IOCB: &str = "struct kiocb *";
const ITER: &str = "struct iov_iter *";
const SIZE: &str = "ssize_t|long int|long";
const FILE: &str = "struct file *";
const POSITION: &str = "loff_t *|long long int *|long long *";

/// agent-ebpf/src/function.rs, kprobe.rs.
pub const FUNCTIONS: [Prototype; 10] = [
    Prototype { name: "filemap_read", parameters: &[IOCB, ITER, SIZE] },
    Prototype { name: "generic_file_buffered_read", parameters: &[IOCB, ITER, SIZE] },
    Prototype { name: "generic_file_read_iter", parameters: &[IOCB, ITER] },
    Prototype { name: "iomap_dio_rw", parameters: &[IOCB, ITER] },
    Prototype { name: "shmem_file_read_iter", parameters: &[IOCB, ITER] },
    Prototype { name: "filemap_splice_read", parameters: &[FILE, POSITION] },
    Prototype { name: "shmem_file_splice_read", parameters: &[FILE, POSITION] },
    Prototype { name: "filemap_fault", parameters: &[FAULT] },
    Prototype { name: "shmem_fault", parameters: &[FAULT] },
    Prototype { name: "filemap_map_pages", parameters: &[FAULT, INDEX, INDEX] },
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
    compare("function", prototype, btf.function(prototype.name))
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
        for prototype in &TRACEPOINTS {
            let check = tracepoint(&btf, prototype);
            assert!(!matches!(check, Check::Changed(_)), "{check:?}");
        }
        for prototype in &FUNCTIONS {
            let check = function(&btf, prototype);
            assert!(!matches!(check, Check::Changed(_)), "{check:?}");
        }
        assert_eq!(tracepoint(&btf, &TRACEPOINTS[3]), Check::Same);
    }

    #[test]
    fn change_is_told_by_name() {
        let bytes = std::fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with CONFIG_DEBUG_INFO_BTF=y");
        let btf = Btf::parse(bytes).expect("the running kernel's BTF");
        let other = Prototype { name: "sched_process_exit", parameters: &["struct inode *"] };
        let Check::Changed(sentence) = tracepoint(&btf, &other) else {
            panic!("a changed prototype passed");
        };
        assert!(sentence.contains("sched_process_exit") && sentence.contains("struct task_struct *"));
    }
}
