//! The end that dials out: keeps a link to the hub, and takes the connections that come by it.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use renkei_site::{HostPort, ProxyPart};
use renkei_spiffe::SpiffeId;
use renkei_trunk::{Code, Event, StreamId};
use rustls::AlertDescription;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::{ALPN_RELAY, Board, arrival};
use crate::{
    flows::{Direction, Pair},
    outbound::{self, Failure},
    shared::Shared,
    trunk::{self, Dial, Keeping, Way},
};

/// The pause after a failed attempt; it doubles up to the longest. A link that held for longer
/// than that begins anew.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// After the last connection of this site has ended, what is still on its way has so long.
const LAST_BYTES: Duration = Duration::from_millis(500);

/// What to be linked with, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    own: SpiffeId,
    hub: SpiffeId,
    /// Nothing while the site does not know it.
    gateway: Option<HostPort>,
}

impl Target {
    /// The hub of a site, if it has one.
    pub(crate) fn of(site: &ProxyPart) -> Option<Self> {
        let via = site.gateway.as_ref()?.via.clone()?;
        let own = site.server_id.clone();
        Some(Self {
            gateway: site.gateway_of(&via),
            hub: SpiffeId::with_path(via, own.path()).ok()?,
            own,
        })
    }

    /// The trust domain of the hub.
    pub(crate) fn hub(&self) -> &str {
        self.hub.trust_domain().as_str()
    }

    pub(crate) fn gateway(&self) -> Option<&HostPort> {
        self.gateway.as_ref()
    }

    /// Why there is no link, in the words of one.
    fn sentence(&self, failure: &Failure) -> String {
        let hub = self.hub();
        match failure {
            Failure::Alert(AlertDescription::AccessDenied) => {
                format!("{hub} relays only for sites under `relays` in its site file")
            }
            Failure::Alert(AlertDescription::NoApplicationProtocol) => {
                format!("{hub} is not a hub: its gateway does not accept links")
            }
            other => other.sentence(&self.own, &self.hub),
        }
    }
}

/// A link that is kept until it is dropped. Its connections end with it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) target: Target,
    pub(crate) board: Arc<Board>,
    stop: CancellationToken,
}

