//! The snapshot of everything an agent or a proxy holds at one moment.

use std::{collections::BTreeMap, sync::Arc};

use time::OffsetDateTime;

use crate::{BundleSet, SpiffeId, X509Svid};

/// Why an identity of this side cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSvid {
    /// None was issued, or it was withdrawn.
    #[error("{} has no identity", .0.short())]
    Missing(SpiffeId),
    /// Past its end of validity.
    #[error("the identity of {} ended at {not_after} and was not renewed", .id.short())]
    Ended {
        /// The identity whose SVID has expired.
        id: SpiffeId,
        /// The end of the SVID's validity.
        not_after: OffsetDateTime,
    },
}

impl NoSvid {
    /// A short, stable name for metrics and counters.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Missing(_) => "no_identity",
            Self::Ended { .. } => "own_svid_expired",
        }
    }
}

/// Everything an agent serves or a proxy uses at one moment. Replaced as a whole, never edited:
/// connections keep the snapshot they started with.
#[derive(Debug, Clone, Default)]
pub struct Identities {
    /// The valid SVIDs of this node by their ID.
    pub svids: BTreeMap<SpiffeId, Arc<X509Svid>>,
    /// The bundles of the own trust domain and of every peer.
    pub bundles: Arc<BundleSet>,
}

impl Identities {
    /// The SVID of an ID that may be presented at the time `now`. Who publishes identities takes
    /// ended ones out, but a clock may be set in between.
    pub fn valid_svid(&self, id: &SpiffeId, now: OffsetDateTime) -> Result<&Arc<X509Svid>, NoSvid> {
        let svid = self.svids.get(id);
        let svid = svid.ok_or_else(|| NoSvid::Missing(id.clone()))?;
        if svid.not_after() <= now {
            return Err(NoSvid::Ended {
                id: id.clone(),
                not_after: svid.not_after(),
            });
        }
        Ok(svid)
    }
}
