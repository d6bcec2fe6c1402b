//! Keeps the process as small as what it holds: glibc would keep freed memory for itself, in a heap for
//! every thread.

/// Heaps for all threads together. Each keeps what was freed in it; prefetch threads allocate little.
#[cfg(target_env = "gnu")]
const HEAPS: libc::c_int = 2;

/// Allocations of this size and more go back to the kernel when they are freed. Set, it stays: glibc else
/// raises it to 32 MiB with the first large block that is freed.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 128 << 10;

/// Sets the limits; called first in `main`, while there is one thread.
#[cfg(target_env = "gnu")]
pub fn keep_small() {
    // SAFETY: mallopt takes two integers and changes settings under the allocator's own lock; only its first
    // call in a process must not race with another thread, and `main` makes it before there is one.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, HEAPS);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE);
    }
}

/// Gives back what is free now: after work that needed much memory once, as reading the kernel's types.
#[cfg(target_env = "gnu")]
pub fn give_back() {
    // SAFETY: malloc_trim may be called at any time by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(not(target_env = "gnu"))]
pub fn keep_small() {}

#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}
