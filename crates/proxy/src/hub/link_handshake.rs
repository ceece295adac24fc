//! A site that only dials out links itself with this one, its hub.

use std::{net::SocketAddr, sync::Arc};

use renkei_runtime::drain::DrainGuard;
use renkei_spiffe::{Authorizer, Denied, SpiffeId};

use super::{ALPN_RELAY, Hub};
use crate::{
    admission::HandshakeTurn,
    config::Desired,
    identity::{Direction, Pair},
    tls::{self, NO_SERVICE, PendingHandshake, Verified},
};

impl Hub {
    /// Serves a connection of a link up to its end. It has its `turn` until the handshake is over.
    pub(crate) async fn accept(
        &self,
        hello: PendingHandshake,
        desired: Arc<Desired>,
        peer: SocketAddr,
        (guard, turn): (DrainGuard, HandshakeTurn),
    ) {
        let context = &self.context;
        let own = desired.site.server_id.clone();
        let authorizer = Arc::new(HubAuthorizer(desired));
        let verified = tokio::select! {
            biased;
            () = context.drain.forced() => return,
            verified = tls::accept(hello, &own, authorizer, &ALPN_RELAY, context) => verified,
        };
        drop(turn);
        match verified {
            Ok(verified) => {
                // As with lanes: what matters is what passes.
                drop(guard);
                self.serve_lane(verified, own, peer).await;
            }
            Err(fault) => fault.conclude(NO_SERVICE, peer, context).await,
        }
    }

    async fn serve_lane(&self, verified: Verified, own: SpiffeId, from: SocketAddr) {
        let Verified {
            connection,
            peer,
            credentials,
        } = verified;
        let Some(relayed) = self.relays.get(peer.trust_domain()) else {
            tracing::debug!(%from, %peer, "a link of a site that is not relayed for any more");
            return;
        };
        let pair = Pair {
            direction: Direction::Inbound,
            caller: peer,
            callee: own,
        };
        let ended = match self.acceptor.join(connection, credentials, &pair).await {
            Ok((lane, trunk)) => {
                if let Some(trunk) = trunk {
                    tokio::spawn(relayed.follow(trunk));
                }
                lane.run().await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::debug!(%from, %error, "a connection of a link broke");
        }
    }
}

/// Lets in the servers of the sites that are relayed for, and no others.
#[derive(Debug)]
struct HubAuthorizer(Arc<Desired>);

impl Authorizer for HubAuthorizer {
    fn authorize(&self, peer: &SpiffeId) -> Result<(), Denied> {
        let (site, name) = (&self.0.site, peer.trust_domain());
        if !site.relays.contains(name) {
            return Err(Denied {
                label: "not_relayed",
                reason: format!("{name} is not under `relays`"),
            });
        }
        if peer.path() != site.server_id.path() {
            return Err(Denied {
                label: "unexpected_peer",
                reason: format!("{} is not the server of {name}", peer.short()),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
