//! Compiles the protobuf contracts without protoc.

/// Client and server code is generated for every method.
const WHOLE: [&str; 3] = [
    "proto/workload.proto",
    "proto/renkei/node.proto",
    "proto/health.proto",
];

/// SPIRE's: a method that a server does not have is answered with UNIMPLEMENTED.
const IN_PART: [&str; 8] = [
    "proto/spire/agent.proto",
    "proto/spire/bundle.proto",
    "proto/spire/entry.proto",
    "proto/spire/svid.proto",
    "proto/spire/trustdomain.proto",
    "proto/spire/localauthority.proto",
    "proto/spire/logger.proto",
    "proto/spire/debug.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    tonic_prost_build::configure().compile_fds(protox::compile(WHOLE, ["proto"])?)?;
    tonic_prost_build::configure()
        .generate_default_stubs(true)
        .compile_fds(protox::compile(IN_PART, ["proto"])?)?;
    Ok(())
}
