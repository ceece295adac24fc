//! Streams over loopback; the other end is all rustls's.

use rustls::{AlertDescription, Error};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::*;

async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

/// A caller of ours, and its callee.
async fn to_rustls() -> (TlsStream, server::TlsStream<TcpStream>) {
    let (caller, callee) = sides(aws_lc_rs::default_provider());
    let (near, far) = tcp().await;
    let name = NAME.try_into().unwrap();
    let (ours, theirs) = tokio::join!(
        connect(caller.config, name, near),
        TlsAcceptor::from(callee.config).accept(far),
    );
    (ours.unwrap().into_stream(), theirs.unwrap())
}

/// A callee of ours, and its caller.
async fn from_rustls() -> (TlsStream, client::TlsStream<TcpStream>) {
    let (caller, callee) = sides(aws_lc_rs::default_provider());
    let (near, far) = tcp().await;
    let name = NAME.try_into().unwrap();
    let (ours, theirs) = tokio::join!(
        accept(callee.config, &[], far),
        TlsConnector::from(caller.config).connect(name, near),
    );
    (ours.unwrap().into_stream(), theirs.unwrap())
}

#[tokio::test]
async fn a_peer_that_speaks_no_tls_is_known_by_its_first_bytes() {
    for banner in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "220 ready",
        "\x16\x03\x03\x7f\x7f",
    ] {
        let (caller, _) = sides(aws_lc_rs::default_provider());
        let (near, mut far) = tcp().await;
        // It waits for an answer.
        far.write_all(banner.as_bytes()).await.unwrap();
        let name = NAME.try_into().unwrap();
        let failed = within(connect(caller.config, name, near))
            .await
            .unwrap_err();
        assert!(
            matches!(cause(&failed.error), Some(Error::InvalidMessage(_))),
            "{banner:?}: {failed:?}"
        );
    }
}

/// Why a stream of rustls or of ours broke.
fn cause(error: &io::Error) -> Option<&Error> {
    error.get_ref().and_then(|cause| cause.downcast_ref())
}

/// What never comes is a failure.
async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_secs(60), what)
        .await
        .expect("it comes")
}

const MIB: usize = 1024 * 1024;

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at * 31 / 7) as u8).collect()
}

#[tokio::test]
async fn data_of_both_directions_arrives_and_either_may_end_first() {
    for ours_first in [true, false] {
        let (ours, theirs) = to_rustls().await;
        let (mut our_read, mut our_write) = tokio::io::split(ours);
        let (mut their_read, mut their_write) = tokio::io::split(theirs);
        let sent = bytes(4 * MIB);
        let (mut out, mut back) = (Vec::new(), Vec::new());
        let (first, second) = sent.split_at(MIB);
        let (mut half, mut other) = (vec![0; MIB], vec![0; MIB]);
        let (a, b, _, _) = tokio::join!(
            our_write.write_all(first),
            their_write.write_all(first),
            their_read.read_exact(&mut half),
            our_read.read_exact(&mut other),
        );
        a.unwrap();
        b.unwrap();
        assert!(half == first && other == first);
        if ours_first {
            our_write.shutdown().await.unwrap();
            assert_eq!(their_read.read_to_end(&mut out).await.unwrap(), 0);
            let writes = async {
                their_write.write_all(second).await.unwrap();
                their_write.shutdown().await.unwrap();
            };
            let (read, ()) = tokio::join!(our_read.read_to_end(&mut back), writes);
            assert!(read.unwrap() == second.len() && back == second);
        } else {
            their_write.shutdown().await.unwrap();
            assert_eq!(our_read.read_to_end(&mut back).await.unwrap(), 0);
            let writes = async {
                our_write.write_all(second).await.unwrap();
                our_write.shutdown().await.unwrap();
            };
            let (read, ()) = tokio::join!(their_read.read_to_end(&mut out), writes);
            assert!(read.unwrap() == second.len() && out == second);
        }
    }
}

#[tokio::test]
async fn new_keys_in_the_middle_of_large_data_lose_nothing() {
    let (mut ours, mut theirs) = from_rustls().await;
    let sent = bytes(MIB);
    let (mut got, mut back) = (vec![0; MIB], vec![0; MIB]);
    for _ in 0..8 {
        let out = async {
            for part in sent.chunks(MIB / 16) {
                theirs.get_mut().1.refresh_traffic_keys().unwrap();
                theirs.write_all(part).await.unwrap();
            }
            theirs.flush().await.unwrap();
            theirs.read_exact(&mut back).await.unwrap();
        };
        let echo = async {
            ours.read_exact(&mut got).await.unwrap();
            ours.write_all(&got).await.unwrap();
            ours.flush().await.unwrap();
        };
        within(async { tokio::join!(out, echo) }).await;
        assert!(back == sent);
    }
}

