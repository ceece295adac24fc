//! What every connection of a proxy needs.

mod expiry;
mod flows;
mod refusals;
pub(crate) mod span;
mod totals;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use renkei_runtime::{clock, drain::DrainWatch, supervise::Supervisor};
use renkei_spiffe::{Identities, NoSvid, PeerError, SpiffeId, X509Svid};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

use crate::{
    bandwidth::Bandwidths,
    config::{Desired, ProxyLimits},
    identity::Credentials,
};

pub(crate) use expiry::Expiry;
pub(crate) use flows::Carrier;
pub use flows::{Flow, Flows};
pub use refusals::Refusals;
pub(crate) use totals::{Others, ROWS, ROWS_OF_SITE, other_row};

/// Shared by all connections of a proxy.
pub(crate) struct Context {
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) identities: watch::Receiver<Arc<Identities>>,
    pub(crate) drain: DrainWatch,
    pub(crate) limits: ProxyLimits,
    pub(crate) flows: Arc<Flows>,
    pub(crate) refusals: Arc<Refusals>,
    /// What the proxy is to do now; nothing before the first time.
    pub(crate) desired: ArcSwapOption<Desired>,
    pub(crate) tasks: Supervisor,
    /// When certificates in use end next.
    pub(crate) expiry: Arc<Expiry>,
    /// How much connections with other sites may carry in a second.
    pub(crate) bandwidths: Bandwidths,
}

impl Context {
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
        peer: &[CertificateDer<'_>],
        identities: Arc<Identities>,
    ) -> Result<Arc<Credentials>, PeerError> {
        let credentials = Credentials::new(own, peer, identities, &self.provider)?;
        self.expiry.note(credentials.until());
        Ok(credentials)
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
