//! A node without a route outside: its connections to other sites leave by its link to a gateway
//! of its own site.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use lab::{
    Node, assert_refused, echo, eventually, free_gateway, id, identities,
    nodes::{Nodes, linked},
    path::{MIB, Progress, bytes, exchange},
    ping,
    tap::Tap,
    within,
};
use renkei_site::ProxyPart;
use renkei_testkit::free_address;
use tokio::net::TcpStream;

/// A job on `compute` uses Osaka's archive.
struct Leaving {
    nodes: Nodes,
    osaka_gateway: SocketAddr,
    /// Between Hokkaido's gateway and Osaka.
    tap: Tap,
    /// Where the job finds the archive.
    listen: SocketAddr,
}

impl Leaving {
    async fn new() -> Self {
        let osaka_gateway = free_gateway();
        Self {
            nodes: Nodes::new(echo().await).await,
            osaka_gateway,
            tap: Tap::start(osaka_gateway).await,
            listen: free_address(),
        }
    }

    fn part(&self, node: &str) -> ProxyPart {
        let (inside, listen) = (self.nodes.inside, self.listen);
        let text = self
            .nodes
            .text("store")
            .replace("compute: {}", "compute: {via: gateway}")
            .replace(
                "{bundle: osaka.json}",
                &format!("{{bundle: osaka.json, gateway: '{}'}}", self.tap.address),
            )
            .replace(
                &format!("broker: '{inside}'"),
                &format!("osaka.example/archive: '{listen}'"),
            );
        let site = renkei_site::parse("site.yaml", &text).unwrap_or_else(|f| panic!("{f:?}"));
        site.node_part(&site.nodes[node], 1, Default::default())
    }

    async fn gateway(&self) -> Node {
        let identities = self.nodes.identities("gw1", &[]);
        Node::start_part(self.part("gw1"), identities).await
    }

    async fn compute(&self) -> Node {
        let identities = self.nodes.identities("compute", &["/job"]);
        Node::start_part(self.part("compute"), identities).await
    }

    async fn osaka(&self) -> Node {
        let text = format!(
            "site: osaka\ntrust_domain: osaka.example\ngateway: {{listen: '{}'}}\n\
             peers: {{hokkaido.example: {{bundle: h.json}}}}\n\
             services:\n  archive: {{backends: ['{}'], allow: [hokkaido.example/job]}}\n",
            self.osaka_gateway, self.nodes.backend
        );
        let trusts = [&self.nodes.hokkaido_ca];
        Node::start(
            &text,
            identities(&self.nodes.osaka_ca, &["/archive"], &trusts),
        )
        .await
    }

    async fn sites(&self) -> (Node, Node, Node) {
        let (gateway, compute) = (self.gateway().await, self.compute().await);
        linked(&gateway, &compute).await;
        (gateway, compute, self.osaka().await)
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.listen)
            .await
            .expect("local listener")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_route_reaches_another_site() {
    let leaving = Leaving::new().await;
    let (gateway, compute, osaka) = leaving.sites().await;
    let secret = Arc::new(b"a secret of the job and the archive; ".repeat(10_000));
    let app = leaving.connect().await;
    within(exchange(app, secret.clone(), Progress::default())).await;
    // Both ends know each other; the gateway between them has seen ciphertext.
    let total = osaka.proxy.status().await.totals.remove(0);
    assert_eq!(total.pair.caller, id("hokkaido.example/job"));
    assert_eq!(compute.proxy.status().await.totals.len(), 1);
    let status = gateway.proxy.status().await;
    assert!(status.totals.is_empty());
    let link = &status.node_links[0];
    assert_eq!(link.node, id("hokkaido.example/renkei/node/compute"));
    assert!(link.link.connections >= 1);
    assert!(link.link.bytes_sent >= secret.len() as u64, "{link:?}");
    for seen in [leaving.tap.there.seen(), leaving.tap.back.seen()] {
        assert!(seen.len() > secret.len());
        assert!(!seen.windows(20).any(|window| window == &secret[..20]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_leads_a_node_where_the_site_file_says_and_nowhere_else() {
    let leaving = Leaving::new().await;
    let (gateway, compute, osaka) = leaving.sites().await;
    let mut app = leaving.connect().await;
    ping(&mut app, b"as the file says").await;
    let dialled = leaving.tap.accepted();
    // The node has not heard of it yet.
    let mut part = leaving.part("gw1");
    part.exits.values_mut().for_each(BTreeMap::clear);
    gateway.follow(part).await;
    compute.refusal("no_exit").await;
    let sentence = gateway.refusal("no_exit").await;
    assert!(sentence.contains("the site file names no"), "{sentence}");
    assert_refused(leaving.listen).await;
    assert_eq!(leaving.tap.accepted(), dialled);
    assert_eq!(osaka.proxy.status().await.totals[0].totals.connections, 1);
    gateway.follow(leaving.part("gw1")).await;
    ping(&mut app, b"and again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_says_why_the_other_site_was_not_reached() {
    let leaving = Leaving::new().await;
    let compute = leaving.compute().await;
    assert_refused(leaving.listen).await;
    let sentence = compute.refusal("no_exit").await;
    assert!(sentence.contains("renkei/node/gw1"), "{sentence}");
    assert!(sentence.contains("it is not linked"), "{sentence}");
    let gateway = leaving.gateway().await;
    linked(&gateway, &compute).await;
    let _osaka = leaving.osaka().await;
    eventually_reaches(&leaving).await;
}

/// A caller that was refused may have to come again.
async fn eventually_reaches(leaving: &Leaving) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let start = std::time::Instant::now();
    loop {
        let mut heard = [0; 4];
        let asked = async {
            let mut app = TcpStream::connect(leaving.listen).await?;
            app.write_all(b"ping").await?;
            app.read_exact(&mut heard).await
        };
        if within(asked).await.is_ok() {
            return assert_eq!(&heard, b"ping");
        }
        assert!(start.elapsed() < lab::DEADLINE, "no answer");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_that_leaves_by_a_link_outlives_its_loss() {
    let leaving = Leaving::new().await;
    let (_gateway, _compute, osaka) = leaving.sites().await;
    let got = Progress::default();
    let transfer = exchange(leaving.connect().await, bytes(8 * MIB), got.clone());
    let transfer = tokio::spawn(transfer);
    got.reached(2 * MIB).await;
    leaving.nodes.link.refuse(true);
    leaving.nodes.link.kill_all();
    let refused = || (leaving.nodes.link.refused() >= 2).then_some(());
    eventually("attempts to dial", refused).await;
    leaving.nodes.link.refuse(false);
    within(transfer).await.unwrap();
    assert_eq!(osaka.proxy.status().await.totals[0].totals.connections, 1);
}
