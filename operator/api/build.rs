//! Compiles the .proto files with protox (pure Rust: no protoc on the machine) and keeps the descriptor
//! set for gRPC reflection.

use std::path::PathBuf;

use prost::Message;

const OBSERVABILITY: &str = "headrace/observability/v1/observability.proto";
const REPORT: &str = "headrace/report/v1/report.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile([OBSERVABILITY, REPORT], ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .codec_path("crate::codec::Lean")
        .bytes(".headrace.observability.v1.RecordBlock")
        .compile_fds(descriptors)?;
    Ok(())
}
