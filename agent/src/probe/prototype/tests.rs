//! The running kernel's prototypes as they are, changed, and gone.

use super::*;
use crate::probe::release::running;

fn whole() -> Vec<u8> {
    std::fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with CONFIG_DEBUG_INFO_BTF=y")
}

fn parsed(bytes: Vec<u8>) -> Btf {
    Btf::parse(bytes).expect("the running kernel's BTF, its types as they were")
}

/// The running kernel's BTF, in which nothing is called `name` any more.
fn without(name: &str) -> Btf {
    let mut bytes = whole();
    let needle = [b"\0", name.as_bytes(), b"\0"].concat();
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(needle.len()).position(|window| window == needle) {
        bytes[at + found + 1] = b'X';
        at += found + 1;
    }
    assert!(at > 0, "the running kernel has no {name}");
    parsed(bytes)
}

#[test]
fn running_kernel_changes_no_prototype() {
    let btf = parsed(whole());
    let kernel = running().expect("a release that begins with two numbers");
    assert_eq!(changed(&btf, kernel), Vec::<String>::new());
    assert_eq!(tracepoint(&btf, &TRACEPOINTS[3]), Check::Same);
}

#[test]
fn change_is_told_by_name() {
    let btf = parsed(whole());
    let parameters = &["struct inode *"];
    let other = Prototype { name: "sched_process_exit", parameters, result: None, there: EVER };
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

/// What a kernel that renames a hook would look like: nothing is changed, only gone.
#[test]
fn what_is_gone_is_told_where_it_is_known_to_be() {
    // No kernel is without this one.
    let added = "mm_filemap_add_to_page_cache";
    let [told] = &*changed(&without(&format!("btf_trace_{added}")), running().unwrap_or((5, 10))) else {
        panic!("a kernel without {added} passed");
    };
    assert!(told.contains(&format!("has no tracepoint {added}, which all kernels")), "{told}");

    // Told of a kernel that is known to have it; one from before it came owes nothing.
    let read = without("filemap_read");
    let sentences = |kernel| -> Vec<String> {
        changed(&read, kernel)
            .into_iter()
            .filter(|sentence| sentence.contains("function filemap_read,"))
            .collect()
    };
    let [told] = &*sentences((5, 12)) else { panic!("a kernel 5.12 without filemap_read passed") };
    assert!(told.contains("Linux 5.12 has no function filemap_read, which kernels from 5.12 on"), "{told}");
    assert_eq!(sentences((5, 11)), Vec::<String>::new());
}

#[test]
fn each_kernel_owes_what_it_is_known_to_have() {
    let owed = |kernel: (u32, u32)| -> Vec<&str> {
        let all = TRACEPOINTS.iter().chain(&FUNCTIONS);
        all.filter(|prototype| prototype.there.holds(kernel)).map(|prototype| prototype.name).collect()
    };
    let newer = ["mm_filemap_get_pages", "mm_filemap_fault", "mm_filemap_map_pages"];
    let splices = ["filemap_splice_read", "shmem_file_splice_read"];
    for (kernel, tracepoints, splice, read) in [
        ((5, 10), false, false, "generic_file_buffered_read"),
        ((5, 12), false, false, "filemap_read"),
        ((6, 1), false, false, "filemap_read"),
        ((6, 5), false, true, "filemap_read"),
        ((6, 12), true, true, "filemap_read"),
        ((7, 3), true, true, "filemap_read"),
    ] {
        let owed = owed(kernel);
        assert!(newer.iter().all(|name| owed.contains(name) == tracepoints), "{kernel:?}: {owed:?}");
        assert!(splices.iter().all(|name| owed.contains(name) == splice), "{kernel:?}: {owed:?}");
        let reads: Vec<_> = owed
            .iter()
            .filter(|name| ["filemap_read", "generic_file_buffered_read"].contains(name))
            .collect();
        assert_eq!(reads, [&read], "{kernel:?}");
        assert!(owed.contains(&"mm_filemap_add_to_page_cache"), "{kernel:?}");
        assert!(owed.contains(&"mm_filemap_delete_from_page_cache"), "{kernel:?}");
    }
}
