//! What is put on record for the next start, and what is deleted from the record.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Inner;

/// How often the time is put on record.
const CLOCK_INTERVAL: Duration = Duration::from_secs(30);
const PRUNE_INTERVAL: Duration = Duration::from_mins(1);

impl Inner {
    /// For the next start, which compares its clock with it.
    pub(super) async fn record_clock(&self) {
        let Some(system) = &self.system else { return };
        if let Err(error) = self.store.keep_clock(&system.record()).await {
            tracing::warn!(%error, "the time could not be recorded");
        }
    }

    pub(super) async fn keep_clock(&self, stop: CancellationToken) {
        loop {
            self.record_clock().await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(CLOCK_INTERVAL) => {}
            }
        }
    }

    pub(super) async fn keep_records(&self, stop: CancellationToken) {
        loop {
            let time = self.reading();
            if let Some(ended) = time.ended
                && let Err(error) = self.store.prune_issued(ended).await
            {
                tracing::warn!(%error, "records of expired SVIDs could not be deleted");
            }
            if let Some(ended) = time.ended
                && let Err(error) = self.store.prune_tokens(ended).await
            {
                tracing::warn!(%error, "expired join tokens could not be deleted");
            }
            // Nothing is issued for them any more; a clock that is ahead would delete them.
            if let Some(ended) = time.ended
                && let Err(error) = self.entries.remove_expired(ended).await
            {
                tracing::warn!(%error, "entries that have ended could not be deleted");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PRUNE_INTERVAL) => {}
            }
        }
    }
}
