//! How much connections may carry in a second: limits that many of them share, and the pace of each
//! that follows from them.
//!
//! A connection that has carried a part takes the next free time behind all others and waits for
//! it: a queue, in which many connections get the same share, and none is refused. What one waits
//! for stays with its sender, by the flow control of TCP and of trunks. A stream of a trunk that
//! waits holds up no other.

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use renkei_site::{Bandwidth, ProxyPart};
use renkei_spiffe::SpiffeId;
use tokio::time::{Instant, Sleep, sleep_until};

/// Time that was not used may be used later, up to this: timers wake late.
const BURST: Duration = Duration::from_millis(50);
/// A shorter wait is none: the runtime's timers are no finer.
const TICK: Duration = Duration::from_millis(1);
/// Bytes that a connection carries at once: what the limit lets pass in 5 ms, within bounds.
const PARTS_PER_SECOND: u64 = 200;
const LEAST_PART: u64 = 4 * 1024;
const MOST_PART: u64 = 256 * 1024;
/// Limits of callers that are over are looked for when there are as many.
const FORGET: usize = 64;

/// A direction of a connection between sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flowing {
    /// To the other site.
    Out,
    /// From the other site.
    In,
}

/// A limit that connections share, for each direction on its own.
#[derive(Debug, Default)]
pub(crate) struct BandwidthLimit {
    /// Bytes a second; 0 is no limit.
    rate: AtomicU64,
    out: Queue,
    back: Queue,
}

/// When the next part may be carried.
#[derive(Debug, Default)]
struct Queue(Mutex<Option<Instant>>);

impl BandwidthLimit {
    fn set(&self, bandwidth: Option<Bandwidth>) {
        let rate = bandwidth.map_or(0, Bandwidth::bytes_per_second);
        if self.rate.swap(rate, Ordering::Relaxed) != rate {
            for queue in [&self.out, &self.back] {
                *queue.next() = None;
            }
        }
    }

    fn rate(&self) -> Option<u64> {
        Some(self.rate.load(Ordering::Relaxed)).filter(|rate| *rate > 0)
    }

    fn queue(&self, flowing: Flowing) -> &Queue {
        match flowing {
            Flowing::Out => &self.out,
            Flowing::In => &self.back,
        }
    }

    /// When a part may be carried that comes behind all others.
    fn next(&self, flowing: Flowing) -> Option<Instant> {
        self.rate()?;
        *self.queue(flowing).next()
    }

    /// Enters what was carried; says when the next part may be.
    fn spend(&self, flowing: Flowing, bytes: usize) -> Option<Instant> {
        let rate = self.rate()?;
        let now = Instant::now();
        let mut next = self.queue(flowing).next();
        let unused = now.checked_sub(BURST).unwrap_or(now);
        let start = next.map_or(unused, |next| next.max(unused));
        let took = Duration::from_secs_f64(bytes as f64 / rate as f64);
        *next = Some(start + took);
        *next
    }
}

impl Queue {
    fn next(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pace of one connection.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    limits: Vec<Arc<BandwidthLimit>>,
    out: Turn,
    back: Turn,
}

/// What one direction of a connection waits for.
#[derive(Debug, Default)]
enum Turn {
    /// It has waited, or has not begun.
    #[default]
    Free,
    /// For the time that it has taken.
    Waits(Pin<Box<Sleep>>),
}

impl Pace {
    fn of(limits: Vec<Arc<BandwidthLimit>>) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Ready when a part may be carried; says how many bytes of it.
    pub(crate) fn poll_part(&mut self, cx: &mut Context<'_>, flowing: Flowing) -> Poll<usize> {
        let rates = self.limits.iter().filter_map(|limit| limit.rate());
        let Some(rate) = rates.min() else {
            return Poll::Ready(usize::MAX);
        };
        let turn = match flowing {
            Flowing::Out => &mut self.out,
            Flowing::In => &mut self.back,
        };
        if let Turn::Waits(sleep) = turn {
            ready!(sleep.as_mut().poll(cx));
            *turn = Turn::Free;
        } else {
            // Behind those that came before.
            let nexts = self.limits.iter().filter_map(|limit| limit.next(flowing));
            if let Some(mut sleep) = nexts.max().and_then(until)
                && sleep.as_mut().poll(cx).is_pending()
            {
                *turn = Turn::Waits(sleep);
                return Poll::Pending;
            }
        }
        let part = (rate / PARTS_PER_SECOND).clamp(LEAST_PART, MOST_PART);
        Poll::Ready(usize::try_from(part).unwrap_or(usize::MAX))
    }

