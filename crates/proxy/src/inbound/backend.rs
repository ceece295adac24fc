//! Connecting to where a service really runs.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use renkei_site::{HostPort, Protocol, Service, sni};
use renkei_spiffe::SpiffeId;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    connect::{ConnectError, connect},
    kafka::{Broker, CalleeSession},
    listener::keep_alive,
    plain::OnClose,
    shared::Shared,
};

/// Takes turns among the backends of each service.
#[derive(Debug, Default)]
pub(crate) struct Backends(AtomicUsize);

/// Why a service could not be connected to.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreachable {
    /// None of them answers.
    #[error("no backend of {service} answers: {}", .tried.join("; "))]
    AllDown {
        /// Whose.
        service: String,
        /// Each with its reason.
        tried: Vec<String>,
        /// None of them said anything at all.
        silent: bool,
    },
    /// A broker does not answer.
    #[error("broker {node} of {service} at {address} does not answer: {error}")]
    Broker {
        /// Whose.
        service: String,
        /// Which.
        node: i32,
        /// Where it says it is.
        address: HostPort,
        /// Why not.
        error: ConnectError,
    },
    /// The cluster has no such broker.
    #[error("{service} has no broker {node}")]
    NoBroker {
        /// Whose.
        service: String,
        /// Which.
        node: i32,
    },
}

impl Unreachable {
    /// The time was up, as opposed to a refusal.
    pub(super) fn is_silent(&self) -> bool {
        match self {
            Self::AllDown { silent, .. } => *silent,
            Self::Broker { error, .. } => matches!(error, ConnectError::Silent(_)),
            Self::NoBroker { .. } => false,
        }
    }
}

/// Connects to a service: to the broker that is meant, or else to any backend.
pub(super) async fn reach(
    service: &Service,
    node: Option<i32>,
    shared: &Arc<Shared>,
) -> Result<TcpStream, Unreachable> {
    let Some(node) = node else {
        return shared
            .backends
            .connect(service, shared, OnClose::Reset)
            .await;
    };
    let known = shared.brokers.find(&service.name, node);
    let tried = match known {
        Broker::At { .. } => reach_broker(service, node, &known, shared).await,
        Broker::Unknown | Broker::Unheard => Err(Unreachable::NoBroker {
            service: service.name.clone(),
            node,
        }),
    };
    let (Err(Unreachable::Broker { .. }) | Err(Unreachable::NoBroker { .. })) = tried else {
        return tried;
    };
    // It is not known, or no longer where it was: the others say where it is.
    learn(service, shared).await;
    match shared.brokers.find(&service.name, node) {
        found @ Broker::At { .. } if found == known => tried,
        found => reach_broker(service, node, &found, shared).await,
    }
}

/// Connects to a broker where it is known to be.
async fn reach_broker(
    service: &Service,
    node: i32,
    broker: &Broker,
    shared: &Arc<Shared>,
) -> Result<TcpStream, Unreachable> {
    let (name, limit) = (service.name.clone(), shared.limits.connect_time);
    match broker {
        Broker::Unheard => {
            shared
                .backends
                .connect(service, shared, OnClose::Reset)
                .await
        }
        Broker::Unknown => Err(Unreachable::NoBroker {
            service: name,
            node,
        }),
        // Whatever it says of itself, the site file says where it is.
        Broker::At { alone: true, .. } if service.backends.len() == 1 => {
            shared
                .backends
                .connect(service, shared, OnClose::Reset)
                .await
        }
        Broker::At { address, .. } => match connect(address, limit, OnClose::Reset).await {
            Ok((stream, peer)) => {
                keep_alive(&stream, peer);
                Ok(stream)
            }
            Err(error) => Err(Unreachable::Broker {
                service: name,
                node,
                address: address.clone(),
                error,
            }),
        },
    }
}

/// The session of a service's connections, if its protocol has one; the gateway's own has no
/// caller.
pub(super) fn session(
    service: &Service,
    caller: Option<&SpiffeId>,
    shared: &Arc<Shared>,
) -> Option<CalleeSession> {
    let sni = sni(&service.id).filter(|_| service.protocol == Protocol::Kafka)?;
    Some(CalleeSession::new(service, sni, caller, shared.clone()))
}

/// Finds out which brokers there are; where that fails (a cluster that demands a login), the
/// backends have to do.
async fn learn(service: &Service, shared: &Arc<Shared>) {
    let asked = async {
        let session = session(service, None, shared)?;
        let broker = shared
            .backends
            .connect(service, shared, OnClose::Finish)
            .await
            .ok()?;
        session.learn(broker).await.ok()
    };
    if !matches!(
        timeout(shared.limits.handshake_time, asked).await,
        Ok(Some(()))
    ) {
        tracing::warn!(
            service = service.name,
            "the brokers of the service do not name themselves"
        );
    }
}

impl Backends {
    /// Connects to one backend: each in turn is the first to be tried, then those after it.
    pub(super) async fn connect(
        &self,
        service: &Service,
        shared: &Shared,
        on_close: OnClose,
    ) -> Result<TcpStream, Unreachable> {
        let count = service.backends.len().max(1);
        let first = self.0.fetch_add(1, Ordering::Relaxed) % count;
        let (mut tried, mut silent) = (Vec::new(), true);
        for backend in service.backends.iter().cycle().skip(first).take(count) {
            match connect(backend, shared.limits.connect_time, on_close).await {
                Ok((stream, peer)) => {
                    keep_alive(&stream, peer);
                    return Ok(stream);
                }
                Err(error) => {
                    silent &= matches!(error, ConnectError::Silent(_));
                    tried.push(format!("{backend}: {error}"));
                }
            }
        }
        Err(Unreachable::AllDown {
            service: service.name.clone(),
            tried,
            silent,
        })
    }
}
