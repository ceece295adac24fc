//! A site of several machines: a server, a gateway, and a node with a service, each a process of
//! its own.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod lab;

use lab::{
    SOON, Site, echo, exchange, exchange_soon,
    nodes::{Node, Server},
    own_uid, run, said,
};
use renkei_testkit::{Child, free_address, wait_for};
use tempfile::TempDir;

/// The rest of a site file with the service `echo` on the node `store`.
fn echo_on_store(server: &Server, osaka: &Site, callers: &str) -> String {
    format!(
        "{}services:\n  echo: {{on: [store], backends: [{}], allow: [{callers}]}}\n",
        server.site.peers(&[osaka]),
        echo()
    )
}

struct Lab {
    server: Server,
    gateway: Node,
    store: Node,
    osaka: Site,
    /// Where `collector` of Osaka reaches `echo` of Hokkaido.
    local: std::net::SocketAddr,
}

impl Lab {
    fn start() -> Self {
        let (mut server, mut osaka) = (Server::new("hokkaido"), Site::new("osaka"));
        let local = free_address();
        // So that `bundle show` has a trust domain to make a CA for.
        server.write(&["store"], "");
        osaka.write(&lab::caller(&osaka, &server.site, local));
        let rest = echo_on_store(&server, &osaka, "osaka.example/collector");
        server.write(&["store"], &rest);
        server.start();
        let (gateway, store) = (server.join("gw1"), server.join("store"));
        osaka.start();
        osaka.wait_linked();
        Self {
            server,
            gateway,
            store,
            osaka,
            local,
        }
    }
}

#[test]
fn a_service_on_a_node_is_reached_from_another_site_through_the_gateway_node() {
    let mut lab = Lab::start();
    exchange_soon(lab.local, b"to the node");
    let of_gateway = lab.gateway.try_status().expect("status");
    let held = of_gateway["agent"]["svids"].as_array().expect("identities");
    let holds = |name: &str| {
        held.iter()
            .any(|svid| svid["id"].as_str().is_some_and(|id| id.ends_with(name)))
    };
    assert!(holds("/renkei/node/gw1") && !holds("/echo"), "{held:?}");
    let text = lab.store.text();
    assert!(text.contains("store (hokkaido.example)"), "{text}");
    assert!(text.contains("connected"), "{text}");
    for node in [&lab.gateway, &lab.store] {
        assert_eq!(node.written(), Vec::<std::path::PathBuf>::new());
    }

    // Without the server everything goes on, and is said so.
    lab.server.site.process().kill();
    for node in [&lab.gateway, &lab.store] {
        node.wait("misses its server", |status| {
            status["node"]["last_error"].is_string()
        });
    }
    exchange_soon(lab.local, b"without the server");
    lab.server.start();
    for node in [&lab.gateway, &lab.store] {
        node.wait("has its server again", |status| {
            status["node"]["connected_since"].is_string()
        });
    }
    exchange_soon(lab.local, b"with the server");

    // A change of the site file reaches the node that holds the service.
    let rest = echo_on_store(&lab.server, &lab.osaka, "");
    lab.server.write(&["store"], &rest);
    let applied = lab.server.site.apply();
    assert!(applied.status.success(), "{}", said(&applied));
    wait_for("the service is closed to the caller", SOON, || {
        exchange(lab.local, b"no more")
            .map_or(true, |got| got.is_empty())
            .then_some(())
    });
}

/// A node that was broken into does not give up anything by itself: this one is stopped.
#[test]
fn a_gateway_cuts_the_link_of_a_node_that_is_banned() {
    let lab = Lab::start();
    exchange_soon(lab.local, b"before");
    let is_linked = |status: &serde_json::Value| {
        let links = status["proxy"]["node_links"].as_array();
        links.is_some_and(|links| !links.is_empty())
    };
    assert!(is_linked(&lab.gateway.try_status().expect("status")));
    lab.store.process.signal("STOP");
    let ban = ["node", "ban", "--name", "store"];
    let banned = run(lab.server.site.command(&ban));
    assert!(banned.status.success(), "{}", said(&banned));
    lab.gateway
        .wait("knows no link of the node", |status| !is_linked(status));
    lab.store.process.signal("CONT");
    wait_for("the node gives up its identities", SOON, || {
        lab.store.text().contains("banned").then_some(())
    });
}

#[test]
fn a_token_is_for_one_node_once() {
    let mut server = Server::new("hokkaido");
    server.write(&["store"], "");
    server.start();
    let token = server.token("store");
    let folder = TempDir::with_prefix("renkei-node-").expect("folder");
    let mut first = server.joining(&token, &folder.path().join("one"));
    let mut first = Child::start("store", &mut first);
    wait_for("it has joined", SOON, || {
        assert!(first.is_running(), "{}", first.output());
        first
            .output()
            .contains("this machine is a node of the site")
            .then_some(())
    });
    let again = run(&mut server.joining(&token, &folder.path().join("two")));
    let text = said(&again);
    assert!(!again.status.success(), "{text}");
    assert!(text.contains("the server refuses this node"), "{text}");
    assert!(text.contains("renkei node token"), "{text}");
}

#[test]
fn an_address_in_use_on_a_node_is_the_fault_of_its_listener_alone() {
    let mut server = Server::new("hokkaido");
    let (taken, free) = (
        std::net::TcpListener::bind("127.0.0.1:0").expect("listener"),
        free_address(),
    );
    let rest = format!(
        "services:\n  echo: {{on: [store], backends: [{}], allow: [hokkaido.example/one]}}\n\
         workloads:\n  one: {{on: [login], selectors: [{uid}], uses: {{echo: {free}}}}}\n  \
         two: {{on: [login], selectors: [{uid}], uses: {{echo: {}}}}}\n",
        echo(),
        taken.local_addr().expect("address"),
        uid = own_uid(),
    );
    server.write(&["store", "login"], &rest);
    server.start();
    let _others = [server.join("gw1"), server.join("store")];
    let login = server.join("login");
    let status = login.wait("says what is in its way", |status| {
        status["node"]["faults"][0].is_object()
    });
    let fault = &status["node"]["faults"][0];
    assert!(fault["item"].to_string().contains("two"), "{fault}");
    assert!(login.text().contains("already listens"), "{}", login.text());
    exchange_soon(free, b"inside the site");

    drop(taken);
    login.wait("has opened it", |status| {
        status["node"]["faults"]
            .as_array()
            .is_some_and(Vec::is_empty)
    });
}
