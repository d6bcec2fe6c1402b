//! FNV-1a, 64 bit: tells versions of a text apart. Against accidents, not against adversaries.
//!
//! Written out because std's hashers may change with the compiler, and these digests are committed.

/// Sixteen hexadecimal digits.
pub fn text(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_published_vectors() {
        assert_eq!(super::text(b""), "cbf29ce484222325");
        assert_eq!(super::text(b"foobar"), "85944171f73967e8");
    }
}
