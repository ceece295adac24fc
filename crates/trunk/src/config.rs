//! What one end allows the other, and how patient it is.

use std::time::Duration;

/// The least window or count that a HELLO may announce: what a dialer may buffer before it has
/// heard the acceptor's.
pub(crate) const LEAST: TrunkLimits = TrunkLimits {
    max_streams: 16,
    stream_window: 16 * 1024,
    trunk_window: 64 * 1024,
};

/// The most that a HELLO may announce.
pub(crate) const MOST: TrunkLimits = TrunkLimits {
    max_streams: 1 << 20,
    stream_window: 1 << 30,
    trunk_window: 1 << 32,
};

/// What a receiver grants its peer; each end announces its own in its HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrunkLimits {
    /// Streams of the peer's making that may live at once (16 to 2^20).
    pub max_streams: u32,
    /// Bytes a stream may send before its first acknowledgement (16 KiB to 1 GiB), and the least
    /// that it may always have unread. Those of `max_streams` should fit into half of
    /// `trunk_window`.
    pub stream_window: u64,
    /// Bytes all streams together may have unread at the receiver (64 KiB to 4 GiB).
    pub trunk_window: u64,
}

impl TrunkLimits {
    /// These limits, brought within what a HELLO may announce.
    pub(crate) fn bounded(self) -> Self {
        Self {
            max_streams: self.max_streams.clamp(LEAST.max_streams, MOST.max_streams),
            stream_window: self
                .stream_window
                .clamp(LEAST.stream_window, MOST.stream_window),
            trunk_window: self
                .trunk_window
                .clamp(LEAST.trunk_window, MOST.trunk_window),
        }
    }

    pub(crate) fn in_bounds(self) -> bool {
        self == self.bounded()
    }
}

/// Settings of one end of a trunk. Values outside what a HELLO may announce are brought within.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// What the peer is granted from the start.
    pub limits: TrunkLimits,
    /// How far the window of a stream that is read quickly grows.
    pub stream_window_max: u64,
    /// Bytes unread in all streams at which windows grow no more; the more there are, the less a
    /// window may be.
    pub unread: u64,
    /// Bytes written by the application that the trunk keeps, unsent or unacknowledged.
    pub send_buffer: usize,
    /// Bytes of one stream that no lane has had: with more of them its application waits, and
    /// they wait in its own socket rather than here.
    pub ahead: u64,
    /// Lanes at once.
    pub max_lanes: usize,
    /// A lane that is silent for this long is asked whether it lives.
    pub keep_alive: Duration,
    /// The same, for a lane that carries unacknowledged bytes.
    pub probe: Duration,
    /// A lane that does not answer within this time, or does not greet, is dead.
    pub dead_after: Duration,
    /// How long the streams wait for a lane when there is none.
    pub grace: Duration,
    /// How long an acknowledgement of few bytes may wait for more.
    pub ack_delay: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: TrunkLimits {
                max_streams: 16 * 1024,
                stream_window: 256 * 1024,
                trunk_window: 64 << 20,
            },
            stream_window_max: 32 << 20,
            unread: 64 << 20,
            send_buffer: 64 << 20,
            ahead: 512 * 1024,
            max_lanes: 16,
            keep_alive: Duration::from_secs(15),
            probe: Duration::from_secs(2),
            dead_after: Duration::from_secs(5),
            grace: Duration::from_secs(30),
            ack_delay: Duration::from_millis(20),
        }
    }
}

impl Config {
    pub(crate) fn bounded(mut self) -> Self {
        self.limits = self.limits.bounded();
        let most = MOST.stream_window;
        self.stream_window_max = self
            .stream_window_max
            .clamp(self.limits.stream_window, most);
        self.max_lanes = self.max_lanes.max(1);
        self.ahead = self.ahead.max(LEAST.stream_window);
        self
    }
}
