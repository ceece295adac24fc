//! Which service is meant, who calls, and may they.

use std::{net::SocketAddr, sync::Arc};

use renkei_site::{Protocol, ProxyPart, Service};
use renkei_spiffe::{Authorizer, Denied, SpiffeId};

use crate::{
    authorization::{ServiceAuthorizer, revocation},
    config::Desired,
    context::Context,
    sessions::{alpn, kafka},
    tls::{self, HandshakeFault, PendingHandshake, Verified},
};

/// The service that a server name means.
pub(crate) struct ServiceTarget {
    desired: Arc<Desired>,
    pub(super) service: Service,
    /// The broker that is meant, if the service speaks Kafka and one was named.
    node: Option<i32>,
}

/// A caller that may reach the service.
pub(super) struct Admitted {
    pub(super) verified: Verified,
    pub(super) service: Service,
    pub(super) node: Option<i32>,
    /// Why the caller is denied, if it is. The session answers so in the protocol of the service.
    pub(super) denied: Option<String>,
    /// The state under which it was admitted.
    pub(super) desired: Arc<Desired>,
}

impl ServiceTarget {
    /// The name of the service.
    pub(crate) fn name(&self) -> &str {
        &self.service.name
    }

    /// The service with this server name (RFC 6066 3), if this site offers it.
    pub(crate) fn of(sni: &str, desired: &Arc<Desired>) -> Option<Self> {
        let (service, node) = match desired.site.service_by_sni(sni) {
            Some(service) => (service.clone(), None),
            None => {
                let (node, sni) = kafka::parse_server_name(sni)?;
                let service = desired.site.service_by_sni(sni)?;
                if service.protocol != Protocol::Kafka {
                    return None;
                }
                (service.clone(), Some(node))
            }
        };
        Some(Self {
            desired: desired.clone(),
            service,
            node,
        })
    }
}

/// The nodes that hold the service of this server name, if it is reached through their links.
pub(crate) fn nodes_of(sni: &str, site: &ProxyPart) -> Vec<SpiffeId> {
    let mut nodes = site.nodes_by_sni(sni);
    if nodes.is_empty()
        && let Some((_, of_service)) = kafka::parse_server_name(sni)
    {
        nodes = site.nodes_by_sni(of_service);
    }
    nodes.into_iter().cloned().collect()
}

/// Finishes the handshake of a caller of the service. `flow` is the number of the connection.
pub(super) async fn admit(
    hello: PendingHandshake,
    target: ServiceTarget,
    (flow, peer): (u64, SocketAddr),
    context: &Context,
) -> Result<Admitted, HandshakeFault> {
    let ServiceTarget {
        desired,
        service,
        node,
    } = target;
    let Some(policy) = desired.policies.get(&service.name).cloned() else {
        let fault = HandshakeFault::new("no_policy", format!("{} has no policy", service.name));
        return Err(tls::give_up(hello, fault).await);
    };
    let source = peer.ip().to_canonical();
    let authorizer = ServiceAuthorizer::new(policy, service.id.clone(), source, flow);
    let authorizer = PeersOnly {
        site: desired.site.clone(),
        authorizer: match service.protocol {
            Protocol::Http => authorizer.telling_in_session(),
            _ => authorizer,
        },
    };
    let offered: Vec<&[u8]> = hello.client_hello().alpn().into_iter().flatten().collect();
    let chosen = alpn::choose(service.protocol, &offered);
    let authorizer = Arc::new(authorizer);
    let verified = tls::accept(
        hello,
        &service.id,
        authorizer.clone(),
        chosen.as_slice(),
        context,
    )
    .await?;
    let denial = authorizer.authorizer.denial();
    Ok(Admitted {
        denied: denial.map(|denial| denial.reason.clone()),
        verified,
        service,
        node,
        desired,
    })
}

/// Lets in whom the policy allows, of the sites that this one is linked with.
#[derive(Debug)]
struct PeersOnly {
    site: Arc<ProxyPart>,
    authorizer: ServiceAuthorizer,
}

impl Authorizer for PeersOnly {
    fn authorize(&self, peer: &SpiffeId) -> Result<(), Denied> {
        revocation::check_linked(&self.site, peer)?;
        self.authorizer.authorize(peer)
    }
}
