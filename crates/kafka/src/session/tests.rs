//! Whole conversations, in pieces of any size.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, BrokerId, FetchRequest, MetadataRequest, MetadataResponse,
    ProduceRequest, RequestHeader, SaslHandshakeRequest, SaslHandshakeResponse, TransactionalId,
};
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};
use proptest::prelude::*;

use super::*;
use crate::limits::MAX_FRAME;
use crate::rewrite::Endpoint;
use crate::wire::WireFault;

fn local(_: i32, _: &str, _: u16) -> Option<Endpoint> {
    Some(Endpoint {
        host: "127.0.0.13".into(),
        port: 19092,
    })
}

fn framed(body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i32(body.len() as i32);
    frame.extend_from_slice(body);
    frame.freeze()
}

fn request<M: Encodable + HeaderVersion>(key: ApiKey, version: i16, id: i32, message: &M) -> Bytes {
    let mut body = BytesMut::new();
    let header = RequestHeader::default()
        .with_request_api_key(key as i16)
        .with_request_api_version(version)
        .with_correlation_id(id)
        .with_client_id(Some(StrBytes::from_static_str("a client")));
    header
        .encode(&mut body, M::header_version(version))
        .expect("header");
    message.encode(&mut body, version).expect("body");
    framed(&body)
}

/// A request of which only the head matters.
fn opaque_request(key: i16, version: i16, id: i32) -> Bytes {
    let mut body = BytesMut::new();
    body.put_i16(key);
    body.put_i16(version);
    body.put_i32(id);
    body.put_i16(-1);
    body.put_bytes(0xaa, 300);
    framed(&body)
}

fn opaque_answer(id: i32, length: usize) -> Bytes {
    let mut body = BytesMut::new();
    body.put_i32(id);
    body.put_bytes(0xbb, length);
    framed(&body)
}

fn produce(version: i16, id: i32, acks: i16) -> Bytes {
    let transaction = TransactionalId(StrBytes::from_static_str("transaction"));
    let message = ProduceRequest::default()
        .with_acks(acks)
        .with_transactional_id(Some(transaction));
    request(ApiKey::Produce, version, id, &message)
}

fn metadata_answer(id: i32, host: &str, port: i32) -> Bytes {
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(1))
        .with_host(StrBytes::from_string(host.to_owned()))
        .with_port(port);
    let mut body = BytesMut::new();
    body.put_i32(id);
    body.put_u8(0); // tagged fields of the header
    MetadataResponse::default()
        .with_brokers(vec![broker])
        .encode(&mut body, 9)
        .expect("body");
    framed(&body)
}

/// Both directions, fed in pieces.
#[derive(Default)]
struct Carried {
    session: KafkaSession,
    from_client: BytesMut,
    from_broker: BytesMut,
    to_broker: Vec<Bytes>,
    to_client: Vec<Bytes>,
}

impl Carried {
    fn client(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        self.from_client.extend_from_slice(bytes);
        self.session
            .client_to_broker(&mut self.from_client, &mut self.to_broker)
    }

    fn broker(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        self.from_broker.extend_from_slice(bytes);
        let out = &mut self.to_client;
        self.session
            .broker_to_client(&mut self.from_broker, &mut local, out)
    }
}

#[test]
fn pipelined_requests_pass_as_one_slice_and_answers_are_rewritten_in_order() {
    let mut carried = Carried::default();
    let requests = [
        opaque_request(1, 15, 1),
        request(ApiKey::Metadata, 9, 2, &MetadataRequest::default()),
        produce(7, 3, 1),
    ]
    .concat();
    carried.client(&requests).expect("requests");
    assert_eq!(carried.to_broker, [requests]);
    assert!(!carried.session.is_idle());
    let answers = [
        opaque_answer(1, 5000),
        metadata_answer(2, "broker.hokkaido.internal", 9092),
        opaque_answer(3, 50),
    ];
    carried.broker(&answers.concat()).expect("answers");
    let seen = [
        opaque_answer(1, 5000),
        metadata_answer(2, "127.0.0.13", 19092),
        opaque_answer(3, 50),
    ];
    assert_eq!(carried.to_client, seen);
    assert!(carried.session.is_idle());
}

#[test]
fn large_bodies_leave_before_they_are_complete() {
    let mut carried = Carried::default();
    carried.client(&opaque_request(1, 11, 1)).expect("fetch");
    let answer = opaque_answer(1, 1 << 20);
    let (first, second) = answer.split_at(100_000);
    carried.broker(first).expect("first part");
    assert_eq!(carried.to_client, [first]);
    assert!(carried.from_broker.is_empty());
    carried.broker(second).expect("second part");
    assert_eq!(carried.to_client, [first, second]);
}

