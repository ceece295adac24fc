//! Lanes from peers that are slow, older, not who they should be, or hostile; and how many there
//! are.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{collections::BTreeMap, sync::Arc};

use lab::{
    Lab, Node, assert_reset, backend, echo, eventually,
    lane::{self, DATA, HELLO, LANE_CLOSE, LANES, OPEN, OPEN_OK, REFUSED, RESET, VERSION, answer},
    path::Path,
    ping, svid,
    time::{pass, settle},
    within,
};
use renkei_proxy::ProxyLimits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc::UnboundedReceiver,
};
use tokio_rustls::{client::TlsStream, server::TlsStream as ServerStream};

/// Connections that Osaka dials.
type Connections = UnboundedReceiver<ServerStream<TcpStream>>;

const TRUNK: [u8; 16] = *b"a trunk by hand.";

/// What a node tells Prometheus of its trunks, without the explanations.
fn told(node: &Node) -> Vec<String> {
    let mut registry = prometheus_client::registry::Registry::default();
    node.proxy.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let lines = text.lines().filter(|line| line.starts_with("renkei_trunk"));
    lines.map(str::to_owned).collect()
}

/// Waits until that is so many trunks and lanes of the collector's, and nothing else.
async fn counted(node: &Node, direction: &str, trunks: usize, lanes: usize) {
    let pair = format!(
        "{{direction=\"{direction}\",caller=\"osaka.example/collector\",\
         callee=\"hokkaido.example/broker\"}}"
    );
    let lines = [
        format!("renkei_trunks{pair} {trunks}"),
        format!("renkei_trunk_lanes{pair} {lanes}"),
    ];
    eventually(&lines.join(", "), || (told(node) == lines).then_some(())).await;
    let status = node.proxy.status().await.trunks;
    assert_eq!(
        (status[0].count.trunks, status[0].count.lanes),
        (trunks, lanes)
    );
}

/// A lane of the collector's that has been answered, and the acceptor's incarnation.
async fn greeted(lab: &Lab) -> (TlsStream<TcpStream>, [u8; 8]) {
    let collector = svid(lab.osaka_ca.issue("/collector"));
    let mut lane = lane::dial(lab, &collector).await;
    let hello = lane::hello(VERSION, TRUNK, [0; 8], 0);
    lane.write_all(&hello).await.unwrap();
    let (kind, fields) = lane::next(&mut lane).await.unwrap();
    assert_eq!((kind, fields[0]), (HELLO, VERSION));
    (lane, fields[17..25].try_into().unwrap())
}

