//! Kafka clusters behind a gateway: clients reach every broker, and no address leaves its site.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{net::SocketAddr, sync::Arc};

use lab::{DEADLINE, Lab, Node, eventually, within};
use renkei_proxy::ProxyLimits;
use renkei_spiffe::client_side;
use renkei_testkit::{free_address, free_address_on};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A Metadata request of version 1 for no topics.
const METADATA: [u8; 18] = [0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 9, 0xff, 0xff, 0, 0, 0, 0];

/// A broker that answers Metadata of version 1 and names itself as the controller, so that a
/// client sees which broker it has reached.
async fn broker(listener: TcpListener, node: i32, cluster: Vec<(i32, String, u16)>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let cluster = cluster.clone();
        tokio::spawn(async move {
            let mut request = [0; METADATA.len()];
            while stream.read_exact(&mut request).await.is_ok() {
                let answer = metadata(&request[8..12], node, &cluster);
                stream.write_all(&answer).await.unwrap();
            }
        });
    }
}

fn metadata(correlation: &[u8], controller: i32, cluster: &[(i32, String, u16)]) -> Vec<u8> {
    let mut body = correlation.to_vec();
    body.extend((cluster.len() as i32).to_be_bytes());
    for (node, host, port) in cluster {
        body.extend(node.to_be_bytes());
        body.extend((host.len() as i16).to_be_bytes());
        body.extend(host.as_bytes());
        body.extend(i32::from(*port).to_be_bytes());
        body.extend((-1i16).to_be_bytes());
    }
    body.extend(controller.to_be_bytes());
    body.extend(0i32.to_be_bytes());
    let mut frame = (body.len() as i32).to_be_bytes().to_vec();
    frame.extend(body);
    frame
}

/// What a client learns: the brokers, and which of them it talks to.
async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
) -> std::io::Result<(Vec<(i32, String, u16)>, i32)> {
    stream.write_all(&METADATA).await?;
    within(async {
        let length = stream.read_u32().await? as usize;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let mut body = &body[4..];
        let mut brokers = Vec::new();
        for _ in 0..body.read_i32().await? {
            let node = body.read_i32().await?;
            let mut host = vec![0; body.read_i16().await? as usize];
            body.read_exact(&mut host).await?;
            let port = body.read_i32().await? as u16;
            body.read_i16().await?;
            brokers.push((node, String::from_utf8(host).unwrap(), port));
        }
        Ok((brokers, body.read_i32().await?))
    })
    .await
}

async fn cluster_of_two() -> Vec<SocketAddr> {
    let listeners = [
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
    ];
    let addresses = listeners
        .each_ref()
        .map(|listener| listener.local_addr().unwrap());
    let row = |(n, at): (usize, &SocketAddr)| (n as i32 + 1, at.ip().to_string(), at.port());
    let cluster: Vec<_> = addresses.iter().enumerate().map(row).collect();
    for (node, listener) in (1..).zip(listeners) {
        tokio::spawn(broker(listener, node, cluster.clone()));
    }
    addresses.to_vec()
}

