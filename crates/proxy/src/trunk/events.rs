//! What happens to a trunk as a whole, and the streams that the other end opens in it, for the
//! task that follows the trunk.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use renkei_trunk::{Code, Event, StreamId, TrunkId};
use tokio::sync::mpsc;

use super::{TrunkHandle, TrunkStream, driver::Driver};
use crate::identity::{Credentials, Fault};

/// What happens to a trunk.
#[derive(Debug)]
pub(crate) enum TrunkEvent {
    /// A lane is ready.
    Ready,
    /// Every lane is lost; the streams wait for others.
    Suspended,
    /// The other end takes no streams from now on.
    GoingAway,
    /// The trunk is over, and why.
    Ended(String),
    /// The other end opens a stream.
    Stream(IncomingStream),
}

impl TrunkEvent {
    pub(super) fn of(event: &Event) -> Option<Self> {
        match event {
            Event::LaneReady(_) => Some(Self::Ready),
            Event::Suspended { .. } => Some(Self::Suspended),
            Event::GoingAway => Some(Self::GoingAway),
            Event::Closed(reason) => Some(Self::Ended(reason.to_string())),
            _ => None,
        }
    }
}

/// Where the events of a trunk as a whole go.
pub(super) type EventSender = mpsc::UnboundedSender<TrunkEvent>;

/// The events of one trunk. At most as many streams wait in it as the trunk may have open. Dropped
/// before the trunk is over, as by a panic of its task, it ends the trunk: the streams would have
/// no one to serve them.
#[derive(Debug)]
pub(crate) struct TrunkEvents {
    handle: TrunkHandle,
    driver: Weak<Driver>,
    news: mpsc::UnboundedReceiver<TrunkEvent>,
    incoming: mpsc::UnboundedReceiver<(StreamId, Bytes)>,
}

impl TrunkEvents {
    /// From now on the trunk takes streams. What is returned first sends its other events.
    pub(super) fn of(driver: &Arc<Driver>) -> (EventSender, Self) {
        let (sender, news) = mpsc::unbounded_channel();
        let (streams, incoming) = mpsc::unbounded_channel();
        driver.send_streams_to(streams);
        let events = Self {
            handle: TrunkHandle::of(driver),
            driver: Arc::downgrade(driver),
            news,
            incoming,
        };
        (sender, events)
    }

    /// The trunk itself.
    pub(crate) fn handle(&self) -> &TrunkHandle {
        &self.handle
    }

    /// The next event; nothing once the trunk is over.
    pub(crate) async fn next(&mut self) -> Option<TrunkEvent> {
        tokio::select! {
            biased;
            news = self.news.recv() => news,
            Some((id, target)) = self.incoming.recv() => {
                let driver = self.driver.upgrade()?;
                Some(TrunkEvent::Stream(IncomingStream::new(driver, id, target)))
            }
        }
    }

    /// The next stream that the other end opens; nothing once the trunk is over.
    pub(crate) async fn accept(&mut self) -> Option<IncomingStream> {
        loop {
            if let TrunkEvent::Stream(stream) = self.next().await? {
                return Some(stream);
            }
        }
    }
}

impl Drop for TrunkEvents {
    fn drop(&mut self) {
        self.handle
            .close(Code::STOPPING, "the trunk is not served any more");
    }
}

/// A stream that the other end opens. Dropped before it is accepted it is refused.
#[derive(Debug)]
pub(crate) struct IncomingStream {
    driver: Arc<Driver>,
    id: StreamId,
    /// What the other end asks for.
    pub(crate) target: Bytes,
    answered: bool,
}

impl IncomingStream {
    fn new(driver: Arc<Driver>, id: StreamId, target: Bytes) -> Self {
        Self {
            driver,
            id,
            target,
            answered: false,
        }
    }

    /// The names of the trunk and of the stream in it, the same at both ends.
    pub(crate) fn name(&self) -> (TrunkId, u64) {
        (self.driver.id(), self.id.number())
    }

    /// Whether the process has memory for one more stream of this trunk.
    pub(crate) fn has_room(&self) -> bool {
        self.driver.admits()
    }

    /// The certificates by which the trunk may carry the stream now.
    pub(crate) fn check(&self) -> Result<Arc<Credentials>, Fault> {
        self.driver.check_now()
    }

    /// Takes the stream, unless it is over already. The other end learns of it with the first
    /// bytes, or with the next acknowledgement.
    pub(crate) fn accept(mut self) -> Option<TrunkStream> {
        self.answered = true;
        let taken = self.driver.act(|core, _| core.accept(self.id));
        let stream = TrunkStream::accepted(self.driver.clone(), self.id);
        taken.is_ok().then_some(stream)
    }

    /// Refuses the stream; the other end reads why.
    pub(crate) fn refuse(mut self, code: Code, reason: &str) {
        self.answered = true;
        self.driver
            .with(|core, _| core.refuse(self.id, code, reason));
    }
}

impl Drop for IncomingStream {
    fn drop(&mut self) {
        if !self.answered {
            self.driver.refuse_unheard(self.id);
        }
    }
}
