//! Who may call what: one table, and the one place that applies it.

use std::{
    num::NonZeroU32,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use governor::{DefaultKeyedRateLimiter, Quota};
use http::{Request, Response};
use renkei_api::spire::api::types::permission_denied_details::Reason;
use renkei_runtime::shares::Network;
use renkei_spiffe::SpiffeId;
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::{Shared, listener::Caller, refusal::denied};
use crate::nodes::{self, PresentedSvid};

/// What a caller must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Everyone, even without an SVID.
    Anyone,
    /// An attested node, banned neither nor replaced: of Renkei or of SPIRE.
    Agent,
    /// The same, of Renkei alone.
    Node,
    /// Whoever may use the server's local socket. Nobody comes from there yet.
    Local,
    /// The SVID of an entry with `admin`. No entry has it yet.
    Admin,
    /// The SVID of an entry with `downstream`. No entry has it yet.
    Downstream,
}

use Class::{Admin, Agent, Anyone, Downstream, Local, Node};

/// SPIRE's services with the classes that SPIRE gives their methods, and Renkei's own.
const TABLE: [(&str, &[&str], &[Class]); 13] = [
    (
        "spire.api.server.agent.v1.Agent",
        &["AttestAgent"],
        &[Anyone],
    ),
    (
        "spire.api.server.agent.v1.Agent",
        &["RenewAgent", "PostStatus"],
        &[Agent],
    ),
    (
        "spire.api.server.agent.v1.Agent",
        &[
            "CountAgents",
            "ListAgents",
            "GetAgent",
            "DeleteAgent",
            "BanAgent",
            "CreateJoinToken",
        ],
        &[Local, Admin],
    ),
    (
        "spire.api.server.entry.v1.Entry",
        &["GetAuthorizedEntries", "SyncAuthorizedEntries"],
        &[Agent],
    ),
    (
        "spire.api.server.entry.v1.Entry",
        &[
            "CountEntries",
            "ListEntries",
            "GetEntry",
            "BatchCreateEntry",
            "BatchUpdateEntry",
            "BatchDeleteEntry",
        ],
        &[Local, Admin],
    ),
    (
        "spire.api.server.svid.v1.SVID",
        &["BatchNewX509SVID", "NewJWTSVID", "BatchNewWITSVID"],
        &[Agent],
    ),
    (
        "spire.api.server.svid.v1.SVID",
        &["MintX509SVID", "MintJWTSVID", "MintWITSVID"],
        &[Local, Admin],
    ),
    (
        "spire.api.server.svid.v1.SVID",
        &["NewDownstreamX509CA"],
        &[Downstream],
    ),
    (
        "spire.api.server.bundle.v1.Bundle",
        &["GetBundle"],
        &[Anyone],
    ),
    (
        "spire.api.server.bundle.v1.Bundle",
        &["GetFederatedBundle"],
        &[Local, Admin, Agent],
    ),
    (
        "spire.api.server.bundle.v1.Bundle",
        &["PublishJWTAuthority", "PublishWITAuthority"],
        &[Downstream],
    ),
    (
        "spire.api.server.bundle.v1.Bundle",
        &[
            "CountBundles",
            "AppendBundle",
            "ListFederatedBundles",
            "BatchCreateFederatedBundle",
            "BatchUpdateFederatedBundle",
            "BatchSetFederatedBundle",
            "BatchDeleteFederatedBundle",
        ],
        &[Local, Admin],
    ),
    ("renkei.node.v1.Node", &["Follow", "ReadBundle"], &[Node]),
];

/// Who may call the method of this path.
fn classes(path: &str) -> Option<&'static [Class]> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let found = TABLE
        .iter()
        .find(|(known, methods, _)| *known == service && methods.contains(&method));
    found.map(|(_, _, classes)| *classes)
}

/// Requests a second of one address, and at once. Nodes behind one address translation share them.
const REQUESTS: (u32, u32) = (200, 2_000);
/// The same for what anyone may ask: joining and the bundle.
const STRANGERS: (u32, u32) = (10, 200);
/// Addresses that have been quiet are forgotten when so many are known.
const ADDRESSES: usize = 16_384;

