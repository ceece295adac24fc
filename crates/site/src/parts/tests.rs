use std::path::PathBuf;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Serialize, de::DeserializeOwned};

use super::*;
use crate::{Site, parse, parse_federation};

const SITE: &str = "site: osaka
trust_domain: osaka.example
gateway: {listen: 0.0.0.0:8443, advertise: gw.osaka.example:8443}
relays: [kyushu.example]
peers:
  kyushu.example:
    bundle: https://gw.osaka.example:8443/
    bootstrap: kyushu.json
  tokyo.example: {bundle: tokyo.json, gateway: gw.tokyo.example:8443}
services:
  broker:
    protocol: kafka
    backends: [127.0.0.1:9092]
    allow: [tokyo.example/reader]
    topics: {tokyo.example/reader: {consume: [a, b*]}}
  web:
    protocol: http
    backends: [127.0.0.1:80]
    policy: web.rego
    response_timeout: 5s
    methods: {tokyo.example/reader: [GET /v1/*, HEAD]}
workloads:
  collector:
    selectors: [unix:uid:1000, unix:path:/usr/bin/collector]
    uses: {tokyo.example/mdx: 127.0.0.1:9093}
  idle: {selectors: [unix:uid:1001]}
lifetimes: {ca: 48h}
";

fn site() -> Site {
    parse("site.yaml", SITE).unwrap_or_else(|faults| panic!("{}", faults.to_lines()))
}

fn proxy_part() -> ProxyPart {
    let source = PolicySource {
        name: "web.rego".to_owned(),
        text: "package renkei.authz".into(),
    };
    site().proxy_part(3, [("web".to_owned(), source)].into())
}

fn comes_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(part: &T) -> String {
    let text = serde_json::to_string(part).unwrap();
    assert_eq!(serde_json::from_str::<T>(&text).unwrap(), *part);
    text
}

#[test]
fn parts_come_back_from_their_text() {
    let text = comes_back(&proxy_part());
    assert!(text.contains("package renkei.authz"), "{text}");
    let mut site = site();
    let alone = site.server_part(3);
    assert!(
        alone.announcement.services.is_empty(),
        "strangers can read it"
    );
    comes_back(&alone);
    let key = |byte: u8| STANDARD.encode([byte; 32]);
    let text = format!(
        "federation: intercloud\norigin: federation.example/intercloud\nlog_key: {}\n\
         registrar: {{keys: [{}], threshold: 1}}\n\
         witnesses: {{quorum: 1, keys: {{kyushu.example: {}}}}}\nmirrors: [mirror]\n",
        key(1),
        key(2),
        key(3)
    );
    let file = parse_federation("federation.yaml", &text).unwrap();
    site.federation = Some(crate::Federated {
        path: PathBuf::from("federation.yaml"),
        deny: Default::default(),
        admit: None,
        file: Some(file.into()),
    });
    let part = site.server_part(4);
    assert_eq!(part.announcement.services.len(), 2);
    comes_back(&part);
}

/// Who breaks into a node reads its parts.
#[test]
fn a_part_holds_what_its_role_needs_and_no_more() {
    let proxy = comes_back(&proxy_part());
    assert!(
        !proxy.contains("kyushu.json"),
        "the bundles are the server's: {proxy}"
    );
    assert!(
        !proxy.contains("unix:uid:1001"),
        "`idle` has no listener: {proxy}"
    );
    let server = comes_back(&site().server_part(3));
    for other in ["127.0.0.1:9092", "127.0.0.1:9093", "GET /v1/*"] {
        assert!(!server.contains(other), "{other} is the proxy's: {server}");
    }
}

#[test]
fn a_value_that_no_site_file_could_have_is_refused() {
    let text = comes_back(&proxy_part());
    for (good, bad) in [
        ("GET /v1/*", "GET /v1/../*"),
        ("unix:uid:1000", "unix:uid:x"),
        ("spiffe://osaka.example/collector", "https://osaka.example/"),
        ("gw.tokyo.example:8443", "gw.tokyo.example:0x"),
    ] {
        let text = text.replace(good, bad);
        serde_json::from_str::<ProxyPart>(&text).unwrap_err();
    }
}
