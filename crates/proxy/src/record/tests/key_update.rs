use rustls::{ContentType, Error, HandshakeType, InvalidMessage, PeerMisbehaved};

use super::*;

/// A KeyUpdate that asks for one, or does not (RFC 8446 4.6.3).
const REQUESTED: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 1];
const NOT_REQUESTED: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 0];

/// Bytes of which none is like another near it.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at * 31 / 7) as u8).collect()
}

/// Seals `data` in records of different sizes; says how many records there are.
fn seal_all(sealer: &mut Sealer, data: &[u8]) -> (Vec<u8>, usize) {
    let (mut wire, mut count, mut rest) = (Vec::new(), 0, data);
    for size in [RECORD, 1, 100, RECORD - 1].into_iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (part, after) = rest.split_at(size.min(rest.len()));
        let records = seal(sealer, part);
        count += records.len();
        wire.extend(records.concat());
        rest = after;
    }
    (wire, count)
}

/// A record of the handshake's type, sealed with the present key.
fn handshake(sealer: &mut Sealer, message: &[u8]) -> Vec<u8> {
    sealer.encrypt(ContentType::Handshake, &[message]).unwrap()
}

#[test]
fn data_of_both_directions_arrives_through_many_keys_of_each_cipher() {
    let data = bytes(1024 * 1024);
    for suite in aws_lc_rs::DEFAULT_CIPHER_SUITES {
        if suite.tls13().is_none() {
            continue;
        }
        let provider = CryptoProvider {
            cipher_suites: vec![*suite],
            ..aws_lc_rs::default_provider()
        };
        let (mut client, mut server) = both_with(provider);
        let plain = seal_all(&mut client.0, &data);
        assert_eq!(open(&mut server.1, plain.0), Ok(data.clone()));
        client.0.set_records_per_key(Some(3));
        server.0.set_records_per_key(Some(4));
        // Both change their keys while the other's records are under way.
        let (out, there) = seal_all(&mut client.0, &data);
        let (back, here) = seal_all(&mut server.0, &data);
        assert!(there > plain.1 * 5 / 4 && here > plain.1 * 6 / 5);
        assert_eq!(open(&mut server.1, out), Ok(data.clone()), "{suite:?}");
        assert_eq!(open(&mut client.1, back), Ok(data.clone()), "{suite:?}");
        assert!(client.0.sealed() <= 4 && client.1.opened() <= 5);
    }
}

#[test]
fn rustls_follows_our_keys() {
    let data = bytes(300_000);
    let ((mut sealer, _), mut server) = to_rustls();
    sealer.set_records_per_key(Some(2));
    let (wire, _) = seal_all(&mut sealer, &data);
    assert!(read_by(&mut server, &wire) == data);
    let (mut client, (mut sealer, _)) = from_rustls();
    sealer.set_records_per_key(Some(2));
    let (wire, _) = seal_all(&mut sealer, &data);
    assert!(read_by(&mut client, &wire) == data);
}

/// Rustls changes its keys, asks for new ones of ours, and gets them.
fn follows_rustls<Data: SideData>(
    theirs: &mut ConnectionCommon<Data>,
    (sealer, opener): &mut (Sealer, Opener),
) {
    sealer.set_records_per_key(None);
    for round in 0..100 {
        let text = format!("round {round}");
        theirs.refresh_traffic_keys().unwrap();
        theirs.writer().write_all(text.as_bytes()).unwrap();
        // What was under way before their update came has our old key.
        let before = seal(sealer, b"before ").concat();
        assert_eq!(open(opener, written(theirs)), Ok(text.clone().into_bytes()));
        let answer = seal(sealer, text.as_bytes());
        assert_eq!(answer.len(), 2, "a new key, then the data");
        let wire = [before, answer.concat()].concat();
        assert_eq!(
            read_by(theirs, &wire),
            format!("before {text}").into_bytes()
        );
        let more = seal(sealer, b"more");
        assert_eq!(more.len(), 1, "it was asked for once");
        assert_eq!(read_by(theirs, &more.concat()), b"more");
        sealer.set_records_per_key(Some(1));
        let wire = seal(sealer, b"own will").concat();
        assert_eq!(read_by(theirs, &wire), b"own will");
        sealer.set_records_per_key(None);
    }
}

#[test]
fn keys_of_a_peer_that_is_all_rustls_are_followed_and_answered() {
    let (mut ours, mut server) = to_rustls();
    follows_rustls(&mut server, &mut ours);
    let (mut client, mut ours) = from_rustls();
    follows_rustls(&mut client, &mut ours);
}

#[test]
fn many_requests_before_the_next_data_get_one_answer() {
    let (mut client, mut server) = both();
    for _ in 0..5 {
        let update = handshake(&mut client.0, &REQUESTED);
        client.0.update_key().unwrap();
        assert_eq!(open(&mut server.1, update), Ok(Vec::new()));
    }
    // Data of both sides is under way now.
    let wire = seal(&mut client.0, b"news").concat();
    assert_eq!(open(&mut server.1, wire), Ok(b"news".to_vec()));
    let answers = seal(&mut server.0, b"answer");
    assert_eq!(answers.len(), 2);
    assert_eq!(
        open(&mut client.1, answers.concat()),
        Ok(b"answer".to_vec())
    );
    assert_eq!(seal(&mut server.0, b"more").len(), 1);
    // One that is due anyway answers, too.
    let update = handshake(&mut client.0, &REQUESTED);
    open(&mut server.1, update).unwrap();
    server.0.set_records_per_key(Some(1));
    assert_eq!(seal(&mut server.0, b"due").len(), 2);
    server.0.set_records_per_key(None);
    assert_eq!(seal(&mut server.0, b"and no more").len(), 1);
}

