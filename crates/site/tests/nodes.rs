//! A site of several machines: what each of them is given.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

use std::collections::BTreeMap;

use renkei_site::{FileEntryKind, PolicySource, ProxyPart, Site, diff, parse};
use renkei_spiffe::SpiffeId;

const NODES: &str = include_str!("fixtures/nodes.yaml");

fn site(text: &str) -> Site {
    parse("site.yaml", text).unwrap_or_else(|faults| panic!("{}", faults.to_lines()))
}

fn id(path: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://hokkaido.example{path}")).unwrap()
}

fn policies() -> BTreeMap<String, PolicySource> {
    let source = PolicySource {
        name: "web.rego".to_owned(),
        text: "package renkei.authz".into(),
    };
    [("web".to_owned(), source)].into()
}

fn part(text: &str, node: &str) -> ProxyPart {
    let site = site(text);
    site.node_part(&site.nodes[node], 3, policies())
}

fn server_part(text: &str) -> ProxyPart {
    site(text).proxy_part(3, policies())
}

fn services(part: &ProxyPart) -> Vec<&str> {
    part.services.keys().map(String::as_str).collect()
}

/// The links of a part, as `ADDRESS as ID`.
fn links(part: &ProxyPart) -> Vec<String> {
    let links = part.links.iter();
    links
        .map(|link| format!("{} as {}", link.gateway, link.id.path()))
        .collect()
}

/// What is behind which link of a gateway.
fn behind(part: &ProxyPart) -> Vec<String> {
    let nodes = part.node_services.iter();
    nodes
        .map(|(id, names)| format!("{}: {}", id.path(), names.join(" ")))
        .collect()
}

/// The text with what comes over the wire, and the same value again.
fn sent(part: &ProxyPart) -> String {
    let text = serde_json::to_string(part).unwrap();
    assert_eq!(serde_json::from_str::<ProxyPart>(&text).unwrap(), *part);
    text
}

#[test]
fn a_node_that_holds_a_service_links_itself_with_every_gateway_that_lacks_it() {
    let store = part(NODES, "store");
    assert_eq!(store.link_id, id("/renkei/node/store"));
    assert_eq!(store.gateway, None);
    assert_eq!(services(&store), ["broker"]);
    assert_eq!(
        links(&store),
        [
            "gw1.hokkaido.example:8443 as /renkei/node/gw1",
            "127.0.0.9:8443 as /renkei/node/gw2"
        ]
    );
    for gateway in ["gw1", "gw2"] {
        let gateway = part(NODES, gateway);
        // A service that names no node is held by each gateway itself.
        assert_eq!(services(&gateway), ["web"]);
        assert_eq!(
            behind(&gateway),
            ["/renkei/node/store: broker.hokkaido.example"]
        );
        assert!(gateway.gateway.is_some() && gateway.links.is_empty());
        let found = gateway.nodes_by_sni("Broker.Hokkaido.Example");
        assert_eq!(found, [&id("/renkei/node/store")]);
        assert!(gateway.nodes_by_sni("web.hokkaido.example").is_empty());
    }
    // A service on one gateway is reached through the other, too.
    let text = NODES.replace("web: {", "web: {on: [gw1], ");
    assert_eq!(
        links(&part(&text, "gw1")),
        ["127.0.0.9:8443 as /renkei/node/gw2"]
    );
    assert_eq!(
        behind(&part(&text, "gw2")),
        [
            "/renkei/node/gw1: web.hokkaido.example",
            "/renkei/node/store: broker.hokkaido.example"
        ]
    );
    // Several nodes may hold one service.
    let text = NODES.replace("[store]", "[store, compute]");
    let gateway = part(&text, "gw1");
    assert_eq!(gateway.nodes_by_sni("broker.hokkaido.example").len(), 2);
}

#[test]
fn a_node_without_a_route_outside_leaves_by_a_gateway() {
    let compute = part(NODES, "compute");
    let gw1 = id("/renkei/node/gw1");
    assert_eq!(compute.exit, Some(gw1.clone()));
    assert_eq!(
        links(&compute),
        ["gw1.hokkaido.example:8443 as /renkei/node/gw1"]
    );
    // The gateway lets it reach what it calls, and nothing else.
    let exits = part(NODES, "gw1").exits;
    let ways: Vec<String> = exits[&id("/renkei/node/compute")]
        .iter()
        .map(|(name, gateway)| format!("{name} {gateway}"))
        .collect();
    assert_eq!(ways, ["tokyo.example gw.tokyo.example:8443"]);
    assert_eq!(exits.len(), 1);
    assert!(part(NODES, "gw2").exits.is_empty());
    assert_eq!(part(NODES, "store").exit, None);
}

