//! Requests of Kafka clients with the answers of brokers: each that is carried, in its first and
//! last version.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        ApiKey, ApiVersionsRequest, ApiVersionsResponse, FetchRequest, FetchResponse,
        FindCoordinatorRequest, FindCoordinatorResponse, MetadataRequest, MetadataResponse,
        ProduceRequest, ProduceResponse, RequestHeader, ResponseHeader, SaslHandshakeRequest,
        SaslHandshakeResponse, TopicName,
        metadata_request::MetadataRequestTopic,
        metadata_response::{MetadataResponseBroker, MetadataResponseTopic},
        produce_request::{PartitionProduceData, TopicProduceData},
    },
    protocol::{Encodable, HeaderVersion, StrBytes},
};
use renkei_kafka::APIS;

use crate::Seeds;

pub(crate) fn write(seeds: &Seeds) {
    for api in APIS {
        for version in [0, api.max_version] {
            let name = format!("{}-{version}", api.name);
            let request = opaque(api.key, version);
            seeds.write(
                "kafka",
                &name,
                &records(0, &[(0, request), (1, answer(&[0; 40]))]),
            );
        }
    }
    let topic = TopicName(StrBytes::from_static_str("weather-1"));
    let asked = MetadataRequestTopic::default().with_name(Some(topic.clone()));
    let broker = MetadataResponseBroker::default()
        .with_host(StrBytes::from_static_str("broker.hokkaido.internal"))
        .with_port(9092);
    let metadata = (
        MetadataRequest::default().with_topics(Some(vec![asked])),
        MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_topics(vec![
                MetadataResponseTopic::default().with_name(Some(topic.clone())),
            ]),
    );
    let data = PartitionProduceData::default().with_records(Some(Bytes::from_static(b"records")));
    let produced = TopicProduceData::default()
        .with_name(topic)
        .with_partition_data(vec![data]);
    let produce = (
        ProduceRequest::default()
            .with_acks(1)
            .with_topic_data(vec![produced]),
        ProduceResponse::default(),
    );
    for version in [0, 4, 9, 12] {
        both(seeds, ApiKey::Metadata, version, &metadata);
        both(
            seeds,
            ApiKey::FindCoordinator,
            version.min(4),
            &(
                FindCoordinatorRequest::default(),
                FindCoordinatorResponse::default(),
            ),
        );
        both(
            seeds,
            ApiKey::Fetch,
            version.max(4),
            &(FetchRequest::default(), FetchResponse::default()),
        );
        both(
            seeds,
            ApiKey::ApiVersions,
            version.min(3),
            &(
                ApiVersionsRequest::default(),
                ApiVersionsResponse::default(),
            ),
        );
        both(
            seeds,
            ApiKey::SaslHandshake,
            version.min(1),
            &(
                SaslHandshakeRequest::default(),
                SaslHandshakeResponse::default(),
            ),
        );
        both(seeds, ApiKey::Produce, version.max(3), &produce);
    }
}

/// With and without rights, in pieces.
fn both<Q, A>(seeds: &Seeds, key: ApiKey, version: i16, (request, answers): &(Q, A))
where
    Q: Encodable + HeaderVersion,
    A: Encodable + HeaderVersion,
{
    let mut sent = BytesMut::new();
    RequestHeader::default()
        .with_request_api_key(key as i16)
        .with_request_api_version(version)
        .with_correlation_id(1)
        .with_client_id(Some(StrBytes::from_static_str("a client")))
        .encode(&mut sent, Q::header_version(version))
        .expect("header");
    request.encode(&mut sent, version).expect("request");
    let mut answered = BytesMut::new();
    ResponseHeader::default()
        .with_correlation_id(1)
        .encode(&mut answered, A::header_version(version))
        .expect("header");
    answers.encode(&mut answered, version).expect("answer");
    for (name, choice) in [("plain", 20), ("rights", 21)] {
        let exchange = [(0, framed(&sent)), (1, framed(&answered))];
        let name = format!("{key:?}-{version}-{name}");
        seeds.write("kafka", &name, &records(choice, &exchange));
    }
}

/// As the target takes them.
fn records(choice: u8, all: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![choice];
    for (direction, record) in all {
        let length = u16::try_from(record.len()).expect("a short record");
        bytes.push(*direction);
        bytes.extend(length.to_be_bytes());
        bytes.extend(record);
    }
    bytes
}

fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a short frame");
    [&length.to_be_bytes(), body].concat()
}

/// A request of which only the head is right.
fn opaque(key: i16, version: i16) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_i16(key);
    body.put_i16(version);
    body.put_i32(1);
    body.put_i16(-1);
    body.put_bytes(0, 40);
    framed(&body)
}

fn answer(rest: &[u8]) -> Vec<u8> {
    framed(&[&1_i32.to_be_bytes(), rest].concat())
}
