//! Many clients, greedy clients, and clients that vanish.

use std::time::Duration;

use renkei_api::workload::X509svidRequest;
use renkei_testkit::python;
use tokio::{io::AsyncReadExt, net::UnixStream};
use tonic::Code;

use super::rules::{client, with_header};
use crate::{
    client::{FetchError, fetch},
    testing::{DEADLINE, Running, me, part_of, provider, within},
    workload_api::GrpcLimits,
};

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn two_hundred_clients_all_hear_of_a_change() {
    let running = Running::serving(part_of(&[("one", &me())]), GrpcLimits::default());
    let mut streams = Vec::new();
    for _ in 0..200 {
        let mut client = client(&running).await;
        let request = with_header(X509svidRequest {}, &["true"]);
        streams.push(client.fetch_x509svid(request).await.unwrap().into_inner());
    }
    assert_eq!(running.metrics.subscribers(), 200);
    running
        .part
        .send_replace(part_of(&[("one", &me()), ("two", &me())]));
    for stream in &mut streams {
        assert_eq!(stream.message().await.unwrap().unwrap().svids.len(), 1);
        assert_eq!(stream.message().await.unwrap().unwrap().svids.len(), 2);
    }
    drop(streams);
    eventually("all have left", || running.metrics.subscribers() == 0).await;
}

#[tokio::test]
async fn one_user_cannot_take_every_connection() {
    let limits = GrpcLimits {
        connections_per_user: 3,
        ..GrpcLimits::default()
    };
    let running = Running::serving(part_of(&[("one", &me())]), limits);
    let connect = async || UnixStream::connect(running.socket()).await.unwrap();
    let held = [connect().await, connect().await, connect().await];
    match fetch(&running.endpoint(), &provider()).await {
        Err(FetchError::Status(status)) => {
            assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
            assert!(status.message().contains("this user"), "{status}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(running.metrics.denials()["too_many_connections"], 1);
    // Who asks nothing is closed.
    let mut silent = connect().await;
    within(async { while silent.read(&mut [0; 64]).await.unwrap_or(0) > 0 {} }).await;
    drop(held);
    let start = std::time::Instant::now();
    while let Err(error) = fetch(&running.endpoint(), &provider()).await {
        assert!(
            start.elapsed() < DEADLINE,
            "the places are free again: {error}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn connections_beyond_a_bound_are_not_even_answered() {
    let limits = GrpcLimits {
        connections_per_user: 0,
        ..GrpcLimits::default()
    };
    let running = Running::serving(part_of(&[("one", &me())]), limits);
    // The first ones are still there when the last one comes.
    tokio::time::pause();
    let connect = async || UnixStream::connect(running.socket()).await.unwrap();
    let mut answered = Vec::new();
    for _ in 0..16 {
        answered.push(connect().await);
    }
    let mut closed = connect().await;
    let read = within(closed.read(&mut [0; 64])).await;
    assert_eq!(read.unwrap_or(0), 0, "closed without a word");
}

#[tokio::test]
async fn streams_beyond_the_limit_of_a_connection_are_told_so() {
    let limits = GrpcLimits {
        streams_per_connection: 3,
        ..GrpcLimits::default()
    };
    let running = Running::serving(part_of(&[("one", &me())]), limits);
    let mut client = client(&running).await;
    let request = || with_header(X509svidRequest {}, &["true"]);
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(client.fetch_x509svid(request()).await.unwrap().into_inner());
    }
    for _ in 0..300 {
        let status = client.fetch_x509svid(request()).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    }
    assert_eq!(running.metrics.denials()["too_many_streams"], 300);
    // Those that are open go on, and the place of one that ends is free again.
    for stream in &mut streams {
        stream.message().await.unwrap().unwrap();
    }
    streams.pop();
    let start = std::time::Instant::now();
    while let Err(status) = client.fetch_x509svid(request()).await {
        assert!(start.elapsed() < DEADLINE, "{status}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_is_not_http2_ends_the_connection() {
    let running = Running::serving(part_of(&[("one", &me())]), GrpcLimits::default());
    let mut socket = UnixStream::connect(running.socket()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut socket, b"GET / HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    // An error is an end as well.
    let _ = within(socket.read_to_end(&mut answer)).await;
    fetch(&running.endpoint(), &provider()).await.unwrap();
}

const SUBSCRIBE: &str = r#"
import sys, time
from spiffe import WorkloadApiClient
client = WorkloadApiClient(socket_path=sys.argv[1])
client.stream_x509_contexts(lambda context: print("got", flush=True), print)
time.sleep(60)
"#;

#[tokio::test]
async fn a_killed_client_leaves_nothing_behind() {
    let running = Running::serving(part_of(&[("one", &me())]), GrpcLimits::default());
    let mut client = tokio::process::Command::new(python())
        .args(["-c", SUBSCRIBE, &running.endpoint()])
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    eventually("it subscribes", || running.metrics.subscribers() == 1).await;
    client.kill().await.unwrap();
    eventually("it is forgotten", || running.metrics.subscribers() == 0).await;
    fetch(&running.endpoint(), &provider()).await.unwrap();
}
