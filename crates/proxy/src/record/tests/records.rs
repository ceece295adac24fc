use rustls::{AlertDescription, ContentType, Error};

use super::*;

#[test]
fn rustls_reads_what_is_sealed_here() {
    let ((mut sealer, _), mut server) = to_rustls();
    let mut records = std::collections::VecDeque::new();
    let frame: [&[u8]; 3] = [b"parts of ", b"", b"a frame"];
    sealer.seal(&frame, &mut records).unwrap();
    sealer.seal(&[&[7; RECORD]], &mut records).unwrap();
    records.push_back(sealer.close_notify().unwrap());
    let wire: Vec<u8> = records.into_iter().flatten().collect();
    let got = read_by(&mut server, &wire);
    assert_eq!(got.len(), 16 + RECORD);
    assert!(got.starts_with(b"parts of a frame"));
    assert_eq!(server.reader().read(&mut [0; 1]).unwrap(), 0, "a clean end");
}

#[test]
fn what_rustls_seals_is_opened_in_place() {
    let ((_, mut opener), mut server) = to_rustls();
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
    let ((mut sealer, _), (_, mut opener)) = both();
    let first = seal(&mut sealer, b"first").concat();
    let second = seal(&mut sealer, b"second").concat();
    for at in [HEADER, first.len() - 1] {
        let mut changed = first.clone();
        changed[at] ^= 1;
        assert_eq!(open(&mut opener, changed), Err(Error::DecryptError));
    }
    let swapped = open(&mut opener, second.clone());
    assert_eq!(swapped, Err(Error::DecryptError), "out of turn");
    open(&mut opener, first.clone()).expect("in its turn");
    let repeated = open(&mut opener, first);
    assert_eq!(repeated, Err(Error::DecryptError), "a second time");
    open(&mut opener, second).expect("the next");
    assert_eq!((sealer.sealed(), opener.opened()), (2, 2));
}

#[test]
fn what_is_no_record_of_a_running_session_ends_it() {
    let ((mut sealer, _), (_, mut opener)) = both();
    let plaintext = [22, 3, 3, 0, 4, 1, 0, 0, 0];
    let refused = opener.open(&mut plaintext.clone());
    assert_eq!(refused, Err(Error::DecryptError));
    let refused = opener.open(&mut [23, 3, 3, 0xff, 0xff]);
    assert_eq!(refused, Err(Error::PeerSentOversizedRecord));
    let refused = opener.open(&mut [23, 3, 3, 0, 0]);
    assert_eq!(refused, Err(Error::DecryptError), "nothing in it");
    let mut alert = sealer
        .fatal_alert(AlertDescription::UnknownCA)
        .expect("sealed");
    assert_eq!(
        opener.open(&mut alert),
        Err(Error::AlertReceived(AlertDescription::UnknownCA))
    );
}

#[test]
fn session_tickets_and_notices_of_an_end_are_passed_over() {
    let ((mut sealer, _), (_, mut opener)) = both();
    let ticket: &[u8] = &[NEW_SESSION_TICKET, 0, 0, 2, 7, 7];
    for messages in [&[ticket][..], &[ticket, ticket]] {
        let tickets = sealer.encrypt(ContentType::Handshake, messages).unwrap();
        assert_eq!(open(&mut opener, tickets), Ok(Vec::new()));
    }
    let canceled = AlertDescription::UserCanceled.into();
    let notice = sealer.encrypt(ContentType::Alert, &[&[1, canceled]]);
    assert_eq!(open(&mut opener, notice.unwrap()), Ok(Vec::new()));
    let mut end = sealer.close_notify().unwrap();
    assert_eq!(opener.open(&mut end), Ok(Opened::Closed));
}
