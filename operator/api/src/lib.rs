//! The wire between Headrace's agents, its operator and people, the kinds of `headrace.io`, how all of them put errors
//! into words (`causes`), and what operator and worker agree on (`version`, `nested`); `codec` is how the wire's messages are buffered.
//!
//! The wire is generated from `proto/`, where units and meanings are written beside the fields. The wire must survive
//! mixed versions during a rollout: fields are added, never renumbered, and unknown ones are ignored.

pub mod version;

pub mod causes;

pub mod nested;

pub mod codec;

#[cfg(feature = "crd")]
pub mod crd;

#[cfg(feature = "crd")]
pub mod validate;

/// What a person may ask a node's agent.
pub mod observability {
    /// `headrace.observability.v1`.
    #[allow(clippy::all, missing_debug_implementations)]
    pub mod v1 {
        tonic::include_proto!("headrace.observability.v1");
    }
}

/// What agents and the operator tell each other.
pub mod report {
    /// `headrace.report.v1`.
    #[allow(clippy::all, missing_debug_implementations)]
    pub mod v1 {
        tonic::include_proto!("headrace.report.v1");
    }
}

/// Every .proto of this crate as an encoded `FileDescriptorSet`, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
