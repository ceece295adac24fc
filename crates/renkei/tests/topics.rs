//! Topic rights as Kafka clients see them: two sites, a broker and client libraries that nobody
//! here wrote.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{
    net::{SocketAddr, TcpStream},
    process::Command,
    time::Duration,
};

use lab::{Site, own_uid, run, said};
use renkei_testkit::{Kafka, free_address, program, python};
use serde_json::{Value, json};

const OLD_CLIENTS: &str = include_str!("programs/old_clients.py");
const NEW_GROUPS: &str = include_str!("programs/new_groups.py");
const REQUESTS: &str = include_str!("programs/kafka_requests.py");
const COMPARISON: &str = include_str!("programs/rights.py");
const PROGRAM: &str = include_str!("programs/topics.py");
const RIGHTS: &str =
    "{produce: [weather], consume: [weath*], describe: [quakes], group: [readers]}";

fn offer(hokkaido: &Site, osaka: &Site, broker: SocketAddr, rights: &str) {
    hokkaido.write(&format!(
        "{}services:\n  broker:\n    protocol: kafka\n    backends: [{broker}]\n    allow: \
         [osaka.example/collector]\n    topics: {{osaka.example/collector: {rights}}}\n",
        hokkaido.peers(&[osaka])
    ));
}

/// Two sites: osaka's `collector` reaches hokkaido's broker at the address returned.
fn sites(broker: SocketAddr, rights: &str) -> (Site, Site, SocketAddr) {
    let (mut hokkaido, mut osaka) = (Site::new("hokkaido"), Site::new("osaka"));
    let local = free_address();
    offer(&hokkaido, &osaka, broker, rights);
    osaka.write(&format!(
        "{}workloads:\n  collector: {{selectors: [{}], uses: {{hokkaido.example/broker: {local}}}}}\n",
        osaka.peers(&[&hokkaido]),
        own_uid()
    ));
    hokkaido.start();
    osaka.start();
    hokkaido.wait_linked();
    osaka.wait_linked();
    (hokkaido, osaka, local)
}

#[test]
fn clients_do_what_they_may_and_learn_what_they_may_not() {
    let kafka = Kafka::start(1);
    let address = kafka.address(1);
    let (hokkaido, osaka, local) = sites(address, RIGHTS);
    let output = run(Command::new(python())
        .args(["-c", PROGRAM])
        .args([address.to_string(), local.to_string()]));
    assert!(output.status.success(), "{}", said(&output));
    let seen: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let topic = "TOPIC_AUTHORIZATION_FAILED";
    assert_eq!(
        seen["librdkafka"],
        json!({
            "delivered": {
                "weather": "ok", "quakes": topic, "secret": topic,
                "weather again": "ok", "numbered": "ok",
            },
            "listed": ["quakes", "weather"],
            "hidden": topic,
            "read": ["first", "second", "third", "fourth"],
            "denied": {"quakes": topic, "secret": topic},
            "again": "first",
            "stranger": "GROUP_AUTHORIZATION_FAILED",
            "transport": [],
        })
    );
    let topic = "TopicAuthorizationFailedError";
    assert_eq!(
        seen["kafka_python"],
        json!({
            "delivered": {"weather": "ok", "quakes": topic, "secret": topic, "weather again": "ok"},
            "listed": ["quakes", "weather"],
            "denied": {"quakes": topic, "weather": "first"},
            "stranger": "GroupAuthorizationFailedError",
        })
    );
    told(&hokkaido);
    changed(&hokkaido, &osaka, address, local);
}

