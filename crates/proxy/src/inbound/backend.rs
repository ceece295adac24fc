//! Connecting to where a service runs: any backend, or the broker that is meant.

use renkei_site::{Protocol, Service, sni};
use renkei_spiffe::SpiffeId;
use tokio::time::timeout;

use super::Inbound;
use crate::{
    sessions::{
        Unreachable,
        kafka::{Broker, CalleeSession},
    },
    sockets::{OnClose, PlainStream, connect, keep_alive},
};

/// Connects to a service: to the broker that is meant, or else to any backend.
pub(super) async fn reach(
    service: &Service,
    node: Option<i32>,
    inbound: &Inbound,
) -> Result<PlainStream, Unreachable> {
    let backends = &inbound.backends;
    let Some(node) = node else {
        return backends.connect(service, OnClose::Reset).await;
    };
    let known = inbound.kafka.brokers.find(&service.name, node);
    let tried = match known {
        Broker::At { .. } => reach_broker(service, node, &known, inbound).await,
        Broker::Unknown | Broker::Unheard => Err(Unreachable::NoBroker {
            service: service.name.clone(),
            node,
        }),
    };
    let (Err(Unreachable::Broker { .. }) | Err(Unreachable::NoBroker { .. })) = tried else {
        return tried;
    };
    // It is not known, or no longer where it was: the others say where it is.
    learn(service, inbound).await;
    match inbound.kafka.brokers.find(&service.name, node) {
        found @ Broker::At { .. } if found == known => tried,
        found => reach_broker(service, node, &found, inbound).await,
    }
}

/// Connects to a broker where it is known to be.
async fn reach_broker(
    service: &Service,
    node: i32,
    broker: &Broker,
    inbound: &Inbound,
) -> Result<PlainStream, Unreachable> {
    let (name, limit) = (service.name.clone(), inbound.context.limits.connect_timeout);
    match broker {
        Broker::Unheard => inbound.backends.connect(service, OnClose::Reset).await,
        Broker::Unknown => Err(Unreachable::NoBroker {
            service: name,
            node,
        }),
        // Whatever it says of itself, the site file says where it is.
        Broker::At { alone: true, .. } if service.backends.len() == 1 => {
            inbound.backends.connect(service, OnClose::Reset).await
        }
        Broker::At { address, .. } => match connect(address, limit, OnClose::Reset).await {
            Ok((stream, peer)) => {
                keep_alive(&stream, peer);
                Ok(PlainStream::new(stream))
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
    inbound: &Inbound,
) -> Option<CalleeSession> {
    let sni = sni(&service.id).filter(|_| service.protocol == Protocol::Kafka)?;
    let (state, context) = (inbound.kafka.clone(), inbound.context.clone());
    Some(CalleeSession::new(service, sni, caller, (state, context)))
}

/// Finds out which brokers there are; where that fails (a cluster that demands a login), the
/// backends have to do.
async fn learn(service: &Service, inbound: &Inbound) {
    let asked = async {
        let session = session(service, None, inbound)?;
        let backends = &inbound.backends;
        let broker = backends.connect(service, OnClose::Finish).await.ok()?;
        session.learn(broker).await.ok()
    };
    if !matches!(
        timeout(inbound.context.limits.handshake_timeout, asked).await,
        Ok(Some(()))
    ) {
        tracing::warn!(
            service = service.name,
            "the brokers of the service do not name themselves"
        );
    }
}
