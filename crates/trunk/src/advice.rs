//! How many lanes a trunk should have, from what the kernel says of those it has.
//!
//! A lane is *held back* when for a quarter of the interval its buffers, not its congestion window,
//! were the limit (`tcpi_sndbuf_limited`, `tcpi_rwnd_limited`), and *pressed* when it is held back
//! or bytes wait unsent at its end (`tcpi_notsent_bytes`): more lanes then mean more buffers, and
//! more congestion windows that a lost packet leaves alone.
//!
//! ```text
//!     most lanes pressed, no queue             once the new lanes are up to speed
//!   Steady ───────────────────────► Trial(goodput before) ──┬─ 10 % more: Steady, may grow again
//!     ▲  │ long unpressed and                               ├─ lossy: the same
//!     │  └ little to carry: Shrink(1)                       └─ else: Shrink(added), Plateau
//!     └──────────── after HOLD intervals ───────── Plateau ◄─┘
//! ```
//!
//! Growing doubles the lanes; when all are held back, or lose segments, it makes four of each, so
//! that sixteen are reached in two trials. Windows that losses keep small are the clearest case
//! for more of them, and goodput that jumps with every loss proves nothing against it. Lanes that
//! are only pressed, and still become faster by themselves, are left to do so.
//!
//! A path whose queue is filling carries what it can: round trips are half as long again, and 2 ms
//! more, as the least of the last minutes (`tcpi_min_rtt`). More lanes would only overflow it
//! together, and segments lost there are no sign of a lossy path. On a short path a receiver that
//! does not keep up looks as full buffers do, and lanes are not grown: no buffer holds back a
//! stream there.

use std::{collections::VecDeque, time::Duration};

/// Bytes waiting unsent that press a lane.
const UNSENT: u64 = 64 * 1024;
/// Intervals before a trial is judged, and round trips: new lanes are still in slow start.
const SETTLE: u32 = 3;
const SETTLE_TRIPS: u32 = 14;
/// Intervals whose goodput is averaged.
const WINDOW: usize = 3;
/// Intervals before growing is tried again after it gained nothing.
const HOLD: u32 = 100;
/// Intervals without pressure before a lane goes.
const IDLE: u32 = 50;
/// Goodput that has risen by this much has risen.
const RISE: f64 = 1.1;
/// Round trips of so many least ones, and longer by this, have waited in a queue.
const QUEUED: f64 = 1.5;
const JITTER: Duration = Duration::from_millis(2);
/// A path so short that the buffers of one connection carry more than a processor does.
const SHORT: Duration = Duration::from_millis(1);

/// What one lane did in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneSample {
    /// Bytes the peer's kernel acknowledged (the difference of `tcpi_bytes_acked`), or where that
    /// is not known, bytes written.
    pub goodput: u64,
    /// The difference of `tcpi_sndbuf_limited`.
    pub sndbuf_limited: Duration,
    /// The difference of `tcpi_rwnd_limited`.
    pub rwnd_limited: Duration,
    /// `tcpi_notsent_bytes` at the end of the interval.
    pub notsent: u64,
    /// `tcpi_rtt` at the end of the interval.
    pub round_trip: Duration,
    /// `tcpi_min_rtt` at the end of the interval.
    pub least_round_trip: Duration,
    /// The difference of `tcpi_total_retrans`.
    pub retransmitted: u64,
}

impl LaneSample {
    fn held_back(&self, interval: Duration) -> bool {
        self.sndbuf_limited + self.rwnd_limited >= interval / 4
    }

    fn pressed(&self, interval: Duration) -> bool {
        self.round_trip >= SHORT && (self.held_back(interval) || self.notsent >= UNSENT)
    }
}

/// What to do with the number of lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneAdvice {
    /// Add that many.
    Grow(usize),
    /// As many lanes as now.
    Keep,
    /// Drain that many.
    Shrink(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Steady,
    Trial {
        before: f64,
        added: usize,
        /// Intervals until it is judged.
        intervals: u32,
        /// Segments were lost meanwhile.
        lossy: bool,
    },
    Plateau {
        intervals: u32,
    },
}

