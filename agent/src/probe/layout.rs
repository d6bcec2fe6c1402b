//! The offsets that the BPF programs need, from the kernel's BTF.
//!
//! A field that was renamed or moved between kernels is listed with all its names, newest first. One
//! that is missing altogether takes out the plans that need it, by a sentence that names it.

use agent_common::ABI_VERSION;
use agent_common::layout::{ABSENT, Layout};

use super::btf::Btf;

/// Structure and member, by all the names it has had.
type Names = &'static [(&'static str, &'static str)];

/// What was found, and which part of it, if any, is missing.
#[derive(Clone, Debug)]
pub struct Offsets {
    pub layout: Layout,
    /// A field without which no plan works.
    pub missing: Option<String>,
    /// A field without which the plans that hook functions do not work.
    pub missing_for_functions: Option<String>,
    /// A field without which a directory's place in its file system cannot be asked for.
    pub missing_for_asking: Option<String>,
}

struct Search<'a> {
    btf: &'a Btf,
    missing: Option<String>,
}

impl Search<'_> {
    fn offset(&mut self, names: Names) -> u32 {
        let found = names.iter().find_map(|(structure, member)| self.btf.offset(structure, member));
        if found.is_none() && self.missing.is_none() {
            let tried: Vec<_> = names.iter().map(|(s, m)| format!("{s}.{m}")).collect();
            self.missing = Some(tried.join(" or "));
        }
        found.unwrap_or(ABSENT)
    }
}

/// Everything but what the agent decides itself (`agent_tgid`, `last_exclusive`, `ring_quarter`, `sets`, the
/// seed).
pub fn find(btf: &Btf, page_size: u64) -> Offsets {
    let mut of = Search { btf, missing: None };
    let head_bit = btf.enumerator("PG_head").unwrap_or(ABSENT);
    let mut layout = Layout {
        abi: ABI_VERSION,
        page_scale: (page_size / 4096).max(1).ilog2(),
        mapping_host: of.offset(&[("address_space", "host")]),
        inode_mode: of.offset(&[("inode", "i_mode")]),
        inode_sb: of.offset(&[("inode", "i_sb")]),
        inode_mapping: of.offset(&[("inode", "i_mapping")]),
        inode_data: of.offset(&[("inode", "i_data")]),
        inode_ino: of.offset(&[("inode", "i_ino")]),
        inode_size: of.offset(&[("inode", "i_size")]),
        inode_mtime: of.offset(&[
            ("inode", "i_mtime_sec"),
            ("inode", "__i_mtime.tv_sec"),
            ("inode", "i_mtime.tv_sec"),
        ]),
        inode_ctime: of.offset(&[
            ("inode", "i_ctime_sec"),
            ("inode", "__i_ctime.tv_sec"),
            ("inode", "i_ctime.tv_sec"),
        ]),
        inode_ctime_nsec: of.offset(&[
            ("inode", "i_ctime_nsec"),
            ("inode", "__i_ctime.tv_nsec"),
            ("inode", "i_ctime.tv_nsec"),
        ]),
        inode_generation: of.offset(&[("inode", "i_generation")]),
        inode_writer: btf.offset("inode", "i_rwsem.owner.counter").unwrap_or(ABSENT),
        inode_alias: of.offset(&[("inode", "i_dentry.first")]),
        sb_dev: of.offset(&[("super_block", "s_dev")]),
        sb_root: of.offset(&[("super_block", "s_root")]),
        dentry_parent: of.offset(&[("dentry", "d_parent")]),
        dentry_name: of.offset(&[("dentry", "d_name.name")]),
        dentry_len: of.offset(&[("dentry", "d_name.len")]),
        dentry_short: of.offset(&[("dentry", "d_shortname"), ("dentry", "d_iname")]),
        dentry_alias: of.offset(&[("dentry", "d_u.d_alias"), ("dentry", "d_alias")]),
        folio_mapping: of.offset(&[("folio", "mapping"), ("page", "mapping")]),
        folio_index: of.offset(&[("folio", "index"), ("page", "index")]),
        folio_flags: of.offset(&[("folio", "flags"), ("page", "flags")]),
        folio_pages: 0,
        head_bit,
        task_flags: of.offset(&[("task_struct", "flags")]),
        task_tgid: of.offset(&[("task_struct", "tgid")]),
        task_calls: btf.offset("task_struct", "ioac.syscr").unwrap_or(ABSENT),
        task_signal: of.offset(&[("task_struct", "signal")]),
        signal_live: of.offset(&[("signal_struct", "live.counter")]),
        ..Layout::ZERO
    };
    layout.folio_pages = folio_pages(&mut of);
    if head_bit == ABSENT && of.missing.is_none() {
        of.missing = Some("the page flag PG_head".into());
    }
    let missing = of.missing.take();
    layout.kiocb_pos = of.offset(&[("kiocb", "ki_pos")]);
    layout.kiocb_file = of.offset(&[("kiocb", "ki_filp")]);
    layout.kiocb_flags = of.offset(&[("kiocb", "ki_flags")]);
    layout.file_mapping = of.offset(&[("file", "f_mapping")]);
    layout.fault_vma = of.offset(&[("vm_fault", "vma")]);
    layout.fault_pgoff = of.offset(&[("vm_fault", "pgoff")]);
    layout.fault_pte = of.offset(&[("vm_fault", "pte")]);
    layout.iter_count = of.offset(&[("iov_iter", "count")]);
    layout.iter_source = of.offset(&[("iov_iter", "data_source"), ("iov_iter", "type")]);
    layout.vma_file = of.offset(&[("vm_area_struct", "vm_file")]);
    let missing_for_functions = of.missing.take();
    layout.task_files = of.offset(&[("task_struct", "files")]);
    layout.files_table = of.offset(&[("files_struct", "fdt")]);
    layout.table_files = of.offset(&[("fdtable", "fd")]);
    layout.file_dentry = of.offset(&[("file", "f_path.dentry")]);
    layout.dentry_sb = of.offset(&[("dentry", "d_sb")]);
    Offsets { layout, missing, missing_for_functions, missing_for_asking: of.missing }
}

