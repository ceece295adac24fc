//! Memory for what sessions collect: requests and answers of which all must be there before any of
//! it is sent. All of them together have a limit, and one caller a quarter of that. What finds no
//! memory is not read, so that its sender waits.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::BytesMut;
use renkei_kafka::{Collected, KafkaSession, SessionError};
use renkei_spiffe::SpiffeId;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};

use super::broken;
use crate::relay::Side;

/// Shorter ones are collected without asking.
const FREE: usize = 64 * 1024;
/// Own answers of a session that may wait for those before them; with more, no requests are read.
const MAX_HELD: usize = 1024 * 1024;
/// How long something that is collected may take to arrive, once there is memory for it.
const ROOM_TIMEOUT: Duration = Duration::from_mins(1);
/// The memory is counted in pieces of this size.
const UNIT: usize = 1024;
/// One caller has this part of the memory.
const SHARE: usize = 4;

/// The memory of all sessions in one direction.
#[derive(Debug)]
pub(crate) struct HeldMemory {
    all: Arc<Semaphore>,
    /// Units of one caller.
    share: usize,
    shares: Mutex<HashMap<SpiffeId, Weak<Semaphore>>>,
}

impl HeldMemory {
    /// `limit` is in bytes.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        let units = (limit / UNIT).clamp(SHARE, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            all: Arc::new(Semaphore::new(units)),
            share: units / SHARE,
            shares: Mutex::default(),
        })
    }

    /// The part of one caller.
    fn of(&self, caller: &SpiffeId) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(caller).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(self.share));
        shares.insert(caller.clone(), Arc::downgrade(&share));
        share
    }

    /// Waits for memory for `length` bytes: first of the caller's part, then of all.
    fn acquire(&self, share: &Arc<Semaphore>, length: usize) -> Waiting {
        let units = length.div_ceil(UNIT).min(self.share);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let (share, all) = (share.clone(), self.all.clone());
        Box::pin(async move {
            // The semaphores are never closed.
            let own = share.acquire_many_owned(units).await.ok();
            (own, all.acquire_many_owned(units).await.ok())
        })
    }
}

type Grant = (Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>);
type Waiting = Pin<Box<dyn Future<Output = Grant> + Send>>;

/// The memory of one session.
pub(super) struct Room {
    memory: Arc<HeldMemory>,
    share: Arc<Semaphore>,
    from_app: Place,
    from_wan: Place,
}

/// The memory for what comes from one side.
#[derive(Default)]
enum Place {
    /// Nothing is collected that needs any.
    #[default]
    None,
    /// Too many own answers wait.
    Held(Waker),
    Waiting(Collected, Waiting),
    Granted {
        what: Collected,
        until: Pin<Box<Sleep>>,
        /// Given back when it is dropped.
        _grant: Grant,
    },
}

impl Room {
    pub(super) fn new(memory: &Arc<HeldMemory>, caller: Option<&SpiffeId>) -> Self {
        Self {
            share: match caller {
                Some(caller) => memory.of(caller),
                None => Arc::new(Semaphore::new(memory.share)),
            },
            memory: memory.clone(),
            from_app: Place::None,
            from_wan: Place::None,
        }
    }

    /// Ready when more may be read of the requests or answers that come from a side.
    pub(super) fn poll(
        &mut self,
        from: Side,
        (session, requests): (&KafkaSession, Side),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let wanted = match from == requests {
            true => session.collected_request(),
            false => session.collected_answer(),
        };
        let place = match from {
            Side::App => &mut self.from_app,
            Side::Wan => &mut self.from_wan,
        };
        if from == requests && session.held() > MAX_HELD {
            *place = Place::Held(cx.waker().clone());
            return Poll::Pending;
        }
        let Some(wanted) = wanted.filter(|wanted| wanted.length > FREE) else {
            *place = Place::None;
            return Poll::Ready(Ok(()));
        };
        loop {
            match place {
                Place::Waiting(what, waiting) if *what == wanted => {
                    let grant = ready!(waiting.as_mut().poll(cx));
                    *place = Place::Granted {
                        what: wanted,
                        until: Box::pin(sleep(ROOM_TIMEOUT)),
                        _grant: grant,
                    };
                }
                Place::Granted { what, until, .. } if *what == wanted => {
                    let length = wanted.length;
                    return match until.as_mut().poll(cx) {
                        Poll::Ready(()) => Poll::Ready(Err(broken(SessionError::Slow { length }))),
                        Poll::Pending => Poll::Ready(Ok(())),
                    };
                }
                _ => {
                    // What was for the one before is given back first.
                    *place = Place::None;
                    let waiting = self.memory.acquire(&self.share, wanted.length);
                    *place = Place::Waiting(wanted, waiting);
                }
            }
        }
    }

