//! Headrace's BPF programs: they see every read of a watched file system, every page that enters or
//! leaves its page cache, and the name of every file at its first sight.
//!
//! Each plan (BTF tracepoints, raw tracepoints, fentry/fexit, kprobes) has one file that turns its
//! hooks' arguments into an inode and pages; what happens then is the same for all of them: `access`
//! for reads, `residency` for pages, `exit` for threads. Filtering by device comes before anything
//! else; consecutive accesses become one run, told to the agent when it begins, grows or ends.
#![no_std]
#![no_main]

mod layout;

mod maps;

mod emit;

mod filter;

mod trouble;

mod memory;

mod inode;

mod known;

mod name;

mod asked;

mod thread;

mod calibrate;

mod exit;

mod residency;

mod access;

mod timing;

mod function;

mod kprobe;

mod tracepoint_raw;

mod tracepoint_btf;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: no path of ours panics, and the verifier would refuse the loop if one did.
    loop {}
}

/// The kernel lets only programs that declare a GPL-compatible licence read its memory.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
