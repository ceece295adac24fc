//! What all connections of a proxy share.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use renkei_policy::ServicePolicy;
use renkei_runtime::{clock, drain::DrainWatch, process::Digests, supervise::Supervisor};
use renkei_site::ProxyPart;
use renkei_spiffe::{Identities, NoSvid, PeerError, SpiffeId, X509Svid};
use rustls::{CommonState, crypto::CryptoProvider};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, watch},
};
use tokio_rustls::server::StartHandshake;

use crate::{
    Limits,
    credentials::Credentials,
    flows::Flows,
    hub::{Arrivals, Board, Relays},
    inbound::{Backends, Turns},
    kafka::{BrokerTables, Denials, PortFile},
    refusals::Refusals,
    sweep::Due,
    trunk::{Accepted, Census, Ledger, Trunks},
};

/// What a proxy is to do.
#[derive(Debug, Clone)]
pub struct Desired {
    /// Its part of the site.
    pub site: Arc<ProxyPart>,
    /// The policy of every service, by the service's name. A service without one is closed.
    pub policies: BTreeMap<String, Arc<ServicePolicy>>,
}

/// Takes over connections to the gateway that are for no service: the site's bundle endpoint.
pub type Elsewhere = Arc<dyn Fn(StartHandshake<TcpStream>) -> BoxFuture<'static, ()> + Send + Sync>;

pub(crate) struct Shared {
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) identities: watch::Receiver<Arc<Identities>>,
    pub(crate) elsewhere: Elsewhere,
    pub(crate) drain: DrainWatch,
    pub(crate) limits: Limits,
    pub(crate) flows: Arc<Flows>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) desired: ArcSwapOption<Desired>,
    pub(crate) digests: Digests,
    pub(crate) backends: Backends,
    pub(crate) brokers: BrokerTables,
    pub(crate) denials: Denials,
    pub(crate) broker_ports: Option<PortFile>,
    pub(crate) outbound_room: Arc<Semaphore>,
    pub(crate) trunks: Trunks,
    pub(crate) accepted: Accepted,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) census: Arc<Census>,
    /// The address that this site's gateway is bound to.
    pub(crate) gateway: ArcSwapOption<SocketAddr>,
    /// The link to this site's hub, if it has one.
    pub(crate) link: ArcSwapOption<Board>,
    pub(crate) arrivals: Arrivals,
    pub(crate) relays: Relays,
    pub(crate) inbound_room: Arc<Semaphore>,
    pub(crate) turns: Turns,
    pub(crate) dial_room: Arc<Semaphore>,
    pub(crate) tasks: Supervisor,
    pub(crate) due: Arc<Due>,
}

impl Shared {
    pub(crate) fn identities(&self) -> Arc<Identities> {
        self.identities.borrow().clone()
    }

    /// The SVID to present as `id` now.
    pub(crate) fn svid(&self, id: &SpiffeId) -> Result<Arc<X509Svid>, NoSvid> {
        let identities = self.identities.borrow();
        let svid = identities.valid_svid(id, clock::now());
        svid.cloned()
    }

    /// Those of a handshake that has just succeeded with the bundles of `identities`; they are
    /// looked at again when they end.
    pub(crate) fn credentials(
        &self,
        own: Arc<X509Svid>,
        tls: &CommonState,
        identities: Arc<Identities>,
    ) -> Result<Arc<Credentials>, PeerError> {
        let peer = tls.peer_certificates();
        let credentials = Credentials::new(own, peer, identities, &self.provider)?;
        self.due.note(credentials.until());
        Ok(credentials)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
