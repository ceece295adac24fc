//! Trunks between sites: all connections of one caller to one callee share a set of lanes
//! (docs/trunk.md). The protocol is `renkei-trunk`'s; here are its sockets, tasks and identities.
//!
//! ```text
//!  TrunkStream ─┐                     ┌─ lane (TLS) ─┐
//!  TrunkStream ─┼─ Driver (the state ─┼─ lane (TLS) ─┼─ the other site
//!  TrunkStream ─┘  machine, a lock)   └─ lane (TLS) ─┘
//!                     │ events
//!                     ├─► manager: lanes come and go (dialer and acceptor have one each)
//!                     └─► taker: streams that the other end opens (acceptor)
//! ```
//!
//! Every lane is a TLS session of its own, verified like any connection; a trunk takes lanes of
//! one caller and one callee only.

mod acceptor;
mod census;
mod core;
mod dialer;
mod driver;
mod gauge;
mod lane;
mod ledger;
mod manager;
mod outlet;
mod panic;
mod record;
mod standing;
mod stream;
mod way;
mod writer_slot;

use std::time::Duration;

use renkei_trunk::Config;

use crate::Limits;

pub(crate) use acceptor::{Accepted, Caller, Taken, serve_lane};
pub(crate) use census::Census;
pub(crate) use dialer::{Dial, Dialed, Keeping, Raw, Slot, Trunks, establish};
pub(crate) use driver::Driver;
pub(crate) use lane::READS;
pub(crate) use ledger::Ledger;
pub(crate) use stream::{StreamRefused, TrunkStream};
pub(crate) use way::{Watch, Way};

/// A trunk whose streams carry bytes.
pub(crate) const ALPN_TRUNK: &[u8] = b"renkei-trunk/1";
/// A trunk whose streams carry Kafka sessions.
pub(crate) const ALPN_TRUNK_KAFKA: &[u8] = b"renkei-trunk-kafka/1";

/// Bytes of a DATA frame that fills a record.
pub(crate) const FULL_FRAME: usize = outlet::FULL_FRAME;
/// Lanes of one trunk at once.
const MAX_LANES: usize = 16;
/// How long the streams of a trunk without valid certificates wait for lanes with newer ones.
pub(crate) const NEXT_SVID: Duration = Duration::from_secs(5);
const MIB: u64 = 1024 * 1024;

/// What every stream may always have unread at its receiver.
const LEAST_WINDOW: u64 = 64 * 1024;
/// Streams of one trunk at once.
const STREAMS: u64 = 8 * 1024;

/// What a trunk holds and how patient it is. Half of the trunk's window is set aside for what every
/// stream may have; the other half bounds what they may be granted beyond it, most of which is read
/// as it comes. What waits for slow readers is far less.
fn config(limits: &Limits) -> Config {
    let trunk_window = limits.memory.clamp(2 * MIB, 4096 * MIB);
    let streams = STREAMS.min(trunk_window / 2 / LEAST_WINDOW);
    Config {
        limits: renkei_trunk::Limits {
            max_streams: u32::try_from(streams).unwrap_or(u32::MAX),
            stream_window: LEAST_WINDOW,
            trunk_window,
        },
        stream_window_max: 64 * MIB,
        unread: (256 * MIB).min(trunk_window / 4),
        send_buffer: usize::try_from((128 * MIB).min(trunk_window / 8)).unwrap_or(usize::MAX),
        max_lanes: MAX_LANES,
        grace: limits.grace,
        ..Config::default()
    }
}

/// Whether the other end chose a trunk.
pub(crate) fn is_trunk(alpn: Option<&[u8]>) -> bool {
    matches!(alpn, Some(ALPN_TRUNK | ALPN_TRUNK_KAFKA))
}
