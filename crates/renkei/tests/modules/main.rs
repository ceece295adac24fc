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

/// Crates in which files still depend on each other in a circle. It may only get shorter.
const WITH_CIRCLES: [&str; 1] = ["renkei-proxy"];

/// The name and the source folder of every crate of the workspace.
fn crates() -> Vec<(String, PathBuf)> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .expect("cargo metadata");
    let packages = metadata.workspace_packages().into_iter();
    packages
        .map(|package| {
            let folder = package
                .manifest_path
                .parent()
                .expect("a folder")
                .join("src");
            (package.name.to_string(), folder.into_std_path_buf())
        })
        .collect()
}

fn describe(edge: &Edge) -> String {
    format!(
        "{} -> {}: {}",
        edge.from.join("::"),
        edge.to.join("::"),
        edge.item
    )
}

#[test]
fn no_files_of_a_crate_depend_on_each_other_in_a_circle() {
    let mut faults = String::new();
    let mut with_circles = Vec::new();
    for (name, folder) in crates() {
        let edges = Graph::read(&folder).edges();
        let pairs: BTreeSet<_> = edges
            .iter()
            .map(|edge| (edge.from.clone(), edge.to.clone()))
            .collect();
        let circles = circles(&pairs);
        if WITH_CIRCLES.contains(&name.as_str()) {
            with_circles.extend((!circles.is_empty()).then_some(name));
            continue;
        }
        for circle in circles {
            writeln!(faults, "{name}:").expect("a string");
            for edge in &edges {
                if circle.contains(&edge.from) && circle.contains(&edge.to) {
                    writeln!(faults, "  {}", describe(edge)).expect("a string");
                }
            }
        }
    }
    assert!(faults.is_empty(), "circles of files:\n{faults}");
    with_circles.sort();
    assert_eq!(
        with_circles, WITH_CIRCLES,
        "take a crate without circles off the list"
    );
}
