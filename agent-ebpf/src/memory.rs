//! Two ways to read kernel memory: direct loads, which the verifier allows through typed pointers of
//! BTF programs and which cost next to nothing, and probe reads, which work everywhere.
//!
//! Both give zero for what cannot be read.

use aya_ebpf::helpers::bpf_probe_read_kernel;

pub trait Memory {
    /// Loads the `T` at `base + offset`.
    fn load<T: Copy + Default>(base: *const u8, offset: u32) -> T;

    #[inline(always)]
    fn pointer(base: *const u8, offset: u32) -> *const u8 {
        Self::load::<u64>(base, offset) as *const u8
    }
}

/// For `tp_btf`, `fentry` and `fexit`.
pub struct Direct;

/// For raw tracepoints and kprobes.
pub struct Probed;

impl Memory for Direct {
    #[inline(always)]
    fn load<T: Copy + Default>(base: *const u8, offset: u32) -> T {
        // SAFETY: the verifier checks the type behind `base`, and the kernel turns a fault into zero.
        unsafe { core::ptr::read_volatile(base.wrapping_add(offset as usize).cast::<T>()) }
    }

    /// A pointer must be loaded as one for the verifier to follow its type.
    #[inline(always)]
    fn pointer(base: *const u8, offset: u32) -> *const u8 {
        // SAFETY: as above.
        unsafe { core::ptr::read_volatile(base.wrapping_add(offset as usize).cast::<*const u8>()) }
    }
}

impl Memory for Probed {
    #[inline(always)]
    fn load<T: Copy + Default>(base: *const u8, offset: u32) -> T {
        // SAFETY: the helper checks the address and fails on what cannot be read.
        unsafe { bpf_probe_read_kernel(base.wrapping_add(offset as usize).cast::<T>()) }.unwrap_or_default()
    }
}
