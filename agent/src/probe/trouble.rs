//! What the BPF programs say of things they could not do, passed on to the agent's log.

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Level, Log, Metadata, Record};
use tracing::{debug, enabled, error, info, trace, warn};

/// Bytes of the programs' ring of messages: the least there is, where none are wanted.
const SILENT: u32 = 4096;
const WANTED: u32 = 64 << 10;

/// Whether messages are wanted: they cost their readers something only then.
#[derive(Clone, Copy, Debug)]
pub struct Wanted(bool);

impl Wanted {
    pub const NO: Self = Self(false);

    pub fn by_log_level() -> Self {
        Self(enabled!(tracing::Level::DEBUG))
    }

    /// The global by which the programs know; 0 is no level, and the verifier removes what asks for more.
    pub fn level(self) -> u8 {
        if self.0 { Level::Debug as u8 } else { 0 }
    }

    pub fn ring(self) -> u32 {
        if self.0 { WANTED } else { SILENT }
    }

    pub fn listen(self, ebpf: &mut Ebpf) -> Option<Trouble> {
        if !self.0 {
            return None;
        }
        match EbpfLogger::init_with_logger(ebpf, ToTracing) {
            Ok(logger) => Some(Trouble(logger)),
            Err(error) => {
                debug!("what the BPF programs have to say is not heard: {error}");
                None
            }
        }
    }
}

pub struct Trouble(EbpfLogger<ToTracing>);

impl Trouble {
    /// Says what has come since.
    pub fn say(&mut self) {
        self.0.flush();
    }
}

/// Where aya-log's messages go.
#[derive(Debug)]
struct ToTracing;

impl Log for ToTracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        match record.level() {
            Level::Error => error!("in the kernel: {}", record.args()),
            Level::Warn => warn!("in the kernel: {}", record.args()),
            Level::Info => info!("in the kernel: {}", record.args()),
            Level::Debug => debug!("in the kernel: {}", record.args()),
            Level::Trace => trace!("in the kernel: {}", record.args()),
        }
    }

    fn flush(&self) {}
}
