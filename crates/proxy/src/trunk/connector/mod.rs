//! The caller's end: a trunk for every caller, callee and gateway, made out of its first lane and
//! kept in lanes by [`LaneManager`].

mod dial_pace;
mod dialer;
mod lane_manager;
mod slot;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use renkei_trunk::{Code, Event, LaneId, Trunk, TrunkId};
use tokio::{
    sync::mpsc::UnboundedReceiver,
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{
    TrunkContext, TrunkEvent, TrunkEvents, core::LaneState, driver::Driver, lane, now, timer,
};
use crate::identity::Pair;

use lane_manager::LaneManager;
use slot::{ASK_AGAIN, Dialed, TrunkSlot, is_in_use};

pub(crate) use dialer::{DialError, LaneConnection, LaneDialer, OpenError, Opened, TrunkFailure};

/// The trunks of this side's callers, by caller, callee and gateway.
#[derive(Debug)]
pub(crate) struct Connector {
    context: Arc<TrunkContext>,
    slots: Mutex<HashMap<String, Arc<tokio::sync::Mutex<TrunkSlot>>>>,
}

impl Connector {
    pub(crate) fn new(context: Arc<TrunkContext>) -> Self {
        Self {
            context,
            slots: Mutex::default(),
        }
    }

    /// Opens a stream for `target` in the pair's trunk through `gateway`. Without a trunk the
    /// first caller dials it, and the others wait for that, but no longer than `limit`.
    pub(crate) async fn open<D: LaneDialer>(
        &self,
        (pair, gateway): (&Pair, &str),
        target: Bytes,
        dialer: &Arc<D>,
        limit: Duration,
    ) -> Result<Opened, OpenError<D::Error>> {
        let slot = self.slot(format!("{} {gateway}", pair.ends()));
        let mut slot = timeout(limit, slot.lock())
            .await
            .map_err(|_| OpenError::Timeout)?;
        match &*slot {
            TrunkSlot::Trunk(trunk) if trunk.stranded().is_some() => {}
            TrunkSlot::Trunk(trunk) => {
                if let Some(opened) = trunk.open(target.clone()) {
                    return Ok(opened);
                }
                *slot = TrunkSlot::Unknown;
            }
            TrunkSlot::NoTrunks(asked) if asked.elapsed() < ASK_AGAIN => {
                return Err(OpenError::NoTrunks(None));
            }
            _ => {}
        }
        if let Some(failure) = dialer.known_failure() {
            return Err(OpenError::Dial(failure));
        }
        self.dial_into(&mut slot, pair, dialer).await?;
        let opened = match &*slot {
            TrunkSlot::Trunk(trunk) => trunk.open(target),
            _ => None,
        };
        opened.ok_or_else(|| OpenError::Trunk(other("the trunk takes no streams")))
    }

    /// Finds out whether the pair's callee can be reached through `gateway`, and keeps the trunk
    /// that comes of it.
    pub(crate) async fn reach<D: LaneDialer>(
        &self,
        (pair, gateway): (&Pair, &str),
        dialer: &Arc<D>,
    ) -> Result<(), OpenError<D::Error>> {
        let slot = self.slot(format!("{} {gateway}", pair.ends()));
        let mut slot = slot.lock().await;
        if let TrunkSlot::Trunk(trunk) = &*slot
            && trunk.stranded().is_none()
            && trunk.usable().is_some()
        {
            return Ok(());
        }
        match self.dial_into(&mut slot, pair, dialer).await {
            // It answers, which is what was asked.
            Err(OpenError::NoTrunks(_)) => Ok(()),
            reached => reached,
        }
    }

    /// Dials a lane: for the slot's trunk if that has none, else for a new one.
    async fn dial_into<D: LaneDialer>(
        &self,
        slot: &mut TrunkSlot,
        pair: &Pair,
        dialer: &Arc<D>,
    ) -> Result<(), OpenError<D::Error>> {
        let stranded = match &*slot {
            TrunkSlot::Trunk(trunk) => trunk.stranded(),
            _ => None,
        };
        let dialed = dialer.dial().await;
        let lane = dialed.map_err(|error| {
            dialer.unreached(&error);
            OpenError::Dial(error)
        })?;
        if !dialer.is_lane(lane.alpn()) {
            *slot = TrunkSlot::NoTrunks(Instant::now());
            return Err(OpenError::NoTrunks(Some(Box::new(lane))));
        }
        if let Some(driver) = stranded {
            add_lane(&driver, &pair.ends(), lane)
                .map_err(|reason| OpenError::Trunk(TrunkFailure::Other(reason)))?;
            driver.stranded.store(false, Ordering::Release);
            return Ok(());
        }
        let established = self.establish(lane, pair, dialer, false).await;
        let (trunk, _) = established.map_err(OpenError::Trunk)?;
        *slot = TrunkSlot::Trunk(trunk);
        Ok(())
    }

    /// Dials a trunk that is kept while it carries nothing, until it is closed by its handle. The
    /// other end may open streams in it.
    pub(crate) async fn keep<D: LaneDialer>(
        &self,
        pair: &Pair,
        dialer: &Arc<D>,
    ) -> Result<(TrunkEvents, SocketAddr), OpenError<D::Error>> {
        let lane = dialer.dial().await.map_err(OpenError::Dial)?;
        let established = self.establish(lane, pair, dialer, true).await;
        let (trunk, followed) = established.map_err(OpenError::Trunk)?;
        let followed = followed.ok_or_else(|| OpenError::Trunk(other("it has no events")))?;
        Ok((followed, trunk.remote))
    }

    fn slot(&self, key: String) -> Arc<tokio::sync::Mutex<TrunkSlot>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(&key) {
            return slot.clone();
        }
        // A new key: those that are not used any more are forgotten.
        slots.retain(|_, slot| is_in_use(slot));
        slots.entry(key).or_default().clone()
    }

    /// Makes a trunk out of its first lane. One that is `kept` takes streams of the other end.
    async fn establish<D: LaneDialer>(
        &self,
        lane: LaneConnection,
        pair: &Pair,
        dialer: &Arc<D>,
        kept: bool,
    ) -> Result<(Dialed, Option<TrunkEvents>), TrunkFailure> {
        let context = &self.context;
        let mut id = [0; 16];
        let random = &context.provider.secure_random;
        random.fill(&mut id).map_err(|_| other("no random bytes"))?;
        let (now, ends) = (now(), pair.ends());
        let trunk = Trunk::dial(now, context.config(), TrunkId(id), &ends);
        let (driver, mut events) = timer::start(trunk, pair.remote().trust_domain(), context);
        // Streams may be opened as soon as the lane is ready.
        let (follower, followed) = kept.then(|| TrunkEvents::of(&driver)).unzip();
        let dialed = Dialed {
            driver: Arc::downgrade(&driver),
            remote: lane.remote,
            alpn: lane.alpn().unwrap_or_default().into(),
        };
        let mut unmanaged = Unmanaged(Some(driver.clone()));
        let task = add_lane(&driver, &ends, lane).map_err(TrunkFailure::Other)?;
        timeout(
            context.limits.handshake_timeout,
            first_ready(task, &mut events),
        )
        .await
        .map_err(|_| other("the other end sends no HELLO"))??;
        if let Some(follower) = &follower {
            // Without a follower the trunk is closed by its handle.
            let _ = follower.send(TrunkEvent::Ready);
        }
        context.table.enter(pair.clone(), &driver);
        unmanaged.0 = None;
        let manager = LaneManager::new(driver, &ends, dialer.clone(), follower);
        tokio::spawn(manager.run(events, context.clone()));
        Ok((dialed, followed))
    }
}

