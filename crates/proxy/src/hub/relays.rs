//! The hub's end: the sites that it relays for, and their links.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use renkei_spiffe::{BundleSet, TrustDomain};
use renkei_trunk::Code;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use super::LinkState;
use crate::{
    admission::LinkPlaces,
    identity::Withdrawn,
    trunk::{TrunkEvent, TrunkEvents, TrunkHandle},
};

/// How long a connection waits for a link that was lost just now: the site dials again at once.
const RETURN: Duration = Duration::from_secs(2);
/// Callers that may wait for a link that has not come yet.
const WITHOUT_LINK: usize = 1_024;
/// What the site reads when its link is ended here.
const WITHDRAWN: &str = "the hub does not relay for this site any more";

/// A site that this one relays for.
#[derive(Debug)]
pub(super) struct Relayed {
    pub(super) name: TrustDomain,
    pub(super) state: Arc<LinkState>,
    /// The newest link.
    trunk: watch::Sender<Option<TrunkHandle>>,
    /// Of its callers, by their addresses.
    pub(super) places: LinkPlaces,
    /// Fires when the site is relayed for no more.
    pub(super) cut: CancellationToken,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Relays(Mutex<BTreeMap<TrustDomain, Arc<Relayed>>>);

impl Relays {
    /// Follows the site file: those who are not named any more lose their links, and with them
    /// every connection.
    pub(super) fn follow(&self, names: &BTreeSet<TrustDomain>) {
        let mut sites = self.locked();
        let gone = sites.extract_if(.., |name, _| !names.contains(name));
        gone.for_each(|(_, relayed)| relayed.end());
        for name in names {
            let made = || Arc::new(Relayed::new(name.clone()));
            sites.entry(name.clone()).or_insert_with(made);
        }
    }

    /// Ends the links of sites whose bundles are not known any more.
    pub(super) fn follow_bundles(&self, bundles: &BundleSet, withdrawn: &Withdrawn) {
        for (name, relayed) in self.locked().iter_mut() {
            if bundles.get(name).is_none() && !withdrawn.is_awaited(name) {
                relayed.end();
                *relayed = Arc::new(Relayed::new(name.clone()));
            }
        }
    }

    pub(super) fn get(&self, name: &TrustDomain) -> Option<Arc<Relayed>> {
        self.locked().get(name).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Relayed>> {
        self.locked().values().cloned().collect()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<TrustDomain, Arc<Relayed>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Relayed {
    fn new(name: TrustDomain) -> Self {
        Self {
            state: Arc::new(LinkState::new(
                name.as_str(),
                "it has not dialled this hub yet",
            )),
            name,
            trunk: watch::Sender::new(None),
            places: LinkPlaces::new(WITHOUT_LINK),
            cut: CancellationToken::new(),
        }
    }

    /// The link, or why there is none. One that was lost just now has a moment to come back.
    pub(super) async fn trunk(&self) -> Result<TrunkHandle, String> {
        let mut trunk = self.trunk.subscribe();
        let state = self.state.condition();
        let limit = match state.linked {
            true => RETURN,
            false => RETURN.saturating_sub(state.at.elapsed()),
        };
        let linked = timeout(limit, trunk.wait_for(Option::is_some)).await;
        if let Ok(Ok(trunk)) = linked
            && let Some(trunk) = trunk.as_ref()
        {
            return Ok(trunk.clone());
        }
        let state = self.state.condition();
        Err(state.reason.unwrap_or_default())
    }

    fn end(&self) {
        self.cut.cancel();
        if let Some(trunk) = self.trunk.send_replace(None) {
            tracing::info!(site = %self.name, "the link of a site is cut, with all its connections");
            trunk.close(Code::REVOKED, WITHDRAWN);
        }
    }

    /// Follows one link until it is over.
    pub(super) async fn follow(self: Arc<Self>, mut events: TrunkEvents) {
        let trunk = events.handle().clone();
        while let Some(event) = events.next().await {
            match event {
                TrunkEvent::Ready => self.take(&trunk),
                TrunkEvent::Suspended => {
                    self.lose(&trunk, "every connection that it dialled is lost");
                }
                TrunkEvent::GoingAway => self.lose(&trunk, "it is stopping"),
                TrunkEvent::Ended(reason) => {
                    return self.lose(&trunk, &format!("its link has ended: {reason}"));
                }
                TrunkEvent::Stream(stream) => {
                    stream.refuse(Code::REVOKED, "a hub opens streams and takes none");
                }
            }
        }
    }

    /// The newest link counts: a site that was restarted has forgotten the one before.
    fn take(&self, trunk: &TrunkHandle) {
        if self.cut.is_cancelled() {
            return trunk.close(Code::REVOKED, WITHDRAWN);
        }
        self.places.resize(trunk.streams_allowed());
        let before = self.trunk.send_replace(Some(trunk.clone()));
        if let Some(before) = before.filter(|before| !before.is(trunk) && !before.is_ready()) {
            before.close(Code::STOPPING, "the site has made a new link");
        }
        self.state.linked();
        if self.cut.is_cancelled() {
            self.end();
        }
    }

    pub(super) fn lose(&self, trunk: &TrunkHandle, reason: &str) {
        let was = self.trunk.send_if_modified(|now| {
            let is = now.as_ref().is_some_and(|now| now.is(trunk));
            if is {
                *now = None;
            }
            is
        });
        if was {
            self.state.lost(reason);
        }
    }
}
