//! Judged requests and amended answers, checked by another implementation of the protocol in
//! every version that is offered.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::{FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use proptest::prelude::*;
use renkei_access::TopicRights;

use super::table;
use crate::rewrite::Endpoint;
use crate::{KafkaSession, SessionError};

const CORRELATION: i32 = 77;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic(name: &str) -> TopicName {
    TopicName(text(name))
}

fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

/// May write and read `weather-*`, read `quakes`, create `weather-new`, and use `readers`.
fn rights() -> TopicRights {
    let names = |names: &[&str]| names.iter().copied().collect();
    TopicRights {
        produce: names(&["weather-*"]),
        consume: names(&["weather-*", "quakes"]),
        create: names(&["weather-new"]),
        describe: names(&["seen"]),
        group: names(&["readers"]),
    }
}

fn framed(body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i32(body.len() as i32);
    frame.extend_from_slice(body);
    frame.freeze()
}

fn request<M: Encodable + HeaderVersion>(key: ApiKey, version: i16, message: &M) -> Bytes {
    let mut body = BytesMut::new();
    RequestHeader::default()
        .with_request_api_key(key as i16)
        .with_request_api_version(version)
        .with_correlation_id(CORRELATION)
        .with_client_id(Some(text("a client")))
        .encode(&mut body, M::header_version(version))
        .expect("header");
    message.encode(&mut body, version).expect("body");
    framed(&body)
}

fn answer<M: Encodable + HeaderVersion>(version: i16, message: &M) -> Bytes {
    let mut body = BytesMut::new();
    ResponseHeader::default()
        .with_correlation_id(CORRELATION)
        .encode(&mut body, M::header_version(version))
        .expect("header");
    message.encode(&mut body, version).expect("body");
    framed(&body)
}

fn decode_answer<M: Decodable + HeaderVersion>(mut frame: Bytes, version: i16) -> M {
    assert_eq!(frame.get_i32() as usize, frame.len());
    let header = ResponseHeader::decode(&mut frame, M::header_version(version)).expect("header");
    assert_eq!(header.correlation_id, CORRELATION);
    let message = M::decode(&mut frame, version).expect("body");
    assert!(frame.is_empty(), "bytes are left over");
    message
}

/// One request and its answer, in pieces of `size`.
struct Exchange {
    session: KafkaSession,
    size: usize,
}