/// Gives advice once per interval; 100 ms is a good one.
#[derive(Clone, Debug)]
pub struct LaneAdvisor {
    max_lanes: usize,
    state: State,
    /// Goodput per second of the last intervals: a window, and the one before it.
    recent: VecDeque<f64>,
    /// Goodput per second while the lanes were pressed: what the path can do.
    capacity: f64,
    unpressed: u32,
}

impl LaneAdvisor {
    /// Never advises more than `max_lanes` (16 is customary).
    #[must_use]
    pub fn new(max_lanes: usize) -> Self {
        Self {
            max_lanes: max_lanes.max(1),
            state: State::Steady,
            recent: VecDeque::new(),
            capacity: 0.0,
            unpressed: 0,
        }
    }

    /// From now on advises no more than `max_lanes`.
    pub fn limit(&mut self, max_lanes: usize) {
        self.max_lanes = max_lanes.max(1);
    }

    /// Advice after an interval, from one sample for each lane that was ready throughout.
    pub fn advise(&mut self, interval: Duration, samples: &[LaneSample]) -> LaneAdvice {
        let lanes = samples.len();
        let count = |test: fn(&LaneSample, Duration) -> bool| {
            let tested = samples.iter().filter(|sample| test(sample, interval));
            tested.count()
        };
        let pressed = count(LaneSample::pressed);
        let goodput = self.average(interval, samples);
        self.unpressed = match pressed {
            0 => self.unpressed.saturating_add(1),
            _ => 0,
        };
        if pressed > 0 {
            self.capacity = self.capacity.max(goodput);
        }
        let queued = is_queued(samples);
        let lossy = !queued && samples.iter().any(|sample| sample.retransmitted > 0);
        if let Some(advice) = self.judge(goodput, lanes, lossy) {
            return advice;
        }
        let held_back = count(LaneSample::held_back);
        let sure = held_back == lanes || lossy;
        let stuck = sure || held_back * 2 > lanes || !self.rises();
        let narrow = pressed * 2 > lanes && stuck && !queued;
        if self.state == State::Steady && narrow && lanes < self.max_lanes {
            let wanted = if sure { lanes * 3 } else { lanes };
            let added = wanted.min(self.max_lanes - lanes);
            let slowest = samples.iter().map(|sample| sample.round_trip).max();
            let settling = slowest.unwrap_or_default() * SETTLE_TRIPS;
            self.state = State::Trial {
                before: goodput,
                added,
                intervals: intervals(settling, interval).max(SETTLE),
                lossy,
            };
            self.recent.clear();
            return LaneAdvice::Grow(added);
        }
        if lanes > 1 && self.unpressed >= IDLE && goodput * 2.0 <= self.capacity {
            self.unpressed = 0;
            self.state = State::Steady;
            return LaneAdvice::Shrink(1);
        }
        LaneAdvice::Keep
    }

    /// Nothing is carried now. A trial that this cuts short proves nothing: what comes next,
    /// from its slow start on, would be judged by what was before.
    pub fn pause(&mut self) {
        if matches!(self.state, State::Trial { .. }) {
            self.state = State::Steady;
        }
        self.recent.clear();
    }

    /// Goodput per second over the last intervals.
    fn average(&mut self, interval: Duration, samples: &[LaneSample]) -> f64 {
        let bytes: u64 = samples.iter().map(|sample| sample.goodput).sum();
        if self.recent.len() == 2 * WINDOW {
            self.recent.pop_front();
        }
        self.recent
            .push_back(bytes as f64 / interval.as_secs_f64().max(1e-6));
        let last = self.recent.iter().rev().take(WINDOW);
        last.sum::<f64>() / self.recent.len().min(WINDOW) as f64
    }

