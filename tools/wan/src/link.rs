//! One direction of the path: reads packets from one device, holds each until it is due, writes it
//! to the other.

use std::{
    fs::File,
    io::{Read, Write},
    ops::Range,
    os::fd::AsFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    packet::{LARGEST, Packet},
    packet_queue::PacketQueue,
    path::Path,
};

/// Packets read before those that are due are looked at again.
const BATCH: usize = 16;
/// How often a link without packets looks at whether it has to end.
const IDLE: Duration = Duration::from_millis(50);

/// What both directions and the owner share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) path: Mutex<Path>,
    /// Counts changes of the path.
    pub(crate) generation: AtomicU64,
    pub(crate) born: Instant,
    /// Until when the path is cut, in nanoseconds since `born`.
    pub(crate) cut_until: AtomicU64,
    pub(crate) ended: AtomicBool,
    pub(crate) carried: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) overflowed: AtomicU64,
    pub(crate) cut: AtomicU64,
}

impl Shared {
    pub(crate) fn path(&self) -> Path {
        self.path
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn is_cut(&self, now: Instant) -> bool {
        let until = self.cut_until.load(Relaxed);
        until != 0 && now.duration_since(self.born).as_nanos() < u128::from(until)
    }
}

/// A direction with its packets under way.
#[derive(Debug)]
pub(crate) struct Link {
    shared: Arc<Shared>,
    from: Arc<File>,
    to: Arc<File>,
    path: Path,
    generation: u64,
    loss: crate::loss::LossProcess,
    random: fastrand::Rng,
    queue: PacketQueue,
    /// When the rate limit has sent all that was admitted.
    idle_from: Instant,
    latest_due: Instant,
    piece: Vec<u8>,
    discard: Vec<u8>,
}

impl Link {
    pub(crate) fn new(
        shared: Arc<Shared>,
        from: Arc<File>,
        to: Arc<File>,
        mut random: fastrand::Rng,
    ) -> Self {
        let path = shared.path();
        Self {
            generation: shared.generation.load(Relaxed),
            loss: crate::loss::LossProcess::new(path.loss, path.burst, random.fork()),
            queue: PacketQueue::new(path.in_flight),
            idle_from: shared.born,
            latest_due: shared.born,
            piece: Vec::with_capacity(LARGEST),
            discard: vec![0; LARGEST],
            shared,
            from,
            to,
            path,
            random,
        }
    }

    /// Carries packets until the owner ends it.
    pub(crate) fn carry(mut self) {
        while !self.shared.ended.load(Relaxed) {
            self.follow_path();
            self.deliver(Instant::now());
            if self.read_batch() == 0 {
                self.wait();
            }
        }
    }

    /// Takes over a changed path.
    fn follow_path(&mut self) {
        let generation = self.shared.generation.load(Relaxed);
        if generation == self.generation {
            return;
        }
        self.generation = generation;
        let path = self.shared.path();
        if (path.loss, path.burst) != (self.path.loss, self.path.burst) {
            let random = self.random.fork();
            self.loss = crate::loss::LossProcess::new(path.loss, path.burst, random);
        }
        self.path = path;
    }

    /// Reads what the device has, up to a batch; gives how many packets there were.
    fn read_batch(&mut self) -> usize {
        for count in 0..BATCH {
            let Some(room) = self.queue.room() else {
                match (&*self.from).read(&mut self.discard) {
                    Ok(1..) => self.shared.overflowed.fetch_add(1, Relaxed),
                    Ok(0) | Err(_) => return count,
                };
                continue;
            };
            match (&*self.from).read(room) {
                Ok(length @ 1..) => self.admit(length, Instant::now()),
                Ok(0) | Err(_) => return count,
            }
        }
        BATCH
    }

