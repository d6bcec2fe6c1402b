//! The parser against the running kernel's BTF, whole and damaged.

use super::*;

fn kernel() -> Vec<u8> {
    std::fs::read("/sys/kernel/btf/vmlinux")
        .expect("this test needs a kernel with BTF: CONFIG_DEBUG_INFO_BTF=y gives /sys/kernel/btf/vmlinux")
}

#[test]
fn real_kernel_has_what_every_kernel_has() {
    let btf = Btf::parse(kernel()).expect("the running kernel's BTF");
    assert!(btf.types.len() > 10_000);
    assert_eq!(btf.offset("address_space", "host"), Some(0));
    assert!(btf.offset("inode", "i_ino").is_some());
    assert!(btf.offset("dentry", "d_name.name").is_some());
    assert!(btf.offset("inode", "i_dentry.first").is_some());
    assert_eq!(btf.offset("inode", "no_such_member"), None);
    assert_eq!(btf.offset("no_such_struct", "host"), None);
    assert!(btf.size("inode") > Some(100));
    assert!(btf.enumerator("PG_head").is_some());
    assert_eq!(btf.tracepoint("no_such_tracepoint"), None);
    assert_eq!(btf.is_void("filemap_fault"), Some(false));
    let exit = btf.tracepoint("sched_process_exit").expect("a tracepoint of every kernel");
    assert_eq!(exit[0], "struct task_struct *");
}

#[test]
fn truncated_anywhere_is_refused_or_harmless() {
    let whole = kernel();
    for cut in [0, 1, 3, 8, 23, 24, 25, 40, 1000, whole.len() / 2, whole.len() - 1] {
        assert!(Btf::parse(whole[..cut].to_vec()).is_err(), "cut at {cut}");
    }
}

#[test]
fn flipped_bytes_never_panic() {
    // Small, so that many can be tried: the header and the first types, with strings behind them.
    let whole = kernel();
    let mut seed = 0x9e37_79b9_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize
    };
    for _ in 0..12 {
        let mut damaged = whole.clone();
        for _ in 0..2000 {
            let at = random() % damaged.len();
            damaged[at] ^= 1 << (random() % 8);
        }
        // Keep it a BTF, or nothing behind the magic number is tried.
        damaged[..24].copy_from_slice(&whole[..24]);
        if let Ok(btf) = Btf::parse(damaged) {
            probe_everything(&btf);
        }
    }
    // Types only: flips in kinds and counts stop the index early, flips in links do not.
    let types = read_u32(&whole, 12).expect("header") as usize;
    for _ in 0..12 {
        let mut damaged = whole.clone();
        for _ in 0..50 {
            let at = 24 + (random() % (types / 12)) * 12 + 8;
            damaged[at] ^= 1 << (random() % 8);
        }
        if let Ok(btf) = Btf::parse(damaged) {
            probe_everything(&btf);
        }
    }
}

fn probe_everything(btf: &Btf) {
    for structure in ["inode", "dentry", "folio", "task_struct", "super_block"] {
        for path in ["i_ino", "i_dentry.first", "d_name.name", "signal", "index", "nope"] {
            let _ = btf.offset(structure, path);
        }
    }
    let _ = btf.enumerator("PG_head");
    let _ = btf.tracepoint("mm_filemap_add_to_page_cache");
    let _ = btf.function("filemap_fault");
}

#[test]
fn endless_typedefs_are_cut() {
    // typedef a → itself, struct s { a m; }
    let mut data = Vec::new();
    let strings = b"\0a\0s\0m\0";
    let types: Vec<u32> = vec![
        1,
        (u32::from(TYPEDEF)) << 24,
        1, // type 1
        3,
        (u32::from(STRUCT)) << 24 | 1,
        8,
        5,
        1,
        0, // type 2
    ];
    data.extend(0xeb9f_u16.to_ne_bytes());
    data.extend([1, 0]);
    for word in [24, 0, types.len() as u32 * 4, types.len() as u32 * 4, strings.len() as u32] {
        data.extend(word.to_ne_bytes());
    }
    for word in types {
        data.extend(word.to_ne_bytes());
    }
    data.extend(strings);
    let btf = Btf::parse(data).expect("well formed");
    assert_eq!(btf.offset("s", "m"), None);
    assert_eq!(btf.offset("s", "m.deeper"), None);
}