impl Exchange {
    fn new(size: usize) -> Self {
        let session = KafkaSession::with_rights(Arc::new(rights()));
        Self { session, size }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<Bytes, SessionError> {
        let (mut input, mut out) = (BytesMut::new(), Vec::new());
        for piece in bytes.chunks(self.size) {
            input.extend_from_slice(piece);
            self.session.client_to_broker(&mut input, &mut out)?;
        }
        Ok(out.concat().into())
    }

    fn reply(&mut self, bytes: &[u8]) -> Result<Bytes, SessionError> {
        let (mut input, mut out) = (BytesMut::new(), Vec::new());
        let mut local = |_: i32, _: &str, port: u16| {
            let host = "local".to_owned();
            Some(Endpoint { host, port })
        };
        for piece in bytes.chunks(self.size) {
            input.extend_from_slice(piece);
            self.session
                .broker_to_client(&mut input, &mut local, &mut out)?;
        }
        assert!(self.session.is_idle());
        Ok(out.concat().into())
    }
}

/// Sends `sent` in some version. The broker shall see `expected`, or nothing of it; it answers
/// with `answers`, and the client shall see `shown`.
fn check<Q, A>(
    key: ApiKey,
    version: i16,
    (sent, expected): (&Q, Option<&Q>),
    (answers, shown): (&A, &A),
    denials: &[&str],
) where
    Q: Encodable + HeaderVersion,
    A: Encodable + Decodable + HeaderVersion + PartialEq + std::fmt::Debug,
{
    for size in [1, 7, usize::MAX] {
        let mut exchange = Exchange::new(size);
        let seen = exchange.send(&request(key, version, sent)).expect("judged");
        let broker = match expected {
            Some(expected) => {
                assert_eq!(seen, request(key, version, expected), "{key:?} {version}");
                answer(version, answers)
            }
            None => {
                assert_eq!(seen[4..8], [0, 18, 0, 0], "{key:?} {version}: a stand-in");
                answer(0, &ApiVersionsResponse::default())
            }
        };
        let client = exchange.reply(&broker).expect("answered");
        assert_eq!(
            &decode_answer::<A>(client, version),
            shown,
            "{key:?} {version}"
        );
        let told: Vec<_> = exchange
            .session
            .take_denials()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(told, denials, "{key:?} {version}");
    }
}

fn versions(key: ApiKey) -> std::ops::RangeInclusive<i16> {
    let (min, max) = super::carried(key as i16).expect("carried");
    let known = key.valid_versions();
    min.max(known.min)..=max.min(known.max)
}

fn produce(topics: &[&str]) -> ProduceRequest {
    let partition = |index| {
        let records = Bytes::from(vec![index as u8; 5000]);
        PartitionProduceData::default()
            .with_index(index)
            .with_records(Some(records))
    };
    let data = |name: &&str| {
        let partitions = vec![partition(3), partition(4)];
        TopicProduceData::default()
            .with_name(topic(name))
            .with_partition_data(partitions)
    };
    ProduceRequest::default()
        .with_acks(-1)
        .with_topic_data(topics.iter().map(data).collect())
}

fn produced(topics: &[(&str, i16)]) -> ProduceResponse {
    let data = |(name, error): &(&str, i16)| {
        let partition = |index| {
            let base = if *error == 0 { 55 } else { -1 };
            PartitionProduceResponse::default()
                .with_index(index)
                .with_error_code(*error)
                .with_base_offset(base)
                .with_log_append_time_ms(-1)
        };
        TopicProduceResponse::default()
            .with_name(topic(name))
            .with_partition_responses(vec![partition(3), partition(4)])
    };
    ProduceResponse::default().with_responses(topics.iter().map(data).collect())
}

#[test]
fn produce_is_cut_down_to_what_is_allowed() {
    for version in versions(ApiKey::Produce) {
        let key = ApiKey::Produce;
        let ok = produced(&[("weather-1", 0), ("weather-2", 0)]);
        let sent = produce(&["weather-1", "weather-2"]);
        check(key, version, (&sent, Some(&sent)), (&ok, &ok), &[]);
        let sent = produce(&["secret", "weather-1", "quakes", "weather-2"]);
        let left = produce(&["weather-1", "weather-2"]);
        let shown = produced(&[
            ("secret", 29),
            ("quakes", 29),
            ("weather-1", 0),
            ("weather-2", 0),
        ]);
        let told = ["produce to topic \"secret\"", "produce to topic \"quakes\""];
        check(key, version, (&sent, Some(&left)), (&ok, &shown), &told);
        let sent = produce(&["secret"]);
        let shown = produced(&[("secret", 29)]);
        check(key, version, (&sent, None), (&ok, &shown), &told[..1]);
        let id = TransactionalId(text("mine"));
        let sent = produce(&["weather-1"]).with_transactional_id(Some(id));
        let shown = produced(&[("weather-1", 53)]);
        check(
            key,
            version,
            (&sent, None),
            (&ok, &shown),
            &["use transactional id \"mine\""],
        );
    }
}

#[test]
fn an_allowed_produce_request_for_one_topic_leaves_before_it_is_complete() {
    let mut session = KafkaSession::with_rights(Arc::new(rights()));
    let frame = request(ApiKey::Produce, 9, &produce(&["weather-1"]));
    let (mut input, mut out) = (BytesMut::from(&frame[..200]), Vec::new());
    session
        .client_to_broker(&mut input, &mut out)
        .expect("first part");
    assert_eq!(out.concat(), frame[..200]);
    let frame = request(ApiKey::Produce, 9, &produce(&["weather-1", "secret"]));
    let mut session = KafkaSession::with_rights(Arc::new(rights()));
    let (mut input, mut out) = (BytesMut::from(&frame[..200]), Vec::new());
    session
        .client_to_broker(&mut input, &mut out)
        .expect("first part");
    assert!(out.is_empty());
}

#[test]
fn record_batches_of_trimmed_requests_are_slices() {
    let frame = request(ApiKey::Produce, 9, &produce(&["secret", "weather-1"]));
    let mut session = KafkaSession::with_rights(Arc::new(rights()));
    let (mut input, mut out) = (BytesMut::from(&frame[..]), Vec::new());
    let held = input.as_ptr() as usize..input.as_ptr() as usize + input.len();
    session
        .client_to_broker(&mut input, &mut out)
        .expect("judged");
    let batches: Vec<_> = out.iter().filter(|slice| slice.len() > 5000).collect();
    assert_eq!(batches.len(), 1);
    assert!(held.contains(&(batches[0].as_ptr() as usize)));
}

#[test]
fn produce_without_acks_is_denied_by_closing_after_what_is_allowed() {
    for version in versions(ApiKey::Produce) {
        for (topics, left) in [
            (
                &["secret", "weather-1"][..],
                Some(produce(&["weather-1"]).with_acks(0)),
            ),
            (&["secret"], None),
        ] {
            let mut exchange = Exchange::new(usize::MAX);
            let sent = produce(topics).with_acks(0);
            let seen = exchange.send(&request(ApiKey::Produce, version, &sent));
            let expected = left.map_or(Bytes::new(), |left| {
                request(ApiKey::Produce, version, &left)
            });
            assert_eq!(seen, Ok(expected));
            assert_eq!(exchange.session.take_denials().len(), 1);
            assert_eq!(
                exchange.session.end(),
                Some(&SessionError::DeniedWithoutAcks)
            );
            let allowed = request(ApiKey::Produce, version, &produce(&["weather-1"]));
            assert_eq!(
                exchange.send(&allowed),
                Ok(Bytes::new()),
                "nothing after it"
            );
        }
        let mut exchange = Exchange::new(usize::MAX);
        let sent = request(
            ApiKey::Produce,
            version,
            &produce(&["weather-1"]).with_acks(0),
        );
        assert_eq!(exchange.send(&sent), Ok(sent.clone()));
        assert!(exchange.session.is_idle());
        assert_eq!(exchange.send(&sent), Ok(sent));
    }
}

#[test]
fn what_came_before_a_denied_request_without_an_answer_is_answered_first() {
    let mut session = KafkaSession::with_rights(Arc::new(rights()));
    let allowed = request(ApiKey::Produce, 9, &produce(&["weather-1"]));
    let denied = request(ApiKey::Produce, 9, &produce(&["secret"]).with_acks(0));
    let (mut input, mut out) = (BytesMut::new(), Vec::new());
    // In one piece, with more behind it, and once more in another.
    for bytes in [&allowed, &denied, &allowed] {
        input.extend_from_slice(bytes);
    }
    session
        .client_to_broker(&mut input, &mut out)
        .expect("judged");
    assert_eq!(out.concat(), allowed);
    assert_eq!(session.end(), None, "an answer is awaited");
    input.extend_from_slice(&allowed);
    out.clear();
    session
        .client_to_broker(&mut input, &mut out)
        .expect("dropped");
    assert!(out.is_empty() && input.is_empty());
    // The answer comes in two pieces: its length and the id that the requests here have, the rest.
    let id = &allowed[8..12];
    let mut answer = BytesMut::from(&[&[0, 0, 0, 8], id].concat()[..]);
    let mut local = |_: i32, _: &str, _: u16| None;
    session
        .broker_to_client(&mut answer, &mut local, &mut out)
        .expect("the beginning");
    assert_eq!(session.end(), None, "half an answer");
    answer.extend_from_slice(&[1, 2, 3, 4]);
    session
        .broker_to_client(&mut answer, &mut local, &mut out)
        .expect("the rest");
    assert_eq!(out.concat()[8..], [1, 2, 3, 4]);
    assert_eq!(session.end(), Some(&SessionError::DeniedWithoutAcks));
}

fn fetch(version: i16, topics: &[&str], session: (i32, i32)) -> FetchRequest {
    let partition = |index| {
        FetchPartition::default()
            .with_partition(index)
            .with_fetch_offset(9)
            .with_partition_max_bytes(100)
    };
    let data = |name: &&str| {
        let partitions = vec![partition(3), partition(4)];
        FetchTopic::default()
            .with_topic(topic(name))
            .with_partitions(partitions)
    };
    let request = FetchRequest::default()
        .with_max_wait_ms(500)
        .with_topics(topics.iter().map(data).collect());
    match version {
        ..7 => request,
        _ => request
            .with_session_id(session.0)
            .with_session_epoch(session.1),
    }
}

fn fetched(topics: &[(&str, i16)]) -> FetchResponse {
    let data = |(name, error): &(&str, i16)| {
        let (offset, records) = match error {
            0 => (1000, Bytes::from(vec![9; 3000])),
            _ => (-1, Bytes::new()),
        };
        let partition = |index| {
            PartitionData::default()
                .with_partition_index(index)
                .with_error_code(*error)
                .with_high_watermark(offset)
                .with_aborted_transactions(Some(Vec::new()))
                .with_records(Some(records.clone()))
        };
        FetchableTopicResponse::default()
            .with_topic(topic(name))
            .with_partitions(vec![partition(3), partition(4)])
    };
    FetchResponse::default().with_responses(topics.iter().map(data).collect())
}

#[test]
fn fetch_is_cut_down_to_what_is_allowed_and_has_no_session() {
    for version in versions(ApiKey::Fetch) {
        let key = ApiKey::Fetch;
        for session in [(0, 0), (0, -1), (4711, -1)] {
            let fetch = |topics| fetch(version, topics, session);
            let none = |topics| self::fetch(version, topics, (0, -1));
            let ok = fetched(&[("quakes", 0), ("weather-1", 0)]);
            let left = none(&["quakes", "weather-1"]);
            check(
                key,
                version,
                (&fetch(&["quakes", "weather-1"]), Some(&left)),
                (&ok, &ok),
                &[],
            );
            let sent = fetch(&["quakes", "secret", "weather-1", "seen"]);
            let shown = fetched(&[
                ("secret", 29),
                ("seen", 29),
                ("quakes", 0),
                ("weather-1", 0),
            ]);
            let told = ["consume topic \"secret\"", "consume topic \"seen\""];
            check(key, version, (&sent, Some(&left)), (&ok, &shown), &told);
            let shown = fetched(&[("secret", 29)]);
            check(
                key,
                version,
                (&fetch(&["secret"]), None),
                (&ok, &shown),
                &told[..1],
            );
        }
        if version >= 7 {
            let guessed = fetch(version, &[], (4711, 3));
            let shown = FetchResponse::default().with_error_code(70);
            check(key, version, (&guessed, None), (&shown, &shown), &[]);
        }
    }
}

#[test]
fn list_offsets_needs_description() {
    for version in versions(ApiKey::ListOffsets) {
        let request = |topics: &[&str]| {
            let partition = ListOffsetsPartition::default()
                .with_partition_index(3)
                .with_timestamp(-1);
            let data = |name: &&str| {
                ListOffsetsTopic::default()
                    .with_name(topic(name))
                    .with_partitions(vec![partition.clone(); 2])
            };
            ListOffsetsRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_topics(topics.iter().map(data).collect())
        };
        let response = |topics: &[(&str, i16)]| {
            let data = |(name, error): &(&str, i16)| {
                let offset = if *error == 0 { 12 } else { -1 };
                let partition = ListOffsetsPartitionResponse::default()
                    .with_partition_index(3)
                    .with_error_code(*error)
                    .with_offset(offset);
                ListOffsetsTopicResponse::default()
                    .with_name(topic(name))
                    .with_partitions(vec![partition; 2])
            };
            ListOffsetsResponse::default().with_topics(topics.iter().map(data).collect())
        };
        let sent = request(&["secret", "seen", "quakes"]);
        let left = request(&["seen", "quakes"]);
        let ok = response(&[("seen", 0), ("quakes", 0)]);
        let shown = response(&[("secret", 29), ("seen", 0), ("quakes", 0)]);
        let told = ["describe topic \"secret\""];
        check(
            ApiKey::ListOffsets,
            version,
            (&sent, Some(&left)),
            (&ok, &shown),
            &told,
        );
        let shown = response(&[("secret", 29)]);
        let sent = request(&["secret"]);
        check(
            ApiKey::ListOffsets,
            version,
            (&sent, None),
            (&ok, &shown),
            &told,
        );
    }
}

#[test]
fn offsets_of_epochs_need_description() {
    for version in versions(ApiKey::OffsetForLeaderEpoch) {
        let request = |topics: &[&str]| {
            let partition = OffsetForLeaderPartition::default()
                .with_partition(3)
                .with_leader_epoch(5);
            let data = |name: &&str| {
                OffsetForLeaderTopic::default()
                    .with_topic(topic(name))
                    .with_partitions(vec![partition.clone(); 2])
            };
            OffsetForLeaderEpochRequest::default().with_topics(topics.iter().map(data).collect())
        };
        let response = |topics: &[(&str, i16)]| {
            let data = |(name, error): &(&str, i16)| {
                let partition = EpochEndOffset::default()
                    .with_partition(3)
                    .with_error_code(*error);
                OffsetForLeaderTopicResult::default()
                    .with_topic(topic(name))
                    .with_partitions(vec![partition; 2])
            };
            OffsetForLeaderEpochResponse::default().with_topics(topics.iter().map(data).collect())
        };
        let key = ApiKey::OffsetForLeaderEpoch;
        let (sent, left) = (request(&["seen", "secret"]), request(&["seen"]));
        let (ok, shown) = (
            response(&[("seen", 0)]),
            response(&[("secret", 29), ("seen", 0)]),
        );
        let told = ["describe topic \"secret\""];
        check(key, version, (&sent, Some(&left)), (&ok, &shown), &told);
        let shown = response(&[("secret", 29)]);
        check(
            key,
            version,
            (&request(&["secret"]), None),
            (&ok, &shown),
            &told,
        );
    }
}

fn metadata(topics: Option<&[&str]>, create: bool) -> MetadataRequest {
    let named = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic(name)));
    MetadataRequest::default()
        .with_topics(topics.map(|topics| topics.iter().map(named).collect()))
        .with_allow_auto_topic_creation(create)
}

