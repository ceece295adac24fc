//! Connections from other sites to services of this one: the handshake, then the connection, or
//! the streams of a trunk, each with a decision of its own.

mod backend;
mod backend_metrics;
mod connection;
mod handshake;
mod streams;

use std::{collections::BTreeMap, sync::Arc};

use renkei_api::status::BackendStatus;
use renkei_runtime::drain::DrainGuard;
use renkei_site::Service;

use crate::{
    admission::{Admission, Denied, HandshakePlace, Source},
    context::{Carrier, Context, span},
    identity::{Direction, Pair},
    sessions::{Backends, alpn, http, kafka::CalleeState},
    tls::PendingHandshake,
    trunk::Acceptor,
    wan::WanStream,
};

use connection::{Arrival, Call, carry};
use handshake::Admitted;
use streams::StreamSource;

pub(crate) use backend_metrics::BackendMetrics;
pub(crate) use handshake::{ServiceTarget, nodes_of};

/// What all connections from other sites share.
#[derive(Debug)]
pub(crate) struct Inbound {
    context: Arc<Context>,
    admission: Arc<Admission>,
    acceptor: Arc<Acceptor>,
    backends: Arc<Backends>,
    http_pool: Arc<http::Pool>,
    kafka: Arc<CalleeState>,
}

impl Inbound {
    pub(crate) fn new(
        (context, admission): (&Arc<Context>, &Arc<Admission>),
        acceptor: Arc<Acceptor>,
    ) -> Arc<Self> {
        Arc::new(Self {
            context: context.clone(),
            admission: admission.clone(),
            acceptor,
            backends: Arc::new(Backends::new(context.limits.connect_timeout)),
            http_pool: Arc::default(),
            kafka: Arc::new(CalleeState::new(context.limits.kafka_memory)),
        })
    }

    /// The site has other services than before: forgets what was learned of those that may have
    /// moved.
    pub(crate) fn follow(&self, services: &BTreeMap<String, Service>) {
        self.backends.follow(services);
        self.kafka.brokers.forget();
    }

    /// Where the services run, and whether that answers.
    pub(crate) fn backend_status(&self) -> Vec<BackendStatus> {
        self.backends.status()
    }

    /// Serves a connection to a service up to its end. It has its `place` until the handshake is
    /// over.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        hello: PendingHandshake,
        target: ServiceTarget,
        source: Source,
        (guard, place): (DrainGuard, HandshakePlace),
    ) {
        let context = &self.context;
        let id = context.flows.next_id();
        let service = target.name().to_owned();
        let admitted = tokio::select! {
            biased;
            () = context.drain.forced() => return,
            admitted = handshake::admit(hello, target, (id, source.address), context) => admitted,
        };
        let arrival = place.finish();
        match admitted {
            Ok(admitted) => {
                drop(arrival);
                self.serve_admitted(admitted, (id, source), guard).await;
            }
            Err(fault) => fault.conclude(&service, &source, context).await,
        }
    }

    /// Counts a caller for which there is no place.
    fn refuse(&self, pair: &Pair, service: &str, denied: &Denied) {
        let (direction, who) = (Direction::Inbound, pair.caller.short());
        let refusals = &self.context.refusals;
        refusals.record(direction, service, who, denied.reason, &*denied.sentence);
    }

    /// Serves a verified caller: as a lane of a trunk, or as one connection of its own.
    async fn serve_admitted(
        self: &Arc<Self>,
        admitted: Admitted,
        (id, source): (u64, Source),
        guard: DrainGuard,
    ) {
        let pair = Pair {
            direction: Direction::Inbound,
            caller: admitted.verified.peer.clone(),
            callee: admitted.service.id.clone(),
        };
        if alpn::is_trunk(admitted.verified.connection.alpn()) {
            // The lane is no flow: its streams are.
            drop(guard);
            return self.serve_lane(admitted, pair, source).await;
        }
        let _place = match self.admission.inbound(&pair) {
            Ok(place) => place,
            Err(denied) => return self.refuse(&pair, &admitted.service.name, &denied),
        };
        let Admitted {
            verified,
            service,
            node,
            denied,
            desired,
        } = admitted;
        let span = span::connection(&pair);
        let is_denied = denied.is_some();
        if let Some(denied) = denied {
            let (name, who) = (&service.name, pair.caller.short());
            let (refusals, label) = (&self.context.refusals, "not_allowed");
            span.in_scope(|| refusals.record(Direction::Inbound, name, who, label, denied));
        }
        let call = Call {
            caller: verified.peer,
            service,
            node,
            carrier: Carrier::session(source.address, verified.credentials.clone()),
            credentials: verified.credentials,
            denied: is_denied,
            desired,
            span,
        };
        let stream = Arrival::Session(WanStream::session(verified.connection));
        carry(stream, call, id, self, guard).await;
    }

    /// Runs a lane to its end. The first one of a trunk brings the streams.
    async fn serve_lane(self: &Arc<Self>, admitted: Admitted, pair: Pair, source: Source) {
        let Admitted {
            verified, service, ..
        } = admitted;
        let _place = match self.admission.lane(&pair) {
            Ok(place) => place,
            Err(denied) => return self.refuse(&pair, &service.name, &denied),
        };
        let joined = self
            .acceptor
            .join(verified.connection, verified.credentials, &pair)
            .await;
        let ended = match joined {
            Ok((lane, trunk)) => {
                if let Some(trunk) = trunk {
                    let source = StreamSource {
                        pair,
                        service,
                        source,
                        inbound: self.clone(),
                    };
                    tokio::spawn(streams::serve(trunk, Arc::new(source)));
                }
                lane.run().await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::debug!(%source, %error, "a lane broke");
        }
    }
}
