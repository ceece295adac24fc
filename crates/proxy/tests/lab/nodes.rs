//! Hokkaido has a gateway and, behind it, nodes that hold its broker; Osaka's collector uses it.
//! The links of the nodes go through a middlebox, Osaka's connections through a tap.

use std::net::SocketAddr;

use renkei_site::ProxyPart;
use renkei_spiffe::Identities;
use renkei_testkit::{TestAuthority, free_address};
use tokio::net::TcpStream;

use super::{Node, free_gateway, identities, middlebox::Middlebox, tap::Tap};

pub struct Nodes {
    pub hokkaido_ca: TestAuthority,
    pub osaka_ca: TestAuthority,
    pub gateway: SocketAddr,
    /// Between the nodes and the gateway.
    pub link: Middlebox,
    /// Between Osaka and the gateway.
    pub tap: Tap,
    /// Where Osaka's collector finds the broker.
    pub listen: SocketAddr,
    /// Where the job on `compute` does.
    pub inside: SocketAddr,
    pub backend: SocketAddr,
}

impl Nodes {
    pub async fn new(backend: SocketAddr) -> Self {
        let gateway = free_gateway();
        Self {
            hokkaido_ca: TestAuthority::new("hokkaido.example"),
            osaka_ca: TestAuthority::new("osaka.example"),
            gateway,
            link: Middlebox::start(gateway).await,
            tap: Tap::start(gateway).await,
            listen: free_address(),
            inside: free_address(),
            backend,
        }
    }

    /// The file of Hokkaido, with the broker on these nodes.
    pub fn text(&self, on: &str) -> String {
        format!(
            "site: hokkaido\ntrust_domain: hokkaido.example\n\
             server: {{listen: '127.0.0.1:8081'}}\n\
             nodes:\n  gw1: {{gateway: {{listen: '{gateway}', advertise: '{link}'}}}}\n  \
             store: {{}}\n  spare: {{}}\n  compute: {{}}\n\
             peers: {{osaka.example: {{bundle: osaka.json}}}}\n\
             services:\n  broker: {{on: [{on}], backends: ['{backend}'], \
             allow: [osaka.example/collector, job]}}\n\
             workloads:\n  job: {{on: [compute], selectors: ['unix:uid:{uid}'], \
             uses: {{broker: '{inside}'}}}}\n",
            gateway = self.gateway,
            link = self.link.address,
            backend = self.backend,
            uid = rustix::process::geteuid().as_raw(),
            inside = self.inside,
        )
    }

    /// The part of a node, with the broker on these nodes.
    pub fn part(&self, node: &str, on: &str) -> ProxyPart {
        let text = self.text(on);
        let site = renkei_site::parse("site.yaml", &text).unwrap_or_else(|f| panic!("{f:?}"));
        site.node_part(&site.nodes[node], 1, Default::default())
    }

    /// A node has its own identity and that of what it holds.
    pub fn identities(&self, node: &str, holds: &[&str]) -> Identities {
        let own = format!("/renkei/node/{node}");
        let paths: Vec<&str> = [&*own].into_iter().chain(holds.iter().copied()).collect();
        identities(&self.hokkaido_ca, &paths, &[&self.osaka_ca])
    }

    pub async fn gateway(&self, on: &str) -> Node {
        Node::start_part(self.part("gw1", on), self.identities("gw1", &[])).await
    }

    /// A node that holds the broker.
    pub async fn holder(&self, node: &str, on: &str) -> Node {
        Node::start_part(self.part(node, on), self.identities(node, &["/broker"])).await
    }

    pub async fn osaka(&self) -> Node {
        let text = format!(
            "site: osaka\ntrust_domain: osaka.example\n\
             peers: {{hokkaido.example: {{bundle: h.json, gateway: '{}'}}}}\n\
             workloads:\n  collector:\n    selectors: ['unix:uid:{}']\n    \
             uses: {{hokkaido.example/broker: '{}'}}\n",
            self.tap.address,
            rustix::process::geteuid().as_raw(),
            self.listen,
        );
        let identities = identities(&self.osaka_ca, &["/collector"], &[&self.hokkaido_ca]);
        Node::start(&text, identities).await
    }

    /// The gateway, the node `store` and the caller's site, linked.
    pub async fn sites(&self) -> (Node, Node, Node) {
        let gateway = self.gateway("store").await;
        let store = self.holder("store", "store").await;
        linked(&gateway, &store).await;
        (gateway, store, self.osaka().await)
    }

    /// A connection of Osaka's collector.
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.listen)
            .await
            .expect("local listener")
    }
}

/// Waits until a node is linked and the gateway, too, has as many links as nodes.
pub async fn linked(gateway: &Node, node: &Node) {
    node.shows("a link at the node", |status| {
        let mut links = status.gateway_links.iter();
        links.any(|gateway| gateway.link.linked).then_some(())
    })
    .await;
    gateway
        .shows("a link at the gateway", |status| {
            let mut links = status.node_links.iter();
            links.any(|node| node.link.linked).then_some(())
        })
        .await;
}

/// Waits until the node says why it has no link, with this in it.
pub async fn unlinked(node: &Node, part: &str) -> String {
    node.shows(part, |status| {
        let link = &status.gateway_links.first()?.link;
        let reason = link.reason.clone().unwrap_or_default();
        (!link.linked && reason.contains(part)).then_some(reason)
    })
    .await
}