#[test]
fn the_process_of_the_server_is_a_node_too() {
    let server = server_part(NODES);
    assert_eq!(server.link_id, id("/renkei/server"));
    assert!(server.services.is_empty() && server.links.is_empty());
    assert_eq!(server.listeners.len(), 1, "`probe` runs everywhere");
    // As a gateway it holds what names no node, and leads to what is on nodes.
    let text = NODES.replace(
        "nodes:",
        "gateway: {listen: 0.0.0.0:7443, advertise: gw.hokkaido.example:7443}\nnodes:",
    );
    let server = server_part(&text);
    assert_eq!(services(&server), ["web"]);
    assert_eq!(
        behind(&server),
        ["/renkei/node/store: broker.hokkaido.example"]
    );
    let gateway = part(&text, "gw1");
    assert!(gateway.services.is_empty());
    assert_eq!(
        behind(&gateway),
        [
            "/renkei/node/store: broker.hokkaido.example",
            "/renkei/server: web.hokkaido.example"
        ]
    );
    assert_eq!(links(&server).len(), 2);
    assert_eq!(
        links(&part(&text, "store"))[0],
        "gw.hokkaido.example:7443 as /renkei/server"
    );
    let announced = site(&text).announcement().gateway;
    assert_eq!(announced.unwrap().to_string(), "gw.hokkaido.example:7443");
    let announced = site(NODES).announcement().gateway;
    assert_eq!(announced.unwrap().to_string(), "gw1.hokkaido.example:8443");
}

/// Who breaks into a node reads its part.
#[test]
fn a_node_is_given_what_it_serves_and_no_more() {
    let compute = part(NODES, "compute");
    let callers: Vec<&str> = compute
        .listeners
        .iter()
        .map(|listener| &*listener.workload)
        .collect();
    assert_eq!(callers, ["job", "job", "probe"]);
    let gateway = compute.site_gateway.as_ref().unwrap();
    assert_eq!(gateway.to_string(), "gw1.hokkaido.example:8443");
    let text = sent(&compute);
    for other in ["osaka.example", "package renkei.authz", "127.0.0.1:8080"] {
        assert!(!text.contains(other), "{other}: {text}");
    }
    let store = sent(&part(NODES, "store"));
    for other in [
        "job",
        "web.rego",
        "package renkei.authz",
        "tokyo.example:8443",
    ] {
        assert!(!store.contains(other), "{other}: {store}");
    }
    // Its callers are of other sites, any of which a policy may allow.
    assert!(part(NODES, "store").peers.len() == 2);
    let gateway = sent(&part(NODES, "gw1"));
    assert!(gateway.contains("package renkei.authz"), "{gateway}");
    assert!(!gateway.contains("127.0.0.1:9092"), "{gateway}");
}

#[test]
fn an_entry_is_for_the_nodes_that_need_it() {
    let entries = site(NODES).server_part(1).entries;
    let of = |name: &str| {
        let mut entries = entries.iter();
        entries.find(|entry| entry.name == name).unwrap()
    };
    let store = of("store");
    assert_eq!(
        (store.kind, &store.id),
        (FileEntryKind::Node, &id("/renkei/node/store"))
    );
    assert!(store.selectors.is_empty());
    for (name, nodes, server) in [
        ("store", &["store"][..], false),
        ("broker", &["store"], false),
        ("web", &["gw1", "gw2"], false),
        ("job", &["compute"], false),
        ("probe", &["gw1", "gw2", "store", "compute"], true),
        ("server", &[], true),
    ] {
        let on = &of(name).on;
        for node in ["gw1", "gw2", "store", "compute"] {
            assert_eq!(
                on.includes_node(node),
                nodes.contains(&node),
                "{name} {node}"
            );
        }
        assert_eq!(on.includes_server(), server, "{name}");
    }
}

