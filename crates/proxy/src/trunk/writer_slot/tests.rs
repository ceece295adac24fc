//! Every order of events between a lane's task and those who give it something to send, tried by
//! loom. A wake-up that is lost is a deadlock, which loom reports.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use loom::{
    future::block_on,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::*;

/// What a driver's lock guards, as far as it matters here.
struct Core {
    slot: WriterSlot<Outlet>,
    /// Frames that no lane has had.
    frames: usize,
    /// Frames that TCP has taken, and how many there are to be.
    sent: usize,
    all: usize,
    /// The lane's fate is known.
    over: bool,
}

/// A connection that takes no more now and then.
struct Outlet {
    sealed: usize,
    /// How often it still takes nothing.
    full: usize,
}

enum Left {
    Blocked,
    Over,
}

#[derive(Clone)]
struct Driver(Arc<Mutex<Core>>);

impl Driver {
    fn new(all: usize, full: usize) -> Self {
        Self(Arc::new(Mutex::new(Core {
            slot: WriterSlot::new(Outlet { sealed: 0, full }),
            frames: 0,
            sent: 0,
            all,
            over: false,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.0.lock().unwrap()
    }

    /// As the product's `Outlet::push`: writes, and looks again under the lock before it rests.
    fn push(&self, mut outlet: Outlet) -> Option<(Outlet, Left)> {
        loop {
            if outlet.full > 0 && outlet.sealed > 0 {
                outlet.full -= 1;
                return Some((outlet, Left::Blocked));
            }
            let mut core = self.lock();
            core.sent += outlet.sealed;
            outlet.sealed = std::mem::take(&mut core.frames);
            if outlet.sealed == 0 {
                if core.over || core.sent == core.all {
                    return Some((outlet, Left::Over));
                }
                core.slot.rest(outlet);
                return None;
            }
        }
    }

    /// As the product's `Driver::with`: gives the lane a frame, and sends it if the lane rests.
    fn give(&self) {
        let claimed = {
            let mut core = self.lock();
            core.frames += 1;
            core.slot.claim()
        };
        if let Some((outlet, _)) = claimed.and_then(|outlet| self.push(outlet)) {
            let task = self.lock().slot.hand_to_task(outlet);
            task.into_iter().for_each(Waker::wake);
        }
    }

    /// The lane's fate is known: its task is to send what is left, and to end.
    fn end(&self) {
        let sleeper = {
            let mut core = self.lock();
            core.over = true;
            core.slot.sleeper()
        };
        sleeper.into_iter().for_each(Waker::wake);
    }

    /// As the product's lane task: ready when the lane is over.
    fn poll(&self, mine: &mut Option<Outlet>, cx: &mut Context<'_>) -> Poll<()> {
        let outlet = match mine.take() {
            Some(outlet) => Some(outlet),
            None => {
                let mut core = self.lock();
                let something = core.frames > 0 || core.over || core.sent == core.all;
                core.slot.claim_for_task(cx.waker(), something)
            }
        };
        match outlet.and_then(|outlet| self.push(outlet)) {
            None => Poll::Pending,
            Some((_, Left::Over)) => Poll::Ready(()),
            Some((outlet, Left::Blocked)) => {
                *mine = Some(outlet);
                // TCP takes bytes again.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn run(&self) {
        let mut mine = None;
        block_on(poll_fn(|cx| self.poll(&mut mine, cx)));
    }
}

fn every_order(test: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(test);
}

/// Others give the lane a frame each; it ends by itself once all are sent, and never if one is
/// forgotten. `full` is how often the connection takes nothing.
fn all_is_sent(senders: usize, full: usize) {
    every_order(move || {
        let driver = Driver::new(senders, full);
        let given: Vec<_> = (0..senders)
            .map(|_| {
                let driver = driver.clone();
                thread::spawn(move || driver.give())
            })
            .collect();
        driver.run();
        for given in given {
            given.join().unwrap();
        }
    });
}

#[test]
fn what_one_gives_while_another_writes_is_sent() {
    all_is_sent(2, 0);
}

#[test]
fn what_tcp_does_not_take_at_once_is_sent_by_the_task() {
    all_is_sent(2, 1);
}

#[test]
fn a_lane_whose_fate_is_known_while_another_writes_ends() {
    every_order(|| {
        let driver = Driver::new(usize::MAX, 0);
        let (giver, ender) = (driver.clone(), driver.clone());
        let given = thread::spawn(move || giver.give());
        let ended = thread::spawn(move || ender.end());
        driver.run();
        given.join().unwrap();
        ended.join().unwrap();
    });
}

/// A hand-over with a flaw, to see that the model finds it: the lane is marked as resting while
/// the one who marks it still holds the outlet.
struct MarkedEarly {
    core: Mutex<Marked>,
    sealed: Mutex<usize>,
    /// What a driver does besides, once it has let go of the lock.
    timer: AtomicUsize,
}

struct Marked {
    resting: Option<Waker>,
    frames: usize,
    sent: usize,
    all: usize,
}

impl MarkedEarly {
    /// Whether all is sent. Whoever finds the outlet in use leaves.
    fn push(&self, task: &Waker) -> Option<bool> {
        let mut sealed = self.sealed.try_lock().ok()?;
        loop {
            let mut core = self.core.lock().unwrap();
            core.sent += *sealed;
            *sealed = std::mem::take(&mut core.frames);
            let over = core.sent == core.all;
            if *sealed == 0 {
                core.resting = Some(task.clone());
            }
            drop(core);
            self.timer.fetch_add(1, Ordering::Relaxed);
            if *sealed == 0 {
                return Some(over);
            }
        }
    }

    fn give(&self) {
        let resting = {
            let mut core = self.core.lock().unwrap();
            core.frames += 1;
            core.resting.take()
        };
        if let Some(task) = resting
            && self.push(&task) != Some(false)
        {
            task.wake();
        }
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        match self.push(cx.waker()) {
            Some(true) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_mark_before_the_outlet_is_free_loses_a_wake_up() {
    every_order(|| {
        let lane = Arc::new(MarkedEarly {
            core: Mutex::new(Marked {
                resting: None,
                frames: 0,
                sent: 0,
                all: 2,
            }),
            sealed: Mutex::new(0),
            timer: AtomicUsize::new(0),
        });
        for _ in 0..2 {
            let lane = lane.clone();
            thread::spawn(move || lane.give());
        }
        block_on(poll_fn(|cx| lane.poll(cx)));
    });
}
