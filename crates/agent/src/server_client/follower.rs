//! A node's link to its server: one connection after the other, each for as long as it lasts, or
//! until the node's SVID has been renewed.
//!
//! ```text
//!  away ── connected, verified ──▶ following ── half of the SVID's life is over ──▶ renewed
//!   ▲                                  │                                              │
//!   ├── a failure: waits, longer ◀─────┘          a new connection with the new SVID ◀┘
//! ```

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use renkei_api::{
    node_stream::Fault,
    status::{NodeFault, ServerLinkStatus},
};
use renkei_runtime::{
    backoff::{Backoff, jitter},
    clock,
};
use renkei_site::HostPort;
use renkei_spiffe::{X509Svid, verify_peer};
use rustls::crypto::CryptoProvider;
use time::OffsetDateTime;
use tokio::sync::watch;
use tonic::transport::Channel;

use super::{
    LinkError, Revision,
    apply::Wanted,
    attest::renew,
    connection::as_node,
    follow::{Report, Updates},
    issuer::ServerIssuer,
    join::ServerKind,
    poll::Poller,
    refusal::is_shut_out,
    update::Update,
};

/// The waits after failures: thousands of nodes come back to a server that starts again.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The longest time between two looks at the clock, which may be set meanwhile.
const LOOK: Duration = Duration::from_secs(30);

/// What outlives a failure of the task.
#[derive(Debug)]
pub(super) struct Kept {
    svid: Arc<X509Svid>,
    /// When it is renewed.
    renewal: OffsetDateTime,
    streams: u64,
}

impl Kept {
    pub(super) fn new(svid: Arc<X509Svid>) -> Self {
        Self {
            renewal: half_of_life(&svid),
            svid,
            streams: 0,
        }
    }
}

fn half_of_life(svid: &X509Svid) -> OffsetDateTime {
    let now = clock::now();
    let life = Duration::try_from(svid.not_after() - now).unwrap_or_default();
    now + jitter(life / 2)
}

#[derive(Clone)]
pub(super) struct Follower {
    pub(super) server: HostPort,
    pub(super) kind: ServerKind,
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) release: String,
    pub(super) wanted: Wanted,
    pub(super) issuer: Arc<ServerIssuer>,
    pub(super) status: watch::Sender<ServerLinkStatus>,
    pub(super) reports: watch::Receiver<Option<Report>>,
    pub(super) kept: Arc<Mutex<Kept>>,
}

/// How the updates of a connection come.
enum Source {
    /// The server sends each when there is one.
    Stream(Updates),
    /// The server is asked again and again.
    Poll(Poller),
}

impl Source {
    /// The next update. May be cancelled.
    async fn next(&mut self) -> Result<Update, LinkError> {
        match self {
            Self::Stream(updates) => updates.next().await,
            Self::Poll(poller) => poller.next().await,
        }
    }

    /// Says what became of an update, to a server that wants to know.
    async fn answer(&mut self, version: u64, faults: Vec<Fault>) -> Result<(), LinkError> {
        match self {
            Self::Stream(updates) => updates.answer(version, faults).await,
            Self::Poll(_) => Ok(()),
        }
    }
}

/// One connection with what is to be said on it.
struct ServerConnection {
    channel: Channel,
    svid: Arc<X509Svid>,
    updates: Source,
    stream: u64,
    /// Faults of parts that were not read, of the latest update.
    unread: Vec<Fault>,
    renewal: OffsetDateTime,
    renewals: Backoff,
}

impl ServerConnection {
    /// How long until the SVID is due, or until the next look at the clock.
    fn until_renewal(&self) -> Duration {
        let left = Duration::try_from(self.renewal - clock::now()).unwrap_or_default();
        left.min(LOOK)
    }

    /// Also when the renewal is further away than the SVID lives: the clock has gone back since.
    fn is_due(&self) -> bool {
        let (now, life) = (clock::now(), self.svid.not_after() - self.svid.not_before());
        self.renewal <= now || self.renewal - now > life
    }
}

