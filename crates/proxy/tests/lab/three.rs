//! Three sites: Kyushu's collector uses Osaka's store, Osaka only dials out, and Hokkaido is its
//! hub. Osaka's link goes through a middlebox, Kyushu's connections through a tap.

use std::net::SocketAddr;

use renkei_proxy::ProxyLimits;
use renkei_spiffe::Identities;
use renkei_testkit::{TestAuthority, free_address};
use tokio::net::TcpStream;

use super::{Node, free_gateway, identities, middlebox::Middlebox, tap::Tap};

pub struct Three {
    pub hokkaido_ca: TestAuthority,
    pub osaka_ca: TestAuthority,
    pub kyushu_ca: TestAuthority,
    pub gateway: SocketAddr,
    /// Between Osaka and the hub.
    pub link: Middlebox,
    /// Between Kyushu and the hub.
    pub tap: Tap,
    /// Where Kyushu's collector finds the store.
    pub listen: SocketAddr,
    /// Where Hokkaido's forwarder does.
    pub hub_listen: SocketAddr,
    pub backend: SocketAddr,
}

impl Three {
    pub async fn new(backend: SocketAddr) -> Self {
        let gateway = free_gateway();
        Self {
            hokkaido_ca: TestAuthority::new("hokkaido.example"),
            osaka_ca: TestAuthority::new("osaka.example"),
            kyushu_ca: TestAuthority::new("kyushu.example"),
            gateway,
            link: Middlebox::start(gateway).await,
            tap: Tap::start(gateway).await,
            listen: free_address(),
            hub_listen: free_address(),
            backend,
        }
    }

    pub fn hokkaido_text(&self, relays: &str) -> String {
        format!(
            "site: hokkaido\ntrust_domain: hokkaido.example\n\
             gateway: {{listen: '{gateway}', advertise: '{gateway}'}}\n\
             peers:\n  osaka.example: {{bundle: o.json{direct}}}\n  \
             kyushu.example: {{bundle: k.json}}\nrelays: [{relays}]\n\
             workloads:\n  forwarder:\n    selectors: ['unix:uid:{uid}']\n    \
             uses: {{osaka.example/store: '{listen}'}}\n",
            gateway = self.gateway,
            // So that the file is good without `relays`, too.
            direct = if relays.is_empty() {
                ", gateway: '127.0.0.1:9'"
            } else {
                ""
            },
            uid = rustix::process::geteuid().as_raw(),
            listen = self.hub_listen,
        )
    }

    pub fn osaka_text(&self, via: bool) -> String {
        let gateway = match via {
            true => "{via: hokkaido.example}",
            false => "{listen: '127.0.0.1:9'}",
        };
        let gateway = gateway.replace("127.0.0.1:9", &free_address().to_string());
        format!(
            "site: osaka\ntrust_domain: osaka.example\ngateway: {gateway}\n\
             peers:\n  hokkaido.example: {{bundle: h.json, gateway: '{}'}}\n  \
             kyushu.example: {{bundle: k.json}}\n\
             services:\n  store: {{backends: ['{}'], allow: [kyushu.example/collector, \
             hokkaido.example/forwarder]}}\n",
            self.link.address, self.backend
        )
    }

    pub fn kyushu_text(&self) -> String {
        format!(
            "site: kyushu\ntrust_domain: kyushu.example\n\
             peers: {{osaka.example: {{bundle: o.json, gateway: '{}'}}}}\n\
             workloads:\n  collector:\n    selectors: ['unix:uid:{}']\n    \
             uses: {{osaka.example/store: '{}'}}\n",
            self.tap.address,
            rustix::process::geteuid().as_raw(),
            self.listen,
        )
    }

    pub fn hokkaido_identities(&self) -> Identities {
        let paths = ["/forwarder", "/renkei/server"];
        identities(
            &self.hokkaido_ca,
            &paths,
            &[&self.osaka_ca, &self.kyushu_ca],
        )
    }

    pub fn osaka_identities(&self) -> Identities {
        let paths = ["/store", "/renkei/server"];
        identities(
            &self.osaka_ca,
            &paths,
            &[&self.hokkaido_ca, &self.kyushu_ca],
        )
    }

    pub async fn hokkaido(&self) -> Node {
        let text = self.hokkaido_text("osaka.example");
        Node::start(&text, self.hokkaido_identities()).await
    }

    pub async fn osaka(&self, limits: ProxyLimits) -> Node {
        let text = self.osaka_text(true);
        Node::start_with(&text, self.osaka_identities(), limits, None).await
    }

    pub async fn kyushu(&self, limits: ProxyLimits) -> Node {
        let identities = identities(&self.kyushu_ca, &["/collector"], &[&self.osaka_ca]);
        Node::start_with(&self.kyushu_text(), identities, limits, None).await
    }

    /// All three, linked.
    pub async fn sites(&self, limits: ProxyLimits) -> (Node, Node, Node) {
        let hokkaido = self.hokkaido().await;
        let osaka = self.osaka(limits).await;
        linked(&hokkaido, &osaka).await;
        (hokkaido, osaka, self.kyushu(limits).await)
    }

    /// A connection of Kyushu's collector.
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.listen)
            .await
            .expect("local listener")
    }
}

impl Three {
    /// Kyushu's collector connects and is reset, at once or a moment later.
    pub async fn assert_refused(&self) {
        super::assert_refused(self.listen).await;
    }
}

/// Waits until both ends say that they are linked.
pub async fn linked(hokkaido: &Node, osaka: &Node) {
    hokkaido
        .shows("a link at the hub", |status| {
            let linked = status.relays.iter().any(|relay| relay.link.linked);
            linked.then_some(())
        })
        .await;
    osaka
        .shows("a link at the site", |status| {
            let hub = status.hub.as_ref()?;
            hub.link.linked.then_some(())
        })
        .await;
}

/// Waits until the site says why it has no link, with this in it.
pub async fn unlinked(osaka: &Node, part: &str) -> String {
    osaka
        .shows(part, |status| {
            let link = &status.hub.as_ref()?.link;
            let reason = link.reason.clone().unwrap_or_default();
            (!link.linked && reason.contains(part)).then_some(reason)
        })
        .await
}

/// Waits until the hub says that it has no link.
pub async fn unlinked_at_hub(hokkaido: &Node) {
    hokkaido
        .shows("no link at the hub", |status| {
            let link = &status.relays.first()?.link;
            (!link.linked).then_some(())
        })
        .await;
}
