//! Decisions a CPU-second, for the policies of docs/results/policy.md.
//!
//! `cargo run --release -p renkei-policy --example speed [FOLDER]` measures; with a folder it also
//! writes the policies and an input there, for `opa bench`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program that people start by hand"
)]

use std::{fs, path::Path};

use renkei_access::{HttpHost, RequestPath};
use renkei_policy::{Operation, RegoModule, Request, ServicePolicy};
use renkei_spiffe::SpiffeId;

const SECONDS: u64 = 2;

fn id(short: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://{short}")).unwrap()
}

/// Nanoseconds that this thread has run, which a busy machine does not change much.
fn cpu() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn ten_rules() -> String {
    let rules = (0..5).map(|n| {
        format!(
            "allow if regex.match(`^/service-{n}/[a-z0-9]+$`, input.peer.path)\n\
             allow if glob.match(\"/tenant-{n}/*/reader\", [\"/\"], input.peer.path)\n"
        )
    });
    format!(
        "package renkei.authz\n\nimport rego.v1\n\n{}",
        rules.collect::<String>()
    )
}

const TIME_AND_NET: &str = r#"package renkei.authz

import rego.v1

networks := ["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"]

inside if {
    some network in networks
    net.cidr_contains(network, input.source.ip)
}

deny contains "outside" if not inside

deny contains "over" if time.now_ns() > time.parse_rfc3339_ns("2100-01-01T00:00:00Z")

deny contains "at night" if {
    [hour, _, _] := time.clock(time.now_ns())
    hour > 24
}

allow if input.operation.method in {"GET", "HEAD"}
"#;

const ENDLESS: &str = r#"package renkei.authz

import rego.v1

parts := split(input.peer.path, "")

deny contains "x" if {
    some a in parts
    some b in parts
    some c in parts
    contains(input.peer.path, concat(a, [b, c]))
    a == "z"
}
"#;

fn measure(name: &str, policy: &ServicePolicy, peer: &SpiffeId, allowed: bool) {
    let path = RequestPath::new("/v1/records/7");
    let host = HttpHost::parse(b"records.example").unwrap();
    let request = Request {
        peer,
        service: policy.service(),
        operation: Operation::Http {
            method: "GET",
            host: &host,
            path: &path,
        },
        source: Some([192, 0, 2, 7].into()),
    };
    let (start, mut count) = (cpu(), 0_u64);
    let mut spent = 0;
    while spent < SECONDS * 1_000_000_000 {
        for _ in 0..20 {
            assert_eq!(policy.decide(&request).allowed, allowed);
        }
        count += 20;
        spent = cpu() - start;
    }
    println!(
        "{name}: {} decisions a CPU-second",
        count * 1_000_000_000 / spent
    );
}

fn main() {
    let service = id("tokyo.example/mdx");
    let allow = (0..100)
        .map(|n| id(&format!("osaka.example/c{n}")))
        .collect();
    let listed = ServicePolicy::new(service.clone(), allow, None);
    measure("allow list of 100", &listed, &id("osaka.example/c57"), true);
    let module = RegoModule::compile("endless", ENDLESS).unwrap();
    let endless = ServicePolicy::new(service.clone(), Vec::new(), Some(module));
    let long = format!("osaka.example/{}", "a".repeat(1000));
    measure(
        "a decision that runs into its limit",
        &endless,
        &id(&long),
        false,
    );
    let texts = [
        (
            "ten-rules",
            "ten rules with regex and glob",
            ten_rules(),
            "osaka.example/tenant-4/a/reader",
        ),
        (
            "time-and-net",
            "time and net",
            TIME_AND_NET.to_owned(),
            "osaka.example/c1",
        ),
    ];
    for (file, name, text, peer) in texts {
        let module = RegoModule::compile(file, &text).unwrap();
        let policy = ServicePolicy::new(service.clone(), Vec::new(), Some(module));
        measure(name, &policy, &id(peer), true);
        if let Some(folder) = std::env::args().nth(1) {
            let folder = Path::new(&folder);
            fs::write(folder.join(format!("{file}.rego")), text).unwrap();
            let (domain, path) = peer.split_once('/').unwrap();
            let input = format!(
                r#"{{"peer": {{"id": "spiffe://{peer}", "trust_domain": "{domain}", "path": "/{path}"}}, "service": {{"id": "spiffe://tokyo.example/mdx", "name": "mdx"}}, "operation": {{"kind": "http", "method": "GET", "path": "/v1/records/7"}}, "source": {{"ip": "192.0.2.7"}}}}"#
            );
            fs::write(folder.join(format!("{file}.json")), input).unwrap();
        }
    }
}
