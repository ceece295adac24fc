//! docs/site-file.md is generated from the schema, so that the page and the program agree.
//! `RENKEI_UPDATE=1 cargo test -p renkei-site --test reference` writes it again.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{fmt::Write, path::Path};

use serde_json::{Map, Value};

const HEAD: &str = "# The site file

<!-- Generated from the schema by crates/site/tests/reference.rs; edit the types' comments instead. -->

A site writes one file. `renkei check` finds every fault at once. `renkei apply` (or SIGHUP) applies
a changed file to the running site. `renkei check --schema` prints the JSON Schema for editors.

Paths are relative to the file. `<trust domain>/<name>` is short for
`spiffe://<trust domain>/<name>`. A name without a slash is one of the site's own: the service or
workload of that name, whatever `id` it has.
";

const SECTIONS: [(&str, &str); 11] = [
    ("gateway", "Gateway"),
    ("server", "Server"),
    ("nodes: NAME", "Node"),
    ("nodes: NAME: gateway", "NodeGateway"),
    ("peers: TRUST-DOMAIN", "Peer"),
    ("services: NAME", "Service"),
    ("services: NAME: topics: CALLER", "TopicRights"),
    ("workloads: NAME", "Workload"),
    ("lifetimes", "Lifetimes"),
    ("workload_api", "WorkloadApi"),
    ("bundle_endpoint", "BundleEndpoint"),
];

#[test]
fn the_reference_page_is_that_of_the_schema() {
    let schema = renkei_site::schema();
    let mut page = HEAD.to_owned();
    section(&mut page, "Top level", &schema);
    for (title, definition) in SECTIONS {
        section(&mut page, title, &schema["$defs"][definition]);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/site-file.md");
    if std::env::var_os("RENKEI_UPDATE").is_some() {
        std::fs::write(&path, &page).expect("written");
    }
    let found = std::fs::read_to_string(&path).expect("docs/site-file.md");
    assert!(
        found == page,
        "docs/site-file.md is not that of the schema: run with RENKEI_UPDATE=1"
    );
}

#[test]
fn every_definition_has_a_section() {
    let schema = renkei_site::schema();
    let definitions = schema["$defs"].as_object().expect("definitions");
    for (name, definition) in definitions {
        let shown = SECTIONS.iter().any(|(_, section)| section == name);
        assert!(
            shown || definition.get("properties").is_none(),
            "{name} is in no section"
        );
    }
}

fn section(page: &mut String, title: &str, schema: &Value) {
    let empty = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    let required: Vec<&str> = schema["required"]
        .as_array()
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let _ = write!(page, "\n## {title}\n\n| key | | |\n| --- | --- | --- |\n");
    for (key, property) in properties {
        let must = if required.contains(&key.as_str()) {
            "required"
        } else {
            ""
        };
        let says = property["description"]
            .as_str()
            .unwrap_or_default()
            .replace('\n', " ");
        let example = match property["examples"].get(0) {
            None => String::new(),
            Some(Value::String(text)) => format!(" For example `{text}`."),
            Some(other) => format!(" For example `{other}`.").replace('"', ""),
        };
        let _ = writeln!(page, "| `{key}` | {must} | {says}{example} |");
    }
}
