//! Asks the kernel about a trunk's lanes, for advice how many there should be.

use std::collections::HashMap;

use renkei_trunk::{LaneAdvice, LaneAdvisor, LaneId, LaneSample};
use tokio::time::Instant;

use super::{MAX_LANES, dialer::TICK, driver::Driver, tcp_info::TcpInfo};

/// What was seen of the lanes at the last look.
pub(super) struct Gauge {
    advisor: LaneAdvisor,
    last: Instant,
    seen: HashMap<LaneId, TcpInfo>,
}

impl Gauge {
    pub(super) fn new() -> Self {
        Self {
            advisor: LaneAdvisor::new(MAX_LANES),
            last: Instant::now(),
            seen: HashMap::new(),
        }
    }

    /// Advice, once an interval has passed since the last.
    pub(super) fn advise(&mut self, driver: &Driver) -> Option<LaneAdvice> {
        let passed = self.last.elapsed();
        if passed < TICK {
            return None;
        }
        self.last = Instant::now();
        let outlets = driver.act(|core, _| {
            let lanes = core.lanes.iter();
            let ready = lanes.filter(|(id, lane)| lane.fate.is_none() && core.trunk.carries(**id));
            ready
                .map(|(id, lane)| (*id, lane.outlet.clone()))
                .collect::<Vec<_>>()
        });
        let infos = outlets.into_iter().filter_map(|(id, outlet)| {
            let info = outlet.look(TcpInfo::of)?;
            Some((id, info))
        });
        let seen: HashMap<LaneId, TcpInfo> = infos.collect();
        let samples: Vec<LaneSample> = seen
            .iter()
            .filter_map(|(id, info)| Some(info.since(self.seen.get(id)?)))
            .collect();
        self.seen = seen;
        let advice = self.advisor.advise(passed, &samples);
        if advice != LaneAdvice::Keep {
            tracing::debug!(?advice, ?samples, "lanes");
        }
        Some(advice)
    }
}