#[test]
fn changes_of_nodes_are_told() {
    let old = site(NODES);
    let text = NODES
        .replace("  compute: {via: gateway}\n", "  login: {}\n")
        .replace("[compute]", "[login]")
        .replace("0.0.0.0:8443", "0.0.0.0:7443");
    let changes = diff(&old, &site(&text));
    assert_eq!(
        changes.to_string(),
        "- node compute\n~ node gw1 (gateway)\n+ node login\n~ workload job (on)"
    );
    assert_eq!(changes.needs_restart(), None);
    let moved = NODES.replace("0.0.0.0:8081", "0.0.0.0:8082");
    assert!(diff(&old, &site(&moved)).needs_restart().is_some());
}

#[test]
fn faults_of_nodes_have_a_place_and_a_hint() {
    let said = |from: &str, to: &str| {
        assert!(NODES.contains(from), "{from}");
        let faults = parse("site.yaml", &NODES.replace(from, to)).unwrap_err();
        faults.to_lines()
    };
    for (from, to, expected) in [
        (
            "[store]",
            "[stroe]",
            "14:17: this site has no node `stroe` (did you mean `store`?)",
        ),
        (
            "[store]",
            "[store, store]",
            "14:24: store is listed twice (remove one of the two)",
        ),
        (
            "[compute]",
            "[]",
            "17:9: `on` names no node (name a node, or remove `on`)",
        ),
        (
            "server: {listen: 0.0.0.0:8081, advertise: server.hokkaido.example:8081}",
            "",
            "5:1: `nodes` need a `server`: they join the site there (add `server: {listen: \
             0.0.0.0:8081, advertise: server.osaka.example:8081}`)",
        ),
        (
            ", advertise: server.hokkaido.example:8081",
            "",
            "4:1: `advertise` is missing: nodes cannot dial \"any address\" (add `advertise: \
             server.osaka.example:8081`)",
        ),
        (
            "  compute: {via: gateway}",
            "  compute: {}\n  my_node: {}",
            "10:3: \"my_node\" is not a name for a node (use a-z, 0-9 and '-', at most 63, such \
             as login1)",
        ),
        (
            "gw2: {",
            "gw2: {via: gateway, ",
            "7:9: a node with a `gateway` has no `via`: it dials other sites itself (remove `via` \
             or `gateway`)",
        ),
        (
            "{via: gateway}",
            "{via: gw1}",
            "9:18: \"gw1\" is not a way out of the site (write `via: gateway`)",
        ),
        (
            "nodes:",
            "gateway: {via: tokyo.example}\nnodes:",
            "15:3: `broker` is on a node, which cannot dial a `gateway` with `via` (remove `on`, \
             or `via` if other sites can dial this one)",
        ),
        (
            "uses: {web: 127.0.0.1:19094}",
            "uses: {web: 127.0.0.1:19093}",
            "18:53: 127.0.0.1:19093 is already used by job for hokkaido.example/broker in line 17 \
             (give each listener its own port)",
        ),
    ] {
        assert_eq!(said(from, to), format!("site.yaml:{expected}"));
    }
    let callers_need_one = NODES
        .replace(
            "{gateway: {listen: 0.0.0.0:8443, advertise: gw1.hokkaido.example:8443, max_lanes: 4, \
             bandwidth: 2 Gbit/s}}",
            "{}",
        )
        .replace("{gateway: {listen: 127.0.0.9:8443}}", "{}");
    let faults = parse("site.yaml", &callers_need_one)
        .unwrap_err()
        .to_lines();
    assert!(faults.contains("`services` need a `gateway`"), "{faults}");
}

/// Nobody opens two listeners of one address unless one process has to.
#[test]
fn listeners_of_different_nodes_may_have_the_same_address() {
    let text = NODES.replace("[unix:user:probe]", "[unix:user:probe], on: [store]");
    site(&text.replace("127.0.0.1:19094", "127.0.0.1:19093"));
    let text = text.replace("store: {}", "store: {gateway: {listen: 127.0.0.9:8443}}");
    site(&text);
    let own = NODES.replace("127.0.0.9:8443", "127.0.0.1:19094");
    let faults = parse("site.yaml", &own).unwrap_err().to_lines();
    assert!(
        faults.contains("is already used by the gateway of gw2"),
        "{faults}"
    );
}
