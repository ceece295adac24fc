//! The entries of the site file: what it no longer has ends at once, what it adds is in force when
//! the database has it.

use std::{pin::pin, sync::Arc, time::Duration};

use renkei_site::ServerPart;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Inner, RETRY};
use crate::{StoreError, entries::of_file, store::EntrySource};

/// How far the entries of the site file are in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntriesState {
    /// The version of the part that has them.
    pub version: u64,
    /// Why those that were added are not in force yet.
    pub failed: Option<String>,
}

impl Inner {
    pub(super) async fn keep_entries(&self, stop: CancellationToken) {
        let mut part = self.part.clone();
        let mut backoff = RETRY;
        loop {
            let version = self.limit_entries(&mut part);
            let written = self.write_entries(&mut part).await;
            let failed = written.err().map(|error| error.to_string());
            let pause = match &failed {
                None => {
                    backoff.succeeded();
                    Duration::ZERO
                }
                Some(error) => {
                    let pause = backoff.failed();
                    tracing::error!(error, retry_in = ?pause, "new entries of the site file are not in force");
                    pause
                }
            };
            let retry = failed.is_some();
            self.entries_state
                .send_replace(EntriesState { version, failed });
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause), if retry => {}
                changed = part.changed() => if changed.is_err() {
                    return stop.cancelled().await;
                }
            }
        }
    }

    /// Ends what the site file no longer has.
    fn limit_entries(&self, part: &mut watch::Receiver<Arc<ServerPart>>) -> u64 {
        let now = part.borrow_and_update().clone();
        self.entries
            .limit(&EntrySource::FILE, of_file(&now.entries));
        self.entries.set_svid_lifetime(now.lifetimes.x509_svid);
        now.version
    }

    /// What the file no longer has ends also while the database is waited for.
    async fn write_entries(
        &self,
        part: &mut watch::Receiver<Arc<ServerPart>>,
    ) -> Result<(), StoreError> {
        let mut written = pin!(self.entries.write(&EntrySource::FILE, (self.clock)()));
        let mut again = false;
        let done = loop {
            tokio::select! {
                biased;
                done = &mut written => break done,
                Ok(()) = part.changed() => {
                    self.limit_entries(part);
                    again = true;
                }
            }
        };
        if again {
            part.mark_changed();
        }
        done
    }
}
