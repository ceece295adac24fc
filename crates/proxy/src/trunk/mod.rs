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

pub use census::TrunkCount;

pub(crate) use acceptor::{Accepted, Caller, Taken, serve_lane};
pub(crate) use census::Census;
pub(crate) use dialer::{Dial, Dialed, Keeping, Raw, Slot, Trunks, establish};
pub(crate) use driver::Driver;
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

/// What a trunk holds and how patient it is. A stream may have 8 MiB under way from the start, so
/// that a short transfer over a long path does not wait for its window to grow.
fn config(limits: &Limits) -> Config {
    Config {
        limits: renkei_trunk::Limits {
            stream_window: 8 * MIB,
            trunk_window: 256 * MIB,
            ..Config::default().limits
        },
        stream_window_max: 64 * MIB,
        send_buffer: 128 << 20,
        max_lanes: MAX_LANES,
        grace: limits.grace,
        ..Config::default()
    }
}

/// Whether the other end chose a trunk.
pub(crate) fn is_trunk(alpn: Option<&[u8]>) -> bool {
    matches!(alpn, Some(ALPN_TRUNK | ALPN_TRUNK_KAFKA))
}
