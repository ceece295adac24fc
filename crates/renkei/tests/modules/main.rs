//! Which module of a crate may know which, and why not. docs/architecture.md draws the same.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod directions;
mod graph;

use std::{collections::BTreeSet, fmt::Write, path::PathBuf};

use cargo_metadata::MetadataCommand;
use directions::TABLES;
use graph::{Edge, Graph, circles};

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
    for (name, folder) in crates() {
        let edges = Graph::read(&folder).edges();
        let pairs: BTreeSet<_> = edges
            .iter()
            .map(|edge| (edge.from.clone(), edge.to.clone()))
            .collect();
        let circles = circles(&pairs);
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
}

/// What the modules directly below the root of a crate name of each other.
fn top_edges(folder: &std::path::Path) -> BTreeSet<(String, String, String)> {
    let edges = Graph::read(folder).edges().into_iter();
    let top = edges.filter_map(|edge| {
        let (from, to) = (edge.from.first()?.clone(), edge.to.first()?.clone());
        (from != to).then(|| (from, to, describe(&edge)))
    });
    top.collect()
}

#[test]
fn modules_know_only_those_of_their_table() {
    let mut faults = String::new();
    let crates = crates();
    for (name, rules) in TABLES {
        let (_, folder) = crates
            .iter()
            .find(|(known, _)| known == name)
            .expect("a crate");
        let edges = top_edges(folder);
        let mut seen = BTreeSet::new();
        for (from, to, description) in &edges {
            seen.insert((from.as_str(), to.as_str()));
            let Some(rule) = rules.iter().find(|rule| rule.module == from) else {
                writeln!(faults, "{name}: {from} is not in the table ({description})")
                    .expect("a string");
                continue;
            };
            if !rule.knows.contains(&to.as_str()) {
                writeln!(faults, "{name}: {description}\n    {}", rule.reason).expect("a string");
            }
        }
        for (place, rule) in rules.iter().enumerate() {
            for known in rule.knows {
                if !seen.contains(&(rule.module, known)) {
                    let module = rule.module;
                    writeln!(faults, "{name}: {module} does not know {known} any more")
                        .expect("a string");
                }
                if !rules.iter().take(place).any(|above| above.module == *known) {
                    let module = rule.module;
                    writeln!(
                        faults,
                        "{name}: {known} must be above {module} in the table"
                    )
                    .expect("a string");
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults}");
}
