//! Bundle endpoints that do wrong: nothing of what they say replaces the last good bundle, and
//! none of them costs more than its bound.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;

use super::*;

/// An answer with a body, as raw bytes.
fn answer(status: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn ok(bundle: &Bundle) -> Vec<u8> {
    answer("200 OK", &bundle.to_document())
}

/// Fetches once from an endpoint that always answers the same.
async fn fetch(lab: &Lab, reply: Vec<u8>) -> Result<(), PeerFetchError> {
    let endpoint = WebServer::answering(reply).await;
    let mut peer = lab.peer(endpoint.source(lab.folder.path()));
    peer.known = lab.known().await;
    peer.refresh().await
}

#[tokio::test]
async fn a_good_document_is_published_and_kept() {
    let lab = Lab::new().await;
    let tokyo = tokyo_bundle(3);
    fetch(&lab, ok(&tokyo)).await.unwrap();
    assert_eq!(lab.published().as_ref(), Some(&tokyo));
    assert_eq!(lab.known().await.unwrap().bundle, tokyo);
}

/// Answers and closes without a close_notify.
async fn fetch_cut(lab: &Lab, reply: Vec<u8>) -> Result<(), PeerFetchError> {
    let endpoint = WebServer::start(move |mut stream| {
        let reply = reply.clone();
        async move {
            stream.write_all(&reply).await.unwrap();
            stream.flush().await.unwrap();
        }
    })
    .await;
    lab.peer(endpoint.source(lab.folder.path())).refresh().await
}

#[tokio::test]
async fn without_a_close_notify_a_document_of_known_length_counts_and_no_other() {
    let lab = Lab::new().await;
    let tokyo = tokyo_bundle(3);
    fetch_cut(&lab, ok(&tokyo)).await.unwrap();
    assert_eq!(lab.published().as_ref(), Some(&tokyo));
    let next = tokyo_bundle(4).to_document();
    let chunked = |end: &str| {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        format!("{head}{:x}\r\n{next}\r\n{end}", next.len()).into_bytes()
    };
    let whole = ok(&tokyo_bundle(4));
    let cut = [
        whole.get(..whole.len() - 1).unwrap().to_vec(),
        chunked(""),
        format!("HTTP/1.0 200 OK\r\n\r\n{next}").into_bytes(),
    ];
    for reply in cut {
        let error = fetch_cut(&lab, reply).await.unwrap_err();
        assert_eq!(error.label(), "http", "{error}");
        assert_eq!(lab.published().as_ref(), Some(&tokyo));
    }
    fetch_cut(&lab, chunked("0\r\n\r\n")).await.unwrap();
    assert_eq!(lab.published().and_then(|all| all.sequence), Some(4));
}

#[tokio::test]
async fn whatever_is_wrong_the_last_good_bundle_stays() {
    let lab = Lab::new().await;
    let good = tokyo_bundle(7);
    fetch(&lab, ok(&good)).await.unwrap();
    let without_sequence = Bundle {
        sequence: None,
        ..tokyo_bundle(0)
    };
    let mut empty = Bundle::empty(tokyo());
    empty.sequence = Some(6);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("document", answer("200 OK", "garbage")),
        ("document", answer("200 OK", "{\"keys\": 5}")),
        ("document", answer("200 OK", "")),
        ("http", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        (
            "http",
            b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"keys\"".to_vec(),
        ),
        (
            "http",
            answer("500 Internal Server Error", &good.to_document()),
        ),
        (
            "redirect",
            b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\n\r\n".to_vec(),
        ),
        ("http", vec![]),
        ("sequence", ok(&tokyo_bundle(6))),
        ("sequence", ok(&tokyo_bundle(7))),
        ("sequence", ok(&without_sequence)),
        ("sequence", ok(&empty)),
        (
            "too_long",
            b"HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n".to_vec(),
        ),
        (
            "http",
            b"HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551615\r\n\r\n".to_vec(),
        ),
    ];
    for (label, reply) in cases {
        let shown = String::from_utf8_lossy(&reply)
            .chars()
            .take(60)
            .collect::<String>();
        let error = fetch(&lab, reply).await.unwrap_err();
        assert_eq!(error.label(), label, "{shown}: {error}");
        assert_eq!(lab.published().as_ref(), Some(&good), "{shown}");
        assert_eq!(lab.known().await.unwrap().bundle, good, "{shown}");
    }
}

#[tokio::test]
async fn a_redirect_away_from_https_or_without_end_is_refused() {
    let lab = Lab::new().await;
    for (location, says) in [
        ("http://127.0.0.1:1/", "its scheme is not https"),
        ("https://user:secret@127.0.0.1:1/", "user information"),
        ("https://[/", "it is no URL"),
        ("/round/and/round", "more than 5 times"),
    ] {
        let error = fetch(&lab, redirect(302, location)).await.unwrap_err();
        assert_eq!(error.label(), "redirect", "{error}");
        assert!(error.to_string().contains(says), "{location}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    // There is nowhere to go.
    let nowhere = b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n".to_vec();
    let error = fetch(&lab, nowhere).await.unwrap_err();
    assert!(error.to_string().contains("302"), "{error}");
}

#[tokio::test]
async fn reading_stops_long_before_the_end_of_100_mb() {
    let lab = Lab::new().await;
    let sent = Arc::new(AtomicUsize::new(0));
    let endpoint = WebServer::start({
        let sent = sent.clone();
        move |mut stream| {
            let sent = sent.clone();
            async move {
                let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                let mut chunk = b"10000\r\n".to_vec();
                chunk.extend(std::iter::repeat_n(b' ', 0x10000));
                chunk.extend(b"\r\n");
                let _ = stream.write_all(head).await;
                for _ in 0..1600 {
                    if stream.write_all(&chunk).await.is_err() {
                        return;
                    }
                    sent.fetch_add(chunk.len(), Ordering::Relaxed);
                }
            }
        }
    })
    .await;
    let error = lab
        .peer(endpoint.source(lab.folder.path()))
        .refresh()
        .await
        .unwrap_err();
    assert_eq!(error.label(), "too_long", "{error}");
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < 16 << 20, "{sent} bytes were taken");
}

#[tokio::test]
async fn an_endpoint_that_hangs_or_drips_is_given_up_in_time() {
    let lab = Lab::with_limit(Duration::from_millis(300)).await;
    let hanging = WebServer::start(hang).await;
    let error = lab
        .peer(hanging.source(lab.folder.path()))
        .refresh()
        .await
        .unwrap_err();
    assert_eq!(error.label(), "timeout", "{error}");

    let dripping = WebServer::start(|mut stream| async move {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
        let _ = stream.write_all(head).await;
        while stream.write_all(b" ").await.is_ok() && stream.flush().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let error = lab
        .peer(dripping.source(lab.folder.path()))
        .refresh()
        .await
        .unwrap_err();
    assert_eq!(error.label(), "timeout", "{error}");

    // A port that accepts and never speaks TLS.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let source = web_source(mute.local_addr().unwrap(), None);
    let error = lab.peer(source).refresh().await.unwrap_err();
    assert!(["timeout", "tls"].contains(&error.label()), "{error}");
}

#[tokio::test]
async fn a_certificate_that_the_web_roots_do_not_know_is_refused() {
    let lab = Lab::new().await;
    let endpoint = WebServer::answering(ok(&tokyo_bundle(1))).await;
    let stranger = WebServer::answering(vec![]).await;
    let source = BundleSource::HttpsWeb {
        url: endpoint.url(),
        roots: Some(stranger.roots_file(lab.folder.path())),
    };
    let error = lab.peer(source).refresh().await.unwrap_err();
    assert_eq!(error.label(), "handshake", "{error}");
    assert_eq!(lab.published(), None);

    let source = BundleSource::HttpsWeb {
        url: endpoint.url(),
        roots: Some(lab.folder.path().join("absent.pem")),
    };
    let error = lab.peer(source).refresh().await.unwrap_err();
    assert!(error.to_string().contains("absent.pem"), "{error}");
}

#[tokio::test]
async fn nobody_listening_is_a_plain_sentence() {
    let lab = Lab::new().await;
    let address = renkei_testkit::free_address();
    let roots = WebServer::answering(vec![])
        .await
        .roots_file(lab.folder.path());
    let error = lab
        .peer(web_source(address, Some(roots)))
        .refresh()
        .await
        .unwrap_err();
    assert_eq!(error.label(), "connect");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}
