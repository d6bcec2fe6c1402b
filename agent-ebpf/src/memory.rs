//! Two ways to read kernel memory: direct loads, which the verifier allows through typed pointers of
//! BTF programs and which cost next to nothing, and probe reads, which work everywhere.
//!
//! Both give zero for what cannot be read. A probe read costs about as much for 200 bytes as for 8, so
//! the head of an inode, where most of its fields are, is fetched at once.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel as bpf_probe_read_kernel_into;

use crate::layout::at;

pub trait Memory {
    /// What has been fetched of an inode; filled in place, the BPF stack has no room for copies.
    type Head;

    /// The inode that a mapping belongs to.
    fn host(mapping: *const u8, head: &mut MaybeUninit<Self::Head>) -> *const u8;

    /// A field of the inode at `host`, whose head has been filled.
    fn field<T: Copy + Default>(head: &MaybeUninit<Self::Head>, host: *const u8, offset: u32) -> T;

    /// As `field`, for a pointer.
    fn field_pointer(head: &MaybeUninit<Self::Head>, host: *const u8, offset: u32) -> *const u8;

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
    type Head = ();

    #[inline(always)]
    fn host(mapping: *const u8, _: &mut MaybeUninit<()>) -> *const u8 {
        Self::pointer(mapping, at!(mapping_host))
    }

    #[inline(always)]
    fn field<T: Copy + Default>(_: &MaybeUninit<()>, host: *const u8, offset: u32) -> T {
        Self::load(host, offset)
    }

    #[inline(always)]
    fn field_pointer(_: &MaybeUninit<()>, host: *const u8, offset: u32) -> *const u8 {
        Self::pointer(host, offset)
    }

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

/// On 6.18 all that is wanted lies in the first 128 bytes, on 5.10 all but the generation in 160.
const HEAD: usize = 160;
type Head = [u64; HEAD / 8];

#[inline(always)]
fn fetch(inode: *const u8, head: &mut MaybeUninit<Head>) {
    // SAFETY: the helper checks the address, fills exactly `HEAD` bytes, and zeroes them on a fault.
    unsafe { bpf_probe_read_kernel_into(head.as_mut_ptr().cast(), HEAD as u32, inode.cast()) };
}

impl Memory for Probed {
    type Head = Head;

    /// A mapping is nearly always the one inside its inode, which then says so: that spares asking the
    /// mapping for its host.
    #[inline(always)]
    fn host(mapping: *const u8, head: &mut MaybeUninit<Head>) -> *const u8 {
        let host = mapping.wrapping_sub(at!(inode_data) as usize);
        fetch(host, head);
        if Self::field::<u64>(head, host, at!(inode_mapping)) == mapping as u64 {
            return host;
        }
        let host = Self::pointer(mapping, at!(mapping_host));
        fetch(host, head);
        host
    }

    #[inline(always)]
    fn field<T: Copy + Default>(head: &MaybeUninit<Head>, host: *const u8, offset: u32) -> T {
        if offset as usize <= HEAD - size_of::<T>() {
            // SAFETY: within the head, which `host` has filled; the kernel aligns its fields.
            return unsafe { head.as_ptr().cast::<u8>().add(offset as usize).cast::<T>().read_volatile() };
        }
        Self::load(host, offset)
    }

    #[inline(always)]
    fn field_pointer(head: &MaybeUninit<Head>, host: *const u8, offset: u32) -> *const u8 {
        Self::field::<u64>(head, host, offset) as *const u8
    }

    #[inline(always)]
    fn load<T: Copy + Default>(base: *const u8, offset: u32) -> T {
        // SAFETY: the helper checks the address and fails on what cannot be read.
        unsafe { bpf_probe_read_kernel(base.wrapping_add(offset as usize).cast::<T>()) }.unwrap_or_default()
    }
}
