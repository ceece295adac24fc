//! The hub's end: the sites that it relays for, and their links.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use renkei_spiffe::{Authorizer, BundleSet, Denied, SpiffeId, TrustDomain};
use renkei_trunk::{Code, Event};
use tokio::{net::TcpStream, sync::watch, time::timeout};
use tokio_rustls::TlsStream;
use tokio_util::sync::CancellationToken;

use super::Board;
use crate::{
    credentials::Credentials,
    flows::{Direction, Pair},
    shared::{Desired, Shared},
    trunk::{self, Way},
};

/// How long a connection waits for a link that was lost just now: the site dials again at once.
const RETURN: Duration = Duration::from_secs(2);
/// What the site is told when its link is ended here.
const WITHDRAWN: &str = "the hub does not relay for this site any more";

/// A site that this one relays for.
#[derive(Debug)]
pub(crate) struct Relayed {
    pub(super) name: TrustDomain,
    pub(super) board: Arc<Board>,
    /// The newest link.
    way: watch::Sender<Option<Way>>,
    /// Fires when the site is relayed for no more.
    pub(super) cut: CancellationToken,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Relays(Mutex<BTreeMap<TrustDomain, Arc<Relayed>>>);

impl Relays {
    /// Follows the site file: those who are not named any more lose their links, and with them
    /// every connection.
    pub(crate) fn follow(&self, names: &BTreeSet<TrustDomain>) {
        let mut sites = self.locked();
        let gone = sites.extract_if(.., |name, _| !names.contains(name));
        gone.for_each(|(_, relayed)| relayed.end());
        for name in names {
            let made = || Arc::new(Relayed::new(name.clone()));
            sites.entry(name.clone()).or_insert_with(made);
        }
    }

    /// Ends the links of sites whose bundles are not known any more.
    pub(crate) fn follow_bundles(&self, bundles: &BundleSet) {
        for (name, relayed) in self.locked().iter_mut() {
            if bundles.get(name).is_none() {
                relayed.end();
                *relayed = Arc::new(Relayed::new(name.clone()));
            }
        }
    }

    pub(crate) fn get(&self, name: &TrustDomain) -> Option<Arc<Relayed>> {
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
            board: Arc::new(Board::new(name.as_str(), "it has not dialled this hub yet")),
            name,
            way: watch::Sender::new(None),
            cut: CancellationToken::new(),
        }
    }

    /// The link, or why there is none. One that was lost just now has a moment to come back.
    pub(super) async fn way(&self) -> Result<Way, String> {
        let mut way = self.way.subscribe();
        let state = self.board.state();
        let patience = match state.linked {
            true => RETURN,
            false => RETURN.saturating_sub(state.at.elapsed()),
        };
        let linked = timeout(patience, way.wait_for(Option::is_some)).await;
        if let Ok(Ok(way)) = linked
            && let Some(way) = way.as_ref()
        {
            return Ok(way.clone());
        }
        let state = self.board.state();
        Err(state.reason.unwrap_or_default())
    }

    fn end(&self) {
        self.cut.cancel();
        if let Some(way) = self.way.send_replace(None) {
            way.close(Code::REVOKED, WITHDRAWN);
        }
    }

    fn hear(&self, way: &Way, event: &Event) {
        match event {
            Event::LaneReady(_) => self.take(way),
            Event::Suspended { .. } => self.lose(way, "every connection that it dialled is lost"),
            Event::GoingAway => self.lose(way, "it is stopping"),
            Event::Closed(reason) => self.lose(way, &format!("its link has ended: {reason}")),
            _ => {}
        }
    }

    /// The newest link counts: a site that was restarted has forgotten the one before.
    fn take(&self, way: &Way) {
        if self.cut.is_cancelled() {
            return way.close(Code::REVOKED, WITHDRAWN);
        }
        let before = self.way.send_replace(Some(way.clone()));
        if let Some(before) = before.filter(|before| !before.is(way) && !before.is_ready()) {
            before.close(Code::STOPPING, "the site has made a new link");
        }
        self.board.linked();
        if self.cut.is_cancelled() {
            self.end();
        }
    }

    fn lose(&self, way: &Way, reason: &str) {
        let was = self.way.send_if_modified(|now| {
            let is = now.as_ref().is_some_and(|now| now.is(way));
            if is {
                *now = None;
            }
            is
        });
        if was {
            self.board.lost(reason);
        }
    }
}

/// Lets in the servers of the sites that are relayed for, and nobody else.
#[derive(Debug)]
pub(crate) struct Judge(pub(crate) Arc<Desired>);

impl Authorizer for Judge {
    fn authorize(&self, peer: &SpiffeId) -> Result<(), Denied> {
        let (site, name) = (&self.0.site, peer.trust_domain());
        if !site.relays.contains(name) {
            return Err(Denied {
                label: "not_relayed",
                reason: format!("{name} is not under `relays`"),
            });
        }
        if peer.path() != site.server_id.path() {
            return Err(Denied {
                label: "unexpected_peer",
                reason: format!("{} is not the server of {name}", peer.short()),
            });
        }
        Ok(())
    }
}

/// Serves one connection of a site's link, verified, until it ends.
pub(crate) async fn serve_link(
    stream: TlsStream<TcpStream>,
    credentials: Arc<Credentials>,
    (peer, own): (SpiffeId, SpiffeId),
    shared: &Arc<Shared>,
) -> io::Result<()> {
    let Some(relayed) = shared.relays.get(peer.trust_domain()) else {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, WITHDRAWN));
    };
    let lane = trunk::Caller {
        pair: Pair {
            direction: Direction::Inbound,
            caller: peer,
            callee: own,
        },
        decide: Arc::new(|_| Err("a hub opens streams and takes none".to_owned())),
        admit: Arc::new(|_, _, _| Box::pin(async {})),
        watch: Some(Arc::new(move |way, event| relayed.hear(way, event))),
    };
    trunk::serve_lane(stream, credentials, lane, shared).await
}
