//! Heads of HTTP/1 requests: no panic, a path that cannot be misread, and nothing passed on that is
//! about the caller's connection or claims to be this side's word.

#![no_main]

use std::{convert::Infallible, sync::LazyLock};

use http_body_util::Empty;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    header::{CONNECTION, HOST, HeaderMap},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use renkei_proxy::fuzzing;
use renkei_spiffe::SpiffeId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::{Builder, Runtime},
};

const CALLER: &str = "spiffe://osaka.example/collector";

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().build().expect("runtime"));

fuzz_target!(|input: &[u8]| RUNTIME.block_on(serve(input)));

async fn serve(input: &[u8]) {
    let (mut caller, served) = tokio::io::duplex(256 * 1024);
    let sent = input.get(..128 * 1024).unwrap_or(input);
    caller.write_all(sent).await.expect("written");
    caller.shutdown().await.expect("shut down");
    let answer = service_fn(|request| async {
        look_at(request);
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let connection = http1::Builder::new()
        .max_header_size(fuzzing::MAX_HEAD)
        .half_close(true)
        .serve_connection(TokioIo::new(served), answer);
    let mut answers = Vec::new();
    let (_, read) = tokio::join!(connection, caller.read_to_end(&mut answers));
    read.expect("answers");
}

fn look_at(mut request: Request<Incoming>) {
    let before = request.headers().clone();
    let caller = SpiffeId::parse(CALLER).expect("an ID");
    let Some((path, websocket)) = fuzzing::request_head(&mut request, &caller) else {
        return;
    };
    if let Some(path) = path {
        assert_eq!(fuzzing::path(&path), Some(path), "its own form");
    }
    let headers = request.headers();
    let peers: Vec<_> = headers.get_all("x-renkei-peer").iter().collect();
    assert_eq!(peers, [CALLER]);
    assert!(headers.get_all(HOST).iter().count() <= 1);
    for name in headers.keys() {
        let letters = name.as_str().chars().filter(char::is_ascii_alphanumeric);
        let folded: String = letters.collect();
        let own = ["x-renkei-peer", "x-forwarded-client-cert"];
        let claims = ["xrenkeipeer", "xforwardedclientcert", "xoriginalurl"];
        assert!(
            own.contains(&name.as_str()) || !claims.contains(&folded.as_str()),
            "{name}"
        );
    }
    if !websocket {
        assert!(!headers.contains_key(CONNECTION));
    }
    for name in named_by_connection(&before) {
        let kept = [
            "host",
            "content-length",
            "te",
            "x-renkei-peer",
            "transfer-encoding",
        ];
        assert!(
            kept.contains(&&*name) || websocket || !headers.contains_key(&*name),
            "{name}"
        );
    }
}

/// The headers that the caller declares to be about its connection.
fn named_by_connection(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(CONNECTION).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(','));
    let names = names.map(|name| name.trim().to_ascii_lowercase());
    names
        .filter(|name| {
            name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !name.is_empty()
        })
        .collect()
}