fn described(version: i16, host: &str, topics: &[(&str, i16)]) -> MetadataResponse {
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(1))
        .with_host(text(host))
        .with_port(9092)
        .with_rack(Some(text("rack")));
    let partition = MetadataResponsePartition::default()
        .with_replica_nodes(vec![BrokerId(1), BrokerId(2)])
        .with_isr_nodes(vec![BrokerId(1)]);
    let partition = match version {
        ..5 => partition,
        _ => partition.with_offline_replicas(vec![BrokerId(2)]),
    };
    let data = |(name, error): &(&str, i16)| {
        let partitions = if *error == 29 { 0 } else { 2 };
        MetadataResponseTopic::default()
            .with_error_code(*error)
            .with_name(Some(topic(name)))
            .with_partitions(vec![partition.clone(); partitions])
    };
    MetadataResponse::default()
        .with_brokers(vec![broker; 2])
        .with_cluster_id(Some(text("cluster")))
        .with_topics(topics.iter().map(data).collect())
}

#[test]
fn metadata_shows_what_may_be_described_and_creates_what_may_be_created() {
    for version in 4..=9 {
        let key = ApiKey::Metadata;
        let described = |host, topics: &[(&str, i16)]| described(version, host, topics);
        // Everything: the rest is left out, and nobody is told.
        let ok = described(
            "real",
            &[("secret", 0), ("quakes", 0), ("hidden", 0), ("seen", 0)],
        );
        let shown = described("local", &[("quakes", 0), ("seen", 0)]);
        let (sent, left) = (metadata(None, true), metadata(None, false));
        check(key, version, (&sent, Some(&left)), (&ok, &shown), &[]);
        // By name.
        let sent = metadata(Some(&["secret", "quakes", "weather-new"]), true);
        let left = metadata(Some(&["quakes", "weather-new"]), false);
        let ok = described("real", &[("quakes", 0), ("weather-new", 3)]);
        let shown = described(
            "local",
            &[("secret", 29), ("quakes", 0), ("weather-new", 3)],
        );
        check(
            key,
            version,
            (&sent, Some(&left)),
            (&ok, &shown),
            &["describe topic \"secret\""],
        );
        // None of those asked for; the brokers are told all the same.
        let (sent, left) = (
            metadata(Some(&["secret"]), false),
            metadata(Some(&[]), false),
        );
        let (ok, shown) = (
            described("real", &[]),
            described("local", &[("secret", 29)]),
        );
        check(
            key,
            version,
            (&sent, Some(&left)),
            (&ok, &shown),
            &["describe topic \"secret\""],
        );
        // The right to create.
        let sent = metadata(Some(&["weather-new"]), true);
        let (ok, shown) = (
            described("real", &[("weather-new", 0)]),
            described("local", &[("weather-new", 0)]),
        );
        check(key, version, (&sent, Some(&sent)), (&ok, &shown), &[]);
    }
}

