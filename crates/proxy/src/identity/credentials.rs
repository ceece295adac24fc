//! What a connection to another site was authenticated with, and whether a new handshake with it
//! would succeed now. Certificates end, authorities leave bundles, identities are withdrawn: all
//! of it while connections are open.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use renkei_runtime::clock;
use renkei_spiffe::{Identities, NoSvid, PeerChain, PeerError, X509Svid};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};

/// Threads read the clock at slightly different moments; more than this is a clock set back.
const CLOCK_SLACK: Duration = Duration::SECOND;

/// Why something that is open may not be used now.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Fault {
    /// This side has no SVID of that ID any more.
    #[error("{0}")]
    Own(NoSvid),
    /// This side's SVID has ended with which it was opened; there is a newer one.
    #[error("this side's SVID, with which it was opened, expired at {0}")]
    OwnOutdated(OffsetDateTime),
    /// The peer's chain does not verify.
    #[error("{0}")]
    Peer(PeerError),
    /// Nothing has been authenticated.
    #[error("it has no lane yet")]
    NoLane,
}

impl Fault {
    /// A short, stable name for metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Own(fault) => fault.label(),
            Self::OwnOutdated(_) => "own_svid_expired",
            Self::Peer(error) => error.label(),
            Self::NoLane => "no_lane",
        }
    }

    /// What is open ends. Before its time no certificate is used, but then the clock was set
    /// back, and may be set right again.
    pub(crate) fn ends_what_is_open(&self) -> bool {
        !matches!(self, Self::Peer(PeerError::NotYetValid { .. }))
    }

    /// When the peer's SVID has ended, if that is the fault.
    pub(crate) fn peer_ended(&self) -> Option<OffsetDateTime> {
        match self {
            Self::Peer(PeerError::Expired { not_after, .. }) => Some(*not_after),
            _ => None,
        }
    }

    /// The same for the reason of a cut connection.
    pub(crate) fn cut_reason(&self) -> &'static str {
        match self {
            Self::Own(NoSvid::Missing(_)) => "the identity of its own side was withdrawn",
            Self::Own(NoSvid::Ended { .. }) => {
                "the SVID of its own side expired and was not renewed"
            }
            Self::OwnOutdated(_) => "the SVID with which it was opened has expired",
            Self::Peer(PeerError::Expired { .. }) => "the SVID of its peer has expired",
            Self::Peer(PeerError::UnknownTrustDomain(_)) => "the bundle of its site was withdrawn",
            Self::Peer(_) => "the certificate of its peer no longer verifies",
            Self::NoLane => "it has no lane",
        }
    }
}

/// Both ends' certificates of one verified handshake.
#[derive(Debug)]
pub(crate) struct Credentials {
    own: Arc<X509Svid>,
    peer: PeerChain,
    algorithms: WebPkiSupportedAlgorithms,
    found: Mutex<Found>,
}

/// The last time that the peer's chain was found good.
#[derive(Debug)]
struct Found {
    identities: Arc<Identities>,
    at: OffsetDateTime,
    /// The answer may be another from here on.
    until: OffsetDateTime,
}

impl Credentials {
    /// Those of a handshake that has just succeeded with the bundles of `identities`.
    pub(crate) fn new(
        own: Arc<X509Svid>,
        peer: &[CertificateDer<'_>],
        identities: Arc<Identities>,
        provider: &CryptoProvider,
    ) -> Result<Arc<Self>, PeerError> {
        let peer = PeerChain::new(peer)?;
        let at = clock::now();
        let until = peer.settled_until(&identities.bundles, at);
        Ok(Arc::new(Self {
            own,
            peer,
            algorithms: provider.signature_verification_algorithms,
            found: Mutex::new(Found {
                identities,
                at,
                until,
            }),
        }))
    }

    /// The SVID that this side presented.
    pub(crate) fn own(&self) -> &Arc<X509Svid> {
        &self.own
    }

    /// The SHA-256 of the peer's certificate, in hexadecimal digits.
    pub(crate) fn peer_hash(&self) -> String {
        hex::encode(Sha256::digest(self.peer.leaf()))
    }

    /// From here on the peer has another SVID, unless its renewals fail: three quarters of the
    /// life are over, and renewals begin at half of it.
    pub(crate) fn peer_renewed_by(&self) -> OffsetDateTime {
        let life = self.peer.not_after() - self.peer.not_before();
        self.peer.not_after() - life / 4
    }

    /// Until when the peer's SVID may be used.
    pub(crate) fn peer_not_after(&self) -> OffsetDateTime {
        self.peer.not_after()
    }

    /// When the answer of [`check`](Self::check) may change with nothing but the time.
    pub(crate) fn until(&self) -> OffsetDateTime {
        self.found().until.min(self.own.not_after())
    }

    /// Whether both sides could make the same connection again now, with these certificates. Costs
    /// no more than a look at the clock while nothing has changed since the last time.
    pub(crate) fn check(
        &self,
        identities: &Arc<Identities>,
        now: OffsetDateTime,
    ) -> Result<(), Fault> {
        self.check_identities(identities, now)?;
        match self.own.not_after() <= now {
            true => Err(Fault::OwnOutdated(self.own.not_after())),
            false => Ok(()),
        }
    }

    /// The same for a connection that cannot change its certificates: that this side has renewed
    /// its own since takes nothing from it.
    pub(crate) fn check_identities(
        &self,
        identities: &Arc<Identities>,
        now: OffsetDateTime,
    ) -> Result<(), Fault> {
        let own = match identities.valid_svid(self.own.id(), now) {
            Ok(_) => Ok(()),
            // It may be back in a moment.
            Err(missing @ NoSvid::Missing(_)) => Err(missing),
            Err(ended) => return Err(Fault::Own(ended)),
        };
        // Also while something is missing: no SVID outlives its end.
        if own.is_err() && self.own.not_after() <= now {
            let (id, not_after) = (self.own.id().clone(), self.own.not_after());
            return Err(Fault::Own(NoSvid::Ended { id, not_after }));
        }
        let not_after = self.peer.not_after();
        if not_after <= now {
            let id = self.peer.id().clone();
            return Err(Fault::Peer(PeerError::Expired { id, not_after, now }));
        }
        own.map_err(Fault::Own)?;
        let mut found = self.found();
        if !found.holds(identities, &self.peer, now) {
            let bundles = &identities.bundles;
            self.peer
                .verify(bundles, now, &self.algorithms)
                .map_err(Fault::Peer)?;
            found.at = now;
            found.until = self.peer.settled_until(bundles, now);
        }
        if !Arc::ptr_eq(&found.identities, identities) {
            found.identities = identities.clone();
        }
        Ok(())
    }

    /// Whether another handshake showed the same certificates.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.own, &other.own) && self.peer == other.peer
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Found {
    fn holds(&self, identities: &Arc<Identities>, peer: &PeerChain, now: OffsetDateTime) -> bool {
        let (then, name) = (&self.identities, peer.id().trust_domain());
        let same =
            Arc::ptr_eq(then, identities) || then.bundles.get(name) == identities.bundles.get(name);
        same && self.at - CLOCK_SLACK <= now && now < self.until
    }
}