#[test]
fn a_flood_of_updates_is_refused() {
    let ((mut sealer, _), (_, mut opener)) = both();
    let mut update = |sealer: &mut Sealer| {
        let record = sealer.update_key().unwrap();
        open(&mut opener, record)
    };
    for _ in 0..32 {
        assert_eq!(update(&mut sealer), Ok(Vec::new()));
    }
    let refused = update(&mut sealer).unwrap_err();
    assert_eq!(refused, PeerMisbehaved::TooManyKeyUpdateRequests.into());

    // As many as there is data are none.
    let ((mut sealer, _), (_, mut opener)) = both();
    sealer.set_records_per_key(Some(1));
    let (wire, records) = seal_all(&mut sealer, &bytes(1_000_000));
    assert!(records > 200);
    assert!(open(&mut opener, wire).is_ok());
}

#[test]
fn a_record_of_the_wrong_key_is_refused() {
    // The old key behind the update.
    let ((mut sealer, _), (_, mut opener)) = both();
    let update = handshake(&mut sealer, &NOT_REQUESTED);
    let old = seal(&mut sealer, b"with the old key").concat();
    assert_eq!(open(&mut opener, update), Ok(Vec::new()));
    assert_eq!(open(&mut opener, old), Err(Error::DecryptError));

    // The new key before the update, and the update twice.
    let ((mut sealer, _), (_, mut opener)) = both();
    sealer.set_records_per_key(Some(0));
    let records = seal(&mut sealer, b"with the new key");
    let [update, new] = &records[..] else {
        panic!("an update and a record");
    };
    assert_eq!(open(&mut opener, new.clone()), Err(Error::DecryptError));
    open(&mut opener, update.clone()).expect("in its turn");
    assert_eq!(open(&mut opener, update.clone()), Err(Error::DecryptError));
    let got = open(&mut opener, new.clone());
    assert_eq!(got, Ok(b"with the new key".to_vec()));
}

#[test]
fn an_update_that_is_split_or_not_the_last_of_its_record_is_refused() {
    let ticket = [NEW_SESSION_TICKET, 0, 0, 2, 7, 7];
    let pending = Error::from(PeerMisbehaved::KeyEpochWithPendingFragment);
    let short = Error::from(InvalidMessage::MessageTooShort);
    let invalid = Error::from(InvalidMessage::InvalidKeyUpdate);
    let unexpected = Error::InappropriateHandshakeMessage {
        expect_types: vec![HandshakeType::KeyUpdate],
        got_type: HandshakeType::CertificateRequest,
    };
    for (message, expected) in [
        (NOT_REQUESTED[..3].to_vec(), short.clone()),
        (NOT_REQUESTED[..4].to_vec(), short.clone()),
        (Vec::new(), short.clone()),
        ([NOT_REQUESTED, NOT_REQUESTED].concat(), pending.clone()),
        ([&NOT_REQUESTED[..], &ticket].concat(), pending.clone()),
        ([&NOT_REQUESTED[..], &[KEY_UPDATE]].concat(), pending),
        ([&ticket[..], &NOT_REQUESTED[..4]].concat(), short),
        (vec![KEY_UPDATE, 0, 0, 1, 2], invalid.clone()),
        (vec![KEY_UPDATE, 0, 0, 2, 0, 0], invalid.clone()),
        (vec![KEY_UPDATE, 0, 0, 0], invalid),
        (vec![13, 0, 0, 0], unexpected),
    ] {
        let ((mut sealer, _), (_, mut opener)) = both();
        let record = handshake(&mut sealer, &message);
        assert_eq!(open(&mut opener, record), Err(expected), "{message:?}");
    }
    // The last of its record it is taken.
    let ((mut sealer, _), (_, mut opener)) = both();
    let record = handshake(&mut sealer, &[&ticket[..], &NOT_REQUESTED].concat());
    sealer.update_key().unwrap();
    assert_eq!(open(&mut opener, record), Ok(Vec::new()));
    let wire = seal(&mut sealer, b"next").concat();
    assert_eq!(open(&mut opener, wire), Ok(b"next".to_vec()));
}

#[test]
fn no_key_seals_or_opens_without_end() {
    let ((mut sealer, _), (_, mut opener)) = both();
    sealer.set_records_per_key(None);
    sealer.set_sealed((1 << 24) - 1);
    opener.set_opened((1 << 24) - 1);
    let last = seal(&mut sealer, b"the last").concat();
    assert_eq!(open(&mut opener, last.clone()), Ok(b"the last".to_vec()));
    let refused = sealer.seal(&[b"too many"], &mut Default::default());
    assert_eq!(refused, Err(Error::EncryptError));
    assert_eq!(open(&mut opener, last), Err(Error::DecryptError));
}

#[test]
fn half_of_what_the_cipher_allows_is_the_most_for_a_key() {
    let ((mut sealer, _), _) = both();
    for records in [None, Some(u64::MAX)] {
        // As made, and as asked for.
        if records.is_some() {
            sealer.set_records_per_key(records);
        }
        sealer.set_sealed((1 << 23) - 1);
        assert_eq!(seal(&mut sealer, b"the last").len(), 1);
        assert_eq!(seal(&mut sealer, b"with the next").len(), 2);
        assert_eq!(sealer.sealed(), 1);
    }
}