#[test]
fn metadata_of_clients_that_cannot_but_create_creates_nothing() {
    for version in 0..=3 {
        for (topics, left, create) in [
            (None, None, false),
            (Some(&["quakes"][..]), Some(&["quakes"][..]), false),
            (Some(&["weather-new"]), Some(&["weather-new"]), true),
            (Some(&["secret", "quakes"]), Some(&["quakes"]), false),
        ] {
            for size in [1, usize::MAX] {
                let mut exchange = Exchange::new(size);
                let asked = match topics {
                    // That is how version 0 says it.
                    None if version == 0 => Some(&[][..]),
                    topics => topics,
                };
                let sent = request(ApiKey::Metadata, version, &metadata(asked, true));
                let seen = exchange.send(&sent).expect("judged");
                assert_eq!(seen, request(ApiKey::Metadata, 4, &metadata(left, create)));
                let ok = described(4, "real", &[("quakes", 0), ("hidden", 0)]);
                let client = exchange.reply(&answer(4, &ok)).expect("answered");
                let mut shown = vec![("quakes", 0)];
                if topics.is_some_and(|topics| topics[0] == "secret") {
                    shown.insert(0, ("secret", 29));
                }
                let mut shown = described(version, "local", &shown);
                if version < 2 {
                    shown = shown.with_cluster_id(None);
                }
                if version < 1 {
                    shown = shown.with_controller_id(BrokerId(-1));
                    shown
                        .brokers
                        .iter_mut()
                        .for_each(|broker| broker.rack = None);
                }
                assert_eq!(decode_answer::<MetadataResponse>(client, version), shown);
            }
        }
    }
}

