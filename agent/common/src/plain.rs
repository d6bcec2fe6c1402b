//! Types that are nothing but their bytes: how both sides turn map values and ring records into
//! structs and back, in one place.

use core::mem::{MaybeUninit, size_of};

/// Types without padding for which every bit pattern is a value.
///
/// # Safety
/// The implementor is `repr(C)`, made of integers only, and has no implicit padding.
pub unsafe trait Plain: Copy + Sized + 'static {
    fn as_bytes(&self) -> &[u8] {
        // SAFETY: `Plain` promises that all `size_of::<Self>()` bytes are initialised integers.
        unsafe { core::slice::from_raw_parts(core::ptr::from_ref(self).cast(), size_of::<Self>()) }
    }

    /// The value at the start of `bytes`, which may be unaligned; `None` when they are too few.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < size_of::<Self>() {
            return None;
        }
        // SAFETY: the length was checked, the read is unaligned, any bit pattern is valid (`Plain`).
        Some(unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() })
    }

    fn zeroed() -> Self {
        // SAFETY: any bit pattern is valid (`Plain`).
        unsafe { MaybeUninit::zeroed().assume_init() }
    }
}
