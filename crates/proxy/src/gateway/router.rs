//! Who answers a connection: by its server name a service, a node, another site or this site's
//! bundle endpoint, and by its protocol the end of a link.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use renkei_runtime::drain::DrainGuard;
use tokio::{net::TcpStream, time::timeout};

use super::client_hello::{self, HelloError};
use crate::{
    admission::{Admission, Denied, HandshakePlace, Place, Source},
    config::Desired,
    context::Context,
    hub::{ALPN_RELAY, Hub, LinkEnd},
    identity::Direction,
    inbound::{Inbound, ServiceTarget, nodes_of},
    tls::{HandshakeFault, NO_SERVICE, PendingHandshake, UNFINISHED, let_read_alert},
};

/// A connection of which the ClientHello was read, and nothing was answered.
#[derive(Debug)]
pub struct Untouched {
    /// The connection, at the position behind `received`.
    pub stream: TcpStream,
    /// What has come by it, to be read before the rest.
    pub received: Bytes,
    /// Where it comes from. An address that came by a link is not proved.
    pub source: std::net::SocketAddr,
}

/// Takes over connections to the gateway that are for no service: the site's bundle endpoint.
pub type DefaultHandler = Arc<dyn Fn(Untouched) -> BoxFuture<'static, ()> + Send + Sync>;

/// Hands connections to the parts of the proxy.
pub(crate) struct Router {
    pub(crate) context: Arc<Context>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) default_handler: DefaultHandler,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").finish_non_exhaustive()
    }
}

/// The part of the proxy that answers.
enum Route {
    /// A service of this process.
    Service(Box<ServiceTarget>),
    /// One of those that are reached by links: the site for which this one is the hub, or a node
    /// that holds the service.
    Forwarded(Vec<LinkEnd>),
    /// This process as the hub or gateway of the peer.
    Link(Arc<Desired>),
    /// The bundle endpoint, also for a server name that is not known.
    Default,
}

impl Route {
    fn of(sni: Option<&str>, asks_for_link: bool, desired: Option<Arc<Desired>>) -> Self {
        let Some(desired) = desired else {
            return Self::Default;
        };
        if let Some(target) = sni.and_then(|sni| ServiceTarget::of(sni, &desired)) {
            return Self::Service(Box::new(target));
        }
        let nodes = sni.map(|sni| nodes_of(sni, &desired.site));
        if let Some(nodes) = nodes.filter(|nodes| !nodes.is_empty()) {
            return Self::Forwarded(nodes.into_iter().map(LinkEnd::Node).collect());
        }
        let site = sni.and_then(|sni| desired.site.relayed_by_sni(sni));
        if let Some(end) = site.and_then(|site| LinkEnd::site(site, &desired.site)) {
            return Self::Forwarded(vec![end]);
        }
        match asks_for_link {
            true => Self::Link(desired),
            false => Self::Default,
        }
    }
}

impl Router {
    /// Serves one connection to its end.
    pub(super) async fn serve(
        &self,
        stream: TcpStream,
        source: Source,
        (guard, arrival): (DrainGuard, Place),
    ) {
        let begun = tokio::select! {
            biased;
            () = self.context.drain.forced() => return,
            begun = self.begin(stream, source, arrival) => begun,
        };
        let Some((hello, place)) = begun else {
            return;
        };
        match self.route(&hello) {
            Route::Service(target) => {
                let admitted = (guard, place);
                self.inbound.serve(hello, *target, source, admitted).await;
            }
            Route::Link(desired) => {
                let admitted = (guard, place);
                self.hub.accept(hello, desired, source, admitted).await;
            }
            Route::Forwarded(ends) => {
                drop(place);
                self.forward(hello, source, ends).await;
            }
            Route::Default => {
                drop(place);
                self.serve_default(hello, source).await;
            }
        }
    }

    /// Reads the ClientHello. A connection that has sent nothing yet takes no turn of others.
    async fn begin(
        &self,
        stream: TcpStream,
        source: Source,
        arrival: Place,
    ) -> Option<(PendingHandshake, HandshakePlace)> {
        let limit = self.context.limits.handshake_timeout;
        let late = || HelloError::Fault(HandshakeFault::new("handshake_timeout", UNFINISHED));
        // An error of the connection is seen when it is read.
        let begun = timeout(limit, stream.readable()).await;
        let (error, arrival) = match begun {
            Err(_) => (late(), arrival),
            Ok(_) => {
                let place = self.admission.handshake(&source, arrival).await;
                let read = timeout(limit, client_hello::read(stream, source.address)).await;
                match read.unwrap_or_else(|_| Err(late())) {
                    Ok(hello) => return Some((hello, place)),
                    Err(error) => (error, place.finish()),
                }
            }
        };
        if let HelloError::Fault(fault) = error {
            fault.conclude(NO_SERVICE, &source, &self.context).await;
        }
        drop(arrival);
        None
    }

