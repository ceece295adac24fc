//! The gateway's end of links: who may have one, and the links that there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use renkei_site::{HostPort, ProxyPart};
use renkei_spiffe::{BundleSet, SpiffeId, TrustDomain};
use renkei_trunk::Code;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use super::LinkState;
use crate::{
    admission::LinkPlaces,
    identity::Withdrawn,
    trunk::{IncomingStream, TrunkEvent, TrunkEvents, TrunkHandle},
};

/// How long a connection waits for a link that was lost just now: the other end dials again at
/// once.
const RETURN: Duration = Duration::from_secs(2);
/// Callers that may wait for a link that has not come yet.
const WITHOUT_LINK: usize = 1_024;

/// One that is reached by the link that it dials to this gateway.
#[derive(Debug)]
pub(super) struct Linked {
    pub(super) end: LinkEnd,
    pub(super) state: Arc<LinkState>,
    /// The newest link.
    trunk: watch::Sender<Option<TrunkHandle>>,
    /// Of its callers, by their addresses.
    pub(super) places: LinkPlaces,
    /// Fires when it is reached from here no more.
    pub(super) cut: CancellationToken,
    /// Where it may go from here.
    exits: Mutex<BTreeMap<TrustDomain, WayOut>>,
}

/// How a node reaches another site through this gateway.
#[derive(Debug, Clone)]
pub(super) struct WayOut {
    pub(super) gateway: HostPort,
    /// Fires when the node may not go there any more.
    pub(super) cut: CancellationToken,
}

/// The gateways that nodes may reach from here.
type Exits = BTreeMap<SpiffeId, BTreeMap<TrustDomain, HostPort>>;

/// Who dials a link to this gateway.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LinkEnd {
    /// The server of a site that this one relays for.
    Site(SpiffeId),
    /// A node of this site.
    Node(SpiffeId),
}

impl LinkEnd {
    /// The server of a site that this one relays for.
    pub(crate) fn site(name: &TrustDomain, own: &ProxyPart) -> Option<Self> {
        let id = SpiffeId::with_path(name.clone(), own.server_id.path());
        id.ok().map(Self::Site)
    }

    /// What it must prove to be.
    pub(crate) fn id(&self) -> &SpiffeId {
        match self {
            Self::Site(id) | Self::Node(id) => id,
        }
    }

    /// What people call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Site(id) => id.trust_domain().to_string(),
            Self::Node(id) => id.short(),
        }
    }

    /// What this side is for it.
    pub(super) fn through(&self) -> &'static str {
        match self {
            Self::Site(_) => "this hub",
            Self::Node(_) => "this gateway",
        }
    }

    /// What it reads when its link is ended here.
    fn withdrawn(&self) -> &'static str {
        match self {
            Self::Site(_) => "the hub does not relay for this site any more",
            Self::Node(_) => "the gateway does not lead to this node any more",
        }
    }
}

/// All of them, by the identity of who dials.
#[derive(Debug, Default)]
pub(super) struct Links(Mutex<BTreeMap<SpiffeId, Arc<Linked>>>);

impl Links {
    /// Follows the site file: those who are not named any more lose their links, and with them
    /// every connection.
    pub(super) fn follow(&self, ends: &BTreeSet<LinkEnd>, exits: &Exits) {
        let mut links = self.locked();
        let gone = links.extract_if(.., |_, linked| !ends.contains(&linked.end));
        gone.for_each(|(_, linked)| linked.end());
        for end in ends {
            let made = || Arc::new(Linked::new(end.clone()));
            let linked = links.entry(end.id().clone()).or_insert_with(made);
            linked.let_out_to(exits.get(end.id()));
        }
    }

    /// Ends the links of those whose bundles are not known any more.
    pub(super) fn follow_bundles(&self, bundles: &BundleSet, withdrawn: &Withdrawn) {
        for (id, linked) in self.locked().iter_mut() {
            let name = id.trust_domain();
            if bundles.get(name).is_none() && !withdrawn.is_awaited(name) {
                linked.end();
                let exits = linked.exits();
                let exits = exits
                    .iter()
                    .map(|(to, way)| (to.clone(), way.gateway.clone()));
                let next = Linked::new(linked.end.clone());
                next.let_out_to(Some(&exits.collect()));
                *linked = Arc::new(next);
            }
        }
    }

    pub(super) fn get(&self, id: &SpiffeId) -> Option<Arc<Linked>> {
        self.locked().get(id).cloned()
    }