#[test]
fn produce_without_acks_awaits_nothing_in_any_version() {
    for version in 3..=12 {
        let mut carried = Carried::default();
        let requests = [
            produce(version, 1, 0),
            produce(version, 2, 1),
            produce(version, 3, 0),
        ];
        carried.client(&requests.concat()).expect("requests");
        assert!(!carried.session.is_idle());
        let answer = match version {
            // An empty answer, with its tagged fields and without NodeEndpoints.
            10.. => framed(&[0, 0, 0, 2, 0, 1, 0, 0, 0, 0, 0]),
            _ => opaque_answer(2, 30),
        };
        carried.broker(&answer).expect("answer");
        assert_eq!(carried.to_client, [answer]);
        assert!(carried.session.is_idle());
    }
}

#[test]
fn an_answer_to_produce_without_acks_is_dropped() {
    let mut carried = Carried::default();
    carried
        .client(&[produce(7, 1, 0), produce(7, 2, 1)].concat())
        .expect("requests");
    carried
        .broker(&[opaque_answer(1, 54), opaque_answer(2, 54)].concat())
        .expect("answers");
    assert_eq!(carried.to_client, [opaque_answer(2, 54)]);
}

#[test]
fn answers_nobody_awaits_end_the_session() {
    let mut carried = Carried::default();
    carried
        .client(&opaque_request(12, 4, 8))
        .expect("heartbeat");
    let error = carried.broker(&opaque_answer(9, 0));
    assert_eq!(
        error,
        Err(SessionError::Correlation {
            awaited: Some(8),
            got: 9
        })
    );
    let error = Carried::default().broker(&opaque_answer(9, 0));
    assert_eq!(
        error,
        Err(SessionError::Correlation {
            awaited: None,
            got: 9
        })
    );
}

#[test]
fn requests_that_nobody_can_answer_end_the_session_behind_the_answers_before_them() {
    for (key, version) in [(999, 0), (3, -1), (-1, 0), (3, 14), (55, 3)] {
        let mut carried = Carried::default();
        let good = opaque_request(12, 0, 1);
        let sent = [good.clone(), opaque_request(key, version, 2), good.clone()];
        carried.client(&sent.concat()).expect("requests");
        assert_eq!(carried.to_broker, [good]);
        assert_eq!(carried.session.end(), None, "an answer is awaited");
        carried.broker(&opaque_answer(1, 2)).expect("answer");
        assert_eq!(carried.to_client, [opaque_answer(1, 2)]);
        let error = SessionError::UnsupportedRequest { key, version };
        assert_eq!(carried.session.end(), Some(&error));
    }
}

#[test]
fn requests_that_are_not_carried_are_answered_in_their_turn() {
    let fetch = request(ApiKey::Fetch, 16, 2, &FetchRequest::default());
    let quorum = opaque_request(55, 2, 2);
    for (sent, answered) in [
        // Its throttle time, error code, session, no topics and no tagged fields.
        (fetch, &[0, 0, 0, 0, 0, 35, 0, 0, 0, 0, 1, 0][..]),
        // Its error code, message, no topics, no nodes and no tagged fields.
        (quorum, &[0, 35, 0, 1, 1, 0]),
    ] {
        let mut carried = Carried::default();
        let good = opaque_request(12, 0, 1);
        for piece in [good.clone(), sent, good.clone()].concat().chunks(7) {
            carried.client(piece).expect("requests");
        }
        assert_eq!(carried.session.take_denials().len(), 1);
        let stand_in = api_versions_0(2);
        assert_eq!(
            carried.to_broker.concat(),
            [good.clone(), stand_in, good].concat()
        );
        let refused = framed(&[&[0, 0, 0, 2, 0][..], answered].concat());
        for (from_broker, to_client) in [
            (opaque_answer(1, 2), opaque_answer(1, 2)),
            (framed(&[0, 0, 0, 2, 0, 0, 0, 0, 0, 0]), refused),
            (opaque_answer(1, 2), opaque_answer(1, 2)),
        ] {
            carried.to_client.clear();
            carried.broker(&from_broker).expect("answer");
            assert_eq!(carried.to_client, [to_client]);
        }
        assert!(carried.session.is_idle());
    }
}

#[test]
fn what_is_collected_says_how_long_it_is() {
    let mut carried = Carried::default();
    let message = MetadataRequest::default();
    carried
        .client(&request(ApiKey::Metadata, 9, 1, &message))
        .expect("request");
    let answer = metadata_answer(1, "broker.hokkaido.internal", 9092);
    carried.broker(&answer[..20]).expect("a part");
    let collected = carried.session.collected_answer();
    let length = answer.len();
    assert_eq!(collected, Some(Collected { number: 0, length }));
    carried.broker(&answer[20..]).expect("the rest");
    assert_eq!(carried.session.collected_answer(), None);
}

