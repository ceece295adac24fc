//! The state machine of one trunk among tasks: lanes read and write it, streams wait on it, and one
//! task follows what concerns the trunk as a whole.

mod push;

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic::AtomicBool},
    task::Waker,
    time::{Duration, Instant},
};

use bytes::Bytes;
use renkei_spiffe::TrustDomain;
use renkei_trunk::{Code, Event, LaneId, StreamId, Trunk, TrunkId};
use tokio::sync::{Notify, mpsc};

pub(super) use push::{Left, Pushed, push};

use super::{
    TrunkContext,
    core::{Core, LaneFate, Waiting},
    lane_use::LaneUse,
    lane_writer::LaneWriter,
    memory_budget::Room,
    now,
    standing::Standing,
};
use crate::relay::StallTimeout;

/// How often a stream that is to be reset is looked at.
const RESET_TICK: Duration = Duration::from_millis(10);

/// When to look again at a trunk that waits for nothing.
const LONG: Duration = Duration::from_secs(60);

/// Takes the streams that the other end opens, with their targets.
pub(super) type IncomingSender = mpsc::UnboundedSender<(StreamId, Bytes)>;

/// How a stream is let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Release {
    /// Both directions have ended.
    Clean,
    /// A reset behind what was written.
    Reset,
    /// A reset at once.
    Cut,
}

/// One trunk, shared by its tasks.
pub(crate) struct Driver {
    id: TrunkId,
    core: Mutex<Core>,
    news: mpsc::UnboundedSender<Event>,
    /// Where the streams go that the other end opens.
    incoming: OnceLock<IncomingSender>,
    /// Whether streams are opened.
    pub(super) used: LaneUse,
    /// The next timeout may be earlier than the timer believes.
    pub(super) timer: Arc<Notify>,
    pub(super) context: Arc<TrunkContext>,
    pub(super) standing: Standing,
    /// There is no lane, and the last attempt to dial one failed.
    pub(super) stranded: AtomicBool,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.context.budget.leave(&self.lock().share);
        self.timer.notify_one();
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Driver(..)")
    }
}

impl Driver {
    /// The driver of a trunk with the site `remote`, and the events that the trunk's own task
    /// follows. Its timer must be kept.
    pub(super) fn new(
        trunk: Trunk,
        remote: &TrustDomain,
        context: &Arc<TrunkContext>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Event>) {
        let id = trunk.id();
        let (news, events) = mpsc::unbounded_channel();
        let core = Core::new(trunk, context.budget.enter(remote));
        let driver = Arc::new(Self {
            id,
            core: Mutex::new(core),
            news,
            incoming: OnceLock::new(),
            used: LaneUse::default(),
            timer: Arc::new(Notify::new()),
            context: context.clone(),
            standing: Standing::default(),
            stranded: AtomicBool::new(false),
        });
        (driver, events)
    }

    /// The name of the trunk, the same at both ends.
    pub(crate) fn id(&self) -> TrunkId {
        self.id
    }

