//! Every request of every version in the message definitions of Apache Kafka 4.4, as
//! `crates/renkei/tests/programs/kafka_requests.py` writes them: each is carried or answered. The
//! answers are read by another implementation of the protocol, in the versions that it knows.

use std::{collections::BTreeSet, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{ApiKey, ResponseHeader, ResponseKind},
    protocol::Decodable,
};
use renkei_access::TopicRights;

use crate::{
    KafkaSession,
    api::{self, Api},
};

/// One a line: key, version, and the content in hexadecimal.
const REQUESTS: &str = include_str!("requests.txt");

/// The correlation id of all of them.
const CORRELATION: i32 = 7;

fn requests() -> impl Iterator<Item = (&'static Api, i16, Bytes)> {
    REQUESTS.lines().map(|line| {
        let fields: Vec<_> = line.split(' ').collect();
        let byte = |at| u8::from_str_radix(&fields[2][at..at + 2], 16).expect("hexadecimal");
        let content: Vec<u8> = (0..fields[2].len()).step_by(2).map(byte).collect();
        let api = api::find(fields[0].parse().expect("key")).expect(line);
        (api, fields[1].parse().expect("version"), framed(&content))
    })
}

fn framed(content: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i32(content.len() as i32);
    frame.extend_from_slice(content);
    frame.freeze()
}

/// What the broker sees of a request. If that is a stand-in, which it then answers, also what the
/// client sees.
fn exchanged(mut session: KafkaSession, request: &[u8]) -> (Bytes, Option<Bytes>) {
    let (mut to_broker, mut to_client) = (Vec::new(), Vec::new());
    session
        .client_to_broker(&mut BytesMut::from(request), &mut to_broker)
        .expect("judged");
    assert_eq!(session.end(), None);
    let mut answer = BytesMut::from(&framed(&[0, 0, 0, 7, 0, 0, 0, 0, 0, 0])[..]);
    let mut nowhere = |_: i32, _: &str, _: u16| None;
    let to_broker: Bytes = to_broker.concat().into();
    // An ApiVersions request of version 0.
    if to_broker[4..8] != [0, 18, 0, 0] || request[4..6] == [0, 18] {
        return (to_broker, None);
    }
    session
        .broker_to_client(&mut answer, &mut nowhere, &mut to_client)
        .expect("answered");
    (to_broker, Some(to_client.concat().into()))
}

/// Reads an answer to its end, if the other implementation knows the version.
fn check(api: &Api, version: i16, mut answer: Bytes) {
    let what = format!("{} {version}", api.name);
    assert_eq!(answer.get_i32() as usize, answer.len(), "{what}");
    let key = ApiKey::try_from(api.key).ok();
    let known =
        key.filter(|key| (key.valid_versions().min..=key.valid_versions().max).contains(&version));
    let Some(key) = known else {
        assert_eq!(answer.get_i32(), CORRELATION, "{what}");
        return;
    };
    let header = ResponseHeader::decode(&mut answer, key.response_header_version(version));
    assert_eq!(
        header.expect("header").correlation_id,
        CORRELATION,
        "{what}"
    );
    let body = ResponseKind::decode(key, &mut answer, version);
    let body = format!(
        "{:?}",
        body.unwrap_or_else(|error| panic!("{what}: {error}"))
    );
    assert!(answer.is_empty(), "{what}: bytes are left over");
    // These have no place for it: the one has errors of nothing but log folders, and the other,
    // which only brokers send, of partitions.
    let bare = matches!((api.key, version), (35, ..3) | (27, _));
    assert!(body.contains("error_code: 35") || bare, "{what}: {body}");
}

#[test]
fn the_requests_are_those_of_the_list() {
    let listed = api::APIS
        .iter()
        // What brokers sent to each other before Kafka 4 is no longer defined.
        .filter(|api| !(4..=7).contains(&api.key))
        .flat_map(|api| (0..=api.max_version).map(|version| (api.key, version)));
    let written = requests().map(|(api, version, _)| (api.key, version));
    assert!(written.eq(listed));
}

#[test]
fn every_request_is_carried_or_answered_with_topic_rights() {
    let all = || ["*"].into_iter().collect();
    let rights = Arc::new(TopicRights {
        produce: all(),
        consume: all(),
        create: all(),
        describe: all(),
        group: all(),
    });
    let mut carried = BTreeSet::new();
    for (api, version, request) in requests() {
        match exchanged(KafkaSession::with_rights(rights.clone()), &request).1 {
            // A transactional id is denied, in an answer of the same form.
            Some(_) if matches!(api.key, api::PRODUCE | 22) && version < 10 => {}
            Some(answer) => check(api, version, answer),
            None => drop(carried.insert((api.key, version))),
        }
    }
    let carries = |api: &Api, version: &i16| {
        crate::acl::carried(api.key).is_some_and(|(min, max)| (min..=max).contains(version))
    };
    for (api, version, _) in requests() {
        if !matches!(api.key, api::PRODUCE | 22) {
            let what = format!("{} {version}", api.name);
            assert_eq!(
                carried.contains(&(api.key, version)),
                carries(api, &version),
                "{what}"
            );
        }
    }
}

#[test]
fn every_request_is_carried_or_answered_without_topic_rights() {
    for (api, version, request) in requests() {
        let (to_broker, to_client) = exchanged(KafkaSession::new(), &request);
        // Its mechanism is none.
        let sasl = (api.key, version) == (api::SASL_HANDSHAKE, 0);
        match !sasl && api.carried.is_some_and(|most| version <= most) {
            true => assert_eq!(to_broker, request, "{} {version}", api.name),
            false => check(api, version, to_client.expect("answered")),
        }
    }
}