    /// Whether goodput still rises, as far as is known.
    fn rises(&self) -> bool {
        let sum = |intervals: &mut dyn Iterator<Item = &f64>| intervals.take(WINDOW).sum::<f64>();
        let before = sum(&mut self.recent.iter());
        let last = sum(&mut self.recent.iter().rev());
        self.recent.len() < 2 * WINDOW || last >= before * RISE
    }

    /// Moves a trial or a plateau on; `None` when other rules may speak.
    fn judge(&mut self, goodput: f64, lanes: usize, lossy: bool) -> Option<LaneAdvice> {
        match self.state {
            State::Steady => None,
            State::Plateau { intervals } if intervals >= HOLD => {
                self.state = State::Steady;
                None
            }
            State::Plateau { intervals } => {
                self.state = State::Plateau {
                    intervals: intervals + 1,
                };
                None
            }
            State::Trial {
                before,
                added,
                intervals,
                lossy: earlier,
            } if intervals > 0 => {
                self.state = State::Trial {
                    before,
                    added,
                    intervals: intervals - 1,
                    lossy: earlier || lossy,
                };
                Some(LaneAdvice::Keep)
            }
            State::Trial { before, lossy, .. } if lossy || goodput >= before * RISE => {
                self.state = State::Steady;
                None
            }
            State::Trial { added, .. } => {
                self.state = State::Plateau { intervals: 0 };
                // An application that has stopped writing proves nothing.
                let proven = self.unpressed == 0 && lanes > added;
                Some(match proven {
                    true => LaneAdvice::Shrink(added),
                    false => LaneAdvice::Keep,
                })
            }
        }
    }
}

/// Whether most lanes' round trips have waited in a queue on the path that they share.
fn is_queued(samples: &[LaneSample]) -> bool {
    let known = samples.iter().map(|sample| sample.least_round_trip);
    let Some(least) = known.filter(|trip| !trip.is_zero()).min() else {
        return false;
    };
    let waited = |sample: &&LaneSample| sample.round_trip >= least.mul_f64(QUEUED) + JITTER;
    samples.iter().filter(waited).count() * 2 > samples.len()
}

