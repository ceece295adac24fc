//! Trunks between sites: all connections of one caller to one callee share a set of lanes
//! (docs/trunk.md). The protocol is `renkei-trunk`'s; here are its sockets, tasks and certificates.
//!
//! ```text
//!  TrunkStream ─┐                     ┌─ lane (TLS) ─┐
//!  TrunkStream ─┼─ Driver (the state ─┼─ lane (TLS) ─┼─ the other site
//!  TrunkStream ─┘  machine, a lock)   └─ lane (TLS) ─┘
//! ```
//!
//! - [`Connector::open`] gives a stream to a callee, and dials the trunk for it where there is none.
//! - [`Acceptor::join`] takes a connection as a lane. The first lane of a trunk brings its
//!   [`TrunkEvents`], from which the streams are pulled: each is accepted or refused.
//!
//! Every lane is a TLS session of its own, verified like any connection; a trunk takes lanes of
//! one caller and one callee only. What the streams carry, and who may open them, is not known
//! here.

mod acceptor;
mod certificates;
mod connector;
mod core;
mod driver;
mod events;
mod handle;
mod lane;
mod lane_sizing;
mod lane_use;
mod lane_writer;
mod memory_budget;
mod panic;
mod standing;
mod stream;
mod timer;
mod trunk_table;
mod writer_slot;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use renkei_runtime::drain::DrainWatch;
use renkei_spiffe::Identities;
use renkei_trunk::Config;
use rustls::crypto::CryptoProvider;
use tokio::sync::watch;

use crate::identity::Withdrawn;
use memory_budget::MemoryBudget;

pub(crate) use acceptor::Acceptor;
pub(crate) use connector::{
    Connector, DialError, LaneConnection, LaneDialer, OpenError, TrunkFailure,
};
pub(crate) use driver::Driver;
pub(crate) use events::{IncomingStream, TrunkEvent, TrunkEvents};
pub(crate) use handle::TrunkHandle;
pub(crate) use stream::{StreamRefused, TrunkStream};
pub(crate) use trunk_table::TrunkTable;

/// Lanes of one trunk at once, at most.
const MAX_LANES: usize = 16;
/// How long the streams of a trunk without valid certificates wait for lanes with newer ones.
pub(crate) const NEXT_SVID: Duration = Duration::from_secs(5);
const MIB: u64 = 1024 * 1024;

/// What every stream may always have unread at its receiver.
const LEAST_WINDOW: u64 = 64 * 1024;
/// Streams of one trunk at once.
const STREAMS: u64 = 8 * 1024;

/// How the protocol names (RFC 7301) of lanes end on which each end takes the other's key updates.
/// The release before this one ends a lane on an update, and knows only names that end with `/1`.
const WITH_KEY_UPDATE: &[u8] = b"/1.1";

/// Whether both ends of a lane with this name take key updates (RFC 8446 4.6.3).
pub(crate) fn takes_key_update(alpn: &[u8]) -> bool {
    alpn.ends_with(WITH_KEY_UPDATE)
}

/// The time that trunks act by: that of the runtime, which wakes them.
fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

/// Bounds of all trunks of a proxy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TrunkLimits {
    /// Bytes that they may hold together, for their applications and for their peers.
    pub(crate) memory: u64,
    /// How long the streams of a trunk wait when every lane is lost.
    pub(crate) grace: Duration,
    /// How long an open trunk waits for the bundle of its peer.
    pub(crate) bundle_grace: Duration,
    /// How long the other end may take for the first frame of a lane.
    pub(crate) handshake_timeout: Duration,
    /// How long the keys of its lanes are used.
    pub(crate) keys: KeyLimits,
}

/// How long the keys of a lane are used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyLimits {
    /// Records that a key seals, where the peer takes another.
    pub(crate) records_per_key: u64,
    /// Records in one direction with one key after which a lane is replaced.
    pub(crate) records_per_lane: u64,
}

/// What all trunks of a proxy share.
#[derive(Debug)]
pub(crate) struct TrunkContext {
    pub(crate) identities: watch::Receiver<Arc<Identities>>,
    pub(crate) drain: DrainWatch,
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) limits: TrunkLimits,
    /// All trunks, for those who look at them.
    pub(crate) table: Arc<TrunkTable>,
    /// Bundles that open trunks still wait for.
    pub(crate) withdrawn: Arc<Withdrawn>,
    budget: Arc<MemoryBudget>,
    max_lanes: AtomicUsize,
}

impl TrunkContext {
    pub(crate) fn new(
        identities: watch::Receiver<Arc<Identities>>,
        drain: DrainWatch,
        provider: Arc<CryptoProvider>,
        limits: TrunkLimits,
    ) -> Arc<Self> {
        Arc::new(Self {
            identities,
            drain,
            provider,
            table: Arc::default(),
            withdrawn: Arc::new(Withdrawn::new(limits.bundle_grace)),
            budget: Arc::new(MemoryBudget::new(limits.memory)),
            max_lanes: AtomicUsize::new(MAX_LANES),
            limits,
        })
    }

    /// From now on no trunk has more lanes than that, if it is said.
    pub(crate) fn limit_lanes(&self, max_lanes: Option<usize>) {
        let max_lanes = max_lanes.unwrap_or(MAX_LANES).clamp(1, MAX_LANES);
        self.max_lanes.store(max_lanes, Ordering::Relaxed);
    }

    fn max_lanes(&self) -> usize {
        self.max_lanes.load(Ordering::Relaxed)
    }

    fn identities(&self) -> Arc<Identities> {
        self.identities.borrow().clone()
    }

    /// What a trunk holds and how long it waits. Half of the trunk's window is set aside for what
    /// every stream may have; the other half bounds what they may be granted beyond it, most of
    /// which is read as it comes. What waits for slow readers is far less.
    fn config(&self) -> Config {
        let trunk_window = self.limits.memory.clamp(2 * MIB, 4096 * MIB);
        let streams = STREAMS.min(trunk_window / 2 / LEAST_WINDOW);
        Config {
            limits: renkei_trunk::TrunkLimits {
                max_streams: u32::try_from(streams).unwrap_or(u32::MAX),
                stream_window: LEAST_WINDOW,
                trunk_window,
            },
            stream_window_max: 64 * MIB,
            unread: (256 * MIB).min(trunk_window / 4),
            send_buffer: usize::try_from((128 * MIB).min(trunk_window / 8)).unwrap_or(usize::MAX),
            max_lanes: MAX_LANES,
            grace: self.limits.grace,
            ..Config::default()
        }
    }
}
