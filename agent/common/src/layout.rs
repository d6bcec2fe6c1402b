//! Where things are in the running kernel: byte offsets found in its BTF, handed to the BPF programs
//! as the read-only global `LAYOUT`. Rust programs carry no CO-RE relocations, and the verifier treats
//! a frozen global as a constant, so a load through one costs what a fixed offset costs.

use crate::plain::Plain;

/// An offset that this kernel does not have. Programs that need it are not loaded.
pub const ABSENT: u32 = u32::MAX;

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub abi: u32,
    /// The agent's own process: its reads are not accesses, the pages it brings in are its own.
    pub agent_tgid: u32,
    /// log2 of the kernel's page size over 4096.
    pub page_scale: u32,
    /// 1 where `mm_filemap_get_pages` reports the page after the last one, found by a read at start.
    pub last_exclusive: u32,

    pub mapping_host: u32,
    pub inode_mode: u32,
    pub inode_sb: u32,
    pub inode_mapping: u32,
    /// `inode.i_data`, where most mappings lie.
    pub inode_data: u32,
    pub sb_dev: u32,
    pub inode_ino: u32,
    pub inode_size: u32,
    pub inode_mtime: u32,
    pub inode_ctime: u32,
    pub inode_ctime_nsec: u32,
    pub inode_generation: u32,
    /// `inode.i_rwsem.owner.counter`: the task that writes; absent on real-time kernels.
    pub inode_writer: u32,
    /// `inode.i_dentry.first`.
    pub inode_alias: u32,
    pub sb_root: u32,
    pub dentry_parent: u32,
    /// `dentry.d_name.name`.
    pub dentry_name: u32,
    /// `dentry.d_name.len`.
    pub dentry_len: u32,
    /// `dentry.d_shortname`, or `dentry.d_iname`: where short names lie.
    pub dentry_short: u32,
    /// `dentry.d_u.d_alias`, or `dentry.d_alias`.
    pub dentry_alias: u32,

    /// `folio` where the kernel has it, `page` before.
    pub folio_mapping: u32,
    pub folio_index: u32,
    pub folio_flags: u32,
    /// Pages of a large folio: a 32-bit count in its second page.
    pub folio_pages: u32,
    /// The bit of `folio_flags` that marks a large folio.
    pub head_bit: u32,

    pub task_flags: u32,
    pub task_tgid: u32,
    pub task_signal: u32,
    /// `task_struct.ioac.syscr`: reads that the thread has made; absent where the kernel does not count them.
    pub task_calls: u32,
    pub task_files: u32,
    pub files_table: u32,
    pub table_files: u32,
    /// `file.f_path.dentry`.
    pub file_dentry: u32,
    pub dentry_sb: u32,
    /// `signal_struct.live.counter`.
    pub signal_live: u32,

    pub kiocb_pos: u32,
    pub kiocb_file: u32,
    pub kiocb_flags: u32,
    pub file_mapping: u32,
    pub fault_vma: u32,
    pub fault_pgoff: u32,
    pub fault_pte: u32,
    pub vma_file: u32,
    pub iter_count: u32,
    /// 1 in the lowest bit of this byte is a write.
    pub iter_source: u32,
    /// Unread bytes in the ring from which the agent is woken whatever happens.
    pub ring_quarter: u32,
    /// Sets of inodes in `KNOWN`, a power of two.
    pub sets: u32,
    /// The two halves of `ident_of`'s seed.
    pub seed_low: u32,
    pub seed_high: u32,
}

// SAFETY: 53 consecutive u32, no padding.
unsafe impl Plain for Layout {}

const _: () = assert!(size_of::<Layout>() == 53 * 4);

impl Layout {
    /// What the object file carries until the agent fills it in.
    pub const ZERO: Self = Self {
        abi: crate::ABI_VERSION,
        agent_tgid: 0,
        page_scale: 0,
        last_exclusive: 0,
        mapping_host: 0,
        inode_mode: 0,
        inode_sb: 0,
        inode_mapping: 0,
        inode_data: 0,
        inode_ino: 0,
        inode_size: 0,
        inode_mtime: 0,
        inode_ctime: 0,
        inode_ctime_nsec: 0,
        inode_generation: 0,
        inode_writer: 0,
        inode_alias: 0,
        sb_dev: 0,
        sb_root: 0,
        dentry_parent: 0,
        dentry_name: 0,
        dentry_len: 0,
        dentry_short: 0,
        dentry_alias: 0,
        folio_mapping: 0,
        folio_index: 0,
        folio_flags: 0,
        folio_pages: 0,
        head_bit: 0,
        task_flags: 0,
        task_tgid: 0,
        task_signal: 0,
        task_calls: 0,
        task_files: 0,
        files_table: 0,
        table_files: 0,
        file_dentry: 0,
        dentry_sb: 0,
        signal_live: 0,
        kiocb_pos: 0,
        kiocb_file: 0,
        kiocb_flags: 0,
        file_mapping: 0,
        fault_vma: 0,
        fault_pgoff: 0,
        fault_pte: 0,
        vma_file: 0,
        iter_count: 0,
        iter_source: 0,
        ring_quarter: 0,
        sets: 0,
        seed_low: 0,
        seed_high: 0,
    };
}