    /// Decides the fate of the packet that was just read.
    fn admit(&mut self, length: usize, now: Instant) {
        let Some(bytes) = self.queue.room().and_then(|room| room.get(..length)) else {
            return;
        };
        let packet = Packet::parse(bytes);
        let (segments, size) = (packet.segments(), packet.segment_bytes());
        if self.shared.is_cut(now) {
            self.shared.cut.fetch_add(segments as u64, Relaxed);
            return;
        }
        let admitted = self.limit(segments, size, now);
        let kept = self.fate(admitted, segments);
        if kept.as_ref().is_some_and(Vec::is_empty) {
            return;
        }
        let due = self.idle_from.max(now) + self.path.rtt / 2 + self.jitter();
        self.latest_due = self.latest_due.max(due);
        self.queue.push(length, self.latest_due, kept);
    }

    /// How many of the segments the queue before the rate limit takes.
    fn limit(&mut self, segments: usize, size: usize, now: Instant) -> usize {
        let Some(rate) = self.path.rate else {
            return segments;
        };
        let backlog = self.idle_from.saturating_duration_since(now);
        let waiting = (backlog.as_secs_f64() * rate as f64 / 8.0) as u64;
        let room = self.path.queue_at(rate).saturating_sub(waiting);
        let fitting = usize::try_from(room).unwrap_or(usize::MAX) / size.max(1);
        let admitted = segments.min(fitting);
        let bits = (admitted * size) as f64 * 8.0;
        self.idle_from = self.idle_from.max(now) + Duration::from_secs_f64(bits / rate as f64);
        let dropped = (segments - admitted) as u64;
        self.shared.overflowed.fetch_add(dropped, Relaxed);
        admitted
    }

    /// Which of the segments survive; `None` when all do.
    fn fate(&mut self, admitted: usize, segments: usize) -> Option<Vec<Range<usize>>> {
        if admitted == segments && self.loss.spares(segments) {
            return None;
        }
        let kept = self.loss.survivors(admitted);
        let alive: usize = kept.iter().map(ExactSizeIterator::len).sum();
        let lost = (admitted - alive) as u64;
        self.shared.lost.fetch_add(lost, Relaxed);
        (alive < segments).then_some(kept)
    }

    fn jitter(&mut self) -> Duration {
        if self.path.jitter.is_zero() {
            return Duration::ZERO;
        }
        self.path.jitter.mul_f64(self.random.f64())
    }

    /// Writes the packets that are due.
    fn deliver(&mut self, now: Instant) {
        let cut = self.shared.is_cut(now);
        let (mut carried, mut total) = (0, 0);
        while let Some((waiting, bytes)) = self.queue.first() {
            if waiting.due > now {
                break;
            }
            if cut {
                let segments = Packet::parse(bytes).segments() as u64;
                self.shared.cut.fetch_add(segments, Relaxed);
                self.queue.pop();
                continue;
            }
            carried += 1;
            total += bytes.len() as u64;
            match &waiting.kept {
                // A device that refuses a packet is a side that does not take it: it is lost there.
                None => drop((&*self.to).write(bytes)),
                Some(kept) => {
                    let packet = Packet::parse(bytes);
                    for range in kept {
                        if packet.piece(range.clone(), &mut self.piece) {
                            drop((&*self.to).write(&self.piece));
                        }
                    }
                }
            }
            self.queue.pop();
        }
        self.shared.carried.fetch_add(carried, Relaxed);
        self.shared.bytes.fetch_add(total, Relaxed);
    }

    /// Sleeps until a packet comes or is due.
    fn wait(&self) {
        let now = Instant::now();
        let due = self
            .queue
            .due()
            .map_or(IDLE, |due| due.saturating_duration_since(now));
        let Ok(timeout) = Timespec::try_from(due.min(IDLE)) else {
            return;
        };
        let mut devices = [PollFd::from_borrowed_fd(self.from.as_fd(), PollFlags::IN)];
        // An interrupted wait is a short one.
        let _ = poll(&mut devices, Some(&timeout));
    }
}