/// A node that may call what it calls.
#[derive(Debug, Clone)]
pub(super) struct AgentCaller {
    pub(super) svid: PresentedSvid,
}

impl AgentCaller {
    pub(super) fn id(&self) -> &SpiffeId {
        &self.svid.id
    }

    /// The caller of a request that was admitted for a node.
    pub(super) fn of<T>(request: &tonic::Request<T>) -> Result<Self, Status> {
        let caller = request.extensions().get::<Self>().cloned();
        caller.ok_or_else(|| Status::permission_denied("this needs the SVID of a node"))
    }
}

/// Applies the table, and the limits of each address.
#[derive(Clone)]
pub(super) struct Admission(Arc<Gate>);

struct Gate {
    shared: Arc<Shared>,
    requests: DefaultKeyedRateLimiter<Network>,
    strangers: DefaultKeyedRateLimiter<Network>,
}

impl Admission {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(Arc::new(Gate {
            shared,
            requests: limiter(REQUESTS),
            strangers: limiter(STRANGERS),
        }))
    }
}

fn limiter((a_second, at_once): (u32, u32)) -> DefaultKeyedRateLimiter<Network> {
    let count = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
    let quota = Quota::per_second(count(a_second)).allow_burst(count(at_once));
    DefaultKeyedRateLimiter::keyed(quota)
}

impl Gate {
    /// `Some` when the table asks for a node; its right is checked now.
    async fn admit(&self, path: &str, caller: &Caller) -> Result<Option<AgentCaller>, Status> {
        let Some(classes) = classes(path) else {
            return Err(Status::unimplemented(format!(
                "this server has no method {path}"
            )));
        };
        let anyone = classes.contains(&Anyone);
        self.limit(anyone, caller)?;
        if anyone {
            return Ok(None);
        }
        let nodes_may = classes.iter().any(|class| matches!(class, Agent | Node));
        let Some(svid) = caller.svid.as_ref().filter(|_| nodes_may) else {
            return Err(Status::permission_denied(format!(
                "authorization denied for the method {path}: {}",
                match (&caller.svid, nodes_may) {
                    (Some(svid), _) => format!("{} may not call it", svid.id.short()),
                    (None, true) => "it needs the SVID of a node".to_owned(),
                    (None, false) => "it is not for nodes".to_owned(),
                }
            )));
        };
        self.check(svid)?;
        if !classes.contains(&Agent) && nodes::node_name(&svid.id).is_none() {
            return Err(Status::permission_denied(
                "only a node of Renkei may call it",
            ));
        }
        let parts = &self.shared.parts;
        parts.nodes.used(svid).await;
        Ok(Some(AgentCaller { svid: svid.clone() }))
    }

    fn limit(&self, anyone: bool, caller: &Caller) -> Result<(), Status> {
        let limiter = match anyone {
            true => &self.strangers,
            false => &self.requests,
        };
        if limiter.len() > ADDRESSES {
            limiter.retain_recent();
        }
        let network = Network::of(caller.address.ip());
        match limiter.check_key(&network) {
            Ok(()) => Ok(()),
            Err(_) => Err(Status::resource_exhausted(format!(
                "too many requests from {network}; try again later"
            ))),
        }
    }

    fn check(&self, svid: &PresentedSvid) -> Result<(), Status> {
        self.shared.check(svid)
    }
}

impl Shared {
    /// Whether the node of an SVID is still one.
    pub(super) fn check(&self, svid: &PresentedSvid) -> Result<(), Status> {
        self.parts.nodes.check(svid, (self.parts.clock)())?;
        match nodes::node_name(&svid.id) {
            Some(name) if !self.parts.node_parts.borrow().contains_key(name) => Err(denied(
                Reason::AgentNotAttested,
                format!("the site file has no node `{name}` any more"),
            )),
            _ => Ok(()),
        }
    }
}

impl<S> Layer<S> for Admission {
    type Service = Admitting<S>;

    fn layer(&self, inner: S) -> Admitting<S> {
        let gate = self.0.clone();
        Admitting { gate, inner }
    }
}

/// Passes on what may be called.
#[derive(Clone)]
pub(super) struct Admitting<S> {
    gate: Arc<Gate>,
    inner: S,
}

