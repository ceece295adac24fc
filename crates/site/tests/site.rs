//! What a good site file means.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{net::IpAddr, path::Path, time::Duration};

use renkei_site::{
    BundleSource, Host, HostPort, Item, Protocol, ProxyPart, Site, diff, parse, sni,
};
use renkei_spiffe::{SpiffeId, TrustDomain};

const HUB: &str = include_str!("fixtures/hub.yaml");
const DIALS_OUT: &str = include_str!("fixtures/dials-out.yaml");
const RELAYS: &str = include_str!("fixtures/relays.yaml");
const EVERY_KEY: &str = include_str!("fixtures/every-key.yaml");

fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://{text}")).unwrap()
}

fn td(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

fn proxy_part(text: &str) -> ProxyPart {
    let site = parse("site.yaml", text).unwrap();
    site.proxy_part(1, Default::default())
}

fn advertised(site: &Site) -> Option<HostPort> {
    site.announcement().gateway
}

#[test]
fn the_hub_is_read() {
    let site = parse("site.yaml", HUB).unwrap();
    assert_eq!(site.name, "hokkaido");
    assert_eq!(
        advertised(&site).unwrap().to_string(),
        "gw.hokkaido.example:8443"
    );
    let broker = &site.services["broker"];
    assert_eq!(broker.id, id("hokkaido.example/broker"));
    assert_eq!(broker.protocol, Protocol::Kafka);
    assert_eq!(
        broker.allow,
        [
            id("osaka.example/collector"),
            id("kyushu.example/collector")
        ]
    );
    let forwarder = &site.workloads["forwarder"];
    assert_eq!(forwarder.selectors[0].to_string(), "unix:user:kafka");
    assert_eq!(forwarder.uses[0].target, id("tokyo.example/mdx"));
    assert_eq!(forwarder.uses[0].listen, "127.0.0.1:19092".parse().unwrap());
    assert_eq!(site.lifetimes.x509_svid, Duration::from_secs(3600));
    let entries = site.server_part(1).entries.into_iter();
    let entries: Vec<_> = entries.map(|entry| entry.id.short()).collect();
    let names = ["renkei/server", "broker", "forwarder"];
    assert_eq!(
        entries,
        names.map(|name| format!("hokkaido.example/{name}"))
    );
}

#[test]
fn bundles_come_from_files_and_endpoints() {
    let site = parse("site.yaml", HUB).unwrap();
    let source = |name: &str| &site.peers[&td(name)].bundle;
    assert_eq!(
        source("kyushu.example"),
        &BundleSource::File("trust/kyushu.json".into())
    );
    assert_eq!(
        source("osaka.example"),
        &BundleSource::HttpsSpiffe {
            url: "https://gw.osaka.example:8443/".parse().unwrap(),
            endpoint_id: id("osaka.example/renkei/server"),
            bootstrap: "trust/osaka.json".into(),
        }
    );
    assert_eq!(
        source("tokyo.example"),
        &BundleSource::HttpsWeb {
            url: "https://tokyo.example/bundle.json".parse().unwrap(),
            roots: None,
        }
    );
}

#[test]
fn a_peer_is_known_by_its_identity_and_asked_at_its_gateway() {
    let identity = "6d".repeat(32);
    let text = format!(
        "site: a\ntrust_domain: a.example\npeers:\n  b.example: {{gateway: gw.b.example:8443, \
         identity: {identity}@2}}\n"
    );
    let site = parse("site.yaml", &text).unwrap();
    let part = site.server_part(1);
    let of = |name: &str| {
        let peer = &part.peers[&td(name)];
        let BundleSource::Identity(pinned) = &peer.source else {
            panic!("{peer:?}");
        };
        let way = peer.way.as_ref().unwrap();
        format!("{pinned} at {} as {}", way.dial, way.name)
    };
    let b = format!("{identity}@2 at gw.b.example:8443 as b.example");
    assert_eq!(of("b.example"), b);
    let other = text.replace("@2", "@3");
    let changed = diff(&site, &parse("site.yaml", &other).unwrap());
    assert_eq!(changed.to_string(), "~ peer b.example (identity)");
}

#[test]
fn every_key_is_read() {
    let site = parse("site.yaml", EVERY_KEY).unwrap();
    assert_eq!(
        advertised(&site).unwrap().to_string(),
        "127.0.0.2:8443",
        "listen is a definite address"
    );
    let hokkaido = &site.peers[&td("hokkaido.example")];
    let ip = "2001:db8::5".parse::<IpAddr>().unwrap();
    assert_eq!(hokkaido.gateway.as_ref().unwrap().host(), &Host::Ip(ip));
    assert!(matches!(
        &hokkaido.bundle,
        BundleSource::HttpsSpiffe { endpoint_id, .. }
            if *endpoint_id == id("hokkaido.example/spire/server")
    ));
    let archive = &site.services["archive"];
    assert_eq!(archive.protocol, Protocol::Tcp);
    assert_eq!(
        archive.allow,
        [
            id("osaka.example/collector"),
            id("hokkaido.example/ns/prod/sa/reader")
        ]
    );
    let records = &site.services["records"];
    assert_eq!(records.protocol, Protocol::Http);
    assert_eq!(records.response_timeout, Some(Duration::from_mins(30)));
    let methods: Vec<_> = records
        .methods
        .iter()
        .flatten()
        .map(|(caller, rules)| {
            let rules: Vec<_> = rules.iter().map(ToString::to_string).collect();
            (caller.clone(), rules.join(", "))
        })
        .collect();
    assert_eq!(
        methods,
        [
            (
                id("hokkaido.example/reader"),
                "GET /v1/records, HEAD".to_owned()
            ),
            (id("osaka.example/collector"), "* /v1/*".to_owned()),
        ]
    );
    let topics = site.services["stream"].topics.as_ref().unwrap();
    let topics = serde_json::to_value(topics).unwrap();
    assert_eq!(
        topics,
        serde_json::json!({
            "spiffe://osaka.example/collector": {
                "produce": ["weather", "quakes-*"], "consume": [], "create": ["*"],
                "describe": [], "group": [],
            },
            "spiffe://hokkaido.example/reader": {
                "produce": [], "consume": ["quakes-*"], "create": [],
                "describe": ["weather"], "group": ["readers"],
            },
        })
    );
    let collector = &site.workloads["collector"];
    assert_eq!(collector.selectors.len(), 3);
    let targets: Vec<_> = collector
        .uses
        .iter()
        .map(|used| used.target.short())
        .collect();
    assert_eq!(
        targets,
        ["osaka.example/archive", "hokkaido.example/broker"]
    );
    assert_eq!(site.lifetimes.ca, Duration::from_secs(7 * 24 * 3600));
    assert_eq!(site.lifetimes.bundle_refresh, Duration::from_secs(60));
    assert_eq!(site.admin, Some("127.0.0.1:9901".parse().unwrap()));
}

#[test]
fn scalars_are_taken_as_they_are_spelled() {
    let text = "{site: 007, trust_domain: osaka.example, workloads: \
                {on: {selectors: [&a unix:uid:1]}, 1.50: {selectors: [*a]}}}";
    let site = parse("site.yaml", text).unwrap();
    assert_eq!(site.name, "007");
    assert_eq!(site.workloads.keys().collect::<Vec<_>>(), ["1.50", "on"]);
    assert_eq!(
        site.workloads["1.50"].selectors,
        site.workloads["on"].selectors
    );
}

#[test]
fn sections_whose_entries_are_all_commented_out_are_empty() {
    let text = "site: a\ntrust_domain: a.example\npeers:\nservices:\n  # broker:\nworkloads:\n";
    assert_eq!(
        parse("site.yaml", text)
            .unwrap()
            .server_part(1)
            .entries
            .len(),
        1
    );
}

#[test]
fn services_are_told_apart_by_server_name() {
    let site = proxy_part(HUB);
    let name = sni(&id("hokkaido.example/broker")).unwrap();
    assert_eq!(name, "broker.hokkaido.example");
    assert_eq!(
        site.service_by_sni("Broker.Hokkaido.example").unwrap().name,
        "broker"
    );
    for stranger in [
        "broker",
        "broker.osaka.example",
        "hokkaido.example",
        "x.hokkaido.example",
    ] {
        assert!(site.service_by_sni(stranger).is_none(), "{stranger}");
    }
    // The digests are part of the protocol between sites.
    for (one, label) in [
        (
            "hokkaido.example/ns/prod/sa/web",
            "id-a778171520ae31fafc5495abd8d1535663420114",
        ),
        (
            "hokkaido.example/Broker",
            "id-d7ca3adde3b47f1903746c961e00d5c6f09beecb",
        ),
    ] {
        let name = format!("{label}.hokkaido.example");
        assert_eq!(sni(&id(one)), Some(name));
    }
    assert_eq!(sni(&td("hokkaido.example").id()), None);
    let long = [
        "a".repeat(60),
        "b".repeat(60),
        "c".repeat(60),
        "d".repeat(40),
    ]
    .join(".");
    assert_eq!(sni(&id(&format!("{long}/ns/prod"))), None);
}

#[test]
fn a_service_is_found_by_the_server_name_of_its_id_and_no_other() {
    let text = "site: a\ntrust_domain: a.example\ngateway: {listen: 127.0.0.1:8443}\nservices:\n  \
                web: {id: /ns/prod/sa/web, backends: [127.0.0.1:1]}\n  \
                other: {id: /second, backends: [127.0.0.1:2]}\n  \
                third: {backends: [127.0.0.1:3], allow: [web, caller]}\n\
                workloads:\n  caller:\n    id: spiffe://a.example/ns/prod/sa/caller\n    \
                selectors: [unix:uid:1]\n    \
                uses: {web: 127.0.0.1:4, second: 127.0.0.1:5, a.example/third: 127.0.0.1:6}\n";
    let site = parse("site.yaml", text).unwrap();
    let part = site.proxy_part(1, Default::default());
    let found = |sni: &str| part.service_by_sni(sni).map(|service| service.name.clone());
    let web = sni(&id("a.example/ns/prod/sa/web")).unwrap();
    assert_eq!(found(&web).as_deref(), Some("web"));
    assert_eq!(found(&web.to_ascii_uppercase()).as_deref(), Some("web"));
    assert_eq!(found("second.a.example").as_deref(), Some("other"));
    assert_eq!(found("third.a.example").as_deref(), Some("third"));
    assert_eq!(found("web.a.example"), None);
    assert_eq!(found("other.a.example"), None);
    // Names stand for the IDs that they were given.
    let caller = id("a.example/ns/prod/sa/caller");
    assert_eq!(
        site.services["third"].allow,
        [id("a.example/ns/prod/sa/web"), caller.clone()]
    );
    let targets: Vec<_> = part.listeners.iter().map(|it| it.target.short()).collect();
    assert_eq!(
        targets,
        [
            "a.example/ns/prod/sa/web",
            "a.example/second",
            "a.example/third"
        ]
    );
    assert!(part.listeners.iter().all(|it| it.caller == caller));
    assert_eq!(site.identity("caller").unwrap(), caller);
    assert_eq!(site.identity("third").unwrap(), id("a.example/third"));
    assert_eq!(site.identity("nobody").unwrap(), id("a.example/nobody"));
    let entries = site.server_part(1).entries;
    let entry = entries.iter().find(|entry| entry.name == "caller").unwrap();
    assert_eq!((&entry.id, &*entry.hint), (&caller, "caller"));
    let announced: Vec<_> = site.announcement().services.into_keys().collect();
    assert_eq!(announced, ["ns/prod/sa/web", "second", "third"]);
}

#[test]
fn allow_entries_and_policies_keep_their_lines() {
    let mut site = parse("site.yaml", HUB).unwrap();
    let caller = id("kyushu.example/collector");
    assert_eq!(site.line_of_allow("broker", &caller), Some(14));
    assert_eq!(
        site.line_of_allow("broker", &id("kyushu.example/other")),
        None
    );
    site = parse("site.yaml", EVERY_KEY).unwrap();
    let place = site.place(&Item::Policy("archive".to_owned()));
    assert_eq!((place.line, place.column), (22, 13));
    assert_eq!(
        &EVERY_KEY[place.offset..place.offset + place.length],
        "archive.rego"
    );
    let mut faults = site.faults();
    faults.push(place, "archive.rego does not exist", "create it");
    let text = faults.or(()).unwrap_err().to_lines();
    assert_eq!(
        text,
        "site.yaml:22:13: archive.rego does not exist (create it)"
    );
}

#[test]
fn paths_are_resolved_against_the_folder_of_the_file() {
    let mut site = parse("site.yaml", EVERY_KEY).unwrap();
    site.resolve_paths(Path::new("/srv/osaka"));
    let endpoint = site.bundle_endpoint.as_ref().unwrap();
    assert_eq!(endpoint.certificate, Path::new("/srv/osaka/web/cert.pem"));
    assert_eq!(endpoint.key, Path::new("/etc/renkei/web.key"));
    assert_eq!(
        site.services["archive"].policy.as_deref(),
        Some(Path::new("/srv/osaka/archive.rego"))
    );
    let bundle = |name: &str| format!("{:?}", site.peers[&td(name)].bundle);
    assert!(bundle("hokkaido.example").contains("\"/srv/osaka/hokkaido.json\""));
    assert!(bundle("kyushu.example").contains("\"/srv/osaka/roots.pem\""));
}

#[test]
fn only_lines_that_say_something_count() {
    assert_eq!(Site::config_lines(HUB), 16);
    assert_eq!(Site::config_lines("# a\n\n  # b\n\t\r\nsite: a # c\n"), 1);
}

#[test]
fn layout_is_no_change() {
    let old = parse("site.yaml", HUB).unwrap();
    let text = format!(
        "# moved\n{}",
        HUB.replace("[127.0.0.1:9092]", "\n    - 127.0.0.1:9092")
    );
    let new = parse("site.yaml", &text).unwrap();
    assert_eq!(old, new);
    assert!(diff(&old, &new).is_empty());
}

#[test]
fn changes_are_told_per_entry() {
    let old = parse("site.yaml", HUB).unwrap();
    let text = HUB
        .replace("  kyushu.example: {bundle: trust/kyushu.json}\n", "")
        .replace(
            ", kyushu.example/collector]",
            "]\n  cache: {backends: [10.0.0.1:6379]}",
        )
        .replace("127.0.0.1:9092", "127.0.0.1:9093")
        .replace("unix:user:kafka", "unix:uid:9")
        .replace("19092", "19093")
        .replace("0.0.0.0:8443", "0.0.0.0:8444")
        + "lifetimes: {x509_svid: 20s}\n";
    let changes = diff(&old, &parse("site.yaml", &text).unwrap());
    insta::assert_snapshot!(changes, @r"
    ~ gateway
    ~ lifetimes
    - peer kyushu.example
    ~ service broker (backends, allow)
    + service cache
    ~ workload forwarder (selectors, uses)
    ");
    assert_eq!(changes.needs_restart(), None);
    let first = serde_json::to_value(&changes).unwrap()[3].clone();
    assert_eq!(
        first,
        serde_json::json!({
            "section": "service", "kind": "changed", "name": "broker", "keys": ["backends", "allow"]
        })
    );
}

#[test]
fn another_trust_domain_or_name_needs_a_restart() {
    let old = parse("site.yaml", HUB).unwrap();
    let new = parse(
        "site.yaml",
        &HUB.replace("domain: hokkaido", "domain: sapporo"),
    )
    .unwrap();
    let changes = diff(&old, &new);
    assert!(changes.needs_restart().unwrap().contains("trust domain"));
    let renamed = HUB.replace("site: hokkaido", "site: sapporo");
    let changes = diff(&old, &parse("site.yaml", &renamed).unwrap());
    assert!(changes.needs_restart().unwrap().contains("state folder"));
    let admin = parse("site.yaml", &format!("{HUB}admin: 127.0.0.1:9901\n")).unwrap();
    assert!(diff(&old, &admin).needs_restart().is_some());
}

#[test]
fn changed_rules_are_a_change_of_their_service() {
    let old = parse("site.yaml", EVERY_KEY).unwrap();
    let text = EVERY_KEY.replace(", HEAD]", ", HEAD, POST /v1/records]");
    let changes = diff(&old, &parse("site.yaml", &text).unwrap());
    assert_eq!(changes.to_string(), "~ service records (methods)");
}

#[test]
fn a_site_that_only_dials_out_has_the_address_of_its_hub() {
    let site = parse("site.yaml", DIALS_OUT).unwrap();
    let gateway = site.gateway.as_ref().unwrap();
    assert_eq!(gateway.listen, None);
    assert_eq!(gateway.via, Some(td("hokkaido.example")));
    let hub = advertised(&site).map(|hub| hub.to_string());
    assert_eq!(hub.as_deref(), Some("gw.hokkaido.example:8443"));
    // Some may reach it without the hub.
    let text = DIALS_OUT.replace("{via:", "{listen: 10.0.0.1:8443, via:");
    let both = parse("site.yaml", &text).unwrap();
    let gateway = both.gateway.as_ref().unwrap();
    assert_eq!(gateway.listen, Some("10.0.0.1:8443".parse().unwrap()));
    assert_eq!(advertised(&both), advertised(&site));
    assert_eq!(diff(&site, &both).to_string(), "~ gateway");
}

#[test]
fn a_hub_reaches_whom_it_relays_for_through_itself() {
    let site = parse("site.yaml", RELAYS).unwrap();
    let (osaka, tokyo) = (td("osaka.example"), td("tokyo.example"));
    let part = proxy_part(RELAYS);
    let own = part.gateway_of(&osaka).unwrap();
    assert_eq!(own.to_string(), "127.0.0.1:8443");
    let other = part.gateway_of(&tokyo).unwrap();
    assert_eq!(other.to_string(), "gw.tokyo.example:8443");
    let mut peers = site.server_part(1).peers;
    let way = peers.remove(&osaka).unwrap().way.unwrap();
    assert_eq!((way.dial, way.name.as_str()), (own, "osaka.example"));
    let way = peers.remove(&tokyo).unwrap().way.unwrap();
    assert_eq!((way.dial, way.name.as_str()), (other, "tokyo.example"));
    // An endpoint that is not the gateway is asked for by its own name.
    let text = RELAYS.replace("https://gw.tokyo", "https://bundle.tokyo");
    let apart = parse("site.yaml", &text).unwrap();
    assert_eq!(apart.server_part(1).peers[&tokyo].way, None);
    let without = RELAYS.replace("relays: [osaka.example]\n", "").replace(
        "bootstrap: osaka.json",
        "bootstrap: osaka.json, gateway: a.example:1",
    );
    let changes = diff(&site, &parse("site.yaml", &without).unwrap());
    assert_eq!(
        changes.to_string(),
        "- relays\n~ peer osaka.example (gateway)"
    );
    assert_eq!(changes.needs_restart(), None);
}

#[test]
fn names_within_a_relayed_trust_domain_are_told_from_others() {
    let text = RELAYS
        .replace(
            "  tokyo.example:",
            "  lab.osaka.example: {bundle: a}\n  tokyo.example:",
        )
        .replace("[osaka.example]", "[osaka.example, lab.osaka.example]");
    let site = proxy_part(&text);
    for (sni, found) in [
        ("osaka.example", Some("osaka.example")),
        ("Store.Osaka.Example", Some("osaka.example")),
        ("n3.broker.osaka.example", Some("osaka.example")),
        ("store.lab.osaka.example", Some("lab.osaka.example")),
        ("myosaka.example", None),
        ("store.tokyo.example", None),
        ("hokkaido.example", None),
        (".example", None),
        ("", None),
    ] {
        let name = site.relayed_by_sni(sni).map(TrustDomain::as_str);
        assert_eq!(name, found, "{sni}");
    }
    // What lies within the hub's own trust domain is the hub's.
    let text = RELAYS.replace("hokkaido.example\ngateway", "hub.osaka.example\ngateway");
    let site = proxy_part(&text);
    assert_eq!(site.relayed_by_sni("hub.osaka.example"), None);
    assert_eq!(site.relayed_by_sni("a.hub.osaka.example"), None);
    assert!(site.relayed_by_sni("a.osaka.example").is_some());
}
