//! One admitted connection from another site, up to its end.

use std::sync::Arc;

use renkei_runtime::drain::DrainGuard;
use renkei_site::{Protocol, Service};
use renkei_spiffe::SpiffeId;
use renkei_trunk::Code;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use super::{Inbound, backend};
use crate::{
    authorization::revocation,
    config::Desired,
    context::{Carrier, Context, Flow},
    identity::{Credentials, Direction, Pair},
    relay::{self, End},
    sessions::{http, kafka},
    trunk::IncomingStream,
    wan::WanStream,
};

/// A connection whose caller waits.
pub(super) enum Arrival {
    Session(WanStream),
    Stream(IncomingStream),
}

impl Arrival {
    /// Takes it at the pace of its caller, unless that has left.
    fn accept(self, service: &Service, flow: &Flow, context: &Context) -> Option<WanStream> {
        let stream = match self {
            Self::Session(stream) => stream,
            Self::Stream(incoming) => WanStream::trunk(incoming.accept()?),
        };
        let bandwidths = &context.bandwidths;
        Some(stream.at_pace(bandwidths.pace_of(&service.name, &flow.pair.caller)))
    }

    /// Ends it. In a trunk the caller's side gets the reason.
    fn refuse(self, reason: &str) {
        match self {
            Self::Session(stream) => drop(stream),
            Self::Stream(incoming) => incoming.refuse(Code::UNREACHABLE, reason),
        }
    }
}

/// Who calls what, and under which state that was allowed.
pub(super) struct Call {
    pub(super) caller: SpiffeId,
    pub(super) service: Service,
    pub(super) node: Option<i32>,
    pub(super) carrier: Carrier,
    /// What both ends have shown.
    pub(super) credentials: Arc<Credentials>,
    /// The caller is denied: the session answers so, and nothing reaches a backend.
    pub(super) denied: bool,
    pub(super) desired: Arc<Desired>,
    /// Its span in the log.
    pub(super) span: Span,
}

impl Call {
    fn http_caller(&self) -> http::Caller {
        let (caller, callee) = (self.caller.short(), self.service.id.short());
        let denied = format!("{caller} may not use {callee}: no rule allows that");
        http::Caller {
            certificate_hash: self.credentials.peer_hash(),
            denied: self.denied.then_some(denied),
        }
    }
}

/// Carries a connection to its end. A denied caller gets an answer that says so, and no backend.
pub(super) async fn carry(
    arrival: Arrival,
    call: Call,
    id: u64,
    inbound: &Inbound,
    guard: DrainGuard,
) {
    let http_caller = (call.service.protocol == Protocol::Http).then(|| call.http_caller());
    let Call {
        caller,
        service,
        node,
        carrier,
        credentials: _,
        denied,
        desired,
        span,
    } = call;
    let context = &inbound.context;
    let pair = Pair {
        direction: Direction::Inbound,
        caller,
        callee: service.id.clone(),
    };
    if denied {
        // It is none of the connections that the service has.
        let flow = Arc::new(Flow::new(id, pair, carrier, CancellationToken::new()));
        if let Some(caller) = http_caller {
            let carried = carry_http(arrival, &flow, (&service, caller), inbound);
            tokio::select! {
                () = context.drain.forced() => {}
                () = carried.instrument(span) => {}
            }
        }
        return;
    }
    let parent = (&CancellationToken::new(), guard);
    let ticket = context.flows.open(id, pair, carrier, parent);
    let flow = &ticket.flow;
    revocation::recheck(flow, Some(&desired), context);
    span.record("flow", id);
    match http_caller {
        Some(caller) => {
            let carried = carry_http(arrival, flow, (&service, caller), inbound);
            carried.instrument(span).await;
        }
        None => {
            let carried = carry_bytes(arrival, flow, (&service, node), inbound);
            carried.instrument(span).await;
        }
    }
}

async fn carry_http(
    arrival: Arrival,
    flow: &Arc<Flow>,
    (service, caller): (&Service, http::Caller),
    inbound: &Inbound,
) {
    let Some(stream) = arrival.accept(service, flow, &inbound.context) else {
        return;
    };
    tracing::debug!("opened");
    let parts = (&inbound.context, &inbound.backends, &inbound.http_pool);
    // Connections of other protocols do not have its memory.
    Box::pin(http::serve(stream, flow, (&service.name, caller), parts)).await;
    tracing::debug!(cut = flow.cut_reason(), "closed");
}

async fn carry_bytes(
    arrival: Arrival,
    flow: &Flow,
    (service, node): (&Service, Option<i32>),
    inbound: &Inbound,
) {
    let context = &inbound.context;
    // Its memory is not kept for as long as the connection is open.
    let reached = Box::pin(backend::reach(service, node, inbound));
    let backend = tokio::select! {
        biased;
        () = flow.cut_token().cancelled() => return,
        backend = reached => backend,
    };
    let backend = match backend {
        Ok(backend) => backend,
        Err(down) => {
            let who = flow.pair.caller.short();
            let (service, reason) = (&service.name, "backend_unavailable");
            let (refusals, down) = (&context.refusals, down.to_string());
            refusals.record(Direction::Inbound, service, who, reason, down);
            return arrival.refuse("no backend of the service answers");
        }
    };
    let Some(stream) = arrival.accept(service, flow, context) else {
        return;
    };
    tracing::debug!("opened");
    let session = backend::session(service, Some(&flow.pair.caller), inbound)
        .map(|session| -> Box<dyn relay::Session> { Box::new(session) });
    let end = relay::relay(backend, stream, session, &flow.traffic, flow.cut_token()).await;
    tracing::debug!(?end, cut = flow.cut_reason(), "closed");
    record_session(&end, flow, &service.name, context);
}

/// Remembers a Kafka session that was ended for what was said in it.
fn record_session(end: &End, flow: &Flow, service: &str, context: &Context) {
    if let End::Broken { error, .. } = end
        && let Some(error) = kafka::session_error(error)
    {
        let (who, sentence) = (flow.pair.caller.short(), error.to_string());
        let refusals = &context.refusals;
        refusals.record(Direction::Inbound, service, who, error.label(), sentence);
    }
}