fn kafka_text(lab: &Lab) -> String {
    lab.hokkaido_text("osaka.example/collector")
        .replace("broker: {", "broker: {protocol: kafka, ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_broker_is_reached_through_a_local_port_that_outlives_the_process() {
    // Only the first is named in the site file.
    let brokers = cluster_of_two().await;
    let mut lab = Lab::new(&brokers[..1]);
    // No other program's connection can take the ports of an address of its own while both sides
    // start again.
    lab.listen = free_address_on("127.0.9.91");
    let folder = tempfile::tempdir().unwrap();
    let ports = folder.path().join("kafka-ports.json");
    let start = async || {
        let hokkaido = Node::start(&kafka_text(&lab), lab.hokkaido_identities()).await;
        let (text, limits) = (lab.osaka_text(), ProxyLimits::default());
        let osaka =
            Node::start_with(&text, lab.osaka_identities(), limits, Some(ports.clone())).await;
        (hokkaido, osaka)
    };
    let (hokkaido, osaka) = start().await;
    let (seen, controller) = ask(&mut lab.connect().await).await.unwrap();
    assert_eq!((seen.len(), controller), (2, 1));
    for (node, host, port) in &seen {
        assert_eq!(host, "127.0.9.91");
        assert!(
            !brokers.iter().any(|at| at.port() == *port),
            "a real address left its site"
        );
        let mut stream = TcpStream::connect((host.as_str(), *port)).await.unwrap();
        let (again, controller) = ask(&mut stream).await.unwrap();
        assert_eq!((&again, controller), (&seen, *node));
    }
    for node in [&hokkaido, &osaka] {
        assert_eq!(node.drain.wait(DEADLINE).await.left, 0);
    }
    // A thread of its own writes them.
    eventually("the ports of both brokers are kept", || {
        let text = std::fs::read_to_string(&ports).ok()?;
        let is_kept = |port: &u16| text.contains(&format!("\"port\": {port}"));
        seen.iter().all(|(_, _, port)| is_kept(port)).then_some(())
    })
    .await;
    drop((hokkaido, osaka));
    // Both sides start again and know nothing; the client knows its addresses.
    let _sites = start().await;
    for (node, host, port) in &seen {
        let mut stream = TcpStream::connect((host.as_str(), *port)).await.unwrap();
        let (again, controller) = ask(&mut stream).await.unwrap();
        assert_eq!((&again, controller), (&seen, *node));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_broker_may_call_itself_what_it_likes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let lab = Lab::new(&[listener.local_addr().unwrap()]);
    let nowhere = free_address().port();
    tokio::spawn(broker(
        listener,
        111,
        vec![(111, "localhost".to_owned(), nowhere)],
    ));
    let _hokkaido = Node::start(&kafka_text(&lab), lab.hokkaido_identities()).await;
    let _osaka = lab.osaka().await;
    let (seen, _) = ask(&mut lab.connect().await).await.unwrap();
    let (_, host, port) = &seen[0];
    let mut stream = TcpStream::connect((host.as_str(), *port)).await.unwrap();
    assert_eq!(ask(&mut stream).await.unwrap(), (seen.clone(), 111));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_behind_other_proxies_see_names_and_no_addresses() {
    let lab = Lab::new(&cluster_of_two().await[..1]);
    let hokkaido = Node::start(&kafka_text(&lab), lab.hokkaido_identities()).await;
    let caller = lab::svid(lab.osaka_ca.issue("/collector"));
    let callee = Arc::new(lab::id("hokkaido.example/broker"));
    let trusts = Arc::new([lab::bundle(&lab.hokkaido_ca)].into_iter().collect());
    let side = client_side(&lab::provider(), &caller, trusts, callee, &[]).unwrap();
    let connect = async |name: &'static str| {
        let tcp = TcpStream::connect(lab.gateway).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from(name).unwrap();
        tokio_rustls::TlsConnector::from(side.config.clone())
            .connect(name, tcp)
            .await
            .unwrap()
    };
    let (seen, _) = ask(&mut connect("broker.hokkaido.example").await)
        .await
        .unwrap();
    let names: Vec<_> = seen.iter().map(|(_, host, _)| host.as_str()).collect();
    assert_eq!(
        names,
        ["n1.broker.hokkaido.example", "n2.broker.hokkaido.example"]
    );
    let (_, controller) = ask(&mut connect("n2.broker.hokkaido.example").await)
        .await
        .unwrap();
    assert_eq!(controller, 2);
    ask(&mut connect("n3.broker.hokkaido.example").await)
        .await
        .unwrap_err();
    let sentence = hokkaido.refusal("backend_unavailable").await;
    assert_eq!(sentence, "broker has no broker 3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_not_carried_is_answered_and_told_of_at_either_side() {
    /// ShareFetch of version 1 and DeleteTopics of version 1, for one topic.
    const SHARE_FETCH: [u8; 15] = [0, 0, 0, 11, 0, 78, 0, 1, 0, 0, 0, 5, 0xff, 0xff, 0];
    const DELETE: [u8; 25] = [
        0, 0, 0, 21, 0, 20, 0, 1, 0, 0, 0, 6, 0xff, 0xff, 0, 0, 0, 1, 0, 1, b'x', 0, 0, 0, 9,
    ];
    const STAND_IN: [u8; 14] = [0, 0, 0, 10, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0];
    let (address, mut connections) = lab::backend().await;
    let lab = Lab::new(&[address]);
    let rights = "{osaka.example/collector: {produce: [weather]}}";
    let text = kafka_text(&lab).replace("kafka, ", &format!("kafka, topics: {rights}, "));
    let hokkaido = Node::start(&text, lab.hokkaido_identities()).await;
    let osaka = lab.osaka().await;
    let mut app = lab.connect().await;
    app.write_all(&SHARE_FETCH).await.unwrap();
    app.write_all(&DELETE).await.unwrap();
    let mut broker = within(connections.recv()).await.unwrap();
    let mut asked = [0; 28];
    within(broker.read_exact(&mut asked)).await.unwrap();
    for (number, correlation) in [(0, 5), (14, 6)] {
        assert_eq!(
            asked[number + 4..number + 12],
            [0, 18, 0, 0, 0, 0, 0, correlation]
        );
        let mut answer = STAND_IN;
        answer[7] = correlation;
        broker.write_all(&answer).await.unwrap();
    }
    // Throttle time, error code, message, lock timeout, topics and brokers.
    let shared = [
        0, 0, 0, 19, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 35, 0, 0, 0, 0, 0, 1, 1, 0,
    ];
    // Throttle time, and the topic with its error code.
    let deleted = [
        0, 0, 0, 17, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b'x', 0, 35,
    ];
    let mut heard = vec![0; shared.len() + deleted.len()];
    within(app.read_exact(&mut heard)).await.unwrap();
    assert_eq!(heard, [&shared[..], &deleted].concat());
    let sentence = osaka.refusal("unsupported_request").await;
    assert!(sentence.contains("ShareFetch version 1"), "{sentence}");
    let sentence = hokkaido.refusal("unsupported_request").await;
    assert!(sentence.contains("DeleteTopics version 1"), "{sentence}");
    // What nobody knows ends the connection, and resets nothing.
    app.write_all(&[0, 0, 0, 10, 9, 99, 0, 0, 0, 0, 0, 7, 0xff, 0xff])
        .await
        .unwrap();
    let mut rest = Vec::new();
    within(app.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_speaks_tls_itself_is_told_what_to_set() {
    let lab = Lab::new(&cluster_of_two().await[..1]);
    let _hokkaido = Node::start(&kafka_text(&lab), lab.hokkaido_identities()).await;
    let osaka = lab.osaka().await;
    let mut app = lab.connect().await;
    app.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3])
        .await
        .unwrap();
    let mut seen = Vec::new();
    within(app.read_to_end(&mut seen)).await.unwrap();
    // A record of TLS with the fatal alert handshake_failure.
    assert_eq!(seen, [21, 3, 3, 0, 2, 2, 40]);
    let sentence = osaka.refusal("client_speaks_tls").await;
    assert!(
        sentence.contains("security.protocol=PLAINTEXT"),
        "{sentence}"
    );
}

/// A Produce request of version 3 with acks=0: one record batch, of three bytes, for each topic.
fn produce(topics: &[&str]) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 3, 0, 0, 0, 2, 0xff, 0xff, 0xff, 0xff, 0, 0];
    body.extend(1000i32.to_be_bytes());
    body.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        body.extend((topic.len() as i16).to_be_bytes());
        body.extend(topic.as_bytes());
        body.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 7, 7, 7]);
    }
    let mut frame = (body.len() as i32).to_be_bytes().to_vec();
    frame.extend(body);
    frame
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denied_request_without_an_answer_ends_the_connection_behind_the_answers_before_it() {
    /// ApiVersions of version 0, and an answer to it.
    const VERSIONS: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    const ANSWER: [u8; 14] = [0, 0, 0, 10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for (topics, left) in [
        (&["secret"][..], None),
        (&["secret", "weather"], Some("weather")),
    ] {
        let (address, mut connections) = lab::backend().await;
        let lab = Lab::new(&[address]);
        let rights = "{osaka.example/collector: {produce: [weather]}}";
        let text = kafka_text(&lab).replace("kafka, ", &format!("kafka, topics: {rights}, "));
        let hokkaido = Node::start(&text, lab.hokkaido_identities()).await;
        let _osaka = lab.osaka().await;
        let mut app = lab.connect().await;
        app.write_all(&VERSIONS).await.unwrap();
        app.write_all(&produce(topics)).await.unwrap();
        // What it sends after that is not taken, as little as by a broker.
        app.write_all(&produce(&["weather"])).await.unwrap();
        let mut broker = within(connections.recv()).await.unwrap();
        let mut asked = [0; VERSIONS.len()];
        within(broker.read_exact(&mut asked)).await.unwrap();
        assert_eq!(asked, VERSIONS);
        hokkaido.refusal("topic_denied").await;
        broker.write_all(&ANSWER).await.unwrap();
        let (mut heard, mut seen) = (Vec::new(), Vec::new());
        within(app.read_to_end(&mut heard)).await.unwrap();
        assert_eq!(heard, ANSWER);
        within(broker.read_to_end(&mut seen)).await.unwrap();
        assert_eq!(seen, left.map_or(Vec::new(), |left| produce(&[left])));
        let sentence = hokkaido.refusal("denied_without_acks").await;
        assert!(sentence.contains("osaka.example/collector"), "{sentence}");
    }
}
