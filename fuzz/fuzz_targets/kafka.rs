//! A Kafka session between a hostile client and a hostile broker: no panic, and the same bytes and
//! the same end however the pieces are cut.
//!
//! The first byte: whether topic rights are in force, and the size of pieces. Then come records of
//! one byte for the direction (the lowest bit), two for a length, and that many bytes.

#![no_main]

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use renkei_access::{NamePatterns, TopicRights};
use renkei_kafka::{Endpoint, KafkaSession, SessionError};

fuzz_target!(|input: &[u8]| {
    let Some((choice, records)) = input.split_first() else {
        return;
    };
    let rights = choice & 1 == 1;
    let size = 1 + usize::from(choice >> 1);
    let whole = Conversation::carry(rights, usize::MAX, records);
    let pieces = Conversation::carry(rights, size, records);
    // A Produce request for one topic passes as soon as that is known to be allowed: what is wrong
    // behind it is then the broker's to say.
    if rights
        && matches!(
            whole.end,
            Some(SessionError::MalformedRequest { api: "Produce", .. })
        )
    {
        return;
    }
    assert_eq!(whole.end, pieces.end);
    for (whole, pieces) in whole.out.iter().zip(&pieces.out) {
        assert_eq!(whole.concat(), pieces.concat());
    }
});

/// What a session let through, to the broker and to the client, and how it ended.
#[derive(Default)]
struct Conversation {
    out: [Vec<Bytes>; 2],
    end: Option<SessionError>,
}

impl Conversation {
    fn carry(rights: bool, size: usize, records: &[u8]) -> Self {
        let mut session = match rights {
            true => KafkaSession::with_rights(Arc::new(some_rights())),
            false => KafkaSession::new(),
        };
        let mut said = Self::default();
        let mut input = [BytesMut::new(), BytesMut::new()];
        let mut local = |node: i32, _: &str, _: u16| {
            let host = "127.0.0.13".to_owned();
            (0..100)
                .contains(&node)
                .then_some(Endpoint { host, port: 19092 })
        };
        for (direction, bytes) in split(records) {
            let [from_client, from_broker] = &mut input;
            let [to_broker, to_client] = &mut said.out;
            for piece in bytes.chunks(size) {
                let passed = match direction {
                    Direction::ToBroker => {
                        from_client.extend_from_slice(piece);
                        session.client_to_broker(from_client, to_broker)
                    }
                    Direction::ToClient => {
                        from_broker.extend_from_slice(piece);
                        session.broker_to_client(from_broker, &mut local, to_client)
                    }
                };
                if let Err(error) = passed {
                    said.end = Some(error);
                    return said;
                }
            }
        }
        said
    }
}

enum Direction {
    ToBroker,
    ToClient,
}

fn split(mut records: &[u8]) -> impl Iterator<Item = (Direction, &[u8])> {
    std::iter::from_fn(move || {
        let ([direction, high, low], rest) = records.split_first_chunk::<3>()?;
        let direction = match direction & 1 {
            0 => Direction::ToBroker,
            _ => Direction::ToClient,
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (bytes, rest) = rest.split_at(length.min(rest.len()));
        records = rest;
        Some((direction, bytes))
    })
}

fn some_rights() -> TopicRights {
    let names = |names: &[&str]| names.iter().copied().collect::<NamePatterns>();
    TopicRights {
        produce: names(&["weather-*"]),
        consume: names(&["weather-*", "quakes"]),
        create: names(&["weather-new"]),
        describe: names(&["seen"]),
        group: names(&["readers"]),
    }
}
