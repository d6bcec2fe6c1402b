//! The kernel's lockdown mode (kernel_lockdown(7), Documentation of CONFIG_SECURITY_LOCKDOWN_LSM): in
//! `confidentiality` not even root may read the kernel's memory, and every plan lives on that.

/// The three modes, the one in force in brackets; there where securityfs is mounted and the kernel has lockdown.
pub const LOCKDOWN_PATH: &str = "/sys/kernel/security/lockdown";

/// The mode in force, of what the kernel says there.
pub fn lockdown_mode(modes: &str) -> Option<&str> {
    modes.split(['[', ']']).nth(1)
}

/// Whether this kernel is known to let nobody read its memory.
pub fn is_confidential() -> bool {
    let modes = std::fs::read_to_string(LOCKDOWN_PATH).unwrap_or_default();
    lockdown_mode(&modes) == Some("confidentiality")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_in_force_stands_in_brackets() {
        assert_eq!(lockdown_mode("none integrity [confidentiality]\n"), Some("confidentiality"));
        assert_eq!(lockdown_mode("[none] integrity confidentiality\n"), Some("none"));
        assert_eq!((lockdown_mode(""), lockdown_mode("none")), (None, None));
    }
}