    /// Does something to the trunk, wakes whom it concerns, and sends what there is to send.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Core, Instant) -> T) -> T {
        let (result, claimed) = self.change(act, Core::claim_writer);
        if let Some((id, outlet)) = claimed {
            self.push(id, outlet);
        }
        result
    }

    /// Sends what the trunk has, by the writer of a lane that rested.
    fn push(&self, id: LaneId, writer: Box<LaneWriter>) {
        let _lost = Lost::of(self, id);
        match push(writer, self, id) {
            Pushed::Rests(other) => other.into_iter().for_each(Waker::wake),
            Pushed::Left(writer, _) => {
                let mut core = self.lock();
                let lane = core.lanes.get_mut(&id);
                let task = lane.and_then(|lane| lane.slot.hand_to_task(writer));
                let other = core.sleeper_with_output(id);
                drop(core);
                task.into_iter().chain(other).for_each(Waker::wake);
            }
        }
    }

    /// The writer of a lane, for its task, if there is something to do with it and no other task is
    /// writing.
    pub(super) fn claim_for_task(&self, id: LaneId, task: &Waker) -> Option<Box<LaneWriter>> {
        let mut core = self.lock();
        let output = core.trunk.has_output(id);
        let lane = core.lanes.get_mut(&id)?;
        let something = output || lane.fate.is_some();
        let claimed = lane.slot.claim_for_task(task, something);
        if claimed.is_none() {
            // What this lane may not carry, because it is being closed, another may.
            let other = core.sleeper_with_output(id);
            drop(core);
            other.into_iter().for_each(Waker::wake);
        }
        claimed
    }

    /// The lane's own task cannot write now: wakes another lane that rests and has something to
    /// write.
    pub(super) fn wake_other(&self, id: LaneId) {
        let other = self.lock().sleeper_with_output(id);
        other.into_iter().for_each(Waker::wake);
    }

    /// Does something to the trunk, then wakes the streams that it concerns. What there is to
    /// send is the caller's business.
    pub(super) fn act<T>(&self, act: impl FnOnce(&mut Core, Instant) -> T) -> T {
        self.change(act, |_| ()).0
    }

    /// The same; `then` comes last, under the same lock.
    fn change<T, U>(
        &self,
        act: impl FnOnce(&mut Core, Instant) -> T,
        then: impl FnOnce(&mut Core) -> U,
    ) -> (T, U) {
        let mut core = self.lock();
        let result = act(&mut core, now());
        self.account(&mut core);
        let mut wakers = Vec::new();
        core.dispatch(&self.news, &mut wakers);
        // Without a next timeout the trunk is over, and so is its timer.
        let next = core.trunk.next_timeout();
        let sooner = next.is_none_or(|next| core.armed.is_some_and(|armed| next < armed));
        if sooner {
            core.armed = None;
        }
        let then = then(&mut core);
        drop(core);
        wakers.into_iter().for_each(Waker::wake);
        if sooner {
            self.timer.notify_one();
        }
        (result, then)
    }

    /// Gives the trunk what the process has left for it. Windows grow no more when that is
    /// little; a trunk whose peer holds more nevertheless is ended.
    fn account(&self, core: &mut Core) {
        let held = core.trunk.memory();
        let room = match self.context.budget.note(&mut core.share, held) {
            None => return,
            Some(room) => room,
        };
        if let Room::Left(bytes) = room {
            core.trunk.set_room(bytes);
        } else if core.trunk.closed().is_none() {
            tracing::warn!(
                trunk = ?self.id,
                held,
                "a trunk is closed: this process is at its memory limit"
            );
            core.trunk
                .close(Code::BUSY, "the proxy is at its memory limit");
        }
    }

    /// From now on streams that the other end opens go there. Without it they are refused.
    pub(super) fn send_streams_to(&self, incoming: IncomingSender) {
        let _ = self.incoming.set(incoming);
    }

    /// Hands on the streams that the other end has opened.
    pub(super) fn hand_over(self: &Arc<Self>) {
        let mut core = self.lock();
        if core.arrived.is_empty() {
            return;
        }
        let arrived = std::mem::take(&mut core.arrived);
        drop(core);
        self.used.note();
        for (id, target) in arrived {
            let sent = self
                .incoming
                .get()
                .map(|incoming| incoming.send((id, target)));
            if !matches!(sent, Some(Ok(()))) {
                self.refuse_unheard(id);
            }
        }
    }

    /// Refuses a stream of a trunk that takes none.
    pub(super) fn refuse_unheard(&self, id: StreamId) {
        let reason = "it takes no streams of this trunk";
        self.with(|core, _| core.refuse(id, Code::UNREACHABLE, reason));
    }

    /// Whether the process has room for one more stream of this trunk.
    pub(super) fn admits(&self) -> bool {
        self.context.budget.admits(&self.lock().share)
    }

    /// Streams that live.
    pub(super) fn streams(&self) -> usize {
        self.lock().trunk.streams()
    }

    /// Opens a stream towards `target`. The other end learns of it with the first bytes, or when
    /// there are none yet with the first flush.
    pub(super) fn open(&self, target: Bytes) -> Result<StreamId, renkei_trunk::OpenError> {
        self.act(|core, _| {
            let id = core.trunk.open(target)?;
            core.streams.insert(id, Waiting::default());
            Ok(id)
        })
    }

    /// Removes a stream that is not used any more.
    pub(super) fn release(self: &Arc<Self>, id: StreamId, release: Release) {
        // Errors mean that a direction is over already.
        let waits = self.with(|core, _| {
            core.streams.remove(&id);
            if release == Release::Clean {
                return false;
            }
            let _ = core.trunk.stop(id, Code::CANCELLED);
            let waits = release == Release::Reset && core.trunk.undelivered(id) > 0;
            if !waits {
                let _ = core.trunk.reset(id, Code::CANCELLED);
            }
            waits
        });
        if waits {
            tokio::spawn(reset_behind(self.clone(), id));
        }
    }

    /// Closes so many of the lanes that carry something, the newest first.
    pub(super) fn close_newest(&self, count: usize) {
        self.with(|core, now| {
            let carrying = |id: &&LaneId| core.trunk.carries(**id);
            let newest = core.lanes.keys().rev().filter(carrying).take(count);
            for lane in newest.copied().collect::<Vec<_>>() {
                core.trunk.close_lane(now, lane);
            }
        });
        self.wake_lanes();
    }

    /// Every lane looks at the trunk again.
    pub(super) fn wake_lanes(&self) {
        let core = self.lock();
        let sleepers = core.lanes.values().filter_map(|lane| lane.slot.sleeper());
        let wakers: Vec<_> = sleepers.collect();
        drop(core);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// When the trunk is to be called next; nothing once it is over.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let mut core = self.lock();
        if core.trunk.closed().is_some() {
            return None;
        }
        let next = core.trunk.next_timeout();
        core.armed = Some(next.unwrap_or_else(|| now() + LONG));
        core.armed
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Exists while a lane's writer is away from it: a panic would take it along, and the lane could
/// never write again.
struct Lost<'a> {
    driver: &'a Driver,
    lane: LaneId,
    /// A task that panics lets go of its trunk, which sends its last frames from there.
    unwinds: bool,
}

impl<'a> Lost<'a> {
    fn of(driver: &'a Driver, lane: LaneId) -> Self {
        Self {
            driver,
            lane,
            unwinds: std::thread::panicking(),
        }
    }
}

impl Drop for Lost<'_> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && !self.unwinds
            && let Some(lane) = self.driver.lock().lanes.get_mut(&self.lane)
        {
            lane.fate = Some(LaneFate::Drop);
            lane.alive = None;
        }
    }
}

/// A reset overtakes what was written before it: it waits as long as the other end takes that.
async fn reset_behind(driver: Arc<Driver>, id: StreamId) {
    let mut stall = StallTimeout::new();
    while stall.lasts(driver.with(|core, _| core.trunk.undelivered(id))) {
        tokio::time::sleep(RESET_TICK).await;
    }
    driver.with(|core, _| core.trunk.reset(id, Code::CANCELLED).ok());
}
