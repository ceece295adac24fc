//! What a service's policy says about a connection, and the decision log: one event per decision,
//! under the tracing target `renkei::decision`.

mod pool;
pub(crate) mod revocation;

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use renkei_policy::{Decision, Operation, Request, ServicePolicy};
use renkei_spiffe::{Authorizer, Denied, SpiffeId};

use self::pool::{Asked, Question};

/// The target of the events; filters and log readers may rely on it.
pub const TARGET: &str = "renkei::decision";

/// Asks a service's policy about one connection, and logs the answer.
#[derive(Debug)]
pub(crate) struct ServiceAuthorizer {
    pub(crate) policy: Arc<ServicePolicy>,
    pub(crate) service: SpiffeId,
    pub(crate) source: IpAddr,
    pub(crate) flow: u64,
    /// A denied caller with a valid identity completes the handshake. The session answers that it
    /// is denied.
    tells_in_session: bool,
    decision: OnceLock<Decision>,
}

impl ServiceAuthorizer {
    pub(crate) fn new(
        policy: Arc<ServicePolicy>,
        service: SpiffeId,
        source: IpAddr,
        flow: u64,
    ) -> Self {
        Self {
            policy,
            service,
            source,
            flow,
            tells_in_session: false,
            decision: OnceLock::new(),
        }
    }

    /// Lets every verified peer complete the handshake. The session must ask for the
    /// [denial](Self::denial), and answer a denied caller itself.
    pub(crate) fn telling_in_session(self) -> Self {
        Self {
            tells_in_session: true,
            ..self
        }
    }

    /// What was decided about the caller, if it was denied.
    pub(crate) fn denial(&self) -> Option<&Decision> {
        self.decision.get().filter(|decision| !decision.allowed)
    }
}

/// What the policy says now about something that a caller asks for. A decision that takes more
/// than a moment is waited for without stopping other tasks.
pub(crate) fn decide(
    policy: &Arc<ServicePolicy>,
    service: &SpiffeId,
    peer: &SpiffeId,
    operation: Operation<'_>,
    source: IpAddr,
) -> Decision {
    let request = Request {
        peer,
        service,
        operation,
        source: Some(source),
    };
    if let Some(decision) = policy.decide_briefly(&request) {
        return decision;
    }
    pool::ask(Question {
        policy: Arc::clone(policy),
        peer: peer.clone(),
        service: service.clone(),
        operation: match operation {
            Operation::Connect => Asked::Connect,
            Operation::Http { method, host, path } => Asked::Http {
                method: method.to_owned(),
                host: host.clone(),
                path: path.clone(),
            },
        },
        source,
    })
}

impl Authorizer for ServiceAuthorizer {
    fn authorize(&self, peer: &SpiffeId) -> Result<(), Denied> {
        let operation = Operation::Connect;
        let decision = decide(&self.policy, &self.service, peer, operation, self.source);
        if self.decision.set(decision.clone()).is_ok() {
            log(peer, &self.service, operation, &decision, self.flow);
        }
        match decision.allowed || self.tells_in_session {
            true => Ok(()),
            false => Err(Denied {
                label: "not_allowed",
                reason: decision.reason,
            }),
        }
    }
}

/// Puts a decision into the log. `flow` is the number that the connection has, or would have had.
pub(crate) fn log(
    caller: &SpiffeId,
    callee: &SpiffeId,
    operation: Operation<'_>,
    decision: &Decision,
    flow: u64,
) {
    tracing::info!(
        target: TARGET,
        caller = %caller,
        callee = %callee,
        operation = %operation,
        allowed = decision.allowed,
        rule = %decision.rule,
        reason = %decision.reason,
        flow,
        "decision"
    );
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::Mutex,
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_decision_is_one_line_with_its_rule_and_reason() {
        let id = |text| SpiffeId::parse(text).unwrap();
        let broker = id("spiffe://hokkaido.example/broker");
        let collector = id("spiffe://osaka.example/collector");
        let policy = ServicePolicy::new(broker.clone(), vec![collector.clone()], None);
        let authorizer =
            ServiceAuthorizer::new(Arc::new(policy), broker, [127, 0, 0, 1].into(), 42);
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            authorizer.authorize(&collector).unwrap();
            authorizer.authorize(&collector).unwrap();
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let event: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(event["target"], TARGET);
        let fields = &event["fields"];
        assert_eq!(fields["caller"], "spiffe://osaka.example/collector");
        assert_eq!(fields["callee"], "spiffe://hokkaido.example/broker");
        assert_eq!(fields["operation"], "connect");
        assert_eq!(fields["allowed"], true);
        assert_eq!(fields["rule"], "allow osaka.example/collector");
        assert_eq!(fields["flow"], 42);
    }
}
