//! A local listener for every broker of a service that speaks Kafka.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use renkei_spiffe::SpiffeId;
use tokio::net::TcpListener;

use super::broker_ports::PortFile;
use crate::{
    sessions::kafka::MAX_BROKERS,
    sockets::{self, OnClose},
};

/// Serves a listener for a broker.
pub(super) type ServeBroker = Arc<dyn Fn(TcpListener, i32) + Send + Sync>;

/// The local listeners of one cluster, as one workload sees it. They are closed with the route
/// that they belong to.
#[derive(Debug, Default)]
pub(crate) struct Brokers(Mutex<BTreeMap<i32, u16>>);

impl Brokers {
    /// Opens the listeners that were opened before a restart, since clients remember them.
    /// `service` is the workload's own listener for the service, and the service.
    pub(super) fn reopen(
        &self,
        service: (SocketAddr, &SpiffeId),
        kept: Option<&PortFile>,
        serve: &ServeBroker,
    ) {
        let ports = kept.map(|kept| kept.of(service.0, service.1));
        for node in ports.unwrap_or_default().into_keys() {
            self.port(node, service, kept, serve);
        }
    }

    /// The local port of a broker, with a listener behind it.
    pub(super) fn port(
        &self,
        node: i32,
        (listen, service): (SocketAddr, &SpiffeId),
        kept: Option<&PortFile>,
        serve: &ServeBroker,
    ) -> Option<u16> {
        let mut ports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(port) = ports.get(&node) {
            return Some(*port);
        }
        if node < 0 || ports.len() >= MAX_BROKERS {
            return None;
        }
        let before = kept.and_then(|kept| kept.of(listen, service).get(&node).copied());
        let listener = bind(listen, before)
            .inspect_err(|error| tracing::warn!(%error, node, "no listener for a broker"))
            .ok()?;
        let port = listener.local_addr().ok()?.port();
        if let Some(kept) = kept {
            kept.keep(listen, service, node, port);
        }
        serve(listener, node);
        ports.insert(node, port);
        Some(port)
    }
}

/// The port it had, else any other.
fn bind(listen: SocketAddr, before: Option<u16>) -> io::Result<TcpListener> {
    if let Some(port) = before
        && let Ok(listener) = sockets::bind(SocketAddr::new(listen.ip(), port), OnClose::Reset)
    {
        return Ok(listener);
    }
    sockets::bind(SocketAddr::new(listen.ip(), 0), OnClose::Reset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_broker_keeps_its_port_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let kept = PortFile::open(folder.path().join("ports.json"));
        let service = SpiffeId::parse("spiffe://hokkaido.example/broker").unwrap();
        let place = ("127.0.0.1:19092".parse().unwrap(), &service);
        let served: Arc<Mutex<Vec<(TcpListener, i32)>>> = Arc::default();
        let serve: ServeBroker = {
            let served = served.clone();
            Arc::new(move |listener, node| served.lock().unwrap().push((listener, node)))
        };
        let brokers = Brokers::default();
        let port = brokers.port(7, place, Some(&kept), &serve).unwrap();
        assert_eq!(brokers.port(7, place, Some(&kept), &serve), Some(port));
        assert_eq!(served.lock().unwrap().len(), 1, "one listener");
        assert_eq!(brokers.port(-1, place, Some(&kept), &serve), None);
        served.lock().unwrap().clear();
        let restarted = Brokers::default();
        restarted.reopen(place, Some(&kept), &serve);
        let served = served.lock().unwrap();
        assert_eq!(served[0].0.local_addr().unwrap().port(), port);
        assert_eq!(served[0].1, 7);
    }
}
