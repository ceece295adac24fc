//! Keeps a dialled trunk in lanes, as long as it is used.
//!
//! A trunk starts with one lane. While buffers hold its lanes back and more of them bring more
//! bytes a second, lanes are added ([`LaneSizing`]), and so they are when the other end asks for them,
//! which cannot dial. Lanes that are not needed go, and those of an older SVID give way. Where
//! segments are lost a trunk that rests keeps one: old lanes remember every loss, new ones none.

use std::{
    ops::ControlFlow,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use renkei_runtime::clock;
use renkei_trunk::{Code, Event, LaneId};
use time::OffsetDateTime;
use tokio::{
    sync::mpsc::UnboundedReceiver,
    task::{JoinError, JoinSet},
    time::{Instant, timeout},
};

use super::{DialError, LaneConnection, LaneDialer, add_lane, dial_pace::DialPace};
use crate::{
    identity::Credentials,
    trunk::{
        MAX_LANES, NEXT_SVID, TrunkContext, TrunkEvent,
        core::LaneState,
        driver::Driver,
        events::EventSender,
        lane_sizing::{LaneSizing, REST, TICK},
        panic::EndOnPanic,
    },
};

/// A trunk without streams is kept for the next ones this long.
const IDLE: Duration = Duration::from_secs(60);

/// Keeps a trunk in lanes.
pub(super) struct LaneManager<D: LaneDialer> {
    driver: Arc<Driver>,
    pair: String,
    dialer: Arc<D>,
    /// Hears of the trunk as a whole. With one it is kept even while it carries nothing.
    follower: Option<EventSender>,
    /// When a stream was open last.
    idle_since: Instant,
    /// There is no lane.
    suspended: bool,
    /// When lanes may be dialed.
    pace: DialPace,
    /// Why the last attempt failed, while there is no lane.
    reported: Option<&'static str>,
    adding: JoinSet<Result<LaneConnection, D::Error>>,
    /// Lanes that newer ones take the place of, one for one.
    retired: Vec<LaneId>,
    /// When the peer may have another SVID than the one that lanes were renewed for last.
    peer_renewal: Option<OffsetDateTime>,
    /// Since when the other end answers, without a lane with valid certificates.
    refused_since: Option<Instant>,
    sizing: LaneSizing,
}

impl<D: LaneDialer> LaneManager<D> {
    pub(super) fn new(
        driver: Arc<Driver>,
        pair: &str,
        dialer: Arc<D>,
        follower: Option<EventSender>,
    ) -> Self {
        Self {
            driver,
            pair: pair.to_owned(),
            dialer,
            follower,
            idle_since: Instant::now(),
            suspended: false,
            pace: DialPace::new(),
            reported: None,
            adding: JoinSet::new(),
            retired: Vec::new(),
            peer_renewal: None,
            refused_since: None,
            sizing: LaneSizing::new(),
        }
    }

    pub(super) async fn run(
        mut self,
        mut events: UnboundedReceiver<Event>,
        context: Arc<TrunkContext>,
    ) {
        let _end = EndOnPanic::of(&self.driver);
        let mut identities = context.identities.clone();
        loop {
            let streams = self.driver.streams();
            let used = self.driver.used.taken() || streams > 0;
            let busy = used || !self.adding.is_empty();
            if used {
                self.idle_since = Instant::now();
            } else {
                self.sizing.pause();
            }
            let draining = context.drain.is_signaled();
            let spare = draining || self.is_idle() || self.suspended;
            if streams == 0 && spare && self.leave() {
                break;
            }
            let wait = if busy { TICK } else { self.doze() };
            tokio::select! {
                event = events.recv() => {
                    if self.hear(event).is_break() {
                        return;
                    }
                }
                Some(dialed) = self.adding.join_next() => self.take(dialed),
                () = self.driver.used.noted() => {}
                () = context.drain.signaled(), if !draining => {}
                changed = identities.changed() => if changed.is_err() { break },
                () = tokio::time::sleep(wait) => {}
            }
            self.keep_lanes(streams, &context);
        }
        self.close().await;
    }

    /// Nothing follows the trunk, and no stream has used it for a long time.
    fn is_idle(&self) -> bool {
        self.follower.is_none() && self.idle_since.elapsed() > IDLE
    }

    /// An event of the trunk; a break once it is over.
    fn hear(&mut self, event: Option<Event>) -> ControlFlow<()> {
        match self.forward(event) {
            None | Some(Event::Closed(_)) => return ControlFlow::Break(()),
            Some(Event::Suspended { .. }) => {
                self.suspended = true;
                self.pace.lost();
            }
            Some(Event::LaneReady(lane)) => {
                self.pace.ready(self.suspended);
                self.suspended = false;
                self.driver.stranded.store(false, Ordering::Release);
                self.reported = None;
                self.refused_since = None;
                if !self.retired.contains(&lane) {
                    self.close_retired();
                }
            }
            Some(_) => {}
        }
        ControlFlow::Continue(())
    }

    /// Dials the lanes that are missing, and closes those that are not needed.
    fn keep_lanes(&mut self, streams: usize, context: &TrunkContext) {
        if self.suspended && self.may_dial() {
            self.dial_more(1);
        }
        self.renew(context);
        if streams == 0 && self.idle_since.elapsed() >= REST {
            self.sizing.rest();
        }
        if !self.suspended {
            self.resize();
        }
    }

    /// The trunk carries nothing: asks to be woken by the next stream; says when to look again.
    fn doze(&self) -> Duration {
        self.driver.used.doze();
        let lanes = self.driver.act(|core, _| core.trunk.ready_lanes());
        let rest = if lanes > 1 { REST } else { IDLE / 4 };
        match self.driver.standing.latest() {
            Some(latest) => rest.min(left(self.peer_renewal_of(&latest)).max(TICK)),
            None => rest,
        }
    }

    fn forward(&self, event: Option<Event>) -> Option<Event> {
        let news = event.as_ref().and_then(TrunkEvent::of);
        if let (Some(follower), Some(news)) = (&self.follower, news) {
            // Without a follower the trunk is closed by its handle.
            let _ = follower.send(news);
        }
        event
    }

    /// None is being dialed, and the last ones were not refused just now.
    fn may_dial(&self) -> bool {
        self.adding.is_empty() && self.pace.allows()
    }

    fn dial_more(&mut self, count: usize) {
        for _ in 0..count {
            let dialer = self.dialer.clone();
            self.adding.spawn(async move { dialer.dial().await });
        }
    }

    /// Makes a lane of a connection that has been dialed.
    fn take(&mut self, dialed: Result<Result<LaneConnection, D::Error>, JoinError>) {
        let dialed = dialed.map(|dialed| match dialed {
            Ok(lane) if !self.dialer.is_lane(lane.alpn()) => Err(D::Error::no_trunks()),
            dialed => dialed,
        });
        self.pace.tried();
        let added = match dialed {
            Ok(Ok(lane)) => {
                let added = add_lane(&self.driver, &self.pair, lane).map(drop);
                // What changed during its handshake has not seen it.
                self.driver.drop_faulty_now();
                added
            }
            Ok(Err(failure)) => {
                if self.suspended {
                    self.driver.stranded.store(true, Ordering::Release);
                    // Streams wait for it; once is enough to say why.
                    let label = failure.label();
                    if self.reported.replace(label) != Some(label) {
                        self.dialer.failed(&failure);
                    }
                    self.answered_with(&failure);
                    if failure.is_of_the_path() {
                        self.pace.not_reached();
                    }
                }
                Err(format!("{failure:?}"))
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(reason) = added {
            tracing::debug!(trunk = ?self.driver.id(), reason, pair = self.pair, "no further lane");
        }
    }

    /// The streams of a trunk whose certificates are not valid any more wait for lanes with newer
    /// ones: not at all when there are none for certain, and not long when the other end answers
    /// without. A path that is cut has a time of its own.
    fn answered_with(&mut self, failure: &D::Error) {
        let stays = match self.driver.check_now() {
            Ok(_) => true,
            Err(fault) => failure.is_of_the_path() || self.driver.context.withdrawn.spares(&fault),
        };
        if stays {
            self.refused_since = None;
            return;
        }
        let since = *self.refused_since.get_or_insert_with(Instant::now);
        if failure.is_certain() || since.elapsed() >= NEXT_SVID {
            self.driver.revoke();
        }
    }

    /// Once the caller's SVID has been renewed, lanes dialed with the old one give way to lanes
    /// with the new; so they do when the callee must have renewed its own, or the keys of one are
    /// worn. One goes when another is ready, so that the streams do not notice.
    fn renew(&mut self, context: &TrunkContext) {
        let Some(used) = self.driver.standing.latest() else {
            return;
        };
        let identities = context.identities();
        let Ok(now) = identities.valid_svid(used.own().id(), clock::now()) else {
            return;
        };
        let (lanes, ready) = self.driver.act(|core, _| {
            (
                core.trunk.lanes().collect::<Vec<_>>(),
                core.trunk.ready_lanes(),
            )
        });
        self.retired.retain(|lane| lanes.contains(lane));
        let renewed = left(self.peer_renewal_of(&used)).is_zero();
        let begins = renewed || now.serial() != used.own().serial() || self.worn();
        let due = begins || !self.retired.is_empty();
        if !due || !self.may_dial() {
            return;
        }
        if begins {
            self.retired.clone_from(&lanes);
            // If the peer still has the same, it is asked again when half of what is left is over.
            let end = used.peer_not_after();
            let pause = (left(end) / 2).max(Duration::from_secs(1));
            self.peer_renewal = Some(clock::now() + pause);
        }
        // The one that is to come takes the place of another.
        let most = (context.max_lanes() + 1).min(MAX_LANES);
        if lanes.len() < most {
            self.dial_more(1);
        } else if ready == lanes.len() {
            // One goes first, to make room.
            self.close_retired();
        }
    }

    /// When lanes give way to others for the peer's sake.
    fn peer_renewal_of(&self, latest: &Credentials) -> OffsetDateTime {
        let due = latest.peer_renewed_by();
        self.peer_renewal.map_or(due, |tried| tried.max(due))
    }

    fn worn(&self) -> bool {
        let retired = &self.retired;
        self.driver.act(|core, _| {
            let worn = |(id, lane): (&LaneId, &LaneState)| {
                lane.worn && core.trunk.carries(*id) && !retired.contains(id)
            };
            core.lanes.iter().any(worn)
        })
    }

    /// Closes the oldest lane that is to go.
    fn close_retired(&mut self) {
        if self.retired.is_empty() {
            return;
        }
        let lane = self.retired.remove(0);
        self.driver
            .with(|core, now| core.trunk.close_lane(now, lane));
        self.driver.wake_lanes();
    }

    /// Sees that there are as many lanes as the two ends want.
    fn resize(&mut self) {
        // At one moment: a lane that was refused is not there, and not to be dialed again.
        let (ready, coming, there, taken) = self.driver.act(|core, now| {
            let trunk = &core.trunk;
            (
                trunk.ready_lanes(),
                trunk.coming_lanes(),
                trunk.lanes_wanted(),
                trunk.lanes_taken(now),
            )
        });
        let own = self.driver.context.max_lanes();
        let most = taken.map_or(own, |taken| own.min(taken));
        let wanted = self.sizing.wanted(&self.driver).max(there).min(most);
        if coming < wanted && self.may_dial() {
            self.dial_more(wanted - coming);
        } else if ready > wanted && self.retired.is_empty() {
            self.driver.close_newest(ready - wanted);
        }
    }

    /// Takes no streams from now on, unless one has just been opened.
    fn leave(&self) -> bool {
        self.driver.with(|core, _| {
            let unused = core.trunk.streams() == 0;
            if unused {
                core.trunk.go_away();
            }
            unused
        })
    }

    /// Lets the lanes take leave.
    async fn close(self) {
        self.driver.with(|core, now| {
            for lane in core.lanes.keys().copied().collect::<Vec<_>>() {
                core.trunk.close_lane(now, lane);
            }
        });
        self.driver.wake_lanes();
        let gone = async {
            while self.driver.with(|core, _| !core.lanes.is_empty()) {
                tokio::time::sleep(TICK / 10).await;
            }
        };
        let _ = timeout(Duration::from_secs(1), gone).await;
        self.driver
            .with(|core, _| core.trunk.close(Code::STOPPING, "no longer needed"));
    }
}

/// How long it is until then by the wall clock.
fn left(then: OffsetDateTime) -> Duration {
    Duration::try_from(then - clock::now()).unwrap_or_default()
}
