//! How many TLS handshakes the gateway does at once. Each address has a share of them, so that a
//! slow one keeps only its own connections waiting.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// An address may have one of so many parts of all handshakes.
const SHARE: usize = 4;
/// Connections of one address that may be waiting or at their handshake; more are closed.
const MAX_WAITING: usize = 4096;

/// All handshakes of a gateway.
#[derive(Debug)]
pub(crate) struct HandshakeLimiter {
    room: Arc<Semaphore>,
    share: usize,
    queues: Arc<Mutex<HashMap<IpAddr, Weak<Queue>>>>,
}

/// The connections of one address.
#[derive(Debug)]
struct Queue {
    address: IpAddr,
    share: Arc<Semaphore>,
    places: Arc<Semaphore>,
    queues: Arc<Mutex<HashMap<IpAddr, Weak<Queue>>>>,
}

/// One connection's place in the queue of its address.
#[derive(Debug)]
pub(crate) struct HandshakePlace {
    room: Arc<Semaphore>,
    queue: Arc<Queue>,
    _place: OwnedSemaphorePermit,
}

/// A connection that may do its handshake; the next one may when it is dropped.
#[derive(Debug)]
pub(crate) struct HandshakeTurn {
    _all: Option<OwnedSemaphorePermit>,
    _share: Option<OwnedSemaphorePermit>,
    _place: HandshakePlace,
}

impl HandshakeLimiter {
    /// So many handshakes at once.
    pub(crate) fn new(handshakes: usize) -> Self {
        let handshakes = handshakes.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            room: Arc::new(Semaphore::new(handshakes)),
            share: handshakes.div_ceil(SHARE),
            queues: Arc::default(),
        }
    }

    /// A place for a connection from this address, unless far too many wait.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<HandshakePlace> {
        let queue = self.queue(network(address));
        let place = queue.places.clone().try_acquire_owned().ok()?;
        Some(HandshakePlace {
            room: self.room.clone(),
            queue,
            _place: place,
        })
    }

    fn queue(&self, address: IpAddr) -> Arc<Queue> {
        let mut queues = lock(&self.queues);
        if let Some(queue) = queues.get(&address).and_then(Weak::upgrade) {
            return queue;
        }
        let queue = Arc::new(Queue {
            address,
            share: Arc::new(Semaphore::new(self.share)),
            places: Arc::new(Semaphore::new(MAX_WAITING)),
            queues: self.queues.clone(),
        });
        queues.insert(address, Arc::downgrade(&queue));
        queue
    }
}

impl HandshakePlace {
    /// Waits until it may do its handshake: first among those of the address, then among all.
    pub(crate) async fn turn(self) -> HandshakeTurn {
        let share = self.queue.share.clone().acquire_owned().await.ok();
        let all = self.room.clone().acquire_owned().await.ok();
        HandshakeTurn {
            _all: all,
            _share: share,
            _place: self,
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let mut queues = lock(&self.queues);
        // A successor may have been made since the last place was given up.
        let is_own = |queue: &Weak<Self>| queue.strong_count() == 0;
        if queues.get(&self.address).is_some_and(is_own) {
            queues.remove(&self.address);
        }
    }
}

/// What counts as one host: an IPv4 address, or a /64 of IPv6, which a single host has.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    #[test]
    fn an_address_has_its_share_and_leaves_the_rest_to_others() {
        let limiter = HandshakeLimiter::new(8);
        let turn = |from: &str| limiter.enter(address(from)).expect("place").turn();
        let mut held: Vec<HandshakeTurn> = Vec::new();
        for _ in 0..2 {
            held.push(turn("192.0.2.1").now_or_never().expect("a turn"));
        }
        assert!(
            turn("192.0.2.1").now_or_never().is_none(),
            "it has its share"
        );
        held.push(turn("192.0.2.2").now_or_never().expect("another address"));
        held.remove(0);
        assert!(
            turn("192.0.2.1").now_or_never().is_some(),
            "one was given back"
        );
    }

    #[test]
    fn a_host_with_many_addresses_is_one() {
        let limiter = HandshakeLimiter::new(4);
        let turn = |from: &str| limiter.enter(address(from)).expect("place").turn();
        let _held = turn("2001:db8::1").now_or_never().expect("a turn");
        assert!(turn("2001:db8::2").now_or_never().is_none());
        assert!(turn("2001:db8:0:1::1").now_or_never().is_some());
        let _held = turn("::ffff:192.0.2.1").now_or_never().expect("a turn");
        assert!(turn("192.0.2.1").now_or_never().is_none());
    }

    #[test]
    fn the_queue_of_an_address_is_bounded_and_forgotten_when_empty() {
        let limiter = HandshakeLimiter::new(4);
        let from = address("192.0.2.1");
        let places: Vec<HandshakePlace> = (0..MAX_WAITING)
            .map(|_| limiter.enter(from).expect("place"))
            .collect();
        assert!(limiter.enter(from).is_none());
        drop(places);
        assert!(lock(&limiter.queues).is_empty(), "nothing is kept of it");
        assert!(limiter.enter(from).is_some());
    }
}
