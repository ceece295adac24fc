//! Rewritten answers, checked by another implementation of the protocol.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
    TopicProduceResponse,
};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, DescribeClusterResponse, FindCoordinatorResponse,
    MetadataResponse, ProduceResponse, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use proptest::prelude::*;

use super::*;
use crate::api;

/// What is offered where no topic rights are in force.
const EVERYTHING: Offer = Offer {
    versions: api::carried,
    feature: api::carries_feature,
};

const BROKERS: [(i32, &str, u16); 3] = [
    (0, "broker-0.hokkaido.internal", 9092),
    (7, "10.1.2.3", 9093),
    (111, "b", 65535),
];

/// A local port for each node id, checking what was said of it.
fn local(node: i32, host: &str, port: u16) -> Option<Endpoint> {
    assert!(
        BROKERS.contains(&(node, host, port)),
        "{node} {host} {port}"
    );
    Some(Endpoint {
        host: "127.0.0.13".into(),
        port: port_of(node),
    })
}

fn port_of(node: i32) -> u16 {
    19092 + node as u16
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// The same brokers as the client shall see them.
fn seen() -> [(i32, &'static str, u16); 3] {
    BROKERS.map(|(node, _, _)| (node, "127.0.0.13", port_of(node)))
}

pub(crate) fn encode<M: Encodable + HeaderVersion>(id: i32, message: &M, version: i16) -> Bytes {
    let mut body = BytesMut::new();
    let header = ResponseHeader::default().with_correlation_id(id);
    header
        .encode(&mut body, M::header_version(version))
        .expect("header");
    message.encode(&mut body, version).expect("body");
    let mut frame = BytesMut::new();
    frame.put_i32(body.len() as i32);
    frame.extend_from_slice(&body);
    frame.freeze()
}

pub(crate) fn decode<M: Decodable + HeaderVersion>(mut frame: Bytes, version: i16) -> (i32, M) {
    assert_eq!(frame.get_i32() as usize, frame.len());
    let header = ResponseHeader::decode(&mut frame, M::header_version(version)).expect("header");
    let message = M::decode(&mut frame, version).expect("body");
    assert!(frame.is_empty(), "bytes are left over");
    (header.correlation_id, message)
}

/// Rewrites `sent` and compares it with `expected`, both as the other implementation sees them.
fn check<M>(answer: Answer, version: i16, sent: &M, expected: &M)
where
    M: Encodable + Decodable + HeaderVersion + PartialEq + std::fmt::Debug,
{
    let frame = answer
        .rewrite(&encode(42, sent, version), &mut local, EVERYTHING)
        .expect("rewritten");
    assert_eq!(frame, encode(42, expected, version), "version {version}");
    assert_eq!(
        &decode::<M>(frame, version).1,
        expected,
        "version {version}"
    );
}

fn metadata(version: i16, brokers: &[(i32, &str, u16)]) -> MetadataResponse {
    let topics = ["quakes", "weather"].map(|name| {
        let partition = MetadataResponsePartition::default()
            .with_leader_id(BrokerId(7))
            .with_replica_nodes(vec![BrokerId(7), BrokerId(0)]);
        MetadataResponseTopic::default()
            .with_name(Some(TopicName(text(name))))
            .with_partitions(vec![partition; 3])
    });
    let mut answer = MetadataResponse::default()
        .with_brokers(
            brokers
                .iter()
                .map(|broker| metadata_broker(version, *broker))
                .collect(),
        )
        .with_cluster_id((version >= 2).then(|| text("cluster")))
        .with_topics(topics.into());
    if version >= 9 {
        answer = answer.with_unknown_tagged_field(99, Bytes::from_static(b"kept"));
    }
    answer
}

fn metadata_broker(version: i16, broker: (i32, &str, u16)) -> MetadataResponseBroker {
    let (node, host, port) = broker;
    let mut broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(node))
        .with_host(text(host))
        .with_port(port.into());
    if version >= 1 && node == 7 {
        broker = broker.with_rack(Some(text("rack-7")));
    }
    if version >= 9 {
        broker = broker.with_unknown_tagged_field(5, Bytes::from_static(&[0; 200]));
    }
    broker
}

#[test]
fn metadata_names_local_listeners_in_every_version() {
    for version in 0..=13 {
        let (sent, expected) = (metadata(version, &BROKERS), metadata(version, &seen()));
        check(Answer::Metadata(version), version, &sent, &expected);
    }
}

#[test]
fn a_single_coordinator_is_rewritten_and_its_absence_survives() {
    for version in 0..=3 {
        for ((node, host, port), seen) in BROKERS.into_iter().zip(seen()) {
            let answer = |host, port: u16| {
                let answer = FindCoordinatorResponse::default().with_node_id(BrokerId(node));
                answer.with_host(text(host)).with_port(port.into())
            };
            let (sent, expected) = (answer(host, port), answer(seen.1, seen.2));
            check(Answer::FindCoordinator(version), version, &sent, &expected);
        }
        let none = FindCoordinatorResponse::default()
            .with_error_code(15)
            .with_node_id(BrokerId(-1))
            .with_port(-1);
        check(Answer::FindCoordinator(version), version, &none, &none);
    }
}

#[test]
fn coordinators_in_a_batch_are_each_rewritten() {
    let coordinators = |brokers: &[(i32, &str, u16)]| {
        let mut all: Vec<_> = brokers
            .iter()
            .map(|(node, host, port)| {
                Coordinator::default()
                    .with_key(text("group"))
                    .with_node_id(BrokerId(*node))
                    .with_host(text(host))
                    .with_port((*port).into())
                    .with_unknown_tagged_field(3, Bytes::from_static(b"kept"))
            })
            .collect();
        let absent = Coordinator::default()
            .with_node_id(BrokerId(-1))
            .with_port(-1);
        all.push(absent.with_error_code(15).with_error_message(None));
        FindCoordinatorResponse::default().with_coordinators(all)
    };
    for version in 4..=6 {
        let (sent, expected) = (coordinators(&BROKERS), coordinators(&seen()));
        check(Answer::FindCoordinator(version), version, &sent, &expected);
    }
}

#[test]
fn a_node_that_is_no_broker_cannot_carry_an_address() {
    let sneaky = FindCoordinatorResponse::default()
        .with_node_id(BrokerId(-2))
        .with_host(text("10.6.6.6"))
        .with_port(9092);
    let blank = FindCoordinatorResponse::default()
        .with_node_id(BrokerId(-2))
        .with_port(-1);
    check(Answer::FindCoordinator(0), 0, &sneaky, &blank);
}

#[test]
fn describe_cluster_is_rewritten_in_every_version() {
    for version in 0..=2 {
        let answer = |brokers: &[(i32, &str, u16)]| {
            let brokers = brokers.iter().map(|(node, host, port)| {
                DescribeClusterBroker::default()
                    .with_broker_id(BrokerId(*node))
                    .with_host(text(host))
                    .with_port((*port).into())
                    .with_rack((*node == 0).then(|| text("rack")))
                    .with_is_fenced(version == 2 && *node == 7)
            });
            DescribeClusterResponse::default()
                .with_error_message(Some(text("")))
                .with_cluster_id(text("cluster"))
                .with_brokers(brokers.collect())
                .with_unknown_tagged_field(1, Bytes::from_static(b"kept"))
        };
        let (sent, expected) = (answer(&BROKERS), answer(&seen()));
        check(Answer::DescribeCluster(version), version, &sent, &expected);
    }
}

fn produced(version: i16, brokers: &[(i32, &str, u16)]) -> ProduceResponse {
    let refused =
        BatchIndexAndErrorMessage::default().with_batch_index_error_message(Some(text("too old")));
    let partition = PartitionProduceResponse::default()
        .with_error_code(6)
        .with_record_errors(vec![refused])
        .with_error_message(Some(text("not the leader")))
        .with_current_leader(LeaderIdAndEpoch::default().with_leader_id(BrokerId(7)));
    let mut topic = TopicProduceResponse::default().with_partition_responses(vec![partition; 2]);
    if version < 13 {
        topic = topic.with_name(TopicName(text("quakes")));
    }
    let endpoints = brokers.iter().map(|(node, host, port)| {
        NodeEndpoint::default()
            .with_node_id(BrokerId(*node))
            .with_host(text(host))
            .with_port((*port).into())
    });
    ProduceResponse::default()
        .with_responses(vec![topic; 2])
        .with_node_endpoints(endpoints.collect())
        .with_unknown_tagged_field(9, Bytes::from_static(b"kept"))
}

#[test]
fn the_new_leaders_named_by_produce_are_local() {
    for version in 10..=13 {
        let (sent, expected) = (produced(version, &BROKERS), produced(version, &seen()));
        check(Answer::Produce(version), version, &sent, &expected);
        let without = produced(version, &[]);
        check(Answer::Produce(version), version, &without, &without);
    }
    assert_eq!(Answer::of(ApiKey::Produce as i16, 9), None);
}

fn offer(keys: &[(i16, i16, i16)]) -> ApiVersionsResponse {
    let keys = keys.iter().map(|(key, min, max)| {
        ApiVersion::default()
            .with_api_key(*key)
            .with_min_version(*min)
            .with_max_version(*max)
    });
    ApiVersionsResponse::default().with_api_keys(keys.collect())
}

/// What a broker of the future offers, and what is left of it.
const OFFERED: &[(i16, i16, i16)] = &[
    (0, 0, 14),
    (1, 4, 18),
    (3, 0, 9),
    (18, 0, 5),
    (78, 0, 2),
    (999, 0, 0),
    (60, 3, 4),
];
const CARRIED: &[(i16, i16, i16)] = &[(0, 0, 13), (1, 4, 15), (3, 0, 9), (18, 0, 5)];

#[test]
fn the_offer_is_what_both_the_broker_and_the_proxy_know() {
    for version in 0..=4 {
        let supported = |name: &&str| {
            SupportedFeatureKey::default()
                .with_name(text(name))
                .with_max_version(2)
        };
        let finalized = |name: &&str| FinalizedFeatureKey::default().with_name(text(name));
        let with_features = |answer: ApiVersionsResponse, features: &[&str]| match version {
            ..3 => answer,
            _ => answer
                .with_supported_features(features.iter().map(supported).collect())
                .with_finalized_features(features.iter().map(finalized).collect())
                .with_finalized_features_epoch(7),
        };
        let offered = ["streams.version", "group.version", "share.version", "other"];
        let (sent, expected) = (
            with_features(offer(OFFERED), &offered),
            with_features(offer(CARRIED), &["group.version"]),
        );
        check(Answer::ApiVersions(version), version, &sent, &expected);
    }
}

#[test]
fn a_version_that_the_broker_or_the_proxy_does_not_know_is_answered_in_version_0() {
    let refusal = offer(OFFERED).with_error_code(UNSUPPORTED_VERSION);
    let expected = offer(CARRIED).with_error_code(UNSUPPORTED_VERSION);
    for (answer, sent) in [
        (Answer::ApiVersions(4), refusal),
        (Answer::FutureApiVersions, offer(OFFERED)),
    ] {
        let frame = answer
            .rewrite(&encode(1, &sent, 0), &mut local, EVERYTHING)
            .expect("rewritten");
        assert_eq!(
            decode::<ApiVersionsResponse>(frame, 0),
            (1, expected.clone())
        );
    }
}

#[test]
fn a_refusal_of_a_version_reaches_the_client_in_any_form() {
    let own = offer(OFFERED).with_error_code(UNSUPPORTED_VERSION);
    let frame = Answer::ApiVersions(3)
        .rewrite(&encode(1, &own, 3), &mut local, EVERYTHING)
        .expect("rewritten");
    let expected = offer(CARRIED).with_error_code(UNSUPPORTED_VERSION);
    assert_eq!(decode::<ApiVersionsResponse>(frame, 3), (1, expected));
    let bare = [0, 0, 0, 6, 0, 0, 0, 1, 0, 35];
    let frame = Answer::ApiVersions(3)
        .rewrite(&bare, &mut local, EVERYTHING)
        .expect("rewritten");
    let expected = offer(&[]).with_error_code(UNSUPPORTED_VERSION);
    assert_eq!(decode::<ApiVersionsResponse>(frame, 0), (1, expected));
}

#[test]
fn counts_without_data_end_quietly() {
    for (answer, body) in [
        (Answer::Metadata(0), &[0x7f, 0xff, 0xff, 0xff][..]),
        (
            Answer::Metadata(9),
            &[0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f],
        ),
        (Answer::Metadata(9), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        (Answer::ApiVersions(0), &[0, 0, 0x7f, 0xff, 0xff, 0xff]),
        (Answer::Metadata(0), &[]),
    ] {
        let mut frame = BytesMut::new();
        frame.put_i32(body.len() as i32 + 4);
        frame.put_i32(1);
        frame.extend_from_slice(body);
        let fault = SessionError::MalformedAnswer {
            api: answer.api(),
            fault: WireFault::Truncated,
        };
        assert_eq!(answer.rewrite(&frame, &mut local, EVERYTHING), Err(fault));
    }
}

#[test]
fn a_broker_without_a_listener_ends_the_session() {
    let frame = encode(1, &metadata(5, &BROKERS), 5);
    let refused =
        Answer::Metadata(5).rewrite(&frame, &mut |_: i32, _: &str, _: u16| None, EVERYTHING);
    assert_eq!(refused, Err(SessionError::NoEndpoint { node: 0 }));
}

fn answers() -> impl Strategy<Value = Answer> {
    prop_oneof![
        (0..=13_i16).prop_map(Answer::Metadata),
        (0..=6_i16).prop_map(Answer::FindCoordinator),
        (0..=2_i16).prop_map(Answer::DescribeCluster),
        (10..=13_i16).prop_map(Answer::Produce),
        (0..=4_i16).prop_map(Answer::ApiVersions),
        Just(Answer::FutureApiVersions),
    ]
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(answer in answers(), body: Vec<u8>) {
        let any = &mut |_: i32, _: &str, port: u16| Some(Endpoint { host: "::1".into(), port });
        let _ = answer.rewrite(&body, any, EVERYTHING);
    }

    #[test]
    fn damaged_answers_never_panic(version in 0..=13_i16, at: prop::sample::Index, byte: u8) {
        let any = &mut |_: i32, _: &str, port: u16| Some(Endpoint { host: "::1".into(), port });
        let mut frame = encode(1, &metadata(version, &BROKERS), version).to_vec();
        let at = at.index(frame.len());
        frame[at] = byte;
        let _ = Answer::Metadata(version).rewrite(&frame, any, EVERYTHING);
    }
}