#[tokio::test]
async fn lanes_that_greet_slowly_or_never_keep_nobody_out_and_are_given_up() {
    let lab = Lab::new(&[echo().await]);
    let limits = ProxyLimits {
        // Far fewer than there are slow lanes.
        handshakes: 4,
        // More than any of the waiting here.
        handshake_timeout: 4 * lab::DEADLINE,
        ..ProxyLimits::default()
    };
    let text = lab.hokkaido_text("osaka.example/collector");
    let hokkaido = Node::start_with(&text, lab.hokkaido_identities(), limits, None).await;
    let _osaka = lab.osaka().await;
    let collector = svid(lab.osaka_ca.issue("/collector"));
    let hello = lane::hello(VERSION, TRUNK, [0; 8], 0);
    let (half, rest) = hello.split_at(hello.len() / 2);
    let (mut slow, mut silent) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        silent.push(lane::dial(&lab, &collector).await);
        let mut lane = lane::dial(&lab, &collector).await;
        lane.write_all(half).await.unwrap();
        slow.push(lane);
    }
    ping(&mut lab.connect().await, b"not held up").await;
    // What comes late does not give them more time.
    pass(limits.handshake_timeout / 2).await;
    for lane in &mut slow {
        lane.write_all(&rest[..1]).await.unwrap();
    }
    settle().await;
    pass(limits.handshake_timeout / 2).await;
    for mut lane in slow.into_iter().chain(silent) {
        within(lane.read_u8()).await.expect_err("given up");
    }
    eventually("no flow", || (hokkaido.open() == 0).then_some(())).await;
    ping(&mut lab.connect().await, b"afterwards").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_of_another_version_learns_which_one_is_spoken_here() {
    let lab = Lab::new(&[echo().await]);
    let _hokkaido = lab.hokkaido().await;
    let collector = svid(lab.osaka_ca.issue("/collector"));
    for version in [VERSION - 1, VERSION + 1] {
        let mut lane = lane::dial(&lab, &collector).await;
        let hello = lane::hello(version, TRUNK, [0; 8], 0);
        lane.write_all(&hello).await.unwrap();
        let (kind, fields) = lane::next(&mut lane).await.unwrap();
        assert_eq!((kind, fields), (REFUSED, vec![VERSION, 1]));
        assert_eq!(within(lane.read(&mut [0])).await.unwrap(), 0, "and an end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_knows_only_older_trunks_gets_sessions() {
    let lab = Lab::new(&[]);
    let mut connections = lane::gateway(&lab, &[b"renkei-trunk/0", b"renkei-tcp/1"]).await;
    let osaka = lab.osaka().await;
    for _ in 0..2 {
        let mut app = lab.connect().await;
        app.write_all(b"hello").await.unwrap();
        let mut session = within(connections.recv()).await.unwrap();
        assert_eq!(
            session.get_ref().1.alpn_protocol(),
            Some(&b"renkei-tcp/1"[..])
        );
        let mut heard = [0; 5];
        within(session.read_exact(&mut heard)).await.unwrap();
        session.write_all(&heard).await.unwrap();
        within(app.read_exact(&mut heard)).await.unwrap();
        assert_eq!(&heard, b"hello");
    }
    assert_eq!(osaka.reasons(), Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_refuses_the_version_is_named_with_it() {
    let lab = Lab::new(&[]);
    let mut connections = lane::gateway(&lab, &[b"renkei-trunk/1"]).await;
    let osaka = lab.osaka().await;
    let mut app = lab.connect().await;
    let mut lane = within(connections.recv()).await.unwrap();
    let (kind, fields) = lane::next(&mut lane).await.unwrap();
    assert_eq!((kind, fields[0]), (HELLO, VERSION));
    let refused = lane::frame(REFUSED, &[VERSION + 1, 1]);
    lane.write_all(&refused).await.unwrap();
    assert_reset(&mut app).await;
    let sentence = osaka.refusal("tls").await;
    assert!(
        sentence.contains("speaks version 2 of the trunk protocol, this side version 1"),
        "{sentence}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_of_another_identity_is_refused_and_its_trunk_goes_on() {
    let (address, mut connections) = backend().await;
    let lab = Lab::new(&[address]);
    let text = lab.hokkaido_text("osaka.example/collector, osaka.example/reader");
    let _hokkaido = Node::start(&text, lab.hokkaido_identities()).await;
    let (mut own, incarnation) = greeted(&lab).await;
    // The reader may call the same service, and knows the trunk's name.
    let reader = svid(lab.osaka_ca.issue("/reader"));
    let mut other = lane::dial(&lab, &reader).await;
    let hello = lane::hello(VERSION, TRUNK, incarnation, 1);
    other.write_all(&hello).await.unwrap();
    let (kind, fields) = lane::next(&mut other).await.unwrap();
    assert_eq!((kind, fields), (REFUSED, vec![VERSION, 2]));
    own.write_all(&lane::frame(OPEN, &[0; 8])).await.unwrap();
    within(connections.recv()).await.unwrap();
    let answer = loop {
        let (kind, fields) = lane::next(&mut own).await.unwrap();
        if kind == OPEN_OK {
            break fields;
        }
    };
    assert_eq!(answer, [0; 8]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_breaks_the_protocol_loses_its_trunk_and_harms_no_other() {
    let (address, mut connections) = backend().await;
    let lab = Lab::new(&[address]);
    let (hokkaido, _osaka) = (lab.hokkaido().await, lab.osaka().await);
    let mut app = lab.connect().await;
    let mut service = within(connections.recv()).await.unwrap();
    let (mut lane, _) = greeted(&lab).await;
    lane.write_all(&lane::frame(OPEN, &[0; 8])).await.unwrap();
    let mut victim = within(connections.recv()).await.unwrap();
    // Bytes far beyond the window of the stream.
    let mut fields = [0; 16].to_vec();
    fields[8..].copy_from_slice(&(1_u64 << 40).to_be_bytes());
    fields.push(b'x');
    lane.write_all(&lane::frame(DATA, &fields)).await.unwrap();
    let code = loop {
        let (kind, fields) = lane::next(&mut lane).await.expect("a CLOSE before the end");
        if kind == 0x27 {
            break fields;
        }
    };
    assert!(!code.is_empty());
    assert_reset(&mut victim).await;
    app.write_all(b"hello").await.unwrap();
    within(service.read_exact(&mut [0; 5])).await.unwrap();
    eventually("only the other flow", || {
        (hokkaido.open() == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ends_count_a_trunk_and_its_lanes_until_it_is_over() {
    let path = Path::to(Lab::new(&[echo().await])).await;
    let (hokkaido, osaka) = path.sites().await;
    let ends = [(&osaka, "outbound"), (&hokkaido, "inbound")];
    assert_eq!((told(&osaka).len(), told(&hokkaido).len()), (0, 0));
    let mut app = path.lab.connect().await;
    ping(&mut app, b"hello").await;
    for (node, direction) in ends {
        counted(node, direction, 1, 1).await;
    }
    path.middlebox.refuse(true);
    path.middlebox.kill_all();
    for (node, direction) in ends {
        counted(node, direction, 1, 0).await;
    }
    path.middlebox.refuse(false);
    ping(&mut app, b"again").await;
    for (node, direction) in ends {
        counted(node, direction, 1, 1).await;
    }
    drop(app);
    osaka.drain.begin();
    eventually("no trunk", || {
        let left = told(&osaka).len() + told(&hokkaido).len();
        (left == 0).then_some(())
    })
    .await;
    assert!(osaka.proxy.status().await.trunks.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_lane_counts_and_those_that_are_gone_do_not() {
    let lab = Lab::new(&[echo().await]);
    let hokkaido = lab.hokkaido().await;
    let (first, incarnation) = greeted(&lab).await;
    counted(&hokkaido, "inbound", 1, 1).await;
    let collector = svid(lab.osaka_ca.issue("/collector"));
    let join = async |trunk, incarnation, number| {
        let mut lane = lane::dial(&lab, &collector).await;
        let hello = lane::hello(VERSION, trunk, incarnation, number);
        lane.write_all(&hello).await.unwrap();
        assert_eq!(lane::next(&mut lane).await.unwrap().0, HELLO);
        lane
    };
    let second = join(TRUNK, incarnation, 1).await;
    counted(&hokkaido, "inbound", 1, 2).await;
    let _other = join(*b"another by hand.", [0; 8], 0).await;
    counted(&hokkaido, "inbound", 2, 3).await;
    drop(first);
    counted(&hokkaido, "inbound", 2, 2).await;
    drop(second);
    counted(&hokkaido, "inbound", 1, 1).await;
}

/// What the acceptor says of the lanes that it wants.
fn wanted(serial: u32, lanes: u32) -> Vec<u8> {
    lane::frame(LANES, &[serial.to_be_bytes(), lanes.to_be_bytes()].concat())
}

/// Four lanes, by their numbers, of the trunk of a connection that was just opened, and what its
/// OPEN says.
async fn four_lanes(connections: &mut Connections) -> (Vec<ServerStream<TcpStream>>, Vec<u8>) {
    let mut first = within(connections.recv()).await.unwrap();
    answer(&mut first).await;
    let (kind, opened) = lane::next(&mut first).await.unwrap();
    assert_eq!(kind, OPEN);
    first.write_all(&wanted(1, 4)).await.unwrap();
    let mut others = BTreeMap::new();
    for _ in 0..3 {
        let mut lane = within(connections.recv()).await.unwrap();
        others.insert(answer(&mut lane).await, lane);
    }
    let lanes = std::iter::once(first).chain(others.into_values());
    (lanes.collect(), opened)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_that_the_acceptor_asks_for_go_when_it_needs_them_no_more() {
    let lab = Lab::new(&[]);
    let mut connections = lane::gateway(&lab, &[b"renkei-trunk/1"]).await;
    let osaka = lab.osaka().await;
    let app = lab.connect().await;
    let (mut lanes, opened) = four_lanes(&mut connections).await;
    counted(&osaka, "outbound", 1, 4).await;
    let reset = [&opened[..8], &[0; 4], &[0; 8]].concat();
    lanes[0]
        .write_all(&lane::frame(RESET, &reset))
        .await
        .unwrap();
    drop(app);
    lanes[0].write_all(&wanted(2, 1)).await.unwrap();
    counted(&osaka, "outbound", 1, 1).await;
    for mut lane in lanes.split_off(1) {
        while lane::next(&mut lane).await.unwrap().0 != LANE_CLOSE {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_dials_no_more_lanes_than_its_file_says() {
    let lab = Lab::new(&[]);
    let mut connections = lane::gateway(&lab, &[b"renkei-trunk/1"]).await;
    let gateway = lab::free_gateway();
    let text = |keys: &str| {
        let gateway = format!("gateway: {{listen: '{gateway}'{keys}}}\npeers:");
        lab.osaka_text().replace("peers:", &gateway)
    };
    let osaka = Node::start(&text(", max_lanes: 2"), lab.osaka_identities()).await;
    let _app = lab.connect().await;
    let mut first = within(connections.recv()).await.unwrap();
    answer(&mut first).await;
    first.write_all(&wanted(1, 4)).await.unwrap();
    let mut second = within(connections.recv()).await.unwrap();
    answer(&mut second).await;
    counted(&osaka, "outbound", 1, 2).await;
    osaka.apply(&text(", max_lanes: 1")).await.unwrap();
    counted(&osaka, "outbound", 1, 1).await;
    assert!(connections.try_recv().is_err(), "a third lane");
    osaka.apply(&text("")).await.unwrap();
    let mut others = Vec::new();
    for _ in 0..3 {
        let mut lane = within(connections.recv()).await.unwrap();
        answer(&mut lane).await;
        others.push(lane);
    }
    counted(&osaka, "outbound", 1, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_whose_peer_takes_no_more_lanes_dials_no_more() {
    let lab = Lab::new(&[]);
    let mut connections = lane::gateway(&lab, &[b"renkei-trunk/1"]).await;
    let osaka = lab.osaka().await;
    let _app = lab.connect().await;
    let mut first = within(connections.recv()).await.unwrap();
    answer(&mut first).await;
    first.write_all(&wanted(1, 4)).await.unwrap();
    let mut lanes = vec![first];
    for taken in [true, true, false] {
        let mut lane = within(connections.recv()).await.unwrap();
        if taken {
            answer(&mut lane).await;
        } else {
            let (kind, _) = lane::next(&mut lane).await.unwrap();
            assert_eq!(kind, HELLO);
            let refused = lane::frame(REFUSED, &[VERSION, 4]);
            lane.write_all(&refused).await.unwrap();
        }
        lanes.push(lane);
    }
    // One of the three leaves, so that another can be replaced.
    counted(&osaka, "outbound", 1, 2).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(connections.try_recv().is_err(), "it dials again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_takes_no_more_lanes_than_its_file_says_and_one_to_replace_another() {
    let lab = Lab::new(&[echo().await]);
    let text = lab.hokkaido_text("osaka.example/collector");
    let text = text.replace("advertise:", "max_lanes: 2, advertise:");
    let hokkaido = Node::start(&text, lab.hokkaido_identities()).await;
    let (_first, incarnation) = greeted(&lab).await;
    let collector = svid(lab.osaka_ca.issue("/collector"));
    let mut lanes = Vec::new();
    for number in 1..=3 {
        let mut lane = lane::dial(&lab, &collector).await;
        let hello = lane::hello(VERSION, TRUNK, incarnation, number);
        lane.write_all(&hello).await.unwrap();
        let (kind, fields) = lane::next(&mut lane).await.unwrap();
        match number {
            3 => assert_eq!((kind, fields), (REFUSED, vec![VERSION, 4])),
            _ => assert_eq!(kind, HELLO, "lane {number}"),
        }
        lanes.push(lane);
    }
    counted(&hokkaido, "inbound", 1, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_svid_replaces_one_lane_after_the_other() {
    let lab = Lab::new(&[]);
    let mut connections = lane::gateway(&lab, &[b"renkei-trunk/1"]).await;
    let osaka = lab.osaka().await;
    let _app = lab.connect().await;
    let (old, _) = four_lanes(&mut connections).await;
    let renewed = svid(lab.osaka_ca.issue("/collector"));
    osaka.identities.send_modify(|all| {
        let svids = &mut Arc::make_mut(all).svids;
        svids.insert(renewed.id().clone(), renewed.clone());
    });
    let mut new = Vec::new();
    for mut lane in old {
        // The next is dialed when the one before has taken a place.
        let mut other = within(connections.recv()).await.unwrap();
        let shown = other.get_ref().1.peer_certificates().unwrap();
        assert_eq!(shown[0], renewed.chain()[0]);
        assert!(connections.try_recv().is_err());
        counted(&osaka, "outbound", 1, 4).await;
        answer(&mut other).await;
        new.push(other);
        while lane::next(&mut lane).await.unwrap().0 != LANE_CLOSE {}
        counted(&osaka, "outbound", 1, 4).await;
    }
}