/// Denials are counted, and told with their sentence; nothing else was refused.
fn told(hokkaido: &Site) {
    let status = hokkaido.status();
    let counts = status["proxy"]["refused"].as_array().expect("counts");
    let reasons: Vec<_> = counts.iter().map(|count| &count["reason"]).collect();
    assert_eq!(reasons, ["topic_denied"], "{counts:?}");
    let refusals = status["proxy"]["refusals"].as_array().expect("refusals");
    for sentence in [
        "osaka.example/collector may not produce to topic \"quakes\"",
        "osaka.example/collector may not consume topic \"quakes\"",
        "osaka.example/collector may not describe topic \"secret\"",
        "osaka.example/collector may not use group \"others\"",
    ] {
        let told = refusals
            .iter()
            .any(|refusal| refusal["sentence"] == sentence);
        assert!(told, "{sentence} is not among {refusals:#?}");
    }
    assert!(refusals.len() as u64 <= hokkaido.refused("topic_denied"));
}

/// Other rights cut the caller's connections: they hold for whatever comes after.
fn changed(hokkaido: &Site, osaka: &Site, broker: SocketAddr, local: SocketAddr) {
    let mut open = TcpStream::connect(local).expect("connected");
    open.set_read_timeout(Some(Duration::from_secs(20)))
        .expect("timeout");
    let versions = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    std::io::Write::write_all(&mut open, &versions).expect("written");
    std::io::Read::read_exact(&mut open, &mut [0; 8]).expect("an answer");
    offer(hokkaido, osaka, broker, "{consume: [weather]}");
    let applied = hokkaido.apply();
    assert!(applied.status.success(), "{}", said(&applied));
    assert!(said(&applied).contains("topics"), "{}", said(&applied));
    let rest = std::io::Read::read_to_end(&mut open, &mut Vec::new());
    assert!(rest.is_err(), "the connection is reset: {rest:?}");
}

/// The broker's own access control is the measure: a client sees the same of it and of the mesh,
/// when both allow the same.
#[test]
fn a_client_sees_what_the_brokers_own_access_control_would_show_it() {
    let (kafka, account) = Kafka::start_with_account();
    let operator = kafka.address(1);
    let rights = "{produce: [weather], consume: [weather], describe: [quakes], create: [fresh*], \
                  group: [readers]}";
    let (_hokkaido, _osaka, local) = sites(operator, rights);
    let output = run(Command::new(python())
        .args(["-c", COMPARISON])
        .args([operator, account, local].map(|address| address.to_string())));
    assert!(output.status.success(), "{}", said(&output));
    let seen: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let topic = "TOPIC_AUTHORIZATION_FAILED";
    let group = "GROUP_AUTHORIZATION_FAILED";
    let written = json!({"weather": ["ok"], "quakes": [topic], "secret": [topic]});
    let all = json!({
        "listed": ["quakes", "weather"],
        "metadata": {"weather": "ok", "quakes": "ok", "secret": topic, "absent": topic},
        "produced": written,
        "numbered": written,
        "read": {"weather": "first", "quakes": topic, "secret": topic},
        "fetched": {"weather": "first", "quakes": topic},
        "other group": group,
        "groups": {"readers": "ok", "others": group},
        "transaction": "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
        "made": ["ok", topic],
        "without acks": {"weather": "open", "quakes": "closed", "secret": "closed"},
    });
    assert_eq!(seen["broker"], all, "the broker");
    assert_eq!(seen["mesh"], all, "the mesh");
}

