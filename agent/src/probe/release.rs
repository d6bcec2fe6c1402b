//! The version in a kernel's release, which says what it is known to have.

/// "6.12" of "6.12.118+deb13-cloud-amd64"; `None` where it does not begin with two numbers.
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(['.', '-', '+']).map_while(|part| part.parse::<u32>().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// The running kernel's.
pub fn running() -> Option<(u32, u32)> {
    version(&rustix::system::uname().release().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_read() {
        assert_eq!(version("6.12.118+deb13-cloud-amd64\n"), Some((6, 12)));
        assert_eq!(version("5.10.0-46-cloud-amd64"), Some((5, 10)));
        assert_eq!(version("7.4-rc1"), Some((7, 4)));
        assert_eq!(version("6.12+"), Some((6, 12)));
        assert_eq!((version(""), version("6"), version("99999999999.1")), (None, None, None));
    }
}
