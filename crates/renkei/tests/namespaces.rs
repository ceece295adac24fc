//! A site of three machines and another site, each in a network namespace of its own: what the
//! nodes say of routes and ports holds where there is no other way.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod lab;

use std::{
    net::{IpAddr, SocketAddr},
    process::Command,
};

use lab::{
    Site,
    network::Machine,
    nodes::{Node, Server},
    own_uid, run, said,
};
use renkei_testkit::{Kafka, python};
use serde_json::Value;

const RECORD: &str = include_str!("programs/kafka_record.py");
/// Where a client of Osaka finds the broker.
const LOCAL: &str = "127.0.0.1:9092";

/// Hokkaido's server, its gateway, the node of its broker, and Osaka.
struct Machines {
    server: Machine,
    gateway: Machine,
    store: Machine,
    osaka: Machine,
}

impl Machines {
    /// The node of the broker has wires to its server and its gateway, and refuses connections.
    fn new() -> Self {
        let machines = Self {
            server: Machine::new("server", [10, 77, 0, 1]),
            gateway: Machine::new("gateway", [10, 77, 0, 2]),
            store: Machine::new("store", [10, 77, 0, 3]),
            osaka: Machine::new("osaka", [10, 77, 0, 4]),
        };
        let Self {
            server,
            gateway,
            store,
            osaka,
        } = &machines;
        store.wire(server);
        store.wire(gateway);
        gateway.wire(server);
        // The bundles of the sites, and the connections of their services.
        osaka.wire(gateway);
        osaka.wire(server);
        store.refuse_connections();
        machines
    }
}

/// The service `broker` on the node `store`, for `collector` of Osaka.
fn start_sites(machines: &Machines, broker: SocketAddr) -> (Server, [Node; 2], Site) {
    let mut server = Server::on("hokkaido", &machines.server, &machines.gateway);
    let mut osaka = Site::new("osaka");
    osaka.namespace = Some(machines.osaka.namespace());
    osaka.gateway = machines.osaka.at(8443);
    // So that `bundle show` has a trust domain to make a CA for.
    osaka.write("");
    server.write(&["store"], "");
    osaka.write(&format!(
        "{}workloads:\n  collector: {{selectors: [{}], uses: {{hokkaido.example/broker: {LOCAL}}}}}\n",
        osaka.peers(&[&server.site]),
        own_uid()
    ));
    let rest = format!(
        "{}services:\n  broker: {{on: [store], protocol: kafka, backends: [{broker}], allow: \
         [osaka.example/collector]}}\n",
        server.site.peers(&[&osaka])
    );
    server.write(&["store"], &rest);
    server.start();
    let gateway = server.join_on(&machines.gateway, "gw1");
    let store = server.join_on(&machines.store, "store");
    osaka.start();
    osaka.wait_linked();
    server.site.wait_linked();
    (server, [gateway, store], osaka)
}

#[test]
fn a_record_reaches_a_broker_behind_a_node_without_an_inbound_port() {
    let machines = Machines::new();
    let kafka = Kafka::start_in(machines.store.namespace());
    let broker = kafka.address(1);
    let (server, [gateway, store], osaka) = start_sites(&machines, broker);
    store.wait("has its link", |status| {
        status["proxy"]["gateway_links"][0]["linked"] == true
    });

    let client = Command::new(python());
    let output = run(machines
        .osaka
        .inside(&client)
        .args(["-c", RECORD])
        .arg(LOCAL));
    assert!(output.status.success(), "{}", said(&output));
    let seen: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(seen["read"], "rain", "{seen}");
    let address: SocketAddr = seen["brokers"][0]
        .as_str()
        .and_then(|text| text.parse().ok())
        .expect("an address");
    assert_eq!(address.ip(), IpAddr::from([127, 0, 0, 1]), "{seen}");
    assert_ne!(address, broker);

    // There was no other way.
    let (admin, listening) = (machines.store.at(22), machines.gateway.at(8443));
    assert!(machines.store.connects(broker), "the broker is there");
    for machine in [&machines.osaka, &machines.gateway, &machines.server] {
        assert!(!machine.connects(broker));
        assert!(!machine.connects(admin));
    }
    assert!(machines.store.connects(listening));
    assert!(!machines.store.connects(machines.osaka.at(8443)));

    // The gateway has carried what it cannot read.
    let of_gateway = gateway.try_status().expect("status");
    assert!(!of_gateway["agent"]["svids"].to_string().contains("/broker"));
    assert_eq!(
        of_gateway["proxy"]["totals"].as_array().map(Vec::len),
        Some(0)
    );
    let of_store = store.try_status().expect("status");
    let total = &of_store["proxy"]["totals"][0];
    assert_eq!(
        total["caller"], "spiffe://osaka.example/collector",
        "{of_store}"
    );
    drop((server, osaka));
}
