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

/// The places of the repository that a page names in backquotes: `proxy/src/wan.rs`. Braces are
/// read as by a shell.
fn places_named(page: &str) -> BTreeSet<String> {
    let quoted = page.split('`').skip(1).step_by(2);
    let is_place = |text: &&str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-{},".contains(c);
        text.contains('/')
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(plain)
    };
    quoted.filter(is_place).flat_map(with_braces).collect()
}

fn with_braces(text: &str) -> Vec<String> {
    let Some((before, rest)) = text.split_once('{') else {
        return vec![text.to_owned()];
    };
    let (names, after) = rest.split_once('}').expect("a brace that is closed");
    names
        .split(',')
        .map(|name| format!("{before}{name}{after}"))
        .collect()
}

/// The folders that the page's names begin at: the top, that of the crates, the sources of each.
fn beginnings(top: &std::path::Path) -> Vec<PathBuf> {
    let sources = crates().into_iter().map(|(_, folder)| folder);
    [top.to_owned(), top.join("crates")]
        .into_iter()
        .chain(sources)
        .collect()
}

fn exists(beginnings: &[PathBuf], place: &str) -> bool {
    let mut paths = beginnings.iter().map(|folder| folder.join(place));
    paths.any(|path| path.exists() || path.with_extension("rs").exists())
}

#[test]
fn every_file_that_the_map_names_exists() {
    let top = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(top.join("docs/architecture.md")).expect("the map");
    let (named, beginnings) = (places_named(&page), beginnings(&top));
    assert!(named.len() > 50, "the map names too few files: {named:?}");
    let missing: Vec<_> = named
        .iter()
        .filter(|place| !exists(&beginnings, place))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/architecture.md names what does not exist: {missing:?}"
    );
}
