//! Connecting to where a service really runs.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use renkei_site::{HostPort, Service};
use tokio::net::TcpStream;

use crate::sockets::{ConnectError, OnClose, connect, keep_alive};

/// Connects to the backends of services, each in turn.
#[derive(Debug)]
pub(crate) struct Backends {
    connections: AtomicUsize,
    /// For each backend.
    timeout: Duration,
}

/// Why a service could not be connected to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreachable {
    /// None of them answers.
    #[error("no backend of {service} answers: {}", .tried.join("; "))]
    AllDown {
        /// The name of the service.
        service: String,
        /// Each with its reason.
        tried: Vec<String>,
        /// None of them said anything at all.
        silent: bool,
    },
    /// A broker does not answer.
    #[error("broker {node} of {service} at {address} does not answer: {error}")]
    Broker {
        /// The name of the service.
        service: String,
        /// The ID of the broker.
        node: i32,
        /// Where it says it is.
        address: HostPort,
        /// What went wrong.
        error: ConnectError,
    },
    /// The cluster has no such broker.
    #[error("{service} has no broker {node}")]
    NoBroker {
        /// The name of the service.
        service: String,
        /// The ID of the broker.
        node: i32,
    },
}

impl Unreachable {
    /// The time was up, as opposed to a refusal.
    pub(crate) fn is_silent(&self) -> bool {
        match self {
            Self::AllDown { silent, .. } => *silent,
            Self::Broker { error, .. } => matches!(error, ConnectError::Silent(_)),
            Self::NoBroker { .. } => false,
        }
    }
}

impl Backends {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self {
            connections: AtomicUsize::new(0),
            timeout,
        }
    }

    /// Connects to one backend: each in turn is the first to be tried, then those after it.
    pub(crate) async fn connect(
        &self,
        service: &Service,
        on_close: OnClose,
    ) -> Result<TcpStream, Unreachable> {
        let count = service.backends.len().max(1);
        let first = self.connections.fetch_add(1, Ordering::Relaxed) % count;
        let (mut tried, mut silent) = (Vec::new(), true);
        for backend in service.backends.iter().cycle().skip(first).take(count) {
            match connect(backend, self.timeout, on_close).await {
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
