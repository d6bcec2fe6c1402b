//! Packages of one other Debian release, fetched and unpacked, never installed.

use std::path::Path;

use anyhow::{Context, Result};

use crate::apt::Apt;
use crate::place::Place;

/// Fetches `packages` (apt's names, with `=version*` where it matters) of the suite, and unpacks them all
/// below the folder `into`, which must not exist yet.
pub fn unpack(place: &Place, suite: &str, packages: &[String], into: &Path) -> Result<()> {
    let work = place.cache.join(format!("debian-{suite}-{}", std::process::id()));
    let apt = Apt::new(work, &[format!("http://deb.debian.org/debian {suite} main")])
        .with_context(|| format!("Debian's packages ({}) cannot be used instead", packages.join(" ")))?;
    apt.update(suite)?;
    apt.unpack(packages, into)
}