    /// Those of these ends that there are, in the order in which a caller at this address tries
    /// them: those that are linked first. The order is the caller's own and lasts, since all lanes
    /// of a trunk must come to one node (rendezvous hashing: when a node leaves, only its callers
    /// go elsewhere).
    pub(super) fn for_caller(&self, caller: IpAddr, ends: &[LinkEnd]) -> Vec<Arc<Linked>> {
        let mut found: Vec<Arc<Linked>> = {
            let all = self.locked();
            let ends = ends.iter();
            ends.filter_map(|end| all.get(end.id()).cloned()).collect()
        };
        found.sort_by_cached_key(|linked| (!linked.may_answer(), rank(caller, linked.end.id())));
        found
    }

    pub(super) fn all(&self) -> Vec<Arc<Linked>> {
        self.locked().values().cloned().collect()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<SpiffeId, Arc<Linked>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a node in the order of a caller.
fn rank(caller: IpAddr, node: &SpiffeId) -> u64 {
    let mut hasher = DefaultHasher::new();
    (caller.to_canonical(), node).hash(&mut hasher);
    hasher.finish()
}

impl Linked {
    fn new(end: LinkEnd) -> Self {
        let awaited = format!("it has not dialled {} yet", end.through());
        Self {
            state: Arc::new(LinkState::new(&end.name(), &awaited)),
            end,
            trunk: watch::Sender::new(None),
            places: LinkPlaces::new(WITHOUT_LINK),
            cut: CancellationToken::new(),
            exits: Mutex::default(),
        }
    }

    /// Cuts what goes where it may not go any more.
    fn let_out_to(&self, exits: Option<&BTreeMap<TrustDomain, HostPort>>) {
        let may = |to: &TrustDomain| exits.and_then(|exits| exits.get(to));
        let mut ways = self.exits.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = ways.extract_if(.., |to, way| may(to) != Some(&way.gateway));
        gone.for_each(|(_, way)| way.cut.cancel());
        for (to, gateway) in exits.into_iter().flatten() {
            ways.entry(to.clone()).or_insert_with(|| WayOut {
                gateway: gateway.clone(),
                cut: self.cut.child_token(),
            });
        }
    }

    /// Where it may go from here.
    pub(super) fn exits(&self) -> BTreeMap<TrustDomain, WayOut> {
        let ways = self.exits.lock();
        ways.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it is linked, or was until a moment ago.
    fn may_answer(&self) -> bool {
        let state = self.state.condition();
        state.linked || (state.ever && state.at.elapsed() < RETURN)
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
            tracing::info!(
                peer = self.state.name(),
                "a link is cut, with all its connections"
            );
            trunk.close(Code::REVOKED, self.end.withdrawn());
        }
    }

    /// Follows one link until it is over. `take` gets the streams that the other end opens.
    pub(super) async fn follow(
        self: Arc<Self>,
        mut events: TrunkEvents,
        take: impl Fn(IncomingStream) + Send,
    ) {
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
                TrunkEvent::Stream(stream) => take(stream),
            }
        }
    }

    /// The newest link counts: a process that was restarted has forgotten the one before.
    fn take(&self, trunk: &TrunkHandle) {
        if self.cut.is_cancelled() {
            return trunk.close(Code::REVOKED, self.end.withdrawn());
        }
        self.places.resize(trunk.streams_allowed());
        let before = self.trunk.send_replace(Some(trunk.clone()));
        if let Some(before) = before.filter(|before| !before.is(trunk) && !before.is_ready()) {
            before.close(Code::STOPPING, "there is a newer link");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_keeps_its_node_and_each_node_has_callers() {
        let node = |name: &str| {
            let id = format!("spiffe://hokkaido.example/renkei/node/{name}");
            LinkEnd::Node(SpiffeId::parse(&id).unwrap())
        };
        let ends = ["a", "b", "c"].map(node);
        let links = Links::default();
        links.follow(&ends.iter().cloned().collect(), &Exits::new());
        let first = |caller: u8, ends: &[LinkEnd]| {
            let found = links.for_caller([192, 0, 2, caller].into(), ends);
            found[0].end.clone()
        };
        let mut of_a = 0;
        for caller in 0..=255 {
            let chosen = first(caller, &ends);
            of_a += usize::from(chosen == ends[0]);
            // Without `a`, only its callers go elsewhere.
            if chosen != ends[0] {
                assert_eq!(first(caller, &ends[1..]), chosen, "{caller}");
            }
        }
        assert!((43..=128).contains(&of_a), "{of_a}");
    }
}