/// A trunk that nothing keeps yet. It ends if that stays so: its first lane is not ready in time,
/// or is not waited for any more.
struct Unmanaged(Option<Arc<Driver>>);

impl Drop for Unmanaged {
    fn drop(&mut self) {
        if let Some(driver) = self.0.take() {
            driver.with(|core, _| core.trunk.close(Code::STOPPING, "it is not waited for"));
        }
    }
}

fn other(sentence: &str) -> TrunkFailure {
    TrunkFailure::Other(sentence.to_owned())
}

/// Waits until the first lane is ready; fails if it never will be.
async fn first_ready(
    mut lane: JoinHandle<std::io::Result<()>>,
    events: &mut UnboundedReceiver<Event>,
) -> Result<(), TrunkFailure> {
    loop {
        tokio::select! {
            biased;
            event = events.recv() => match event {
                Some(Event::LaneReady(_)) => return Ok(()),
                Some(Event::LaneRefused(_, refusal)) => return Err(other(&refusal.to_string())),
                Some(Event::Closed(reason)) => return Err(other(&reason.to_string())),
                _ => {}
            },
            ended = &mut lane => return Err(match ended {
                Ok(Err(error)) => TrunkFailure::Io(error),
                _ => other("the connection ended at once"),
            }),
        }
    }
}

/// Makes a lane of a connection that has been dialled.
fn add_lane(
    driver: &Arc<Driver>,
    pair: &str,
    connection: LaneConnection,
) -> Result<JoinHandle<std::io::Result<()>>, String> {
    let LaneConnection {
        connection,
        credentials,
        ..
    } = connection;
    let (writer, reader) = lane::split(connection, driver.context.limits.keys);
    let id = driver
        .with(|core, now| {
            let id = core.trunk.add_lane(now, pair)?;
            driver.standing.enter(id, credentials);
            core.lanes.insert(id, LaneState::new(writer));
            Ok::<LaneId, renkei_trunk::LaneError>(id)
        })
        .map_err(|error| error.to_string())?;
    Ok(tokio::spawn(lane::run(
        driver.clone(),
        id,
        reader,
        Bytes::new(),
    )))
}

#[cfg(test)]
mod tests;
