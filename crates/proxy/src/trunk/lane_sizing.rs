//! Asks the kernel about a trunk's lanes: how many there should be for what this end sends.

use std::{collections::HashMap, time::Duration};

use renkei_trunk::{LaneAdvice, LaneAdvisor, LaneId, LaneSample};
use tokio::time::Instant;

use super::{MAX_LANES, driver::Driver};
use crate::sockets::TcpInfo;

/// How often a busy trunk is looked at.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// A trunk without streams for this long rests.
pub(super) const REST: Duration = Duration::from_secs(2);

/// What was seen of the lanes at the last look.
pub(super) struct LaneSizing {
    advisor: LaneAdvisor,
    last: Instant,
    seen: HashMap<LaneId, TcpInfo>,
    wanted: usize,
}

impl LaneSizing {
    pub(super) fn new() -> Self {
        Self {
            advisor: LaneAdvisor::new(MAX_LANES),
            last: Instant::now(),
            seen: HashMap::new(),
            wanted: 1,
        }
    }

    /// The trunk has had no streams for a while. If lanes have lost segments, one lane is wanted
    /// from now on and what was seen is forgotten; says whether that is so.
    pub(super) fn rest(&mut self) -> bool {
        let lossy = self.seen.values().any(TcpInfo::has_lost);
        if lossy {
            *self = Self::new();
        }
        lossy
    }

    /// The trunk has no streams now.
    pub(super) fn pause(&mut self) {
        self.advisor.pause();
    }

    /// How many lanes this end wants; looks at them once in an interval.
    pub(super) fn wanted(&mut self, driver: &Driver) -> usize {
        let passed = self.last.elapsed();
        if passed < TICK {
            return self.wanted;
        }
        self.last = Instant::now();
        self.advisor.limit(driver.context.max_lanes());
        let sockets = driver.act(|core, _| {
            let lanes = core.lanes.iter();
            let ready = lanes.filter(|(id, lane)| lane.fate.is_none() && core.trunk.carries(**id));
            ready
                .map(|(id, lane)| (*id, lane.socket.clone()))
                .collect::<Vec<_>>()
        });
        let infos = sockets.into_iter().filter_map(|(id, socket)| {
            let info = TcpInfo::of(&socket)?;
            Some((id, info))
        });
        let seen: HashMap<LaneId, TcpInfo> = infos.collect();
        let samples: Vec<LaneSample> = seen
            .iter()
            .filter_map(|(id, info)| Some(info.since(self.seen.get(id)?)))
            .collect();
        self.seen = seen;
        self.wanted = match self.advisor.advise(passed, &samples) {
            LaneAdvice::Grow(count) => samples.len() + count,
            LaneAdvice::Shrink(count) => samples.len().saturating_sub(count).max(1),
            LaneAdvice::Keep => return self.wanted,
        };
        tracing::debug!(self.wanted, ?samples, "lanes");
        self.wanted
    }
}

#[cfg(test)]
mod tests {
    use renkei_trunk::{Config, Trunk, TrunkId};

    use super::*;

    #[test]
    fn only_lanes_that_lost_segments_are_given_up_at_rest() {
        let now = std::time::Instant::now();
        let mut trunk = Trunk::dial(now, Config::default(), TrunkId([0; 16]), "a b");
        let lane = trunk.add_lane(now, "a b").unwrap();
        let mut sizing = LaneSizing::new();
        sizing.wanted = 16;
        sizing.seen.insert(lane, TcpInfo::default());
        assert!(!sizing.rest());
        assert_eq!(sizing.wanted, 16);
        for info in sizing.seen.values_mut() {
            info.retransmitted = 1;
        }
        assert!(sizing.rest());
        assert_eq!(sizing.wanted, 1);
    }
}
