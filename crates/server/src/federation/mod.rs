//! The site's part in a federation: it replays the log from its mirrors, verifies, keeps the last
//! good state, publishes the members' bundles, says what this site is, and
//! cosigns what it has seen. With or without a federation, it shows what this site is to peers that
//! know its identity.
//!
//! What is true is decided by `renkei_federation`; this module moves bytes, keeps files and looks
//! at the clock. Losing every mirror changes nothing until statements end.

mod follow;
mod gossip;
mod key_file;
mod log_cache;
mod monitor;
mod own_record;
mod publisher;
mod revocation;
mod site_folder;
mod site_keys;
mod source;
mod status;
#[cfg(test)]
mod tests;
mod witness;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use renkei_api::status::{FederationStatus, OwnIdentityStatus};
use renkei_federation::{
    Digest, Federation, KeySet, Local, PublicKey, READ_INTERVAL, TrustDomain, Witnesses,
};
use renkei_site::{FederationFile, FederationPart, HostPort, ServerPart};
use renkei_spiffe::Bundle;
use rustls::crypto::CryptoProvider;
use tokio::sync::watch as channel;
use tokio_util::sync::CancellationToken;

pub use key_file::{KeyFileError, new_key, read_key, write_key};
pub(crate) use revocation::withdrawals_of;
pub use revocation::{RemovalError, import_removal};
pub use site_folder::OwnError;
pub use site_keys::SiteKeys;
pub use source::{MirrorError, MirrorReader};
pub use status::{log_status, member_status};
pub use witness::witness_key;

use self::{follow::Following, own_record::OwnRecord};
use crate::{Clock, ServerMetrics};

/// The shortest time between two readings of the mirrors, for a site that lives faster than
/// [`READ_INTERVAL`].
const SHORTEST: Duration = Duration::from_secs(1);
/// Between two looks for an identity, while the site has none.
const WITHOUT_IDENTITY: Duration = Duration::from_secs(5);

/// A member that counts, as a peer of this site.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberPeer {
    /// Its bundle, as the log and its own statements prove it.
    pub bundle: Bundle,
    /// Where its services are reached.
    pub gateway: Option<HostPort>,
}

/// Every other member that counts.
pub type Members = Arc<BTreeMap<TrustDomain, MemberPeer>>;

/// What it is made from.
pub(crate) struct Inputs {
    pub(crate) state: PathBuf,
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) metrics: ServerMetrics,
    pub(crate) clock: Clock,
    /// The own bundle document.
    pub(crate) document: channel::Receiver<Bytes>,
    /// Where the newest checkpoint is put for others to compare.
    pub(crate) checkpoint: channel::Sender<Bytes>,
    /// Where the record of this site is put for peers that know its identity.
    pub(crate) record: channel::Sender<Bytes>,
}

/// Follows the federation that the site file names, if it names one.
pub(crate) struct Federator {
    inputs: Inputs,
    members: channel::Sender<Members>,
    status: Mutex<Option<FederationStatus>>,
    own: Mutex<OwnRecord>,
    following: tokio::sync::Mutex<Option<Following>>,
}

impl Federator {
    /// Takes up the last good state. Nothing is read from anywhere else yet.
    pub(crate) async fn open(part: &ServerPart, inputs: Inputs) -> Self {
        revocation::rename_old_folder(&inputs.state);
        let federator = Self {
            inputs,
            members: channel::Sender::default(),
            status: Mutex::default(),
            own: Mutex::default(),
            following: tokio::sync::Mutex::default(),
        };
        let mut following = federator.following.lock().await;
        federator.follow_part(part, &mut following).await;
        drop(following);
        federator.show_own(part);
        federator
    }

    /// The members that count, as they change.
    pub(crate) fn members(&self) -> channel::Receiver<Members> {
        self.members.subscribe()
    }

    pub(crate) fn status(&self) -> Option<FederationStatus> {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.clone()
    }

