//! Judged requests and amended answers, checked by another implementation of the protocol in
//! every version that is offered.

mod fetch;
mod groups;
mod metadata;
mod offered;
mod produce;

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