#[test]
fn api_versions_of_the_future_are_asked_in_version_0() {
    let mut carried = Carried::default();
    let request = opaque_request(18, 9, 5);
    carried.client(&request[..20]).expect("first part");
    carried.client(&request[20..]).expect("second part");
    carried
        .client(&opaque_request(12, 0, 6))
        .expect("heartbeat");
    let message = ApiVersionsRequest::default();
    let mut expected = BytesMut::new();
    let header = RequestHeader::default()
        .with_request_api_key(18)
        .with_correlation_id(5)
        .with_client_id(None);
    header.encode(&mut expected, 1).expect("header");
    message.encode(&mut expected, 0).expect("body");
    assert_eq!(
        carried.to_broker,
        [framed(&expected), opaque_request(12, 0, 6)]
    );
    // The broker offers Fetch 4 to 18; the client learns of UNSUPPORTED_VERSION and 4 to 15.
    carried
        .broker(&framed(&[0, 0, 0, 5, 0, 0, 0, 0, 0, 1, 0, 1, 0, 4, 0, 18]))
        .expect("answer");
    let seen = framed(&[0, 0, 0, 5, 0, 35, 0, 0, 0, 1, 0, 1, 0, 4, 0, 15]);
    assert_eq!(carried.to_client, [seen]);
}

#[test]
fn tls_is_named_on_either_side() {
    let hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01];
    assert_eq!(
        Carried::default().client(&hello),
        Err(SessionError::ClientSpeaksTls)
    );
    let alert = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x46];
    assert_eq!(
        Carried::default().broker(&alert),
        Err(SessionError::BrokerSpeaksTls)
    );
}

#[test]
fn frame_lengths_are_bounded() {
    for length in [-1, i32::MIN, i32::MAX, MAX_FRAME as i32 + 1] {
        let bytes = length.to_be_bytes();
        let error = |from| Err(SessionError::FrameLength { from, length });
        assert_eq!(Carried::default().client(&bytes), error(Party::Client));
        assert_eq!(Carried::default().broker(&bytes), error(Party::Broker));
    }
    let short = Carried::default().client(&framed(&[0, 18, 0]));
    assert_eq!(
        short,
        Err(SessionError::ShortFrame {
            from: Party::Client,
            length: 3
        })
    );
    let short = Carried::default().broker(&framed(&[0, 18, 0]));
    assert_eq!(
        short,
        Err(SessionError::ShortFrame {
            from: Party::Broker,
            length: 3
        })
    );
}

#[test]
fn answers_too_long_to_rewrite_are_refused_before_they_arrive() {
    let mut carried = Carried::default();
    let message = MetadataRequest::default();
    carried
        .client(&request(ApiKey::Metadata, 9, 1, &message))
        .expect("metadata");
    let length = MAX_REWRITTEN + 1;
    let head = [(length as i32).to_be_bytes(), 1_i32.to_be_bytes()].concat();
    let error = SessionError::LongAnswer {
        api: "Metadata",
        length,
    };
    assert_eq!(carried.broker(&head), Err(error));
}

#[test]
fn heads_that_do_not_end_are_refused() {
    // A Produce request of version 9 whose header is one tagged field of 200,000 bytes.
    let mut frame = BytesMut::new();
    frame.put_i32(300_000);
    frame.put_slice(&[0, 0, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 1, 7, 0xc0, 0x9a, 0x0c]);
    frame.put_bytes(0, 100_000);
    let mut carried = Carried::default();
    carried.client(&frame).expect("still possible");
    let error = carried.client(&[0; 50_000]);
    assert_eq!(error, Err(SessionError::LongHeader { api: "Produce" }));
    let cut_short = framed(&[0, 0, 0, 3, 0, 0, 0, 1, 0xff, 0xff, 0, 9, 1]);
    let error = SessionError::MalformedRequest {
        api: "Produce",
        fault: WireFault::Truncated,
    };
    assert_eq!(Carried::default().client(&cut_short), Err(error));
}

fn handshake(version: i16, mechanism: &'static str) -> Bytes {
    let message =
        SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism));
    request(ApiKey::SaslHandshake, version, 1, &message)
}

fn handshake_answer(error: i16) -> Bytes {
    let mut body = BytesMut::new();
    body.put_i32(1);
    let message = SaslHandshakeResponse::default().with_error_code(error);
    message.encode(&mut body, 0).expect("body");
    framed(&body)
}