    async fn forward(&self, hello: PendingHandshake, source: Source, ends: Vec<LinkEnd>) {
        let forwarded = self.hub.forward(hello.tcp, hello.received, (source, ends));
        tokio::select! {
            biased;
            () = self.context.drain.forced() => {}
            unreached = forwarded => {
                if let Some(stream) = unreached {
                    let_read_alert(stream).await;
                }
            }
        }
    }

    async fn serve_default(&self, hello: PendingHandshake, source: Source) {
        let _place = match self.admission.reader(&source) {
            Ok(place) => place,
            Err(denied) => return self.refuse(NO_SERVICE, &source, &denied),
        };
        let untouched = Untouched {
            stream: hello.tcp,
            received: hello.received,
            source: source.caller(),
        };
        tokio::select! {
            biased;
            () = self.context.drain.forced() => {}
            () = (self.default_handler)(untouched) => {}
        }
    }

    /// Counts a connection for which there is no place.
    pub(super) fn refuse(&self, service: &str, source: &Source, denied: &Denied) {
        let (direction, who) = (Direction::Inbound, source.to_string());
        let refusals = &self.context.refusals;
        refusals.record(direction, service, who, denied.reason, &*denied.sentence);
    }

    fn route(&self, pending: &PendingHandshake) -> Route {
        let hello = pending.client_hello();
        let offered = hello.alpn();
        let asks_for_link =
            offered.is_some_and(|mut offered| offered.any(|name| ALPN_RELAY.contains(&name)));
        Route::of(
            hello.server_name(),
            asks_for_link,
            self.context.desired.load_full(),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const STORE: &str = "forwarded hokkaido.example/renkei/node/store";

    fn desired() -> Arc<Desired> {
        let text = "site: hokkaido\n\
                    trust_domain: hokkaido.example\n\
                    gateway: {listen: 127.0.0.1:7443}\n\
                    peers: {osaka.example: {bundle: osaka.json}}\n\
                    relays: [osaka.example]\n\
                    server: {listen: 127.0.0.1:7444}\n\
                    nodes: {store: {}}\n\
                    services:\n  \
                    broker: {protocol: kafka, backends: [127.0.0.1:9092]}\n  \
                    log: {on: [store], protocol: kafka, backends: [127.0.0.1:9092]}\n";
        let site = renkei_site::parse("site.yaml", text).expect("a site file");
        Arc::new(Desired {
            site: Arc::new(site.proxy_part(1, BTreeMap::new())),
            policies: BTreeMap::new(),
        })
    }

    fn name_of(route: &Route) -> String {
        match route {
            Route::Service(target) => format!("service {}", target.name()),
            Route::Forwarded(ends) => {
                let names: Vec<String> = ends.iter().map(LinkEnd::name).collect();
                format!("forwarded {}", names.join(" "))
            }
            Route::Link(_) => "link".to_owned(),
            Route::Default => "default".to_owned(),
        }
    }

    #[test]
    fn the_server_name_decides_and_then_the_protocol() {
        let desired = desired();
        for (sni, asks_for_link, expected) in [
            (Some("broker.hokkaido.example"), false, "service broker"),
            (Some("broker.hokkaido.example"), true, "service broker"),
            (Some("n7.broker.hokkaido.example"), false, "service broker"),
            (Some("log.hokkaido.example"), false, STORE),
            (Some("N3.Log.hokkaido.example"), false, STORE),
            (Some("x.log.hokkaido.example"), false, "default"),
            (
                Some("store.osaka.example"),
                false,
                "forwarded osaka.example",
            ),
            (Some("hokkaido.example"), true, "link"),
            (None, true, "link"),
            (Some("store.kyushu.example"), false, "default"),
            (Some("hokkaido.example"), false, "default"),
            (None, false, "default"),
        ] {
            let route = Route::of(sni, asks_for_link, Some(desired.clone()));
            assert_eq!(name_of(&route), expected, "{sni:?} {asks_for_link}");
            let before = Route::of(sni, asks_for_link, None);
            assert_eq!(name_of(&before), "default", "before there is a site");
        }
    }
}
