//! What the first frame of a lane says, before the lane belongs to a trunk.

use crate::config::TrunkLimits;
use crate::id::{LaneId, TrunkId};

/// What a HELLO says. The dialer's names the trunk; the acceptor's answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The trunk that the lane belongs to.
    pub trunk: TrunkId,
    /// The acceptor's name for its own memory of the trunk; 0 from a dialer that has not been
    /// answered yet. An acceptor that was restarted has another one, and so is found out.
    pub incarnation: u64,
    /// The lane's number.
    pub lane: LaneId,
    /// Every lane of a lower number is over for the sender.
    pub oldest: LaneId,
    /// What the sender grants.
    pub limits: TrunkLimits,
}
