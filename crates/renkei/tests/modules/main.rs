//! Which module of a crate may know which, and why not. docs/architecture.md draws the same.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod graph;

use std::{collections::BTreeSet, fmt::Write, path::PathBuf};

use cargo_metadata::MetadataCommand;
use graph::{Edge, Graph, circles};

/// The name and the source folder of every crate of the workspace.
fn crates() -> Vec<(String, PathBuf)> {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata");
    let packages = metadata.workspace_packages().into_iter();
    packages
        .map(|package| {
            let folder = package.manifest_path.parent().expect("a folder").join("src");
            (package.name.to_string(), folder.into_std_path_buf())
        })
        .collect()
}

fn describe(edge: &Edge) -> String {
    format!("{} -> {}: {}", edge.from.join("::"), edge.to.join("::"), edge.item)
}

#[test]
fn no_files_of_a_crate_depend_on_each_other_in_a_circle() {
    let mut faults = String::new();
    for (name, folder) in crates() {
        let edges = Graph::read(&folder).edges();
        let pairs: BTreeSet<_> = edges
            .iter()
            .map(|edge| (edge.from.clone(), edge.to.clone()))
            .collect();
        for circle in circles(&pairs) {
            writeln!(faults, "{name}:").expect("a string");
            for edge in &edges {
                if circle.contains(&edge.from) && circle.contains(&edge.to) {
                    writeln!(faults, "  {}", describe(edge)).expect("a string");
                }
            }
        }
    }
    assert!(faults.is_empty(), "circles of files:\n{faults}");
}