impl<S> Service<Request<Body>> for Admitting<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The one that is ready, not its copy.
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        let gate = self.gate.clone();
        Box::pin(async move {
            let Some(caller) = request.extensions().get::<Arc<Caller>>().cloned() else {
                let refusal = Status::internal("the connection has no caller");
                return Ok(refusal.into_http());
            };
            match gate.admit(request.uri().path(), &caller).await {
                Ok(admitted) => {
                    if let Some(agent) = admitted {
                        request.extensions_mut().insert(agent);
                    }
                    inner.call(request).await
                }
                Err(refusal) => {
                    let (client, path) = (caller.address, request.uri().path());
                    tracing::info!(%client, path, reason = refusal.message(), "a request to the server API is refused");
                    Ok(refusal.into_http())
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of SPIRE's server, method by method, and ours behind it.
    const EXPECTED: &str = "
        agent.v1.Agent/AttestAgent: anyone
        agent.v1.Agent/RenewAgent: agent
        agent.v1.Agent/PostStatus: agent
        agent.v1.Agent/CountAgents: local admin
        agent.v1.Agent/ListAgents: local admin
        agent.v1.Agent/GetAgent: local admin
        agent.v1.Agent/DeleteAgent: local admin
        agent.v1.Agent/BanAgent: local admin
        agent.v1.Agent/CreateJoinToken: local admin
        entry.v1.Entry/GetAuthorizedEntries: agent
        entry.v1.Entry/SyncAuthorizedEntries: agent
        entry.v1.Entry/CountEntries: local admin
        entry.v1.Entry/ListEntries: local admin
        entry.v1.Entry/GetEntry: local admin
        entry.v1.Entry/BatchCreateEntry: local admin
        entry.v1.Entry/BatchUpdateEntry: local admin
        entry.v1.Entry/BatchDeleteEntry: local admin
        svid.v1.SVID/BatchNewX509SVID: agent
        svid.v1.SVID/NewJWTSVID: agent
        svid.v1.SVID/BatchNewWITSVID: agent
        svid.v1.SVID/MintX509SVID: local admin
        svid.v1.SVID/MintJWTSVID: local admin
        svid.v1.SVID/MintWITSVID: local admin
        svid.v1.SVID/NewDownstreamX509CA: downstream
        bundle.v1.Bundle/GetBundle: anyone
        bundle.v1.Bundle/GetFederatedBundle: local admin agent
        bundle.v1.Bundle/PublishJWTAuthority: downstream
        bundle.v1.Bundle/PublishWITAuthority: downstream
        bundle.v1.Bundle/CountBundles: local admin
        bundle.v1.Bundle/AppendBundle: local admin
        bundle.v1.Bundle/ListFederatedBundles: local admin
        bundle.v1.Bundle/BatchCreateFederatedBundle: local admin
        bundle.v1.Bundle/BatchUpdateFederatedBundle: local admin
        bundle.v1.Bundle/BatchSetFederatedBundle: local admin
        bundle.v1.Bundle/BatchDeleteFederatedBundle: local admin";

    #[test]
    fn every_method_has_the_classes_of_spire() {
        let mut methods = 0;
        for line in EXPECTED.trim().lines() {
            let (path, expected) = line.trim().split_once(": ").unwrap();
            let found = classes(&format!("/spire.api.server.{path}")).unwrap();
            let found: Vec<String> = found
                .iter()
                .map(|class| format!("{class:?}").to_lowercase())
                .collect();
            assert_eq!(found.join(" "), expected, "{path}");
            methods += 1;
        }
        let listed: usize = TABLE.iter().map(|(_, methods, _)| methods.len()).sum();
        assert_eq!(listed, methods + 2, "with the two of renkei.node.v1");
        for method in ["Follow", "ReadBundle"] {
            let path = format!("/renkei.node.v1.Node/{method}");
            assert_eq!(classes(&path), Some(&[Node][..]));
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_nobodys() {
        for path in [
            "",
            "/",
            "/a",
            "/renkei.node.v1.Node/",
            "/x/Follow",
            "/spire.api.server.logger.v1.Logger/GetLogger",
        ] {
            assert_eq!(classes(path), None, "{path}");
        }
    }
}
