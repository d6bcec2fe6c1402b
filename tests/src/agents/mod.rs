//! Simulated agents: thousands of nodes in one process, each with its own certificate and connection, which speak
//! through the real agent's own code and hold what a seed says (`fleet`, and `held` for comparison); or a few that do what they are told
//! (`obedient`).

pub mod world;

pub mod shared;

pub mod held;

mod deed;

mod memory;

mod node;

pub mod fleet;

pub mod obedient;

use std::fmt::Write;

/// DER as PEM.
pub fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for part in line.chunks(3) {
            let word =
                part.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
            for n in 0..4 {
                let digit = DIGITS.get((word >> (18 - 6 * n)) as usize & 63).copied().unwrap_or(b'=');
                text.push(if n <= part.len() { digit.into() } else { '=' });
            }
        }
        text.push('\n');
    }
    let _ = writeln!(text, "-----END {label}-----");
    text
}