#[test]
fn sasl_tokens_without_headers_pass_and_requests_follow() {
    for (mechanism, rounds) in [("PLAIN", 1), ("SCRAM-SHA-512", 2)] {
        let mut carried = Carried::default();
        carried.client(&handshake(0, mechanism)).expect("handshake");
        carried.broker(&handshake_answer(0)).expect("answer");
        for _ in 0..rounds {
            carried.client(&framed(b"\0user\0secret")).expect("token");
            carried.broker(&framed(b"")).expect("empty token");
        }
        assert!(carried.session.is_idle());
        carried
            .client(&opaque_request(12, 0, 2))
            .expect("heartbeat");
        carried.broker(&opaque_answer(2, 2)).expect("answer");
        assert!(carried.session.is_idle());
    }
}

#[test]
fn refused_or_framed_sasl_goes_on_with_requests() {
    for (version, mechanism, error) in [(0, "PLAIN", 33), (1, "GSSAPI", 0)] {
        let mut carried = Carried::default();
        carried
            .client(&handshake(version, mechanism))
            .expect("handshake");
        carried.broker(&handshake_answer(error)).expect("answer");
        carried
            .client(&opaque_request(36, 2, 2))
            .expect("authenticate");
        assert!(!carried.session.is_idle());
    }
}

#[test]
fn sasl_that_cannot_be_followed_is_refused() {
    let mut carried = Carried::default();
    carried.client(&handshake(0, "GSSAPI")).expect("answered");
    carried
        .broker(&framed(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]))
        .expect("answer");
    assert_eq!(
        carried.to_client,
        [framed(&[0, 0, 0, 1, 0, 35, 0, 0, 0, 0])]
    );
    let hasty = [handshake(0, "PLAIN"), framed(b"\0user\0secret")].concat();
    assert_eq!(
        Carried::default().client(&hasty),
        Err(SessionError::SaslOutOfTurn)
    );
}

/// A conversation with every kind of frame, as client and broker write it.
fn conversation() -> (Vec<u8>, Vec<u8>) {
    let requests = [
        opaque_request(18, 3, 1),
        opaque_request(18, 77, 2),
        request(ApiKey::Metadata, 9, 3, &MetadataRequest::default()),
        produce(9, 4, 0),
        produce(9, 5, -1),
        opaque_request(1, 12, 6),
    ];
    let answers = [
        framed(&[0, 0, 0, 1, 0, 35, 0, 0, 0, 1, 0, 1, 0, 4, 0, 18]),
        framed(&[0, 0, 0, 2, 0, 0, 0, 0, 0, 1, 0, 1, 0, 4, 0, 18]),
        metadata_answer(3, "broker.hokkaido.internal", 9092),
        opaque_answer(4, 20),
        opaque_answer(5, 20),
        opaque_answer(6, 2000),
    ];
    (requests.concat(), answers.concat())
}

proptest! {
    #[test]
    fn pieces_of_any_size_give_the_same_bytes(
        client in prop::collection::vec(1..400_usize, 1..40),
        broker in prop::collection::vec(1..400_usize, 1..40),
    ) {
        let (requests, answers) = conversation();
        let mut whole = Carried::default();
        whole.client(&requests).unwrap();
        whole.broker(&answers).unwrap();
        let mut pieces = Carried::default();
        for piece in cut(&requests, &client) {
            pieces.client(piece).unwrap();
        }
        for piece in cut(&answers, &broker) {
            pieces.broker(piece).unwrap();
        }
        prop_assert_eq!(pieces.to_broker.concat(), whole.to_broker.concat());
        prop_assert_eq!(pieces.to_client.concat(), whole.to_client.concat());
        prop_assert!(pieces.session.is_idle());
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        client in prop::collection::vec(any::<Vec<u8>>(), 0..8),
        broker in prop::collection::vec(any::<Vec<u8>>(), 0..8),
    ) {
        let mut carried = Carried::default();
        carried.client(&conversation().0).unwrap();
        let _ = client.iter().try_for_each(|bytes| carried.client(bytes));
        let _ = broker.iter().try_for_each(|bytes| carried.broker(bytes));
    }

    #[test]
    fn damage_anywhere_never_panics(at: prop::sample::Index, byte: u8, in_requests: bool) {
        let (mut requests, mut answers) = conversation();
        let damaged = if in_requests { &mut requests } else { &mut answers };
        let at = at.index(damaged.len());
        damaged[at] = byte;
        let mut carried = Carried::default();
        let _ = carried.client(&requests).and_then(|()| carried.broker(&answers));
    }
}

/// `bytes` in pieces of the given sizes, over and over.
fn cut<'a>(bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let (mut rest, mut pieces) = (bytes, Vec::new());
    for size in sizes.iter().cycle() {
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        pieces.push(piece);
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    pieces
}