/// How many intervals a time takes.
fn intervals(time: Duration, interval: Duration) -> u32 {
    let count = time.as_secs_f64() / interval.as_secs_f64().max(1e-6);
    count.ceil().min(f64::from(HOLD)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(100);

    /// A path on which each lane carries `lane` bytes per interval, and all together `path`.
    fn run(advisor: &mut LaneAdvisor, lanes: &mut usize, lane: u64, path: u64, intervals: u32) {
        for _ in 0..intervals {
            let goodput = lane.min(path / *lanes as u64);
            let limited = if goodput == lane {
                INTERVAL
            } else {
                Duration::ZERO
            };
            let notsent = 2 * UNSENT;
            let sample = LaneSample {
                goodput,
                sndbuf_limited: limited,
                notsent,
                round_trip: Duration::from_millis(20),
                ..Default::default()
            };
            match advisor.advise(INTERVAL, &vec![sample; *lanes]) {
                LaneAdvice::Grow(n) => *lanes += n,
                LaneAdvice::Shrink(n) => *lanes -= n,
                LaneAdvice::Keep => {}
            }
        }
    }

    #[test]
    fn a_trunk_held_back_by_buffers_reaches_sixteen_lanes_within_two_seconds() {
        let (mut advisor, mut lanes) = (LaneAdvisor::new(16), 1);
        run(&mut advisor, &mut lanes, 100_000, u64::MAX, 20);
        assert_eq!(lanes, 16);
        run(&mut advisor, &mut lanes, 100_000, u64::MAX, 1000);
        assert_eq!(lanes, 16, "and never more");
    }

    #[test]
    fn a_trial_that_a_pause_cuts_short_condemns_no_lanes() {
        let (mut advisor, mut lanes) = (LaneAdvisor::new(16), 1);
        while lanes == 1 {
            run(&mut advisor, &mut lanes, 100_000, u64::MAX, 1);
        }
        let tried = lanes;
        advisor.pause();
        run(&mut advisor, &mut lanes, 5_000, u64::MAX, 6);
        assert!(lanes >= tried, "{lanes} lanes at a slow start");
        run(&mut advisor, &mut lanes, 100_000, u64::MAX, 20);
        assert_eq!(lanes, 16);
    }

    #[test]
    fn lanes_that_bring_nothing_are_not_added_without_end() {
        let (mut advisor, mut lanes) = (LaneAdvisor::new(16), 1);
        run(&mut advisor, &mut lanes, 100_000, 200_000, 50);
        assert!(
            (1..=4).contains(&lanes),
            "{lanes} lanes for a path that two fill"
        );
    }

    #[test]
    fn losses_are_met_with_lanes_even_when_goodput_jumps() {
        let (mut advisor, mut lanes) = (LaneAdvisor::new(16), 1);
        for round in 0..30u64 {
            let sample = LaneSample {
                goodput: 1_000_000 / (round % 3 + 1) / lanes as u64,
                notsent: 2 * UNSENT,
                round_trip: Duration::from_millis(23),
                retransmitted: round % 2,
                ..Default::default()
            };
            if let LaneAdvice::Grow(n) = advisor.advise(INTERVAL, &vec![sample; lanes]) {
                lanes += n;
            }
        }
        assert_eq!(lanes, 16);
    }

    #[test]
    fn losses_of_a_full_queue_bring_no_lanes() {
        let mut advisor = LaneAdvisor::new(16);
        let sample = LaneSample {
            goodput: 60_000_000,
            notsent: 2 * UNSENT,
            round_trip: Duration::from_millis(60),
            least_round_trip: Duration::from_millis(23),
            retransmitted: 100,
            ..Default::default()
        };
        for _ in 0..1000 {
            assert_eq!(advisor.advise(INTERVAL, &[sample]), LaneAdvice::Keep);
        }
    }

    #[test]
    fn a_lane_that_still_becomes_faster_is_left_to_do_so() {
        let mut advisor = LaneAdvisor::new(16);
        let mut sample = LaneSample {
            goodput: 1_000_000,
            notsent: 2 * UNSENT,
            round_trip: Duration::from_millis(23),
            ..Default::default()
        };
        for _ in 0..30 {
            sample.goodput = sample.goodput * 5 / 4;
            assert_eq!(advisor.advise(INTERVAL, &[sample]), LaneAdvice::Keep);
        }
        let asked = (0..6).map(|_| advisor.advise(INTERVAL, &[sample]));
        assert!(asked.collect::<Vec<_>>().contains(&LaneAdvice::Grow(1)));
    }

    #[test]
    fn a_slow_reader_nearby_gets_no_more_lanes() {
        let mut advisor = LaneAdvisor::new(16);
        let sample = LaneSample {
            goodput: 50_000_000,
            rwnd_limited: INTERVAL,
            notsent: 10 * UNSENT,
            round_trip: Duration::from_micros(80),
            ..Default::default()
        };
        for _ in 0..1000 {
            assert_eq!(advisor.advise(INTERVAL, &[sample]), LaneAdvice::Keep);
        }
    }

    #[test]
    fn idle_lanes_go_one_by_one() {
        let (mut advisor, mut lanes) = (LaneAdvisor::new(8), 1);
        run(&mut advisor, &mut lanes, 100_000, u64::MAX, 40);
        for _ in 0..8 * IDLE {
            let idle = vec![LaneSample::default(); lanes];
            if advisor.advise(INTERVAL, &idle) == LaneAdvice::Shrink(1) {
                lanes -= 1;
            }
        }
        assert_eq!(lanes, 1);
    }

    #[test]
    fn an_application_that_writes_little_stays_on_one_lane() {
        let mut advisor = LaneAdvisor::new(16);
        let sample = LaneSample {
            goodput: 50_000,
            ..Default::default()
        };
        for _ in 0..1000 {
            assert_eq!(advisor.advise(INTERVAL, &[sample]), LaneAdvice::Keep);
        }
    }
}
