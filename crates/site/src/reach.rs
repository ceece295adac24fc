//! Where the gateways of trust domains are dialled, seen from one site.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use renkei_spiffe::TrustDomain;

use crate::{BundleSource, Host, HostPort, Peer, Site};

/// The way to a bundle endpoint that is asked for by the name of its trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleWay {
    /// The address to dial.
    pub dial: HostPort,
    /// The server name to ask for.
    pub name: String,
}

impl Site {
    /// The address that other sites dial to reach this one: the hub's, if it has one.
    pub fn advertised(&self) -> Option<&HostPort> {
        let gateway = self.gateway.as_ref()?;
        match &gateway.via {
            Some(hub) => self.peers.get(hub)?.gateway.as_ref(),
            None => gateway.advertise.as_ref(),
        }
    }

    /// Where the gateway of a peer is dialled. A site that this one relays for is reached through
    /// this site's own gateway.
    pub fn gateway_of(&self, peer: &TrustDomain) -> Option<HostPort> {
        match self.relays.contains(peer) {
            true => {
                let listen = self.gateway.as_ref()?.listen?;
                Some(own_address(listen).into())
            }
            false => self.peers.get(peer)?.gateway.clone(),
        }
    }

    /// The site that this one relays for and that a server name belongs to: the trust domain
    /// itself, for its bundle endpoint, or a name within it. Of several that lie within each
    /// other, this site's own among them, the innermost. Compared without regard to case.
    pub fn relayed_by_sni(&self, sni: &str) -> Option<&TrustDomain> {
        let sni = sni.to_ascii_lowercase();
        let within = |name: &&TrustDomain| {
            let rest = sni.strip_suffix(name.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let all = self.relays.iter().chain([&self.trust_domain]);
        let found = all.filter(within).max_by_key(|name| name.as_str().len());
        found.filter(|name| **name != self.trust_domain)
    }

    /// How the bundle endpoint of a peer is reached, if its URL leads to the gateway that the
    /// peer's services are reached through. A gateway may be a hub's, which needs to be told whose
    /// bundle is meant; the SPIFFE ID that the endpoint must prove does not depend on the name.
    pub fn bundle_way(&self, peer: &Peer) -> Option<BundleWay> {
        let BundleSource::HttpsSpiffe { url, .. } = &peer.bundle else {
            return None;
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
