//! What building for another machine takes: Rust's standard library for it, and a C compiler that links and
//! builds the few C parts of the dependencies.
//!
//! The BPF programs need nothing more: agent/build.rs is told the machine by cargo, and aya-build compiles
//! them for its registers (`bpf_target_arch`).

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::{State, programs, toolchain};
use crate::place::{Place, program};

/// A target whose C side Debian has as packages.
#[derive(Debug)]
struct Cross {
    triple: &'static str,
    compiler: &'static str,
    /// There once the C library's development files are.
    library: &'static str,
    packages: [&'static str; 2],
}

impl Cross {
    fn is_there(&self) -> bool {
        program(self.compiler).is_some() && Path::new(self.library).exists()
    }
}

const CROSS: [Cross; 2] = [
    Cross {
        triple: "aarch64-unknown-linux-gnu",
        compiler: "aarch64-linux-gnu-gcc",
        library: "/usr/aarch64-linux-gnu/lib/libc.so",
        packages: ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
    },
    Cross {
        triple: "x86_64-unknown-linux-gnu",
        compiler: "x86_64-linux-gnu-gcc",
        library: "/usr/x86_64-linux-gnu/lib/libc.so",
        packages: ["gcc-x86-64-linux-gnu", "libc6-dev-amd64-cross"],
    },
];

/// The other machine that agents run on, which every change must go on building for.
pub const OTHER: &str = "aarch64-unknown-linux-gnu";

pub fn check_other(place: &Place) -> Result<State> {
    let Some(cross) = cross(OTHER) else { return Ok(State::Ready("this machine's own".to_owned())) };
    let mut lacking = Vec::new();
    if !toolchain::has_target(place, OTHER)? {
        lacking.push(format!("no standard library of Rust for {OTHER}"));
    }
    if !cross.is_there() {
        lacking.push(format!("no {} with its C library", cross.compiler));
    }
    Ok(if lacking.is_empty() {
        State::Ready(format!("{OTHER}, {}", cross.compiler))
    } else {
        State::Missing(lacking.join("; "))
    })
}

pub fn provide_other(place: &Place) -> Result<()> {
    provide(place, OTHER)
}

/// Makes ready for `--target triple`.
pub fn provide(place: &Place, triple: &str) -> Result<()> {
    toolchain::target(place, triple)?;
    let Some(cross) = cross(triple) else { return Ok(()) };
    if cross.is_there() {
        return Ok(());
    }
    programs::install_packages(&cross.packages)?;
    if program(cross.compiler).is_none() {
        bail!("{} left no {}", cross.packages.join(" and "), cross.compiler);
    }
    Ok(())
}

/// Tells cargo which linker the target has, unless the user did.
pub fn link(command: &mut Command, triple: &str) {
    let Some(cross) = cross(triple) else { return };
    let variable = format!("CARGO_TARGET_{}_LINKER", triple.to_uppercase().replace('-', "_"));
    if std::env::var_os(&variable).is_none() {
        command.env(variable, cross.compiler);
    }
}

/// None for the machine's own triple, which needs no other compiler.
fn cross(triple: &str) -> Option<&'static Cross> {
    let own = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    CROSS.iter().find(|cross| cross.triple == triple && triple != own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_machine_can_be_linked_for() {
        assert!(CROSS.iter().any(|cross| cross.triple == OTHER));
        assert_eq!(cross(OTHER).is_none(), cfg!(target_arch = "aarch64"));
    }

    #[test]
    fn only_another_machine_has_another_linker() {
        let own = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        for cross in &CROSS {
            let mut command = Command::new("cargo");
            link(&mut command, cross.triple);
            let linkers =
                command.get_envs().filter(|(name, _)| name.to_string_lossy().ends_with("_GNU_LINKER"));
            assert_eq!(linkers.count(), usize::from(cross.triple != own), "{}", cross.triple);
        }
    }
}