/// The page count of a large folio. Before folios had it under a name of their own it lay in the second
/// `struct page` of a compound page.
fn folio_pages(of: &mut Search<'_>) -> u32 {
    let in_folio = of.btf.offset("folio", "_nr_pages").or_else(|| of.btf.offset("folio", "_folio_nr_pages"));
    if let Some(offset) = in_folio {
        return offset;
    }
    let second = of.btf.size("page");
    let within = of.btf.offset("page", "compound_nr");
    match (second, within) {
        (Some(second), Some(within)) => second + within,
        _ => of.offset(&[("folio", "_nr_pages"), ("folio", "_folio_nr_pages"), ("page", "compound_nr")]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel() -> Vec<u8> {
        std::fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with BTF (CONFIG_DEBUG_INFO_BTF=y)")
    }

    #[test]
    fn running_kernel_has_every_field() {
        let btf = Btf::parse(kernel()).expect("the running kernel's BTF");
        let found = find(&btf, 4096);
        assert_eq!(found.missing, None);
        assert_eq!(found.missing_for_functions, None);
        assert_eq!(found.missing_for_asking, None);
        // Neither is needed, and every distribution's kernel has both.
        assert!(found.layout.task_calls != ABSENT && found.layout.inode_writer != ABSENT);
    }

    #[test]
    fn missing_field_is_named() {
        let mut bytes = kernel();
        // Every string "i_ino" becomes another: the field is there no more.
        let needle = b"\0i_ino\0";
        let mut at = 0;
        while let Some(found) = bytes[at..].windows(needle.len()).position(|w| w == needle) {
            bytes[at + found + 1] = b'x';
            at += found + 1;
        }
        let btf = Btf::parse(bytes).expect("still well formed");
        assert_eq!(find(&btf, 4096).missing.as_deref(), Some("inode.i_ino"));
    }
}