fn commit(name: &str, topics: &[&str]) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(3)
        .with_committed_metadata(Some(text("note")));
    let data = |name: &&str| {
        OffsetCommitRequestTopic::default()
            .with_name(topic(name))
            .with_partitions(vec![partition.clone(); 2])
    };
    OffsetCommitRequest::default()
        .with_group_id(group(name))
        .with_member_id(text("member"))
        .with_topics(topics.iter().map(data).collect())
}

fn committed(topics: &[(&str, i16)]) -> OffsetCommitResponse {
    let data = |(name, error): &(&str, i16)| {
        let partition = OffsetCommitResponsePartition::default()
            .with_partition_index(3)
            .with_error_code(*error);
        OffsetCommitResponseTopic::default()
            .with_name(topic(name))
            .with_partitions(vec![partition; 2])
    };
    OffsetCommitResponse::default().with_topics(topics.iter().map(data).collect())
}

#[test]
fn offsets_are_committed_by_a_group_for_what_it_may_read() {
    for version in versions(ApiKey::OffsetCommit) {
        let key = ApiKey::OffsetCommit;
        let sent = commit("readers", &["quakes", "seen"]);
        let left = commit("readers", &["quakes"]);
        let (ok, shown) = (
            committed(&[("quakes", 0)]),
            committed(&[("seen", 29), ("quakes", 0)]),
        );
        check(
            key,
            version,
            (&sent, Some(&left)),
            (&ok, &shown),
            &["consume topic \"seen\""],
        );
        let (sent, shown) = (commit("others", &["quakes"]), committed(&[("quakes", 30)]));
        check(
            key,
            version,
            (&sent, None),
            (&ok, &shown),
            &["use group \"others\""],
        );
        let (sent, shown) = (commit("others", &[]), committed(&[]));
        check(
            key,
            version,
            (&sent, None),
            (&ok, &shown),
            &["use group \"others\""],
        );
    }
}

#[test]
fn offsets_are_fetched_by_a_group_for_what_may_be_described() {
    for version in versions(ApiKey::OffsetFetch) {
        let key = ApiKey::OffsetFetch;
        let request = |name: &str, topics: Option<&[&str]>| {
            let data = |name: &&str| {
                OffsetFetchRequestTopic::default()
                    .with_name(topic(name))
                    .with_partition_indexes(vec![3, 4])
            };
            OffsetFetchRequest::default()
                .with_group_id(group(name))
                .with_topics(topics.map(|topics| topics.iter().map(data).collect()))
        };
        let response = |topics: &[(&str, i16)]| {
            let data = |(name, error): &(&str, i16)| {
                let partition = |index| {
                    let offset = if *error == 0 { 8 } else { -1 };
                    OffsetFetchResponsePartition::default()
                        .with_partition_index(index)
                        .with_committed_offset(offset)
                        .with_metadata(Some(text("")))
                        .with_error_code(*error)
                };
                OffsetFetchResponseTopic::default()
                    .with_name(topic(name))
                    .with_partitions(vec![partition(3), partition(4)])
            };
            OffsetFetchResponse::default().with_topics(topics.iter().map(data).collect())
        };
        let sent = request("readers", Some(&["secret", "quakes"]));
        let left = request("readers", Some(&["quakes"]));
        let (ok, shown) = (
            response(&[("quakes", 0)]),
            response(&[("secret", 29), ("quakes", 0)]),
        );
        let told = ["describe topic \"secret\""];
        check(key, version, (&sent, Some(&left)), (&ok, &shown), &told);
        let (sent, shown) = (
            request("readers", Some(&["secret"])),
            response(&[("secret", 29)]),
        );
        check(key, version, (&sent, None), (&ok, &shown), &told);
        if version >= 2 {
            let sent = request("readers", None);
            let (ok, shown) = (
                response(&[("quakes", 0), ("secret", 0)]),
                response(&[("quakes", 0)]),
            );
            check(key, version, (&sent, Some(&sent)), (&ok, &shown), &[]);
        }
        let shown = match version {
            ..2 => response(&[("quakes", 30)]),
            _ => OffsetFetchResponse::default().with_error_code(30),
        };
        let sent = request("others", Some(&["quakes"]));
        check(
            key,
            version,
            (&sent, None),
            (&ok, &shown),
            &["use group \"others\""],
        );
    }
}