    /// Follows the site and the log until `stop`.
    pub(crate) async fn run(
        &self,
        mut part: channel::Receiver<Arc<ServerPart>>,
        stop: CancellationToken,
    ) {
        let mut document = self.inputs.document.clone();
        loop {
            let now = part.borrow_and_update().clone();
            document.mark_unchanged();
            let round = async {
                self.round(&now).await;
                self.show_own(&now);
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = round => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.pause(&now)) => {}
                Ok(()) = part.changed() => {}
                Ok(()) = document.changed() => {}
            }
        }
    }

    /// Until the next round. A site without an identity is looked at more often: one may be in the
    /// making, and peers wait for it.
    fn pause(&self, part: &ServerPart) -> Duration {
        let longest = match part.federation.is_some() || self.identity().is_some() {
            true => READ_INTERVAL.unsigned_abs(),
            false => WITHOUT_IDENTITY,
        };
        longest.min(part.lifetimes.bundle_refresh).max(SHORTEST)
    }

    /// What this site shows of itself, if it has an identity.
    pub(crate) fn identity(&self) -> Option<OwnIdentityStatus> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.status()
    }

    fn show_own(&self, part: &ServerPart) {
        let (document, now) = (self.inputs.document.borrow().clone(), (self.inputs.clock)());
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let record = own.update(&self.inputs.state, part, &document, now);
        self.inputs.record.send_replace(record);
    }

    async fn round(&self, part: &ServerPart) {
        let mut following = self.following.lock().await;
        self.follow_part(part, &mut following).await;
        if let Some(following) = following.as_mut() {
            let document = self.inputs.document.borrow().clone();
            following.read_mirrors(&self.inputs).await;
            let members = self.members.borrow().clone();
            following.ask_members(&members, &self.inputs).await;
            // What is known now counts now; what follows may wait for others.
            self.publish(part, following);
            following.speak(part, &document, &self.inputs).await;
            self.publish(part, following);
        }
    }

    /// Begins, continues, or ends, as the site file says.
    async fn follow_part(&self, part: &ServerPart, following: &mut Option<Following>) {
        let file = part.federation.as_ref().map(|it| it.file.clone());
        match (file, following.as_mut()) {
            (Some(file), Some(now)) if now.is_of(&file) => {}
            (Some(file), _) => {
                let begun = Following::begin(file, &part.trust_domain, &self.inputs).await;
                *following = Some(begun);
            }
            (None, None) => return,
            (None, Some(_)) => {
                *following = None;
                self.inputs.checkpoint.send_replace(Bytes::new());
                self.show(Members::default(), None);
                return;
            }
        }
        if let Some(following) = following {
            self.publish(part, following);
        }
    }

    fn publish(&self, part: &ServerPart, following: &mut Following) {
        let now = (self.inputs.clock)();
        let local = part.federation.as_ref().map(local).unwrap_or_default();
        let members = following.members(&local, now);
        let status = following.status(&members, now);
        self.inputs.metrics.federation(&status);
        let others = members
            .into_values()
            .filter(|member| member.trust_domain != part.trust_domain);
        let peers = others.filter_map(|member| {
            let verified = member.standing.ok()?;
            let mut gateways = verified.gateways.iter();
            let peer = MemberPeer {
                bundle: verified.bundle,
                gateway: gateways.find_map(|gateway| HostPort::parse(gateway).ok()),
            };
            Some((member.trust_domain, peer))
        });
        let newest = following.newest();
        self.inputs.checkpoint.send_replace(newest);
        self.show(Arc::new(peers.collect()), Some(status));
    }

    fn show(&self, members: Members, status: Option<FederationStatus>) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
        self.members.send_if_modified(|before| {
            let changed = *before != members;
            *before = members;
            changed
        });
    }
}

/// What this site alone decides.
fn local(federated: &FederationPart) -> Local {
    let identity = |(name, text): (&TrustDomain, &String)| {
        // The site file's reader has seen to its form.
        Some((name.clone(), Digest::parse(text).ok()?))
    };
    let allow = federated.admit.as_ref();
    Local {
        deny: federated.deny.clone(),
        allow: allow.map(|allow| allow.iter().filter_map(identity).collect()),
    }
}

/// The keys of a federation file, as its log is verified by.
pub fn anchors(file: &FederationFile) -> Arc<Federation> {
    let key = |key: &renkei_site::Key| PublicKey::from_bytes(*key);
    let witnesses = file.witnesses.iter();
    Arc::new(Federation {
        origin: file.origin.clone(),
        log_key: key(&file.log_key),
        registrar: KeySet {
            keys: file.registrar.iter().map(key).collect(),
            threshold: file.registrar_threshold,
        },
        witnesses: Witnesses {
            quorum: file.quorum,
            keys: witnesses
                .map(|(name, bytes)| (name.clone(), key(bytes)))
                .collect(),
        },
    })
}

/// Hands a statement in at the first mirror that takes one.
pub async fn submit(
    file: &FederationFile,
    envelope: &renkei_federation::Envelope,
    provider: &Arc<CryptoProvider>,
) -> Result<(), MirrorError> {
    let mut last = None;
    for mirror in &file.mirrors {
        let handed = async {
            let source = MirrorReader::new(mirror.clone(), provider).await?;
            source.post("statements", envelope.to_bytes().into()).await
        };
        match handed.await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or(MirrorError::NoRegistry))
}
