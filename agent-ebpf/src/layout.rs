//! The running kernel's offsets, constants to the verifier: the agent fills the global before loading
//! and freezes it.

use agent_common::layout::Layout;

#[unsafe(no_mangle)]
pub static LAYOUT: Layout = Layout::ZERO;

/// Reads one field; volatile, or the compiler would fold the zeros in.
macro_rules! at {
    ($field:ident) => {
        // SAFETY: a field of the global, which lives for ever.
        unsafe { core::ptr::read_volatile(&raw const $crate::layout::LAYOUT.$field) }
    };
}
pub(crate) use at;
