//! The server's own SVIDs: the one that nodes verify, and the one of the bundle endpoint for
//! readers that come through a gateway node. Their keys are in memory alone.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rcgen::{CertificateParams, KeyPair};
use renkei_api::node::CaPin;
use renkei_runtime::backoff::Backoff;
use renkei_spiffe::{
    Identities, PrivateKey, SpiffeId, SvidError, TrustDomain, X509Svid, verify_peer,
};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Parts;
use crate::{
    SignError,
    authority::{Issuer, Signed},
};

/// The time is looked at again at least so often: the clock may have been set.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

pub(super) struct OwnSvids {
    /// What the API proves (SPIRE's name).
    api: Option<SpiffeId>,
    /// What the bundle endpoint proves.
    endpoint: Option<SpiffeId>,
    identities: watch::Sender<Arc<Identities>>,
    pin: RwLock<Option<CaPin>>,
}

#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error("a key or a request could not be made: {0}")]
    Request(#[from] rcgen::Error),
    #[error(transparent)]
    Svid(#[from] SvidError),
}

impl OwnSvids {
    pub(super) fn new(trust_domain: &TrustDomain) -> Self {
        let id = |path| SpiffeId::with_path(trust_domain.clone(), path).ok();
        Self {
            api: id("/spire/server"),
            endpoint: id("/renkei/server"),
            identities: watch::Sender::new(Arc::default()),
            pin: RwLock::default(),
        }
    }

    /// The SVID for a handshake of the API: its chain has the CA behind the leaf, so that a node
    /// with a pin of the CA finds it.
    pub(super) fn for_api(&self, now: OffsetDateTime) -> Option<Arc<X509Svid>> {
        let identities = self.identities.borrow();
        let svid = identities.valid_svid(self.api.as_ref()?, now);
        svid.ok().cloned()
    }

    /// For the bundle endpoint.
    pub(super) fn identities(&self) -> watch::Receiver<Arc<Identities>> {
        self.identities.subscribe()
    }

    /// The pin of the CA in the chain of the API.
    pub(super) fn pin(&self) -> Option<CaPin> {
        *self.pin.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Issues and renews them until `stop`: at half of their life, and at once when a node would
    /// refuse one of them.
    pub(super) async fn keep(&self, issuer: &dyn Issuer, parts: &Parts, stop: &CancellationToken) {
        let mut backoff = RETRY;
        let mut bundles = parts.bundles.subscribe();
        loop {
            let now = (parts.clock)();
            let renewed = match self.is_due(parts, now) {
                true => self.renew(issuer).await,
                false => Ok(()),
            };
            let pause = match renewed {
                Ok(()) => {
                    backoff.succeeded();
                    LONGEST_SLEEP.min(self.until_due(now))
                }
                Err(error) => {
                    tracing::error!(%error, "the server has no new SVID for its API");
                    backoff.failed()
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                Ok(()) = bundles.changed() => {}
            }
        }
    }

    /// Whether half of a life is over, or an SVID does not verify: it starts in the future because
    /// the clock was ahead, or its CA has left the bundle.
    fn is_due(&self, parts: &Parts, now: OffsetDateTime) -> bool {
        if self.due().is_none_or(|due| due <= now) {
            return true;
        }
        let bundles = parts.bundles.snapshot();
        let algorithms = &parts.provider.signature_verification_algorithms;
        let identities = self.identities.borrow();
        let mut svids = identities.svids.values();
        svids.any(|svid| verify_peer(svid.chain(), &bundles, now, algorithms).is_err())
    }

    async fn renew(&self, issuer: &dyn Issuer) -> Result<(), RenewError> {
        let mut svids = BTreeMap::new();
        if let Some(id) = &self.endpoint {
            let (signed, key) = signed(issuer, id).await?;
            let svid = X509Svid::new(vec![signed.certificate], key)?;
            svids.insert(id.clone(), Arc::new(svid));
        }
        if let Some(id) = &self.api {
            let (signed, key) = signed(issuer, id).await?;
            let pin = CaPin::of(&signed.issuer);
            let svid = X509Svid::new(vec![signed.certificate, signed.issuer], key)?;
            svids.insert(id.clone(), Arc::new(svid));
            *self.pin.write().unwrap_or_else(PoisonError::into_inner) = Some(pin);
        }
        let bundles = Arc::default();
        self.identities
            .send_replace(Arc::new(Identities { svids, bundles }));
        Ok(())
    }

    /// When half of the first one's life is over; nothing while there is none.
    fn due(&self) -> Option<OffsetDateTime> {
        let identities = self.identities.borrow();
        let half =
            |svid: &Arc<X509Svid>| svid.not_before() + (svid.not_after() - svid.not_before()) / 2;
        identities.svids.values().map(half).min()
    }

    fn until_due(&self, now: OffsetDateTime) -> Duration {
        let left = self.due().map(|due| due - now);
        left.and_then(|left| Duration::try_from(left).ok())
            .unwrap_or_default()
            .max(Duration::from_millis(100))
    }
}

async fn signed(issuer: &dyn Issuer, id: &SpiffeId) -> Result<(Signed, PrivateKey), RenewError> {
    let key = KeyPair::generate()?;
    let request = CertificateParams::default().serialize_request(&key)?;
    let signed = issuer.issue(&id.into(), request.der()).await?;
    Ok((signed, PrivateKey::from_pkcs8(key.serialize_der())))
}