    /// So many bytes have been carried: the next wait.
    pub(crate) fn spend(&mut self, flowing: Flowing, bytes: usize) {
        let nexts = self.limits.iter();
        let next = nexts.filter_map(|limit| limit.spend(flowing, bytes)).max();
        let turn = match flowing {
            Flowing::Out => &mut self.out,
            Flowing::In => &mut self.back,
        };
        if let Some(sleep) = next.and_then(until) {
            *turn = Turn::Waits(sleep);
        }
    }
}

/// The wait for a time, if it is one.
fn until(then: Instant) -> Option<Pin<Box<Sleep>>> {
    (then > Instant::now() + TICK).then(|| Box::pin(sleep_until(then)))
}

/// All limits of a proxy, which follow the site file: connections that are open, too.
#[derive(Debug, Default)]
pub(crate) struct Bandwidths {
    gateway: Arc<BandwidthLimit>,
    services: Mutex<BTreeMap<String, ServiceLimits>>,
}

#[derive(Debug, Default)]
struct ServiceLimits {
    all: Arc<BandwidthLimit>,
    of_each: Option<Bandwidth>,
    callers: HashMap<SpiffeId, Weak<BandwidthLimit>>,
    /// When to look for those that are over.
    forget: usize,
}

impl ServiceLimits {
    fn of(&mut self, caller: &SpiffeId) -> Arc<BandwidthLimit> {
        let known = self.callers.get(caller).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            if self.callers.len() >= self.forget.max(FORGET) {
                self.callers.retain(|_, limit| limit.strong_count() > 0);
                self.forget = self.callers.len() * 2;
            }
            let limit = Arc::new(BandwidthLimit::default());
            limit.set(self.of_each);
            self.callers.insert(caller.clone(), Arc::downgrade(&limit));
            limit
        })
    }
}

impl Bandwidths {
    /// From now on what the site file says.
    pub(crate) fn follow(&self, site: &ProxyPart) {
        let gateway = site.gateway.as_ref();
        self.gateway
            .set(gateway.and_then(|gateway| gateway.bandwidth));
        let mut services = self.services();
        for name in site.services.keys() {
            services.entry(name.clone()).or_default();
        }
        services.retain(|name, limits| {
            let service = site.services.get(name);
            limits
                .all
                .set(service.and_then(|service| service.bandwidth));
            limits.of_each = service.and_then(|service| service.caller_bandwidth);
            for limit in limits.callers.values().filter_map(Weak::upgrade) {
                limit.set(limits.of_each);
            }
            service.is_some()
        });
    }

    /// The pace of a connection with another site.
    pub(crate) fn pace(&self) -> Pace {
        Pace::of(vec![self.gateway.clone()])
    }

    /// The pace of a caller's connection to a service of this site.
    pub(crate) fn pace_of(&self, service: &str, caller: &SpiffeId) -> Pace {
        let mut limits = vec![self.gateway.clone()];
        if let Some(service) = self.services().get_mut(service) {
            limits.extend([service.all.clone(), service.of(caller)]);
        }
        Pace::of(limits)
    }

    fn services(&self) -> MutexGuard<'_, BTreeMap<String, ServiceLimits>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
