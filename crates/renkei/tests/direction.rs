//! Which crate may depend on which, and why not. docs/architecture.md draws the same.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

const PURE: [&str; 8] = [
    "renkei-access",
    "renkei-spiffe",
    "renkei-site",
    "renkei-federation",
    "renkei-policy",
    "renkei-kafka",
    "renkei-trunk",
    "renkei-testkit",
];
const ROLES: [&str; 4] = [
    "renkei-server",
    "renkei-agent",
    "renkei-proxy",
    "renkei-registry",
];

/// What a crate's product code may name among this workspace's crates.
fn allowed(package: &str) -> &'static [&'static str] {
    match package {
        "renkei-access" | "renkei-spiffe" | "renkei-trunk" | "renkei-testkit" => &[],
        "renkei-kafka" => &["renkei-access"],
        "renkei-federation" => &["renkei-spiffe"],
        "renkei-site" | "renkei-policy" => &["renkei-access", "renkei-spiffe"],
        "renkei-runtime" | "renkei-api" => &["renkei-spiffe", "renkei-site"],
        "renkei-server" => &[
            "renkei-runtime",
            "renkei-federation",
            "renkei-grpc",
            "renkei-site",
            "renkei-spiffe",
            "renkei-api",
        ],
        "renkei-registry" => &["renkei-runtime", "renkei-federation", "renkei-spiffe"],
        "renkei-grpc" => &["renkei-runtime"],
        "renkei-agent" => &[
            "renkei-runtime",
            "renkei-site",
            "renkei-spiffe",
            "renkei-api",
            "renkei-grpc",
        ],
        "renkei-proxy" => &[
            "renkei-access",
            "renkei-api",
            "renkei-runtime",
            "renkei-site",
            "renkei-spiffe",
            "renkei-policy",
            "renkei-kafka",
            "renkei-trunk",
        ],
        "renkei" => &[
            "renkei-access",
            "renkei-server",
            "renkei-agent",
            "renkei-proxy",
            "renkei-registry",
            "renkei-api",
            "renkei-federation",
            "renkei-runtime",
            "renkei-policy",
            "renkei-site",
            "renkei-spiffe",
        ],
        // A tool that measures the product from outside; it forges certificates for its peers.
        "renkei-bench" => &["renkei-wan", "renkei-testkit"],
        _ => &[],
    }
}

/// Why an edge that is not allowed is forbidden.
fn reason(from: &str, to: &str) -> &'static str {
    if ROLES.contains(&from) && ROLES.contains(&to) {
        return "roles never depend on one another: they meet through values that the binary \
                hands them, so that each can run in a process of its own";
    }
    if to == "renkei-testkit" {
        return "the test kit can forge certificates; product code never depends on it";
    }
    if PURE.contains(&from) {
        return "a pure crate stays near the bottom, so that it can be tested without the world";
    }
    "this direction is not drawn in docs/architecture.md: draw it there first, with its reason"
}

#[test]
fn crates_depend_in_one_direction_only() {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .expect("cargo metadata");
    let mut faults = Vec::new();
    for package in metadata.workspace_packages() {
        // Fuzz targets are tests, though Cargo takes them for programs.
        if package.name == "renkei-fuzz" {
            continue;
        }
        for dependency in product_dependencies(package) {
            let own = dependency == "renkei" || dependency.starts_with("renkei-");
            if own && !allowed(&package.name).contains(&dependency) {
                let why = reason(&package.name, dependency);
                faults.push(format!("{} -> {dependency}: {why}", package.name));
            }
        }
    }
    assert!(faults.is_empty(), "forbidden edges:\n{}", faults.join("\n"));
}

#[test]
fn pure_crates_have_no_sockets_files_tasks_or_clock() {
    const WORLDLY: [&str; 7] = [
        "tokio", "hyper", "rustix", "nix", "socket2", "sqlx", "tonic",
    ];
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .expect("cargo metadata");
    for package in metadata.workspace_packages() {
        if !PURE.contains(&package.name.as_str()) || package.name == "renkei-testkit" {
            continue;
        }
        for dependency in product_dependencies(package) {
            assert!(
                !WORLDLY.contains(&dependency),
                "{} -> {dependency}: pure crates take bytes and times as arguments",
                package.name
            );
        }
    }
}

fn product_dependencies(package: &Package) -> impl Iterator<Item = &str> {
    package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind != DependencyKind::Development)
        .map(|dependency| dependency.name.as_str())
}
