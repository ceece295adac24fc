//! The last bytes of a connection that ends with a reset. Closing a socket with a reset throws away
//! what waits in it, and over TCP alone the reader would have had those.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

use super::{Pump, Traffic, Transport};

/// How long the other end may take nothing of what is on its way to it.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(10);

/// Waits while something that waits becomes less.
#[derive(Debug)]
pub(crate) struct StallTimeout {
    left: Option<u64>,
    since: Instant,
}

impl StallTimeout {
    pub(crate) fn new() -> Self {
        let since = Instant::now();
        Self { left: None, since }
    }

    /// Whether to wait longer for what is `left`.
    pub(crate) fn lasts(&mut self, left: u64) -> bool {
        if self.left.replace(left) != Some(left) {
            self.since = Instant::now();
        }
        left > 0 && self.since.elapsed() < DELIVERY_TIMEOUT
    }
}

/// Ready when both sides have what was sent to them, or do not take it. What they send meanwhile
/// is dropped: one that sends and does not read would not take anything.
pub(super) async fn deliver<A: Transport, W: Transport>(
    app: &mut A,
    wan: &mut W,
    pumps: &mut (Pump, Pump),
    traffic: &Traffic,
) {
    let mut stall = StallTimeout::new();
    loop {
        let push = |cx: &mut Context<'_>| Poll::Ready(push(cx, app, wan, pumps, traffic));
        let left = poll_fn(push).await;
        if !stall.lasts(left) {
            return;
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Sends what can be sent; says how much is still to be delivered.
fn push<A: Transport, W: Transport>(
    cx: &mut Context<'_>,
    app: &mut A,
    wan: &mut W,
    (outward, inward): &mut (Pump, Pump),
    traffic: &Traffic,
) -> u64 {
    let waits = outward.send_rest(cx, wan, &traffic.to_wan)
        + inward.send_rest(cx, app, &traffic.to_app)
        + app.undelivered()
        + wan.undelivered();
    if waits > 0 {
        // A side that breaks has nothing to be delivered any more.
        let _ = outward.discard(cx, app);
        let _ = inward.discard(cx, wan);
    }
    waits
}