#[tokio::test]
async fn what_comes_with_the_last_message_of_the_handshake_is_read() {
    let (caller, callee) = sides(aws_lc_rs::default_provider());
    let (near, far) = tcp().await;
    let name = NAME.try_into().unwrap();
    let mut client = ClientConnection::new(caller.config, name).unwrap();
    let ours = tokio::spawn(async move {
        let mut ours = accept(callee.config, &[], far).await.unwrap().into_stream();
        let mut got = Vec::new();
        ours.read_to_end(&mut got).await.unwrap();
        ours.write_all(&got).await.unwrap();
        ours.shutdown().await.unwrap();
    });
    // Finished, data and close_notify in one segment.
    let mut near = near;
    near.write_all(&written(&mut client)).await.unwrap();
    let mut input = vec![0; 16 * 1024];
    while client.is_handshaking() {
        let count = near.read(&mut input).await.unwrap();
        let mut part = &input[..count];
        while !part.is_empty() {
            client.read_tls(&mut part).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    client.writer().write_all(b"all at once").unwrap();
    client.send_close_notify();
    near.write_all(&written(&mut client)).await.unwrap();
    let mut answer = Vec::new();
    within(near.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(read_by(&mut client, &answer), b"all at once");
    ours.await.unwrap();
}

#[tokio::test]
async fn a_connection_that_is_cut_has_no_clean_end() {
    let (mut ours, mut theirs) = to_rustls().await;
    theirs.write_all(b"some").await.unwrap();
    theirs.flush().await.unwrap();
    // A FIN of TCP without a close_notify.
    let (tcp, _) = theirs.into_inner();
    drop(tcp);
    let mut got = [0; 4];
    ours.read_exact(&mut got).await.unwrap();
    let error = within(ours.read(&mut got)).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_peer_that_sends_garbage_is_told() {
    let (mut ours, mut theirs) = to_rustls().await;
    let garbage = [&[23, 3, 3, 0, 32][..], &[7; 32]].concat();
    theirs.get_mut().0.write_all(&garbage).await.unwrap();
    let error = within(ours.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(cause(&error), Some(&Error::DecryptError));
    let error = within(theirs.read(&mut [0; 1])).await.unwrap_err();
    let told = Error::AlertReceived(AlertDescription::BadRecordMac);
    assert_eq!(cause(&error), Some(&told));
}

#[tokio::test]
async fn a_flood_of_key_updates_ends_the_connection_with_an_alert() {
    let (mut ours, mut theirs) = from_rustls().await;
    for _ in 0..40 {
        theirs.get_mut().1.refresh_traffic_keys().unwrap();
    }
    theirs.flush().await.unwrap();
    let error = within(ours.read(&mut [0; 1])).await.unwrap_err();
    let flood = rustls::PeerMisbehaved::TooManyKeyUpdateRequests.into();
    assert_eq!(cause(&error), Some(&flood));
    let error = within(theirs.read(&mut [0; 1])).await.unwrap_err();
    let told = Error::AlertReceived(AlertDescription::UnexpectedMessage);
    assert_eq!(cause(&error), Some(&told));
}

#[tokio::test]
async fn a_handshake_that_fails_tells_the_peer_why() {
    let ((caller, _), (_, callee)) = (
        sides(aws_lc_rs::default_provider()),
        sides(aws_lc_rs::default_provider()),
    );
    // Two authorities: each end refuses the other's certificate.
    let name = || NAME.try_into().unwrap();
    let (near, far) = tcp().await;
    let (ours, theirs) = tokio::join!(
        connect(caller.config.clone(), name(), near),
        TlsAcceptor::from(callee.config.clone()).accept(far),
    );
    let refused = |error: &io::Error| matches!(cause(error), Some(Error::InvalidCertificate(_)));
    let told = |error: &io::Error| {
        let told = Error::AlertReceived(AlertDescription::UnknownCA);
        cause(error) == Some(&told)
    };
    assert!(refused(&ours.unwrap_err().error));
    assert!(told(&theirs.unwrap_err()));
    let (near, far) = tcp().await;
    let (ours, theirs) = tokio::join!(
        connect(caller.config, name(), near),
        accept(callee.config, &[], far),
    );
    assert!(refused(&ours.unwrap_err().error));
    assert!(told(&theirs.unwrap_err().error));
}

#[tokio::test]
async fn a_peer_that_goes_away_or_sends_no_tls_ends_the_handshake() {
    for sent in [&b""[..], b"GET / HTTP/1.1\r\n\r\n"] {
        let (_, callee) = sides(aws_lc_rs::default_provider());
        let (mut near, far) = tcp().await;
        near.write_all(sent).await.unwrap();
        near.shutdown().await.unwrap();
        let failed = within(accept(callee.config, &[], far)).await;
        assert!(failed.is_err(), "{sent:?}");
    }
}

/// A message that never becomes whole is not kept without end.
#[tokio::test]
async fn a_handshake_has_a_bound() {
    let (caller, _) = sides(aws_lc_rs::default_provider());
    let (near, mut far) = tcp().await;
    let flood = tokio::spawn(async move {
        // Records of a ServerHello that has the most that a message may say, and more.
        let record = [
            &[22, 3, 3, 0x40, 0][..],
            &[2, 0xff, 0xff, 0xff],
            &[0; 16380],
        ]
        .concat();
        while far.write_all(&record).await.is_ok() {}
    });
    let failed = within(connect(caller.config, NAME.try_into().unwrap(), near)).await;
    drop(failed.unwrap_err());
    flood.await.unwrap();
}
