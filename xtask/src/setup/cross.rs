//! What building for another machine takes: Rust's standard library for it, and a C compiler that links and
//! builds the few C parts of the dependencies.
//!
//! The BPF programs need nothing more: agent/build.rs is told the machine by cargo, and aya-build compiles
//! them for its registers (`bpf_target_arch`).

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::{programs, toolchain};
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

/// Makes ready for `--target triple`.
pub fn provide(place: &Place, triple: &str) -> Result<()> {
    toolchain::target(place, triple)?;
    let Some(cross) = cross(triple) else { return Ok(()) };
    if program(cross.compiler).is_some() && Path::new(cross.library).exists() {
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
