//! Compiles the protobuf contracts without protoc.

const CONTRACTS: [&str; 6] = [
    "proto/workload.proto",
    "proto/renkei/node.proto",
    "proto/spire/agent.proto",
    "proto/spire/bundle.proto",
    "proto/spire/entry.proto",
    "proto/spire/svid.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(CONTRACTS, ["proto"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
