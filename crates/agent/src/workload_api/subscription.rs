//! One open stream: sends when something changed for its caller, ends when it may have nothing
//! any more.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{Stream, stream};
use renkei_api::node::AgentPart;
use renkei_grpc::Peer;
use renkei_runtime::{attest::Attestors, telemetry::Counted};
use renkei_spiffe::{BundleSet, Identities, SpiffeId, X509Svid};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    Sources,
    caller::{CallerRefusal, Entitlement, Indexed},
    message::{Message, View},
};
use crate::{AgentMetrics, keeper::has_authorities, metrics::Denial};

/// How long a first message waits for SVIDs that are just being issued.
const FIRST_SVIDS: Duration = Duration::from_secs(1);
/// How long an examination may take: the program may lie on a file system that hangs.
const EXAMINATION: Duration = Duration::from_secs(30);
/// How many callers are examined at the same time.
const CONCURRENT_ATTESTATIONS: usize = 16;

/// What all streams share.
#[derive(Debug)]
pub(super) struct Attestor {
    attestors: Attestors,
    /// The entries of the newest part that was asked for.
    indexed: Mutex<Option<Arc<Indexed>>>,
    examinations: Semaphore,
    metrics: AgentMetrics,
}

impl Attestor {
    pub(super) fn new(metrics: AgentMetrics) -> Self {
        Self {
            attestors: Attestors::default(),
            indexed: Mutex::default(),
            examinations: Semaphore::new(CONCURRENT_ATTESTATIONS),
            metrics,
        }
    }

    async fn entitlements(
        &self,
        peer: &Arc<Peer>,
        part: &Arc<AgentPart>,
    ) -> Result<Vec<Entitlement>, Status> {
        let internal = |error: &dyn std::fmt::Display| Status::internal(error.to_string());
        let _permit = self
            .examinations
            .acquire()
            .await
            .map_err(|error| internal(&error))?;
        let (peer, indexed) = (Arc::clone(peer), self.indexed(part));
        let attestors = self.attestors.clone();
        let examined = tokio::task::spawn_blocking(move || indexed.entitlements(&peer, &attestors));
        tokio::time::timeout(EXAMINATION, examined)
            .await
            .map_err(|_| Status::unavailable("the calling process could not be examined in time"))?
            .map_err(|error| internal(&error))?
            .map_err(|refusal| self.refused(refusal))
    }

    fn indexed(&self, part: &Arc<AgentPart>) -> Arc<Indexed> {
        let mut indexed = self.indexed.lock().unwrap_or_else(PoisonError::into_inner);
        let known = indexed.as_ref();
        if let Some(known) = known.filter(|known| Arc::ptr_eq(&known.part, part)) {
            return known.clone();
        }
        let now = Arc::new(Indexed::new(part.clone()));
        *indexed = Some(now.clone());
        now
    }

    fn refused(&self, refusal: CallerRefusal) -> Status {
        let (denial, log, caller) = match refusal {
            CallerRefusal::Ended(log) => (
                Denial::ProcessEnded,
                log,
                "the process that connected has ended".into(),
            ),
            CallerRefusal::NotAttested(log) => (
                Denial::NotAttested,
                log,
                "the calling process cannot be attested".into(),
            ),
            CallerRefusal::NoMatch { caller, log } => (Denial::NoIdentity, log, caller),
        };
        self.metrics.denied(denial);
        tracing::info!(reason = denial.label(), "no identity is issued: {log}");
        Status::permission_denied(caller)
    }
}

pub(super) struct Subscription<M> {
    peer: Arc<Peer>,
    sources: Sources,
    attestor: Arc<Attestor>,
    stop: CancellationToken,
    sent: Option<M>,
    seen: Option<Seen>,
    _counted: Counted,
}

/// What a message was made of.
#[derive(Debug)]
struct Seen {
    part: Arc<AgentPart>,
    bundles: Arc<BundleSet>,
    /// Of the caller's identities.
    svids: Vec<(SpiffeId, Option<Arc<X509Svid>>)>,
}

impl Seen {
    fn new(part: &Arc<AgentPart>, identities: &Identities, entitlements: &[Entitlement]) -> Self {
        let svid = |entitlement: &Entitlement| {
            let id = entitlement.id.clone();
            let svid = identities.svids.get(&id).cloned();
            (id, svid)
        };
        Self {
            part: part.clone(),
            bundles: identities.bundles.clone(),
            svids: entitlements.iter().map(svid).collect(),
        }
    }

