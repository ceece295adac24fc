//! The caller's side: a local listener for every broker of a service.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use renkei_kafka::{Endpoint, Session};
use tokio::net::TcpListener;

use super::{MAX_BROKERS, broken};
use crate::{
    listener,
    outbound::{self, Routes},
    plain::OnClose,
    relay::{self, Next, Side},
    shared::Shared,
};

/// The local listeners of one cluster, as one workload sees it. They are closed with the route
/// that they belong to.
#[derive(Debug, Default)]
pub(crate) struct Brokers(Mutex<BTreeMap<i32, u16>>);

impl Brokers {
    /// Opens the listeners that were opened before a restart, since clients remember them.
    pub(crate) fn reopen(&self, routes: &Routes, shared: &Arc<Shared>) {
        let route = routes.load();
        let Some(ports) = &shared.broker_ports else {
            return;
        };
        for (node, _) in ports.of(route.listen, &route.target) {
            self.port(node, routes, shared);
        }
    }

    /// The local port of a broker, with a listener behind it.
    fn port(&self, node: i32, routes: &Routes, shared: &Arc<Shared>) -> Option<u16> {
        let mut ports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(port) = ports.get(&node) {
            return Some(*port);
        }
        if node < 0 || ports.len() >= MAX_BROKERS {
            return None;
        }
        let route = routes.load();
        let kept = shared
            .broker_ports
            .as_ref()
            .map(|ports| ports.of(route.listen, &route.target));
        let kept = kept.and_then(|ports| ports.get(&node).copied());
        let listener = bind(route.listen, kept)
            .inspect_err(|error| tracing::warn!(%error, node, "no listener for a broker"))
            .ok()?;
        let port = listener.local_addr().ok()?.port();
        if let Some(kept) = &shared.broker_ports {
            kept.keep(route.listen, &route.target, node, port);
        }
        tokio::spawn(outbound::serve_broker(
            listener,
            node,
            routes.clone(),
            shared.clone(),
        ));
        ports.insert(node, port);
        Some(port)
    }
}

/// The port it had, else any other.
fn bind(listen: SocketAddr, kept: Option<u16>) -> io::Result<TcpListener> {
    if let Some(port) = kept
        && let Ok(listener) = listener::bind(SocketAddr::new(listen.ip(), port), OnClose::Reset)
    {
        return Ok(listener);
    }
    listener::bind(SocketAddr::new(listen.ip(), 0), OnClose::Reset)
}

/// Shows a client local addresses in place of the brokers' names.
pub(crate) struct CallerSession {
    session: Session,
    brokers: Arc<Brokers>,
    routes: Routes,
    shared: Arc<Shared>,
}

impl CallerSession {
    pub(crate) fn boxed(
        brokers: Arc<Brokers>,
        routes: Routes,
        shared: Arc<Shared>,
    ) -> Box<dyn relay::Session> {
        Box::new(Self {
            session: Session::new(),
            brokers,
            routes,
            shared,
        })
    }
}

impl relay::Session for CallerSession {
    fn advance(
        &mut self,
        from: Side,
        received: &mut BytesMut,
        out: &mut Vec<Bytes>,
    ) -> io::Result<Next> {
        let Self {
            session,
            brokers,
            routes,
            shared,
        } = self;
        let host = routes.load().listen.ip().to_string();
        let mut local = |node: i32, _: &str, _: u16| {
            let port = brokers.port(node, routes, shared)?;
            Some(Endpoint {
                host: host.clone(),
                port,
            })
        };
        match from {
            Side::App => session.client_to_broker(received, out),
            Side::Wan => session.broker_to_client(received, &mut local, out),
        }
        .map(|()| Next::More)
        .map_err(broken)
    }
}
