//! Bytes, ends and resets through the proxies of two sites.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lab;

use lab::{
    Lab, assert_reset, backend, echo, eventually, ping,
    time::{pass, settle},
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream)
        .set_linger(Some(std::time::Duration::ZERO))
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_go_both_ways_and_are_counted_while_the_connection_is_open() {
    let lab = Lab::new(&[echo().await]);
    let (hokkaido, osaka) = (lab.hokkaido().await, lab.osaka().await);
    let mut app = lab.connect().await;
    ping(&mut app, b"hello").await;
    // The last bytes are counted a moment after they arrive.
    eventually("both ways counted", || {
        let flows = osaka.proxy.flows().list();
        flows
            .iter()
            .any(|flow| flow.traffic.to_app() == 5)
            .then_some(())
    })
    .await;
    let flows = osaka.proxy.status().await.flows;
    assert_eq!((flows[0].bytes_sent, flows[0].bytes_received), (5, 5));
    assert_eq!(flows[0].pair.callee, lab::id("hokkaido.example/broker"));
    let flows = hokkaido.proxy.status().await.flows;
    assert_eq!(flows[0].pair.caller, lab::id("osaka.example/collector"));
    let mut registry = prometheus_client::registry::Registry::default();
    osaka.proxy.register(&mut registry);
    let mut metrics = String::new();
    prometheus_client::encoding::text::encode(&mut metrics, &registry).unwrap();
    let labels = "{direction=\"outbound\",caller=\"osaka.example/collector\",\
                  callee=\"hokkaido.example/broker\"}";
    for line in [
        "renkei_flows_total 1",
        "renkei_flow_sent_bytes_total 5",
        "renkei_flows_open 1",
    ] {
        let line = line.replace(' ', &format!("{labels} "));
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} is not in\n{metrics}"
        );
    }
    drop(app);
    eventually("both closed", || {
        (osaka.open() + hokkaido.open() == 0).then_some(())
    })
    .await;
    let totals = osaka.proxy.status().await.totals;
    assert_eq!(totals[0].totals.connections, 1);
    assert_eq!((totals[0].totals.bytes_sent, totals[0].totals.open), (5, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_transfer_arrives_whole_after_the_caller_has_ended_its_side() {
    let lab = Lab::new(&[echo().await]);
    let _sites = (lab.hokkaido().await, lab.osaka().await);
    let sent: Vec<u8> = (0..8_000_000u32).map(|n| (n % 251) as u8).collect();
    let (mut read, mut write) = lab.connect().await.into_split();
    let sending = tokio::spawn({
        let sent = sent.clone();
        async move {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        }
    });
    let mut received = Vec::new();
    within(read.read_to_end(&mut received)).await.unwrap();
    sending.await.unwrap();
    assert!(
        received == sent,
        "{} bytes of {}",
        received.len(),
        sent.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_callee_may_end_its_side_first() {
    let (address, mut connections) = backend().await;
    let lab = Lab::new(&[address]);
    let _sites = (lab.hokkaido().await, lab.osaka().await);
    let mut app = lab.connect().await;
    let mut service = within(connections.recv()).await.unwrap();
    service.write_all(b"bye").await.unwrap();
    service.shutdown().await.unwrap();
    let mut all = Vec::new();
    within(app.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"bye");
    app.write_all(b"still here").await.unwrap();
    app.shutdown().await.unwrap();
    let mut all = Vec::new();
    within(service.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"still here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_of_either_side_reaches_the_other_as_a_reset() {
    let (address, mut connections) = backend().await;
    let lab = Lab::new(&[address]);
    let (hokkaido, osaka) = (lab.hokkaido().await, lab.osaka().await);
    let app = lab.connect().await;
    let mut service = within(connections.recv()).await.unwrap();
    reset(app);
    assert_reset(&mut service).await;
    let mut app = lab.connect().await;
    reset(within(connections.recv()).await.unwrap());
    assert_reset(&mut app).await;
    eventually("both closed", || {
        (osaka.open() + hokkaido.open() == 0).then_some(())
    })
    .await;
}

/// One end closes its direction, the other has read that, and then the first is reset.
async fn end_then_reset(mut first: TcpStream, mut second: TcpStream) {
    first.write_all(b"the last").await.unwrap();
    first.shutdown().await.unwrap();
    let mut all = Vec::new();
    within(second.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"the last");
    reset(first);
    // Nothing is written, and reads have said all that they can.
    eventually("the reset", || second.take_error().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_behind_an_end_of_file_reaches_the_other_side_while_it_is_idle() {
    let (address, mut connections) = backend().await;
    let lab = Lab::new(&[address]);
    let (hokkaido, osaka) = (lab.hokkaido().await, lab.osaka().await);
    for caller_first in [true, false] {
        let app = lab.connect().await;
        let service = within(connections.recv()).await.unwrap();
        match caller_first {
            true => end_then_reset(app, service).await,
            false => end_then_reset(service, app).await,
        }
        eventually("both closed", || {
            (osaka.open() + hokkaido.open() == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_holds_for_peers_that_know_no_trunks() {
    let lab = Lab::new(&[]);
    let mut sessions = lab::lane::gateway(&lab, &[]).await;
    let osaka = lab.osaka().await;
    let mut app = lab.connect().await;
    app.write_all(b"hello").await.unwrap();
    let mut session = within(sessions.recv()).await.unwrap();
    session.read_exact(&mut [0; 5]).await.unwrap();
    session.shutdown().await.unwrap();
    assert_eq!(within(app.read(&mut [0])).await.unwrap(), 0);
    reset(session.into_inner().0);
    eventually("the reset", || app.take_error().unwrap()).await;
    eventually("closed", || (osaka.open() == 0).then_some(())).await;
}

#[tokio::test]
async fn a_half_open_connection_lives_on_while_it_is_idle() {
    let (address, mut connections) = backend().await;
    let lab = Lab::new(&[address]);
    let (hokkaido, osaka) = (lab.hokkaido().await, lab.osaka().await);
    let mut app = lab.connect().await;
    let mut service = within(connections.recv()).await.unwrap();
    app.write_all(b"question").await.unwrap();
    app.shutdown().await.unwrap();
    within(service.read_to_end(&mut Vec::new())).await.unwrap();
    // Long enough for the sockets to be watched.
    pass(std::time::Duration::from_secs(5)).await;
    settle().await;
    assert_eq!((osaka.open(), hokkaido.open()), (1, 1));
    service.write_all(b"answer").await.unwrap();
    drop(service);
    let mut all = Vec::new();
    within(app.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_does_not_read_stops_the_sender() {
    let (address, mut connections) = backend().await;
    let lab = Lab::new(&[address]);
    let (_hokkaido, osaka) = (lab.hokkaido().await, lab.osaka().await);
    let mut app = lab.connect().await;
    let mut service = within(connections.recv()).await.unwrap();
    let chunk = vec![7; 1 << 20];
    let mut sent = 0;
    let stalled = std::time::Duration::from_millis(1500);
    while let Ok(result) = tokio::time::timeout(stalled, app.write(&chunk)).await {
        sent += result.unwrap();
        assert!(sent < 256 << 20, "nothing holds the sender back");
    }
    assert_eq!(osaka.open(), 1);
    app.shutdown().await.unwrap();
    let mut all = Vec::new();
    within(service.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all.len(), sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_connections_are_open_at_once() {
    let lab = Lab::new(&[echo().await]);
    let (hokkaido, osaka) = (lab.hokkaido().await, lab.osaka().await);
    let mut opening = tokio::task::JoinSet::new();
    for n in 0..2_000u32 {
        let listen = lab.listen;
        opening.spawn(async move {
            let mut app = TcpStream::connect(listen).await.unwrap();
            app.write_all(&n.to_be_bytes()).await.unwrap();
            let mut answer = [0; 4];
            app.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, n.to_be_bytes());
            app
        });
    }
    let mut apps = Vec::new();
    while let Some(app) = opening.join_next().await {
        apps.push(app.unwrap());
    }
    assert_eq!((osaka.open(), hokkaido.open()), (2_000, 2_000));
    for app in &mut apps {
        ping(app, b"again").await;
    }
    drop(apps);
    eventually("all closed", || {
        (osaka.open() + hokkaido.open() == 0).then_some(())
    })
    .await;
    assert_eq!(osaka.reasons(), Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_of_the_same_site_is_reached_through_its_own_gateway() {
    let lab = Lab::new(&[echo().await]);
    let text = format!(
        "{}workloads:\n  forwarder:\n    selectors: ['unix:uid:{}']\n    uses: {{broker: '{}'}}\n",
        lab.hokkaido_text("forwarder")
            .replace("advertise: '127.0.0.1", "advertise: 'gw.invalid"),
        rustix::process::geteuid().as_raw(),
        lab.listen,
    );
    let identities = lab::identities(&lab.hokkaido_ca, &["/broker", "/forwarder"], &[]);
    let site = lab::Node::start(&text, identities).await;
    ping(&mut lab.connect().await, b"hello").await;
    assert!(site.readiness.is_ready());
}
