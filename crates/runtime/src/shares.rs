//! A bounded number of places, shared so that no holder can take them all.
//!
//! A holder is what a place is counted for: an address, a caller, a service. It may take one more
//! place while it has fewer than the free ones times its [weight](Holder::weight). So one holder
//! of weight 1 gets at most half of all places, two get a third each, and a holder that has none
//! gets one as long as any is free. (Choudhury and Hahne, "Dynamic queue length thresholds", 1998.)
//!
//! A place can be counted for several holders, and must then be within the share of each.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// What places are counted for.
pub trait Holder: Clone + Eq + Hash + Send {
    /// It may have up to so many times what is free, at least once.
    fn weight(&self) -> usize {
        1
    }
}

/// A host: an IPv4 address, or a /64 of IPv6, which one host can have whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network(IpAddr);

impl Network {
    /// The host that has this address.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            address => address,
        })
    }

    /// The /48 of IPv6 that the host is in: one customer can have it whole (RFC 6177).
    pub fn customer(self) -> Option<Self> {
        match self.0 {
            IpAddr::V6(address) => {
                let [a, b, c, ..] = address.segments();
                Some(Self(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()))
            }
            IpAddr::V4(_) => None,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V6(address) => write!(f, "{address}/64"),
            IpAddr::V4(address) => address.fmt(f),
        }
    }
}

impl Holder for Network {}

/// Why there is no place now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoPlace<H> {
    /// All places are taken.
    Full,
    /// This holder has its share, which is so many places now.
    Share(H, usize),
}

/// Places that are given out.
#[derive(Debug)]
pub struct Pool<H: Holder>(Arc<Mutex<State<H>>>);

/// A place, given back when it is dropped.
#[derive(Debug)]
pub struct Place<H: Holder> {
    pool: Arc<Mutex<State<H>>>,
    holders: Vec<H>,
}

#[derive(Debug)]
struct State<H: Holder> {
    capacity: usize,
    taken: usize,
    of_each: HashMap<H, usize>,
    /// Those who wait, by what their places are to be counted for.
    queues: HashMap<Vec<H>, VecDeque<oneshot::Sender<Place<H>>>>,
    /// The queues in the order of their turns.
    order: VecDeque<Vec<H>>,
}

impl<H: Holder> Clone for Pool<H> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<H: Holder> Pool<H> {
    /// So many places, at least one.
    pub fn new(capacity: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            capacity: capacity.max(1),
            taken: 0,
            of_each: HashMap::new(),
            queues: HashMap::new(),
            order: VecDeque::new(),
        })))
    }

    /// A place, if there is one now.
    ///
    /// # Errors
    /// Which bound is reached.
    pub fn try_take(&self, holders: Vec<H>) -> Result<Place<H>, NoPlace<H>> {
        let mut state = lock(&self.0);
        state.admits(&holders)?;
        Ok(state.enter(&self.0, holders))
    }

    /// Waits for a place. Those who wait for the same holders get theirs in order, and different
    /// holders in turn.
    pub async fn take(&self, holders: Vec<H>) -> Place<H> {
        loop {
            let waiting = {
                let mut state = lock(&self.0);
                if state.admits(&holders).is_ok() {
                    return state.enter(&self.0, holders);
                }
                state.wait(holders.clone())
            };
            // The sender is kept until it has sent.
            if let Ok(place) = waiting.await {
                return place;
            }
        }
    }

    /// Changes how many places there are, at least one. Those that are taken stay taken.
    pub fn resize(&self, capacity: usize) {
        let unwanted = {
            let mut state = lock(&self.0);
            state.capacity = capacity.max(1);
            state.grant(&self.0)
        };
        drop(unwanted);
    }

    /// Places that are taken, and all that there are.
    pub fn usage(&self) -> (usize, usize) {
        let state = lock(&self.0);
        (state.taken, state.capacity)
    }
}

impl<H: Holder> State<H> {
    fn admits(&self, holders: &[H]) -> Result<(), NoPlace<H>> {
        let free = self.capacity.saturating_sub(self.taken);
        if free == 0 {
            return Err(NoPlace::Full);
        }
        let has_its_share = |holder: &&H| {
            let taken = self.of_each.get(*holder).copied().unwrap_or(0);
            taken >= holder.weight().max(1).saturating_mul(free)
        };
        match holders.iter().find(has_its_share) {
            Some(holder) => {
                let taken = self.of_each.get(holder).copied().unwrap_or(0);
                Err(NoPlace::Share(holder.clone(), taken))
            }
            None => Ok(()),
        }
    }

    fn enter(&mut self, pool: &Arc<Mutex<Self>>, holders: Vec<H>) -> Place<H> {
        self.taken += 1;
        for holder in &holders {
            *self.of_each.entry(holder.clone()).or_default() += 1;
        }
        Place {
            pool: pool.clone(),
            holders,
        }
    }

    fn leave(&mut self, holders: &[H]) {
        self.taken = self.taken.saturating_sub(1);
        for holder in holders {
            if let Some(taken) = self.of_each.get_mut(holder) {
                *taken = taken.saturating_sub(1);
                if *taken == 0 {
                    self.of_each.remove(holder);
                }
            }
        }
    }

    fn wait(&mut self, holders: Vec<H>) -> oneshot::Receiver<Place<H>> {
        let (sender, receiver) = oneshot::channel();
        let queue = self.queues.entry(holders.clone()).or_insert_with(|| {
            self.order.push_back(holders);
            VecDeque::new()
        });
        // Those who wait no more are forgotten before more memory is taken.
        if queue.len() == queue.capacity() {
            queue.retain(|sender| !sender.is_closed());
        }
        queue.push_back(sender);
        receiver
    }

    /// Gives free places to those who wait. What is returned was wanted no more; it is to be
    /// dropped without the lock.
    fn grant(&mut self, pool: &Arc<Mutex<Self>>) -> Vec<Place<H>> {
        let (mut unwanted, mut passed) = (Vec::new(), 0);
        while passed < self.order.len() && self.taken < self.capacity {
            let Some(holders) = self.order.pop_front() else {
                break;
            };
            let Some(sender) = self.first_waiting(&holders) else {
                self.queues.remove(&holders);
                continue;
            };
            if self.admits(&holders).is_ok() {
                passed = 0;
                let place = self.enter(pool, holders.clone());
                unwanted.extend(sender.send(place).err());
            } else {
                passed += 1;
                if let Some(queue) = self.queues.get_mut(&holders) {
                    queue.push_front(sender);
                }
            }
            self.order.push_back(holders);
        }
        unwanted
    }

    /// Takes the first out of a queue who still waits.
    fn first_waiting(&mut self, holders: &[H]) -> Option<oneshot::Sender<Place<H>>> {
        let queue = self.queues.get_mut(holders)?;
        while let Some(sender) = queue.pop_front() {
            if !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }
}

impl<H: Holder> Drop for Place<H> {
    fn drop(&mut self) {
        let unwanted = {
            let mut state = lock(&self.pool);
            state.leave(&self.holders);
            state.grant(&self.pool)
        };
        drop(unwanted);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
