//! Why there is no probe, or why it could not do as it was told.

use std::io;

use thiserror::Error;

use super::btf::BtfError;
use super::report::PlanReport;

#[derive(Debug, Error)]
pub enum ProbeError {
    #[error(
        "this process may not load BPF programs ({source}): run the agent as root, or give it \
         CAP_BPF, CAP_PERFMON and CAP_SYS_RESOURCE"
    )]
    NotAllowed { source: io::Error },
    #[error(
        "the kernel lets this process load no BPF programs although it has the capabilities ({source}): a \
         seccomp profile or a security module forbids the bpf() call; allow it (in a container: privileged, or \
         seccompProfile Unconfined)"
    )]
    Forbidden { source: io::Error },
    #[error(
        "this process may open no more files ({source}), and every BPF map is one: raise the limit of open files \
         (ulimit -n) and start the agent again"
    )]
    TooManyFiles { source: io::Error },
    #[error(
        "this kernel does not describe its types (cannot read {path}: {source}): the agent needs a kernel \
         built with CONFIG_DEBUG_INFO_BTF=y, as all distributions since 2021 ship"
    )]
    NoBtf { path: &'static str, source: io::Error },
    #[error("the kernel's type description (BTF) cannot be used, {source}: report this with `uname -a`")]
    BadBtf { source: BtfError },
    #[error(
        "the BPF object inside this binary cannot be loaded ({reason}): build the agent again, and if that \
         does not help, report this with `uname -a`"
    )]
    Object { reason: String },
    #[error(
        "the agent is blind: none of its ways to watch reads works on this kernel. {report} Everything else \
         goes on; `headrace doctor` shows what was tried"
    )]
    NothingAttachable { report: Box<PlanReport> },
    #[error(
        "device {}:{} cannot be watched: {watched} devices are, and its place in the filter is full; unwatch \
         another (`--watch` names the ones wanted)", dev >> 20, dev & 0xf_ffff
    )]
    TooManyDevices { dev: u32, watched: usize },
    #[error("the BPF map {map} cannot be used ({reason}): restart the agent")]
    Map { map: &'static str, reason: String },
}