impl Follower {
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            let Err(error) = self.follow(&mut backoff).await else {
                continue;
            };
            let reason = error.to_string();
            // The same failure again and again is one line.
            if self.status.borrow().last_error.as_ref() != Some(&reason) {
                tracing::warn!(
                    error = reason,
                    "the node is without its server; what it has stays in use"
                );
            }
            if let LinkError::Status(status) = &error
                && is_shut_out(status)
            {
                self.wanted.take_away();
            }
            self.issuer
                .away(format!("the node is without its server: {reason}"));
            self.status.send_modify(|status| {
                status.connected_since = None;
                status.last_error = Some(reason);
            });
            tokio::time::sleep(backoff.failed()).await;
        }
    }

    /// Follows on one connection. `Ok` when the SVID has been renewed.
    async fn follow(&mut self, backoff: &mut Backoff) -> Result<(), LinkError> {
        let mut connection = self.connect().await?;
        self.connected(&connection);
        loop {
            let until_renewal = connection.until_renewal();
            tokio::select! {
                update = connection.updates.next() => {
                    backoff.succeeded();
                    self.take(&mut connection, update?).await?;
                }
                changed = self.reports.changed() => {
                    changed.map_err(|_| LinkError::Ended)?;
                    self.answer(&mut connection).await?;
                }
                () = tokio::time::sleep(until_renewal) => {
                    if connection.is_due() && self.renewed(&mut connection).await {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn connect(&self) -> Result<ServerConnection, LinkError> {
        let (svid, renewal) = {
            let kept = self.kept();
            (kept.svid.clone(), kept.renewal)
        };
        if svid.not_after() <= clock::now() {
            return Err(LinkError::Expired(svid.not_after()));
        }
        let bundles = self.wanted.bundles.borrow().clone();
        let channel = as_node(&self.server, &self.provider, &svid, bundles).await?;
        let updates = match self.kind {
            ServerKind::Renkei => {
                Source::Stream(Updates::open(channel.clone(), &self.release).await?)
            }
            ServerKind::Spire => {
                let own = svid.id().trust_domain().clone();
                Source::Poll(Poller::new(channel.clone(), own))
            }
        };
        let stream = {
            let mut kept = self.kept();
            kept.streams += 1;
            kept.streams
        };
        Ok(ServerConnection {
            renewal,
            renewals: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            channel,
            svid,
            updates,
            stream,
            unread: Vec::new(),
        })
    }

    fn connected(&self, connection: &ServerConnection) {
        self.issuer.use_channel(connection.channel.clone());
        tracing::info!(server = %self.server, "connected to the server of the site");
        self.status.send_modify(|status| {
            status.connected_since.get_or_insert_with(clock::now);
            status.last_error = None;
        });
    }

    /// Takes an update, and says at once what the node cannot take. What the proxy says comes
    /// later, with its report.
    async fn take(
        &mut self,
        connection: &mut ServerConnection,
        update: Update,
    ) -> Result<(), LinkError> {
        let version = update.version;
        let for_proxy = update.proxy.is_some();
        let revision = Revision {
            stream: connection.stream,
            version,
        };
        let before = std::mem::take(&mut connection.unread);
        connection.unread = self.wanted.take(revision, update);
        // An update that comes again and again has its faults in the log once.
        for fault in connection.unread.iter().filter(|now| !before.contains(now)) {
            let Fault { item, reason } = fault;
            tracing::error!(item, reason, "a part of the configuration was not taken");
        }
        if !connection.unread.is_empty() {
            connection
                .updates
                .answer(version, connection.unread.clone())
                .await?;
        }
        if !for_proxy {
            self.taken(version, &connection.unread);
        }
        self.renew_if_withdrawn(connection);
        Ok(())
    }

    /// No proxy has a part in the update: it is taken with this.
    fn taken(&self, version: u64, faults: &[Fault]) {
        let faults = faults.iter().map(|fault| NodeFault {
            item: fault.item.clone(),
            reason: fault.reason.clone(),
        });
        self.status.send_modify(|status| {
            status.version = Some(version);
            status.faults = faults.collect();
        });
    }

    /// A forced rotation: the issuer of the node's SVID has left the bundle.
    fn renew_if_withdrawn(&self, connection: &mut ServerConnection) {
        let bundles = self.wanted.bundles.borrow().clone();
        let algorithms = &self.provider.signature_verification_algorithms;
        let now = clock::now();
        if verify_peer(connection.svid.chain(), &bundles, now, algorithms).is_err() {
            connection.renewal = connection.renewal.min(now);
        }
    }

    async fn answer(&mut self, connection: &mut ServerConnection) -> Result<(), LinkError> {
        let report = self.reports.borrow_and_update().clone();
        let Some(report) = report.filter(|report| report.revision.stream == connection.stream)
        else {
            return Ok(());
        };
        let faults = report.faults.into_iter().map(|fault| Fault {
            item: fault.item,
            reason: fault.reason,
        });
        let faults = connection.unread.iter().cloned().chain(faults).collect();
        connection
            .updates
            .answer(report.revision.version, faults)
            .await
    }

    /// Renews the node's SVID; a failure is tried again later.
    async fn renewed(&self, connection: &mut ServerConnection) -> bool {
        let bundles = self.wanted.bundles.borrow().clone();
        let channel = connection.channel.clone();
        match renew(channel, &connection.svid, &bundles, &self.provider).await {
            Ok(svid) => {
                tracing::info!(id = %svid.id(), serial = svid.serial(), "the node's SVID is renewed");
                self.status
                    .send_modify(|status| status.svid_end = svid.not_after());
                let mut kept = self.kept();
                (kept.renewal, kept.svid) = (half_of_life(&svid), svid);
                true
            }
            Err(error) => {
                let wait = connection.renewals.failed();
                tracing::warn!(%error, retry_in = ?wait, "the node's SVID was not renewed");
                connection.renewal = clock::now() + wait;
                false
            }
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use renkei_spiffe::PrivateKey;
    use renkei_testkit::TestAuthority;

    use super::*;

    #[test]
    fn a_node_renews_its_svid_at_half_of_its_life() {
        let issued = TestAuthority::new("osaka.example").issue("/renkei/node/store");
        let key = PrivateKey::from_pkcs8(issued.key_pkcs8.clone());
        let svid = Arc::new(X509Svid::new(issued.chain.clone(), key).unwrap());
        let wait = Kept::new(svid).renewal - clock::now();
        let half = time::Duration::minutes(30);
        assert!((wait - half).abs() < half / 5, "{wait}");
    }
}
