//! Where the gateways of trust domains are dialled, seen from one site.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use renkei_spiffe::TrustDomain;
use serde::{Deserialize, Serialize};

use crate::{BundleSource, Gateway, Host, HostPort, Peer, Site};

/// The way to a bundle endpoint that is asked for by the name of its trust domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleWay {
    /// The address to dial.
    pub dial: HostPort,
    /// The server name to ask for.
    pub name: String,
}

impl Site {
    /// The address that other sites dial to reach this one: the hub's, if it has one. Of several
    /// gateways, that of `renkei up`, or else the first by name.
    pub(crate) fn advertised(&self) -> Option<&HostPort> {
        let via = self
            .gateway
            .as_ref()
            .and_then(|gateway| gateway.via.as_ref());
        match via {
            Some(hub) => self.peers.get(hub)?.gateway.as_ref(),
            None => self.dialled_gateways().next().map(|(_, address)| address),
        }
    }

    fn gateway_of(&self, peer: &TrustDomain) -> Option<HostPort> {
        match self.relays.contains(peer) {
            true => own_gateway(self.gateway.as_ref()?),
            false => self.peers.get(peer)?.gateway.clone(),
        }
    }

    /// How the bundle endpoint of a peer is reached, if that is through the gateway that the peer's
    /// services are reached through. A gateway may be a hub's, which needs to know whose
    /// bundle is meant; the SPIFFE ID that the endpoint must prove does not depend on the name.
    pub(crate) fn bundle_way(&self, peer: &Peer) -> Option<BundleWay> {
        let url = match &peer.bundle {
            BundleSource::HttpsSpiffe { url, .. } => url,
            BundleSource::Identity(_) => {
                return Some(BundleWay {
                    dial: self.gateway_of(&peer.trust_domain)?,
                    name: peer.trust_domain.to_string(),
                });
            }
            _ => return None,
        };
        let advertised = match self.relays.contains(&peer.trust_domain) {
            true => self.advertised()?,
            false => peer.gateway.as_ref()?,
        };
        let host = match url.host()? {
            url::Host::Domain(name) => Host::Name(name.to_ascii_lowercase()),
            url::Host::Ipv4(ip) => Host::Ip(ip.into()),
            url::Host::Ipv6(ip) => Host::Ip(ip.into()),
        };
        let same = HostPort::new(host, url.port_or_known_default()?) == *advertised;
        same.then_some(BundleWay {
            dial: self.gateway_of(&peer.trust_domain)?,
            name: peer.trust_domain.to_string(),
        })
    }
}

/// Where a site dials its own gateway, if it listens.
pub(crate) fn own_gateway(gateway: &Gateway) -> Option<HostPort> {
    Some(own_address(gateway.listen?).into())
}

/// Where a site dials its own gateway, which may listen on any address. The address that others
/// dial may not lead back here (address translation).
pub fn own_address(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