#[test]
fn groups_are_described_one_by_one() {
    for version in versions(ApiKey::DescribeGroups) {
        let request = |groups: &[&str]| {
            DescribeGroupsRequest::default()
                .with_groups(groups.iter().map(|name| group(name)).collect())
        };
        let response = |groups: &[(&str, i16)]| {
            let data = |(name, error): &(&str, i16)| {
                DescribedGroup::default()
                    .with_group_id(group(name))
                    .with_error_code(*error)
            };
            DescribeGroupsResponse::default().with_groups(groups.iter().map(data).collect())
        };
        let (sent, left) = (request(&["others", "readers"]), request(&["readers"]));
        let (ok, shown) = (
            response(&[("readers", 0)]),
            response(&[("others", 30), ("readers", 0)]),
        );
        let told = ["use group \"others\""];
        check(
            ApiKey::DescribeGroups,
            version,
            (&sent, Some(&left)),
            (&ok, &shown),
            &told,
        );
        let shown = response(&[("others", 30)]);
        check(
            ApiKey::DescribeGroups,
            version,
            (&request(&["others"]), None),
            (&ok, &shown),
            &told,
        );
    }
}

#[test]
fn topics_are_created_by_right() {
    for version in versions(ApiKey::CreateTopics) {
        use create_topics_request::{CreatableReplicaAssignment, CreatableTopicConfig};
        let request = |topics: &[&str]| {
            let assignment =
                CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1); 3]);
            let config = CreatableTopicConfig::default()
                .with_name(text("retention.ms"))
                .with_value(Some(text("1")));
            let data = |name: &&str| {
                CreatableTopic::default()
                    .with_name(topic(name))
                    .with_assignments(vec![assignment.clone(); 2])
                    .with_configs(vec![config.clone(); 2])
            };
            CreateTopicsRequest::default().with_topics(topics.iter().map(data).collect())
        };
        let response = |topics: &[(&str, i16)]| {
            let data = |(name, error): &(&str, i16)| {
                CreatableTopicResult::default()
                    .with_name(topic(name))
                    .with_error_code(*error)
                    .with_error_message(None)
                    .with_configs(Some(Vec::new()))
            };
            CreateTopicsResponse::default().with_topics(topics.iter().map(data).collect())
        };
        let (sent, left) = (
            request(&["weather-new", "weather-1"]),
            request(&["weather-new"]),
        );
        let ok = response(&[("weather-new", 0)]);
        let shown = response(&[("weather-1", 29), ("weather-new", 0)]);
        let told = ["create topic \"weather-1\""];
        check(
            ApiKey::CreateTopics,
            version,
            (&sent, Some(&left)),
            (&ok, &shown),
            &told,
        );
        let (sent, shown) = (request(&["weather-1"]), response(&[("weather-1", 29)]));
        check(
            ApiKey::CreateTopics,
            version,
            (&sent, None),
            (&ok, &shown),
            &told,
        );
    }
}

/// A request that names a group: that of the right passes, another is answered here.
fn by_group<Q, A>(key: ApiKey, request: impl Fn(GroupId) -> Q, ok: &A, refused: impl Fn(i16) -> A)
where
    Q: Encodable + HeaderVersion,
    A: Encodable + Decodable + HeaderVersion + PartialEq + std::fmt::Debug,
{
    let told = ["use group \"others\""];
    for version in versions(key) {
        let sent = request(group("readers"));
        check(key, version, (&sent, Some(&sent)), (ok, ok), &[]);
        let (sent, shown) = (request(group("others")), refused(version));
        check(key, version, (&sent, None), (ok, &shown), &told);
    }
}

#[test]
fn groups_are_joined_kept_and_left_by_right() {
    let ok = JoinGroupResponse::default().with_protocol_name(Some(text("")));
    by_group(
        ApiKey::JoinGroup,
        |group| JoinGroupRequest::default().with_group_id(group),
        &ok,
        |version| {
            let shown = ok.clone().with_error_code(30);
            match version >= 7 {
                true => shown.with_protocol_name(None),
                false => shown,
            }
        },
    );
    by_group(
        ApiKey::SyncGroup,
        |group| SyncGroupRequest::default().with_group_id(group),
        &SyncGroupResponse::default(),
        |_| SyncGroupResponse::default().with_error_code(30),
    );
    by_group(
        ApiKey::Heartbeat,
        |group| HeartbeatRequest::default().with_group_id(group),
        &HeartbeatResponse::default(),
        |_| HeartbeatResponse::default().with_error_code(30),
    );
    by_group(
        ApiKey::LeaveGroup,
        |group| LeaveGroupRequest::default().with_group_id(group),
        &LeaveGroupResponse::default(),
        |_| LeaveGroupResponse::default().with_error_code(30),
    );
}

