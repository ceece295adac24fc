//! The rotation of the CA: a task of its own, which a request for a certificate only wakes.

use std::time::Duration;

use bytes::Bytes;
use renkei_runtime::clock;
use renkei_site::ServerPart;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::{Inner, RETRY};
use crate::authority::{CaLifetimes, Reading};

/// The wall clock is looked at again at least so often: it may have been set, or the machine may
/// have slept.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
const SHORTEST_SLEEP: Duration = Duration::from_millis(100);
/// How long an SVID waits for a CA that is valid.
const ROTATION_TIME: Duration = Duration::from_secs(3);

impl Inner {
    pub(super) fn publish(&self) {
        let bundle = self.authority.bundle();
        let ends = self.authority.authorities();
        self.metrics.bundle(
            bundle.sequence.unwrap_or_default(),
            ends.iter().map(|ca| (ca.state.as_str(), ca.not_after)),
        );
        let document = Bytes::from(bundle.to_document());
        // A round that changes nothing wakes no reader.
        self.document.send_if_modified(|present| {
            let is_new = *present != document;
            *present = document;
            is_new
        });
        self.bundles.put(bundle);
    }

    /// Waits until a round of the rotation ends.
    pub(super) async fn next_round(&self) -> bool {
        let mut rounds = self.rounds.subscribe();
        let after = *rounds.borrow_and_update() + 1;
        self.rotation_due.notify_one();
        let done = rounds.wait_for(|rounds| *rounds >= after);
        let waited = tokio::time::timeout(ROTATION_TIME, done).await;
        waited.is_ok_and(|done| done.is_ok())
    }

    /// `false` when a step failed.
    async fn rotate(&self) -> bool {
        let lifetimes = ca_lifetimes(&self.part.borrow());
        let rotated = self.authority.rotate(lifetimes, self.reading()).await;
        // A failure may come after a step that did succeed.
        self.publish();
        if let Err(error) = &rotated {
            tracing::error!(%error, "the CA could not be rotated; the present one stays");
        }
        self.rounds.send_modify(|rounds| *rounds += 1);
        rotated.is_ok()
    }

    pub(super) async fn keep_authority(&self, stop: CancellationToken) {
        let mut part = self.part.clone();
        let mut backoff = RETRY;
        loop {
            part.mark_unchanged();
            let rotated = self.rotate().await;
            let pause = match rotated {
                true => {
                    backoff.succeeded();
                    self.until_next_step()
                }
                false => backoff.failed(),
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                // After a failure, requests do not shorten the pause.
                () = self.rotation_due.notified(), if rotated => {}
                Ok(()) = part.changed() => {}
            }
        }
    }

    fn until_next_step(&self) -> Duration {
        let left = self.authority.next_step() - (self.clock)();
        // What should have been done by now waits for a clock that is settled.
        Duration::try_from(left)
            .unwrap_or(LONGEST_SLEEP)
            .clamp(SHORTEST_SLEEP, LONGEST_SLEEP)
    }

    pub(super) fn reading(&self) -> Reading {
        let now = (self.clock)();
        let ended = surely_ended(self.system.as_ref(), now);
        Reading { now, ended }
    }
}

/// What has ended by the returned time may be deleted.
pub(super) fn surely_ended(
    system: Option<&clock::Clock>,
    now: OffsetDateTime,
) -> Option<OffsetDateTime> {
    system.map_or(Some(now), clock::Clock::surely_ended)
}

pub(super) fn ca_lifetimes(part: &ServerPart) -> CaLifetimes {
    CaLifetimes {
        ca: part.lifetimes.ca,
        refresh_hint: part.lifetimes.bundle_refresh,
    }
}
