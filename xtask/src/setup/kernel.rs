//! What the running kernel must offer: type information to read fields by, and FUSE for the slow store.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use super::State;
use crate::place::{Place, is_root};
use crate::step;

const BTF: &str = "/sys/kernel/btf/vmlinux";
const FUSE: &str = "/dev/fuse";

pub fn check(_place: &Place) -> Result<State> {
    let lacking: Vec<&str> = [BTF, FUSE].into_iter().filter(|p| !Path::new(p).exists()).collect();
    Ok(if lacking.is_empty() {
        State::Ready(format!("{BTF} and {FUSE} are there"))
    } else {
        State::Missing(format!("no {}", lacking.join(", no ")))
    })
}

pub fn provide(_place: &Place) -> Result<()> {
    if !Path::new(BTF).exists() {
        bail!(
            "the kernel offers no {BTF}, so its structures cannot be read: boot one built with \
             CONFIG_DEBUG_INFO_BTF=y (every Debian kernel since 11 is); in a container, mount /sys"
        );
    }
    if is_root() {
        let mut command = Command::new("modprobe");
        command.arg("fuse");
        // Built in, or no modules at all: what counts is whether the device is there afterwards.
        let _ = step::quiet("load the fuse module", command, Duration::from_secs(30));
    }
    if !Path::new(FUSE).exists() {
        bail!(
            "there is no {FUSE}, on which the tests' slow store is mounted: as root run `modprobe fuse`; \
             in a container, start it with --device /dev/fuse"
        );
    }
    Ok(())
}