#[test]
fn coordinators_are_found_by_right() {
    for version in versions(ApiKey::FindCoordinator) {
        let request = |key: &str, kind| {
            FindCoordinatorRequest::default()
                .with_key(text(key))
                .with_key_type(kind)
        };
        let at = |error, node: i32, host: &str, port| {
            FindCoordinatorResponse::default()
                .with_error_code(error)
                .with_error_message((version < 1).then(|| text("")))
                .with_node_id(BrokerId(node))
                .with_host(text(host))
                .with_port(port)
        };
        let (ok, shown) = (at(0, 1, "real", 9092), at(0, 1, "local", 9092));
        let sent = request("readers", 0);
        check(
            ApiKey::FindCoordinator,
            version,
            (&sent, Some(&sent)),
            (&ok, &shown),
            &[],
        );
        let (sent, shown) = (request("others", 0), at(30, -1, "", -1));
        let told = ["use group \"others\""];
        check(
            ApiKey::FindCoordinator,
            version,
            (&sent, None),
            (&ok, &shown),
            &told,
        );
        if version >= 1 {
            let (sent, shown) = (request("readers", 1), at(53, -1, "", -1));
            let told = ["use transactional id \"readers\""];
            check(
                ApiKey::FindCoordinator,
                version,
                (&sent, None),
                (&ok, &shown),
                &told,
            );
        }
    }
}

#[test]
fn transactions_have_no_producer_id() {
    for version in versions(ApiKey::InitProducerId) {
        let ok = InitProducerIdResponse::default();
        let sent = InitProducerIdRequest::default().with_transactional_id(None);
        check(
            ApiKey::InitProducerId,
            version,
            (&sent, Some(&sent)),
            (&ok, &ok),
            &[],
        );
        let id = TransactionalId(text("mine"));
        let sent = sent.with_transactional_id(Some(id));
        let shown = ok
            .clone()
            .with_error_code(53)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let told = ["use transactional id \"mine\""];
        check(
            ApiKey::InitProducerId,
            version,
            (&sent, None),
            (&ok, &shown),
            &told,
        );
    }
}

#[test]
fn who_may_produce_nothing_gets_no_producer_id() {
    let mut session = KafkaSession::with_rights(Arc::default());
    let sent = InitProducerIdRequest::default().with_transactional_id(None);
    let mut input = BytesMut::from(&request(ApiKey::InitProducerId, 4, &sent)[..]);
    session
        .client_to_broker(&mut input, &mut Vec::new())
        .expect("judged");
    assert_eq!(
        session.take_denials()[0].to_string(),
        "produce to any topic"
    );
}

#[test]
fn only_what_is_judged_is_offered() {
    let offered = |range: (i16, i16, i16)| {
        let key = api_versions_response::ApiVersion::default();
        key.with_api_key(range.0)
            .with_min_version(range.1)
            .with_max_version(range.2)
    };
    let everything = (0..100).map(|key| offered((key, 0, 20))).collect();
    let mut exchange = Exchange::new(usize::MAX);
    let ask = request(ApiKey::ApiVersions, 3, &ApiVersionsRequest::default());
    exchange.send(&ask).expect("asked");
    let all = [
        "metadata.version",
        "group.version",
        "transaction.version",
        "share.version",
    ];
    let supported = |name: &&str| SupportedFeatureKey::default().with_name(text(name));
    let finalized = |name: &&str| FinalizedFeatureKey::default().with_name(text(name));
    let everything = ApiVersionsResponse::default()
        .with_api_keys(everything)
        .with_supported_features(all.iter().map(supported).collect())
        .with_finalized_features_epoch(7)
        .with_finalized_features(all.iter().map(finalized).collect());
    let shown = exchange.reply(&answer(3, &everything)).expect("answered");
    let shown: ApiVersionsResponse = decode_answer(shown, 3);
    assert_eq!(shown.finalized_features_epoch, 7);
    // It is refused, with an error that every client shows.
    let heartbeat = (ApiKey::ConsumerGroupHeartbeat as i16, 0, 1);
    let known = table::all().map(|one| (one.api.key, one.min_version, one.max_version));
    let known: Vec<_> = known.chain([heartbeat]).map(offered).collect();
    assert_eq!(shown.api_keys, known);
    assert_eq!(features(&shown), ["metadata.version"]);
}

/// The features that a client learns of.
fn features(answer: &ApiVersionsResponse) -> Vec<&str> {
    let supported = answer.supported_features.iter().map(|one| &*one.name);
    let finalized = answer.finalized_features.iter().map(|one| &*one.name);
    assert!(supported.eq(finalized.clone()));
    finalized.collect()
}

/// An older version is left out only where another reader could take it for something else.
#[test]
fn every_version_offered_is_in_order_and_begins_with_the_oldest() {
    assert!(table::all().is_sorted_by_key(|governed| governed.api.key));
    for governed in table::all() {
        let least = i16::from(governed.api.key == ApiKey::SaslHandshake as i16);
        assert_eq!(governed.min_version, least, "{}", governed.name());
        let carried = governed.api.carried.expect("carried");
        assert!(governed.max_version <= carried, "{}", governed.name());
    }
}

#[test]
fn only_brokers_read_as_brokers_do() {
    let told = ["read as a broker does"];
    for (replica, denied) in [(-1, false), (-2, false), (-3, true), (0, true), (7, true)] {
        for version in versions(ApiKey::Fetch) {
            let sent = fetch(version, &["quakes"], (0, -1)).with_replica_id(BrokerId(replica));
            let (ok, shown) = (fetched(&[("quakes", 0)]), fetched(&[("quakes", 29)]));
            match denied {
                true => check(ApiKey::Fetch, version, (&sent, None), (&ok, &shown), &told),
                false => check(
                    ApiKey::Fetch,
                    version,
                    (&sent, Some(&sent)),
                    (&ok, &ok),
                    &[],
                ),
            }
        }
        let sent = ListOffsetsRequest::default().with_replica_id(BrokerId(replica));
        let ok = ListOffsetsResponse::default();
        let expected = (!denied).then_some(&sent);
        let told = if denied { &told[..] } else { &[] };
        check(ApiKey::ListOffsets, 5, (&sent, expected), (&ok, &ok), told);
        let sent = OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(replica));
        let (ok, key) = (
            OffsetForLeaderEpochResponse::default(),
            ApiKey::OffsetForLeaderEpoch,
        );
        let expected = (!denied).then_some(&sent);
        check(key, 3, (&sent, expected), (&ok, &ok), told);
    }
}