/// Runs a step of `old_clients.py` with the client of that folder, or with today's.
fn client(folder: Option<&str>, step: &str, mesh: SocketAddr, kafka: &Kafka) -> Value {
    let mut command = Command::new(python());
    if let Some(folder) = folder {
        command.env("PYTHONPATH", program("RENKEI_OLD_CLIENTS").join(folder));
    }
    let output = run(command
        .args(["-c", OLD_CLIENTS, step])
        .args([mesh, kafka.address(1)].map(|address| address.to_string()))
        .arg(kafka.folder()));
    assert!(output.status.success(), "{step}: {}", said(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn clients_of_earlier_years_write_and_read() {
    let kafka = Kafka::start(1);
    let rights = "{produce: [weather], consume: [weather], group: [readers]}";
    let (hokkaido, osaka, mesh) = sites(kafka.address(1), rights);
    client(None, "prepare", mesh, &kafka);
    for folder in [Some("kafka-python"), None] {
        let seen = client(folder, "kafka-python", mesh, &kafka);
        assert_eq!(
            seen["read"],
            json!([[["first"], 1], [["second"], 2]]),
            "{seen}"
        );
    }
    for folder in [Some("confluent-kafka"), None] {
        let seen = client(folder, "librdkafka", mesh, &kafka);
        assert_eq!(seen["failed"], json!([]), "{seen}");
        let codecs = json!(["gzip", "lz4", "snappy", "zstd"]);
        assert_eq!(seen["codecs"], codecs, "{seen}");
    }
    for site in [&hokkaido, &osaka] {
        assert_eq!(site.status()["proxy"]["refused"], json!([]));
    }
}

/// The group protocol of KIP-848 is not carried, and nobody waits for it.
#[test]
fn a_consumer_with_the_new_group_protocol_is_told_that_it_is_not_carried() {
    let kafka = Kafka::start(1);
    let rights = "{consume: [weather], group: [readers]}";
    let (hokkaido, _osaka, mesh) = sites(kafka.address(1), rights);
    let output = run(Command::new(python())
        .args(["-c", NEW_GROUPS])
        .args([mesh, kafka.address(1)].map(|address| address.to_string())));
    assert!(output.status.success(), "{}", said(&output));
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let sentence = told.as_str().expect("an error");
    let reason = "ConsumerGroupHeartbeat fatal error: Broker: API version not supported";
    assert!(sentence.contains(reason), "{told}");
    let output = kafka.tool_at(
        mesh,
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        &[
            "--topic",
            "weather",
            "--group",
            "readers",
            "--command-property",
            "group.protocol=consumer",
            "--timeout-ms",
            "60000",
        ],
    );
    let sentence = said(&output);
    assert!(
        sentence.contains("UnsupportedVersionException"),
        "{sentence}"
    );
    assert!(hokkaido.refused("unsupported_request") > 0);
}

/// How every request of every version in the message definitions is answered at an address.
fn answered(address: SocketAddr) -> Vec<(String, i16, Value)> {
    let jar = program("RENKEI_KAFKA").join("kafka-clients-4.4.0.jar");
    let output = run(Command::new(python())
        .args(["-c", REQUESTS])
        .arg(jar)
        .arg(address.to_string()));
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn every_request_of_the_message_definitions_is_carried_or_answered() {
    let kafka = Kafka::start(1);
    let broker = kafka.address(1);
    let direct = answered(broker);
    let all = "{produce: ['*'], consume: ['*'], create: ['*'], describe: ['*'], group: ['*']}";
    let (hokkaido, osaka, mesh) = sites(broker, all);
    let mut seen = vec![answered(mesh)];
    // The same without topic rights.
    hokkaido.write(&format!(
        "{}services:\n  broker: {{protocol: kafka, backends: [{broker}], allow: \
         [osaka.example/collector]}}\n",
        hokkaido.peers(&[&osaka])
    ));
    let applied = hokkaido.apply();
    assert!(applied.status.success(), "{}", said(&applied));
    seen.push(answered(mesh));
    let mut faults = Vec::new();
    for (by_mesh, way) in seen.iter().zip(["with topics", "without"]) {
        assert_eq!(by_mesh.len(), direct.len());
        for ((name, version, answer), (_, _, by_broker)) in by_mesh.iter().zip(&direct) {
            // The one has a place for errors only from version 3 on; the other, which only brokers
            // send, has them for partitions.
            let bare = ["DescribeLogDirs", "WriteTxnMarkers"].contains(&name.as_str());
            if bare && answer == &json!([]) {
                continue;
            }
            let refused = answer
                .as_array()
                .is_some_and(|codes| codes.contains(&json!(35)));
            let alike = answer.is_array() && by_broker.is_array() || answer == by_broker;
            if !refused && !alike {
                faults.push(format!(
                    "{way}: {name} {version}: {answer}, by the broker {by_broker}"
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}