    /// Follows a step of the session: what has memory gets it at once, as much as it needs, and
    /// requests are read again when few answers wait.
    pub(super) fn advanced(&mut self, from: Side, received: &mut BytesMut, session: &KafkaSession) {
        let place = match from {
            Side::App => &self.from_app,
            Side::Wan => &self.from_wan,
        };
        if let Place::Granted { what, .. } = place {
            received.reserve(what.length.saturating_sub(received.len()));
        }
        for place in [&mut self.from_app, &mut self.from_wan] {
            if session.held() <= MAX_HELD
                && let Place::Held(waker) = place
            {
                waker.wake_by_ref();
                *place = Place::None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use renkei_access::TopicRights;

    use super::*;

    const MIB: usize = 1024 * 1024;

    /// A session that collects a Produce request for several topics.
    fn collecting(length: usize) -> KafkaSession {
        let rights = TopicRights {
            produce: ["*"].into_iter().collect(),
            ..TopicRights::default()
        };
        let mut session = KafkaSession::with_rights(Arc::new(rights));
        let mut request = BytesMut::from(&(length as i32 - 4).to_be_bytes()[..]);
        // Version 3, no client id, no transaction, acks, timeout, two topics.
        request.extend([0, 0, 0, 3, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 1]);
        request.extend([0, 0, 0, 9, 0, 0, 0, 2, 0, 1, b'x']);
        session
            .client_to_broker(&mut request, &mut Vec::new())
            .unwrap();
        assert_eq!(session.collected_request().unwrap().length, length);
        session
    }

    fn poll(room: &mut Room, session: &KafkaSession) -> Poll<io::Result<()>> {
        let mut cx = Context::from_waker(Waker::noop());
        room.poll(Side::Wan, (session, Side::Wan), &mut cx)
    }

    fn caller(name: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://{name}.example/collector")).unwrap()
    }

    #[tokio::test]
    async fn one_caller_has_a_quarter_and_the_rest_waits() {
        let memory = HeldMemory::new(8 * MIB);
        let (osaka, kyushu) = (caller("osaka"), caller("kyushu"));
        let session = collecting(2 * MIB);
        let mut rooms: Vec<_> = (0..2).map(|_| Room::new(&memory, Some(&osaka))).collect();
        assert!(poll(&mut rooms[0], &session).is_ready());
        assert!(poll(&mut rooms[1], &session).is_pending());
        let mut other = Room::new(&memory, Some(&kyushu));
        assert!(
            poll(&mut other, &session).is_ready(),
            "another caller has its own"
        );
        // What is short needs none.
        assert!(poll(&mut Room::new(&memory, Some(&osaka)), &collecting(FREE)).is_ready());
        rooms.remove(0);
        assert!(poll(&mut rooms[0], &session).is_ready());
        // A session that collects nothing any more gives it back.
        assert!(poll(&mut rooms[0], &KafkaSession::new()).is_ready());
        assert!(poll(&mut Room::new(&memory, Some(&osaka)), &session).is_ready());
    }

    #[tokio::test]
    async fn all_together_have_no_more_than_there_is() {
        let memory = HeldMemory::new(8 * MIB);
        let session = collecting(2 * MIB);
        let callers = ["a", "b", "c", "d", "e"].map(caller);
        let mut rooms = callers.map(|caller| Room::new(&memory, Some(&caller)));
        let ready = rooms.iter_mut().map(|room| poll(room, &session).is_ready());
        assert_eq!(ready.collect::<Vec<_>>(), [true, true, true, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_ends_its_session() {
        let memory = HeldMemory::new(8 * MIB);
        let (mut room, session) = (Room::new(&memory, None), collecting(MIB));
        assert!(poll(&mut room, &session).is_ready());
        sleep(ROOM_TIMEOUT - Duration::from_secs(1)).await;
        assert!(matches!(poll(&mut room, &session), Poll::Ready(Ok(()))));
        sleep(Duration::from_secs(2)).await;
        assert!(matches!(poll(&mut room, &session), Poll::Ready(Err(_))));
    }
}
