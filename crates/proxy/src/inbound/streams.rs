//! The streams of one trunk: each is decided about and carried like a connection of its own.

use std::sync::Arc;

use renkei_policy::Operation;
use renkei_site::{Protocol, Service};
use renkei_trunk::Code;

use super::{
    Inbound,
    connection::{Arrival, Call, carry},
};
use crate::{
    admission::{Denied, Source},
    authorization::{decide, log, revocation},
    context::{Carrier, span},
    identity::{Direction, Fault, Pair},
    trunk::{IncomingStream, TrunkEvents},
};

/// Where the streams of a trunk come from.
pub(super) struct StreamSource {
    pub(super) pair: Pair,
    pub(super) service: Service,
    pub(super) source: Source,
    pub(super) inbound: Arc<Inbound>,
}

/// Gives every stream of a trunk a task of its own, so that none waits for what is decided about
/// another, until the trunk is over.
pub(super) async fn serve(mut trunk: TrunkEvents, source: Arc<StreamSource>) {
    while let Some(stream) = trunk.accept().await {
        let source = source.clone();
        tokio::spawn(async move { source.serve(stream).await });
    }
}

/// What was decided about a stream that is taken.
struct Decided {
    /// The number of its flow.
    flow: u64,
    /// The caller is denied, and the session answers so in the protocol of the service.
    denied: bool,
}

impl StreamSource {
    async fn serve(&self, incoming: IncomingStream) {
        let (context, admission) = (&self.inbound.context, &self.inbound.admission);
        let refuse = |incoming: IncomingStream, code, denied: Denied| {
            let why = format!("its gateway refuses it: {}", denied.sentence);
            incoming.refuse(code, &why);
            self.inbound.refuse(&self.pair, &self.service.name, &denied);
        };
        let Ok(node) = broker_of(&incoming.target) else {
            let denied = Denied::new("bad_target", "the target of the stream is not a broker");
            return refuse(incoming, Code::UNREACHABLE, denied);
        };
        if context.drain.is_signaled() {
            let denied = Denied::new("stopping", "its site is stopping");
            return refuse(incoming, Code::STOPPING, denied);
        }
        let place = match admission.inbound(&self.pair) {
            Ok(place) => place,
            Err(denied) => return refuse(incoming, Code::BUSY, denied),
        };
        if !incoming.has_room() {
            let denied = Denied::new("memory_limit", "it is at its memory limit");
            return refuse(incoming, Code::BUSY, denied);
        }
        let span = span::connection(&self.pair);
        let (trunk, stream) = incoming.name();
        span.record("trunk", tracing::field::debug(trunk));
        span.record("stream", stream);
        let check = incoming.check();
        let decided = span.in_scope(|| self.decide(check.as_ref().err()));
        let (decided, credentials) = match (decided, check) {
            (Ok(decided), Ok(credentials)) => (decided, credentials),
            (Err(reason), _) => return incoming.refuse(Code::REVOKED, &reason),
            (Ok(_), Err(_)) => {
                return incoming.refuse(Code::REVOKED, "its certificates are not valid");
            }
        };
        let guard = context.drain.guard();
        let Some(desired) = context.desired.load_full() else {
            return;
        };
        // As the site file has it now.
        let Some(service) = desired.site.services.get(&self.service.name).cloned() else {
            return;
        };
        let call = Call {
            caller: self.pair.caller.clone(),
            service,
            node,
            carrier: Carrier::trunk(self.source.address, credentials.own().not_after()),
            credentials,
            denied: decided.denied,
            desired,
            span,
        };
        let stream = Arrival::Stream(incoming);
        carry(stream, call, decided.flow, &self.inbound, guard).await;
        drop(place);
    }

    /// Asks what a new handshake would ask: the certificates, of whose `fault` it learns, the peers
    /// and the policy of now. The error is for the peer, and says no more than an alert would.
    fn decide(&self, fault: Option<&Fault>) -> Result<Decided, String> {
        let (caller, service) = (&self.pair.caller, &self.service);
        let record = |reason: &'static str, sentence: String| {
            let (refusals, direction) = (&self.inbound.context.refusals, Direction::Inbound);
            refusals.record(direction, &service.name, caller.short(), reason, sentence);
        };
        let refuse = |reason: &'static str, sentence: String| {
            record(reason, sentence);
            Err("its policy does not allow this caller".to_owned())
        };
        if let Some(fault) = fault {
            let _ = refuse(fault.label(), fault.to_string());
            return Err(
                "it no longer accepts this caller's certificate, or has no valid one itself"
                    .to_owned(),
            );
        }
        let Some(desired) = self.inbound.context.desired.load_full() else {
            return refuse("no_policy", format!("{} has no policy", service.name));
        };
        if let Err(denied) = revocation::check_linked(&desired.site, caller) {
            return refuse(denied.label, denied.reason);
        }
        let Some(policy) = desired.policies.get(&service.name) else {
            return refuse(
                "no_policy",
                format!("{} is not offered any more", service.name),
            );
        };
        let source = self.source.address.ip().to_canonical();
        let decision = decide(policy, &service.id, caller, Operation::Connect, source);
        let flow = self.inbound.context.flows.next_id();
        log(caller, &service.id, Operation::Connect, &decision, flow);
        let denied = !decision.allowed;
        if denied && service.protocol != Protocol::Http {
            return refuse("not_allowed", decision.reason);
        }
        if denied {
            record("not_allowed", decision.reason);
        }
        Ok(Decided { flow, denied })
    }
}

/// The broker that a stream is for, if one is named.
fn broker_of(target: &[u8]) -> Result<Option<i32>, Unreadable> {
    match std::str::from_utf8(target) {
        Ok("") => Ok(None),
        Ok(text) => text.parse().map(Some).map_err(|_| Unreadable),
        Err(_) => Err(Unreadable),
    }
}

/// A target that this side does not know.
#[derive(Debug, PartialEq, Eq)]
struct Unreadable;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_nothing_or_the_number_of_a_broker() {
        assert_eq!(broker_of(b""), Ok(None));
        assert_eq!(broker_of(b"7"), Ok(Some(7)));
        for other in [&b"seven"[..], b"99999999999", b"7 ", b"\xff"] {
            assert_eq!(broker_of(other), Err(Unreadable), "{other:?}");
        }
    }
}