#[test]
fn own_answers_that_nobody_reads_are_bounded() {
    let names: Vec<_> = (0..2000).map(|n| format!("secret-{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let frame = request(ApiKey::Fetch, 12, &fetch(12, &names, (0, 0)));
    let mut exchange = Exchange::new(usize::MAX);
    let ended = (0..10_000).find_map(|_| exchange.send(&frame).err());
    assert_eq!(ended, Some(SessionError::InFlight));
}

/// A request of every kind that is judged, some of it denied.
fn requests() -> Vec<Bytes> {
    let mut all = Vec::new();
    for version in versions(ApiKey::Produce) {
        all.push(request(
            ApiKey::Produce,
            version,
            &produce(&["weather-1", "secret"]),
        ));
    }
    for version in versions(ApiKey::Fetch) {
        let sent = fetch(version, &["quakes", "secret"], (0, 0));
        all.push(request(ApiKey::Fetch, version, &sent));
    }
    for version in 4..=9 {
        all.push(request(
            ApiKey::Metadata,
            version,
            &metadata(Some(&["quakes", "secret"]), true),
        ));
    }
    for version in versions(ApiKey::OffsetCommit) {
        all.push(request(
            ApiKey::OffsetCommit,
            version,
            &commit("readers", &["quakes", "secret"]),
        ));
    }
    all
}

proptest! {
    #[test]
    fn arbitrary_bodies_never_panic(of: prop::sample::Index, version in 0..14_i16, body: Vec<u8>) {
        let all: Vec<_> = table::all().collect();
        let mut frame = BytesMut::new();
        frame.put_i16(all[of.index(all.len())].api.key);
        frame.put_i16(version);
        frame.put_i32(CORRELATION);
        frame.put_i16(-1);
        frame.extend_from_slice(&body);
        let _ = Exchange::new(usize::MAX).send(&framed(&frame));
    }

    #[test]
    fn damaged_requests_never_panic_nor_leave_a_frame_of_wrong_length(
        of: prop::sample::Index, at: prop::sample::Index, byte: u8,
    ) {
        let all = requests();
        let mut frame = all[of.index(all.len())].to_vec();
        let length = frame.len();
        frame[4 + at.index(length - 4)] = byte;
        if let Ok(seen) = Exchange::new(usize::MAX).send(&frame) && !seen.is_empty() {
            prop_assert_eq!(i32::from_be_bytes(seen[..4].try_into().unwrap()) as usize, seen.len() - 4);
        }
    }

    #[test]
    fn nothing_passes_that_another_reader_takes_for_what_is_denied(
        version in 3..=9_i16, at: prop::sample::Index, byte: u8, commits: bool,
    ) {
        let sent = match commits {
            true => request(ApiKey::OffsetCommit, version, &commit("readers", &["quakes", "secret"])),
            false => request(ApiKey::Produce, version, &produce(&["weather-1", "secret"])),
        };
        let mut frame = sent.to_vec();
        let at = 8 + at.index(120.min(frame.len() - 8));
        frame[at] = byte;
        let Ok(mut seen) = Exchange::new(usize::MAX).send(&frame) else { return Ok(()) };
        if seen.is_empty() || seen[4..6] != frame[4..6] {
            return Ok(());
        }
        seen.advance(4);
        let header = if commits { version >= 8 } else { version >= 9 };
        let header = RequestHeader::decode(&mut seen, if header { 2 } else { 1 });
        // A client id that is no text, for one.
        if header.is_err() {
            return Ok(());
        }
        let names: Vec<_> = match commits {
            true => OffsetCommitRequest::decode(&mut seen, version)
                .map(|request| request.topics.into_iter().map(|topic| topic.name).collect()),
            false => ProduceRequest::decode(&mut seen, version)
                .map(|request| request.topic_data.into_iter().map(|topic| topic.name).collect()),
        }
        .unwrap_or_default();
        prop_assert!(names.iter().all(|name| &***name != "secret"), "{names:?}");
    }

    #[test]
    fn damaged_answers_never_panic(
        version in 4..=9_i16, at: prop::sample::Index, byte: u8, named: bool,
    ) {
        let mut exchange = Exchange::new(64);
        let names: Option<&[&str]> = named.then_some(&["quakes", "secret"]);
        let asked = request(ApiKey::Metadata, version, &metadata(names, true));
        exchange.send(&asked).unwrap();
        let mut frame = answer(version, &described(version, "real", &[("quakes", 0)])).to_vec();
        let at = at.index(frame.len());
        frame[at] = byte;
        let mut local = |_: i32, _: &str, port: u16| Some(Endpoint { host: String::new(), port });
        let mut input = BytesMut::from(&frame[..]);
        let _ = exchange.session.broker_to_client(&mut input, &mut local, &mut Vec::new());
    }
}