    /// Whether another message would be the same, for the same process.
    fn is_current(&self, part: &Arc<AgentPart>, identities: &Identities) -> bool {
        let same =
            |(id, svid): &(SpiffeId, Option<Arc<X509Svid>>)| match (svid, identities.svids.get(id))
            {
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                (one, other) => one.is_none() && other.is_none(),
            };
        Arc::ptr_eq(&self.part, part)
            && self.bundles == identities.bundles
            && self.svids.iter().all(same)
    }
}

impl<M: Message> Subscription<M> {
    pub(super) fn new(
        peer: Arc<Peer>,
        sources: Sources,
        attestor: Arc<Attestor>,
        stop: CancellationToken,
    ) -> Self {
        let counted = attestor.metrics.subscriber();
        Self {
            peer,
            sources,
            attestor,
            stop,
            sent: None,
            seen: None,
            _counted: counted,
        }
    }

    /// The messages from here on. An error is the last item.
    pub(super) fn into_stream(self, first: M) -> impl Stream<Item = Result<M, Status>> + Send {
        let first = stream::iter([Ok(first)]);
        let rest = stream::unfold(Some(self), async |subscription| {
            let mut subscription = subscription?;
            match subscription.next().await {
                Ok(message) => Some((Ok(message), Some(subscription))),
                Err(status) => Some((Err(status), None)),
            }
        });
        futures_util::StreamExt::chain(first, rest)
    }

    /// The first message, which says what the caller has now.
    pub(super) async fn first(&mut self) -> Result<M, Status> {
        let until = Instant::now() + FIRST_SVIDS;
        loop {
            let (message, is_complete) = self.current().await?;
            if is_complete || Instant::now() >= until {
                let message = message.ok_or_else(no_svid)?;
                self.sent = Some(message.clone());
                return Ok(message);
            }
            if let Ok(changed) = tokio::time::timeout_at(until, self.changed()).await {
                changed?;
            }
        }
    }

    /// The next message that differs from the one before.
    async fn next(&mut self) -> Result<M, Status> {
        loop {
            self.changed().await?;
            if self.is_current() {
                continue;
            }
            let message = self.current().await?.0.ok_or_else(no_svid)?;
            if self.sent.as_ref() != Some(&message) {
                self.sent = Some(message.clone());
                return Ok(message);
            }
        }
    }

    /// Whether what changed concerns others alone: then the caller is not attested again.
    fn is_current(&self) -> bool {
        let (part, identities) = (self.sources.part.borrow(), self.sources.identities.borrow());
        let seen = self.seen.as_ref();
        seen.is_some_and(|seen| seen.is_current(&part, &identities))
    }

    async fn changed(&mut self) -> Result<(), Status> {
        let changed = tokio::select! {
            changed = self.sources.part.changed() => changed.is_ok(),
            changed = self.sources.identities.changed() => changed.is_ok(),
            () = self.stop.cancelled() => false,
        };
        if changed {
            Ok(())
        } else {
            Err(Status::unavailable("the agent is stopping"))
        }
    }

    /// Attests the caller; what it may have now, if there is anything, and whether that is all.
    async fn current(&mut self) -> Result<(Option<M>, bool), Status> {
        let part: Arc<AgentPart> = self.sources.part.borrow_and_update().clone();
        let identities: Arc<Identities> = self.sources.identities.borrow_and_update().clone();
        let entitlements = self.attestor.entitlements(&self.peer, &part).await?;
        if !has_authorities(&identities.bundles, &part.trust_domain) {
            return Err(Status::unavailable(
                "the agent has no bundle of its trust domain yet",
            ));
        }
        self.seen = Some(Seen::new(&part, &identities, &entitlements));
        let view = View {
            own: &part.trust_domain,
            identities: &identities,
            entitlements: &entitlements,
        };
        if !M::WAITS_FOR_SVIDS {
            return Ok((Some(M::build(&view)), true));
        }
        Ok((view.has_any().then(|| M::build(&view)), view.is_complete()))
    }
}

fn no_svid() -> Status {
    Status::unavailable("the caller's SVID is not issued yet")
}
