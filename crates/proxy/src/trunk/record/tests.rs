use std::{
    io::{Read, Write},
    sync::Arc,
};

use renkei_spiffe::{
    Bundle, BundleSet, PrivateKey, SpiffeId, TrustDomain, X509Svid, client_side, server_side,
};
use renkei_testkit::TestAuthority;
use rustls::{ClientConnection, ServerConnection};

use super::*;

/// A caller and a callee that have shaken hands.
fn connected() -> (ClientConnection, ServerConnection) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let authority = TestAuthority::new("osaka.example");
    let mut bundle = Bundle::empty(TrustDomain::parse("osaka.example").unwrap());
    bundle.x509_authorities.push(authority.certificate());
    let bundles: Arc<BundleSet> = Arc::new([Arc::new(bundle)].into_iter().collect());
    let issued = authority.issue("/both");
    let key = PrivateKey::from_pkcs8(issued.key_pkcs8);
    let svid = X509Svid::new(issued.chain, key).unwrap();
    let both = Arc::new(SpiffeId::parse("spiffe://osaka.example/both").unwrap());
    let callee = server_side(&provider, &svid, bundles.clone(), both.clone(), &[]).unwrap();
    let caller = client_side(&provider, &svid, bundles, both, &[]).unwrap();
    let name = "both.osaka.example".try_into().unwrap();
    let mut client = ClientConnection::new(caller.config, name).unwrap();
    let mut server = ServerConnection::new(callee.config).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets().unwrap();
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets().unwrap();
    }
    (client, server)
}

/// Both ends taken over.
fn taken_over() -> ((Sealer, Opener), (Sealer, Opener)) {
    let (client, server) = connected();
    (
        take_over(client.into()).unwrap(),
        take_over(server.into()).unwrap(),
    )
}

fn written(server: &mut ServerConnection) -> Vec<u8> {
    let mut wire = Vec::new();
    while server.wants_write() {
        server.write_tls(&mut wire).unwrap();
    }
    wire
}

#[test]
fn rustls_reads_what_is_sealed_here() {
    let (client, mut server) = connected();
    let (mut sealer, _) = take_over(client.into()).unwrap();
    let mut wire = sealer.seal(&[b"parts of ", b"", b"a frame"]).unwrap();
    wire.extend(sealer.seal(&[&[7; RECORD]]).unwrap());
    wire.extend(sealer.close_notify().unwrap());
    let (mut input, mut got) = (&wire[..], Vec::new());
    while !input.is_empty() {
        server.read_tls(&mut input).unwrap();
        let state = server.process_new_packets().unwrap();
        let mut part = vec![0; state.plaintext_bytes_to_read()];
        server.reader().read_exact(&mut part).unwrap();
        got.extend(part);
    }
    assert_eq!(got.len(), 16 + RECORD);
    assert!(got.starts_with(b"parts of a frame"));
    assert_eq!(server.reader().read(&mut [0; 1]).unwrap(), 0, "a clean end");
}

#[test]
fn what_rustls_seals_is_opened_in_place() {
    let (client, mut server) = connected();
    let (_, mut opener) = take_over(client.into()).unwrap();
    server.writer().write_all(b"one").unwrap();
    let mut wire = written(&mut server);
    let first = wire.len();
    server.send_close_notify();
    wire.extend(written(&mut server));
    for short in [0, 1, 4, 5, first - 1] {
        let opened = opener.open(&mut wire.clone()[..short]);
        assert_eq!(opened, Ok(Opened::Incomplete), "{short} bytes");
    }
    let opened = opener.open(&mut wire).unwrap();
    let data = HEADER..HEADER + 3;
    assert_eq!(
        opened,
        Opened::Record {
            length: first,
            data: data.clone()
        }
    );
    assert_eq!(&wire[data], b"one");
    assert_eq!(opener.open(&mut wire[first..]), Ok(Opened::Closed));
}

#[test]
fn a_changed_repeated_or_swapped_record_is_refused() {
    let ((mut sealer, _), (_, mut opener)) = taken_over();
    let first = sealer.seal(&[b"first"]).unwrap();
    let second = sealer.seal(&[b"second"]).unwrap();
    for at in [HEADER, first.len() - 1] {
        let mut changed = first.clone();
        changed[at] ^= 1;
        assert_eq!(opener.open(&mut changed), Err(Error::DecryptError));
    }
    assert_eq!(
        opener.open(&mut second.clone()),
        Err(Error::DecryptError),
        "out of turn"
    );
    opener.open(&mut first.clone()).expect("in its turn");
    assert_eq!(
        opener.open(&mut first.clone()),
        Err(Error::DecryptError),
        "a second time"
    );
    opener.open(&mut second.clone()).expect("the next");
    assert_eq!((sealer.sealed(), opener.opened()), (2, 2));
}

#[test]
fn what_is_no_record_of_a_running_session_ends_it() {
    let ((mut sealer, _), (_, mut opener)) = taken_over();
    let plaintext = [22, 3, 3, 0, 4, 1, 0, 0, 0];
    assert_eq!(
        opener.open(&mut plaintext.clone()),
        Err(Error::DecryptError)
    );
    let too_long = [23, 3, 3, 0xff, 0xff];
    assert_eq!(
        opener.open(&mut too_long.clone()),
        Err(Error::PeerSentOversizedRecord)
    );
    assert_eq!(
        opener.open(&mut [23, 3, 3, 0, 0]),
        Err(Error::DecryptError),
        "nothing in it"
    );
    let mut alert = sealer.encrypt(ContentType::Alert, &[&[2, 48]]).unwrap();
    assert_eq!(
        opener.open(&mut alert),
        Err(Error::AlertReceived(AlertDescription::UnknownCA))
    );
    let mut ticket = sealer
        .encrypt(ContentType::Handshake, &[&[NEW_SESSION_TICKET, 0, 0, 0]])
        .unwrap();
    let length = ticket.len();
    assert_eq!(
        opener.open(&mut ticket),
        Ok(Opened::Record { length, data: 0..0 })
    );
}

#[test]
fn new_keys_are_not_taken() {
    let (client, mut server) = connected();
    let (_, mut opener) = take_over(client.into()).unwrap();
    server.refresh_traffic_keys().unwrap();
    let error = opener.open(&mut written(&mut server)).unwrap_err();
    assert!(error.to_string().contains("lanes do not know"), "{error}");
}

#[test]
fn no_key_seals_without_end() {
    let ((mut sealer, _), _) = taken_over();
    sealer.sequence = EXHAUSTED - 1;
    sealer.seal(&[b"the last"]).unwrap();
    assert_eq!(sealer.seal(&[b"too many"]), Err(Error::EncryptError));
}
