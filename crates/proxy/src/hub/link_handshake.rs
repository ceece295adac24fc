//! A site or node that only dials out links itself with this gateway.

use std::sync::Arc;

use renkei_runtime::drain::DrainGuard;
use renkei_spiffe::{Authorizer, Denied, SpiffeId};

use super::{ALPN_RELAY, Hub};
use crate::{
    admission::{HandshakePlace, Source},
    config::Desired,
    identity::{Direction, Pair},
    tls::{self, NO_SERVICE, PendingHandshake, Verified},
};

impl Hub {
    /// Serves a connection of a link up to its end. It has its `place` until the handshake is over.
    pub(crate) async fn accept(
        self: &Arc<Self>,
        hello: PendingHandshake,
        desired: Arc<Desired>,
        source: Source,
        (guard, place): (DrainGuard, HandshakePlace),
    ) {
        let context = &self.context;
        let own = desired.site.link_id.clone();
        let authorizer = Arc::new(LinkAuthorizer(desired));
        let verified = tokio::select! {
            biased;
            () = context.drain.forced() => return,
            verified = tls::accept(hello, &own, authorizer, &ALPN_RELAY, context) => verified,
        };
        let arrival = place.finish();
        match verified {
            Ok(verified) => {
                // As with lanes: what matters is what passes.
                drop((guard, arrival));
                self.serve_lane(verified, own, source).await;
            }
            Err(fault) => fault.conclude(NO_SERVICE, &source, context).await,
        }
    }

    async fn serve_lane(self: &Arc<Self>, verified: Verified, own: SpiffeId, from: Source) {
        let Verified {
            connection,
            peer,
            credentials,
        } = verified;
        let Some(linked) = self.links.get(&peer) else {
            tracing::debug!(%from, %peer, "a link of a site or node that is not reached through this gateway any more");
            return;
        };
        let pair = Pair {
            direction: Direction::Inbound,
            caller: peer,
            callee: own,
        };
        let _place = match self.admission.lane(&pair) {
            Ok(place) => place,
            Err(denied) => {
                let (direction, who) = (Direction::Inbound, pair.caller.short());
                let refusals = &self.context.refusals;
                return refusals.record(direction, NO_SERVICE, who, denied.reason, denied.sentence);
            }
        };
        let ended = match self.acceptor.join(connection, credentials, &pair).await {
            Ok((lane, trunk)) => {
                if let Some(trunk) = trunk {
                    let (hub, node) = (self.clone(), linked.clone());
                    let let_out = move |stream| {
                        tokio::spawn(hub.clone().let_out(node.clone(), stream));
                    };
                    tokio::spawn(linked.follow(trunk, let_out));
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

/// Lets in the servers of the sites that are relayed for, the nodes whose services are reached
/// through here, and no others.
#[derive(Debug)]
struct LinkAuthorizer(Arc<Desired>);

impl Authorizer for LinkAuthorizer {
    fn authorize(&self, peer: &SpiffeId) -> Result<(), Denied> {
        let (site, name) = (&self.0.site, peer.trust_domain());
        if *name == site.trust_domain {
            let has_link = site.node_services.contains_key(peer) || site.exits.contains_key(peer);
            return match has_link {
                true => Ok(()),
                false => Err(Denied {
                    label: "no_services",
                    reason: format!(
                        "{} holds no service that is reached through this gateway, and leaves by no \
                         link here",
                        peer.short()
                    ),
                }),
            };
        }
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
