//! Whom a place is counted for, and how a refusal for want of one is named.

use renkei_runtime::shares::{self, Network, NoPlace};
use renkei_site::HostPort;
use renkei_spiffe::{SpiffeId, TrustDomain};

use super::Source;
use crate::identity::Pair;

/// Whom a place is counted for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Holder {
    /// The host that a connection comes from.
    Network(Network),
    /// The /48 of IPv6 that it is in.
    Customer(Network),
    /// The other end of a link that was dialled here, for the connections that it brings.
    Hub,
    /// The site of the caller, or the site behind this hub.
    Site(TrustDomain),
    /// The node behind this gateway.
    Node(SpiffeId),
    /// The caller, by its SPIFFE ID.
    Caller(SpiffeId),
    /// The service that is called.
    Service(SpiffeId),
    /// The gateway that is dialled.
    Gateway(HostPort),
}

impl shares::Holder for Holder {
    /// An address has up to half of a pool, and so has a gateway, which may hang. A caller that
    /// has proved its identity has up to two thirds, and leaves some of what its site may have.
    fn weight(&self) -> usize {
        match self {
            Self::Network(_) | Self::Gateway(_) => 1,
            Self::Caller(_) => 2,
            Self::Customer(_) | Self::Hub | Self::Site(_) | Self::Node(_) | Self::Service(_) => 3,
        }
    }
}

impl Holder {
    /// Those of a connection whose end has not proved who it is.
    pub(super) fn of_source(source: &Source) -> Vec<Self> {
        let network = Network::of(source.caller().ip());
        let mut holders = vec![Self::Network(network)];
        holders.extend(network.customer().map(Self::Customer));
        if source.is_by_link() {
            holders.push(Self::Hub);
        }
        holders
    }

    /// Those of a connection from another site.
    pub(super) fn of_remote_pair(pair: &Pair) -> Vec<Self> {
        vec![
            Self::Caller(pair.caller.clone()),
            Self::Site(pair.caller.trust_domain().clone()),
            Self::Service(pair.callee.clone()),
        ]
    }

    /// Those of a connection of a local workload.
    pub(super) fn of_local_pair(pair: &Pair) -> Vec<Self> {
        vec![
            Self::Caller(pair.caller.clone()),
            Self::Service(pair.callee.clone()),
        ]
    }
}

/// A connection is refused, because there is no place for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denied {
    /// A short, stable name for metrics.
    pub(crate) reason: &'static str,
    /// For people, without who was refused.
    pub(crate) sentence: String,
}

impl Denied {
    pub(crate) fn new(reason: &'static str, sentence: impl Into<String>) -> Self {
        let sentence = sentence.into();
        Self { reason, sentence }
    }

    pub(super) fn of(why: &NoPlace<Holder>) -> Self {
        let (reason, who, held) = match why {
            NoPlace::Full => {
                return Self {
                    reason: "connection_limit",
                    sentence: "this proxy is at its limit of connections".to_owned(),
                };
            }
            NoPlace::Share(Holder::Network(one), held) => ("address_limit", one.to_string(), held),
            NoPlace::Share(Holder::Customer(_), held) => {
                ("address_limit", "its /48 of IPv6".to_owned(), held)
            }
            NoPlace::Share(Holder::Hub, held) => {
                ("hub_limit", "the gateway that brings it".to_owned(), held)
            }
            NoPlace::Share(Holder::Site(one), held) => ("site_limit", one.to_string(), held),
            NoPlace::Share(Holder::Node(one), held) => ("node_limit", one.short(), held),
            NoPlace::Share(Holder::Caller(one), held) => ("caller_limit", one.short(), held),
            NoPlace::Share(Holder::Service(one), held) => ("service_limit", one.short(), held),
            NoPlace::Share(Holder::Gateway(one), held) => ("gateway_limit", one.to_string(), held),
        };
        Self {
            reason,
            sentence: format!("{who} has {held} connections, which is its share now"),
        }
    }
}
