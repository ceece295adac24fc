//! How many connections there may be at once. What finds no place waits, or is refused where
//! waiting would stop others.

mod handshake_limiter;

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::ProxyLimits;

pub(crate) use handshake_limiter::{HandshakeLimiter, HandshakePlace, HandshakeTurn};

/// A place, given back when it is dropped.
pub(crate) type Place = OwnedSemaphorePermit;

/// The places of a proxy.
#[derive(Debug)]
pub(crate) struct Admission {
    outbound: Arc<Semaphore>,
    inbound: Arc<Semaphore>,
    dials: Arc<Semaphore>,
    /// Handshakes at the gateway.
    pub(crate) handshakes: HandshakeLimiter,
}

impl Admission {
    pub(crate) fn new(limits: &ProxyLimits) -> Self {
        let places =
            |count: usize| Arc::new(Semaphore::new(count.clamp(1, Semaphore::MAX_PERMITS)));
        Self {
            outbound: places(limits.connections),
            inbound: places(limits.connections),
            dials: places(limits.dials),
            handshakes: HandshakeLimiter::new(limits.handshakes),
        }
    }

    /// Waits for a place for a connection of a local workload.
    pub(crate) async fn outbound(&self) -> Option<Place> {
        acquire(&self.outbound).await
    }

    /// Waits for a place for a connection from another site.
    pub(crate) async fn inbound(&self) -> Option<Place> {
        acquire(&self.inbound).await
    }

    /// A place for a connection from another site, if there is one now.
    pub(crate) fn try_inbound(&self) -> Option<Place> {
        self.inbound.clone().try_acquire_owned().ok()
    }

    /// Waits for a place to dial another site.
    pub(crate) async fn dial(&self) -> Option<Place> {
        acquire(&self.dials).await
    }
}

/// The semaphores are never closed, so there is always a place at last.
async fn acquire(places: &Arc<Semaphore>) -> Option<Place> {
    places.clone().acquire_owned().await.ok()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn each_kind_has_its_own_places_and_gets_them_back() {
        let admission = Admission::new(&ProxyLimits {
            connections: 1,
            dials: 1,
            ..ProxyLimits::default()
        });
        let inbound = admission.try_inbound().expect("a place");
        assert!(admission.try_inbound().is_none());
        assert!(admission.inbound().now_or_never().is_none(), "it waits");
        let _outbound = admission.outbound().now_or_never().expect("its own");
        let _dial = admission.dial().now_or_never().expect("its own");
        assert!(admission.dial().now_or_never().is_none(), "it waits");
        drop(inbound);
        assert!(admission.try_inbound().is_some());
    }
}