impl Link {
    pub(crate) fn start(target: Target, shared: Arc<Shared>) -> Self {
        let board = Arc::new(Board::new(target.hub(), "it is being dialled"));
        let stop = CancellationToken::new();
        let keeper = Keeper {
            target: target.clone(),
            board: board.clone(),
            room: Arc::new(Semaphore::new(shared.limits.connections)),
            shared,
        };
        let tasks = keeper.shared.tasks.clone();
        let (token, drain) = (stop.clone(), keeper.shared.drain.clone());
        let over = move || token.is_cancelled() || drain.is_signaled();
        let (keeper, token) = (Arc::new(keeper), stop.clone());
        tasks.keep("link to the hub", over, move || {
            let (keeper, stop) = (keeper.clone(), token.clone());
            async move { keeper.run(stop).await }
        });
        Self {
            target,
            board,
            stop,
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Keeper {
    target: Target,
    board: Arc<Board>,
    room: Arc<Semaphore>,
    shared: Arc<Shared>,
}

/// Ends the trunk of a link that is given up.
struct Closing(Way);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close(Code::STOPPING, "the site has left its hub");
    }
}

impl Keeper {
    async fn run(&self, stop: CancellationToken) {
        let drain = self.shared.drain.clone();
        let mut identities = self.shared.identities.clone();
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            let ended = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                ended = self.serve() => ended,
            };
            self.board.lost(&ended);
            pause = match began.elapsed() > LONGEST_PAUSE {
                true => FIRST_PAUSE,
                false => LONGEST_PAUSE.min(pause * 2),
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = drain.signaled() => return,
                // A bundle or an SVID may have been what was missing.
                changed = identities.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(self.scattered(pause)) => {}
            }
        }
    }

    /// Half of the pause to all of it: the sites of a hub that was away do not return as one.
    fn scattered(&self, pause: Duration) -> Duration {
        let mut random = [0];
        // Without random bytes it is half of it.
        let _ = self.shared.provider.secure_random.fill(&mut random);
        let [random] = random;
        pause / 2 + pause * u32::from(random) / 512
    }

    /// What has still to come before there can be a link.
    fn awaited(&self) -> Option<String> {
        let (own, hub) = (&self.target.own, self.target.hub.trust_domain());
        let identities = self.shared.identities();
        if let Err(fault) = self.shared.svid(own) {
            return Some(fault.to_string());
        }
        if identities.bundles.get(hub).is_none() {
            return Some(format!("the bundle of {hub} is not known"));
        }
        let unknown = self.target.gateway.is_none();
        unknown.then(|| format!("the gateway of {hub} is not known"))
    }

    /// One link, from dialling to its end; says why it ended.
    async fn serve(&self) -> String {
        if let Some(awaited) = self.awaited() {
            return awaited;
        }
        let dial = self.dial();
        let raw = match dial().await {
            Ok(raw) => raw,
            Err(failure) => return self.target.sentence(&failure),
        };
        let hub = raw.gateway;
        let (tell, mut told) = mpsc::unbounded_channel();
        let watch: trunk::Watch = Arc::new(move |way, event| {
            // The keeper has gone, and the link goes with it.
            let _ = tell.send((way.clone(), event.clone()));
        });
        let pair = Pair {
            direction: Direction::Outbound,
            caller: self.target.own.clone(),
            callee: self.target.hub.clone(),
        };
        let keeping = Keeping {
            dial,
            // The board has the loss already, and the attempts after the grace time say why.
            failed: Arc::new(|_| ()),
            watch: Some(watch),
        };
        let trunk = match trunk::establish(raw, false, pair, keeping, &self.shared).await {
            Ok(trunk) => trunk,
            Err(failure) => return self.target.sentence(&failure),
        };
        let closing = Closing(trunk.way());
        let cut = CancellationToken::new();
        let _cut = cut.clone().drop_guard();
        let mut identities = self.shared.identities.clone();
        let leave = self.leave(&closing.0);
        tokio::pin!(leave);
        let mut why = "the connection to the hub has ended".to_owned();
        loop {
            tokio::select! {
                event = told.recv() => match event {
                    Some((way, event)) => self.follow(&way, event, hub, &cut, &mut why),
                    None => return why,
                },
                changed = identities.changed() => match self.awaited() {
                    Some(awaited) => return awaited,
                    None if changed.is_err() => return "the process is ending".to_owned(),
                    None => {}
                },
                () = &mut leave => return "this site is stopping".to_owned(),
            }
        }
    }

    fn follow(
        &self,
        way: &Way,
        event: Event,
        hub: SocketAddr,
        cut: &CancellationToken,
        why: &mut String,
    ) {
        match event {
            Event::LaneReady(_) => self.board.linked(),
            Event::Suspended { .. } => {
                "every connection to the hub was lost".clone_into(why);
                self.board.lost(why);
            }
            Event::Closed(reason) => *why = format!("the link has ended: {reason}"),
            Event::Opened { stream, target } => self.admit(way, (stream, &target), hub, cut),
            _ => {}
        }
    }

    fn admit(
        &self,
        way: &Way,
        (id, from): (StreamId, &[u8]),
        hub: SocketAddr,
        cut: &CancellationToken,
    ) {
        if self.shared.drain.is_signaled() {
            return way.refuse(id, Code::STOPPING, "the site is stopping");
        }
        let Ok(room) = self.room.clone().try_acquire_owned() else {
            let reason = "the site is at its connection limit";
            return way.refuse(id, Code::UNREACHABLE, reason);
        };
        if let Some(fault) = way.fault(&self.shared) {
            tracing::info!(hub = self.target.hub(), %fault, "a connection through the hub is refused");
            return way.refuse(
                id,
                Code::REVOKED,
                "the link's certificates are not valid any more",
            );
        }
        let Some(stream) = way.take(id) else { return };
        // The hub's word, and no more than that.
        let from = std::str::from_utf8(from).ok();
        let from: Option<SocketAddr> = from.and_then(|text| text.parse().ok());
        tracing::debug!(
            hub = self.target.hub(),
            ?from,
            "a connection comes through the hub"
        );
        let (board, shared, cut) = (self.board.clone(), self.shared.clone(), cut.clone());
        let counted = board.count();
        tokio::spawn(async move {
            arrival::arrive(stream, hub, &board, &cut, &shared).await;
            drop((room, counted));
        });
    }

    /// Ready when the process stops and nothing of this site is on its way any more. The hub is
    /// told at once that no connections are taken.
    async fn leave(&self, way: &Way) {
        let guard = self.shared.drain.guard();
        self.shared.drain.signaled().await;
        way.go_away();
        while !self.shared.flows.list().is_empty() {
            tokio::time::sleep(LAST_BYTES / 5).await;
        }
        tokio::time::sleep(LAST_BYTES).await;
        drop(guard);
    }

    /// Dials one more connection of the link, with the SVID of now.
    fn dial(&self) -> Dial {
        let (target, board) = (self.target.clone(), self.board.clone());
        let shared = self.shared.clone();
        Arc::new(move || {
            let (target, board, shared) = (target.clone(), board.clone(), shared.clone());
            Box::pin(async move {
                let pair = (&target.own, &target.hub);
                let gateway = target.gateway.as_ref().ok_or(Failure::NoGateway)?;
                let alpn: &[&[u8]] = &[ALPN_RELAY];
                let dialled = outbound::dial_peer(pair, target.hub(), gateway, alpn, &shared).await;
                if let Err(failure) = &dialled
                    && !board.state().linked
                {
                    board.lost(&target.sentence(failure));
                }
                dialled
            })
        })
    }
}
