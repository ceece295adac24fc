//! The one place that applies the table of callers, and the limits of each address.

use std::{
    fmt,
    num::NonZeroU32,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use governor::{DefaultKeyedRateLimiter, Quota};
use http::{Request, Response};
use renkei_api::spire::api::types::permission_denied_details::Reason;
use renkei_grpc::Peer;
use renkei_runtime::shares::Network;
use renkei_spiffe::SpiffeId;
use tonic::{Status, body::Body, server::NamedService};
use tower::{Layer, Service};

use super::{
    Shared,
    listener::Caller,
    methods::{Class, classes},
    refusal::denied,
};
use crate::nodes::{self, PresentedSvid};

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
    /// `Some` when the caller is a node that may call it; its right is checked now.
    async fn admit(&self, path: &str, caller: &Origin) -> Result<Option<AgentCaller>, Status> {
        let Some(classes) = classes(path) else {
            return Err(Status::unimplemented(format!(
                "this server has no method {path}"
            )));
        };
        let may = |class| classes.contains(&class);
        let caller = match caller {
            Origin::Local(uid) => return local(*uid, path, classes).map(|()| None),
            Origin::Remote(caller) => caller,
        };
        self.limit(may(Class::Anyone), caller)?;
        if may(Class::Anyone) {
            return Ok(None);
        }
        let Some(svid) = &caller.svid else {
            return Err(refused(path, classes, "it presents no SVID"));
        };
        let as_node = match nodes::node_name(&svid.id) {
            Some(_) => may(Class::Agent) || may(Class::Node),
            None => may(Class::Agent) && nodes::is_node(&svid.id),
        };
        if as_node {
            self.shared.check(svid)?;
            self.shared.parts.nodes.used(svid).await;
            return Ok(Some(AgentCaller { svid: svid.clone() }));
        }
        self.shared.verify(svid)?;
        let entries = &self.shared.parts.entries;
        let has = |class| {
            may(class)
                && entries.any_of(&svid.id, |attributes| match class {
                    Class::Admin => attributes.admin,
                    Class::Downstream => attributes.downstream,
                    _ => false,
                })
        };
        if has(Class::Admin) || has(Class::Downstream) {
            return Ok(None);
        }
        let who = format!("{} may not call it", svid.id.short());
        Err(refused(path, classes, &who))
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
}

/// Where a request comes from.
#[derive(Debug)]
enum Origin {
    /// The local socket, and the user there.
    Local(u32),
    /// The port.
    Remote(Arc<Caller>),
}

impl Origin {
    fn of(extensions: &http::Extensions) -> Result<Self, Status> {
        if let Some(caller) = extensions.get::<Arc<Caller>>() {
            return Ok(Self::Remote(caller.clone()));
        }
        let peer = extensions.get::<Arc<Peer>>();
        let peer = peer.ok_or_else(|| Status::internal("the connection has no caller"))?;
        match peer.process() {
            Ok(process) => Ok(Self::Local(process.uid())),
            Err(error) => Err(Status::permission_denied(error.to_string())),
        }
    }
}

/// The mode of the socket keeps other users out already; a socket that was moved does not.
fn local(uid: u32, path: &str, classes: &[Class]) -> Result<(), Status> {
    let own = rustix::process::geteuid().as_raw();
    if uid != own && uid != 0 {
        let text = format!("only the user {own} and root may use this socket, not {uid}");
        return Err(Status::permission_denied(text));
    }
    let may = [Class::Anyone, Class::Local];
    match classes.iter().any(|class| may.contains(class)) {
        true => Ok(()),
        false => Err(refused(path, classes, "it comes by the local socket")),
    }
}

fn refused(path: &str, classes: &[Class], why: &str) -> Status {
    let who: Vec<&str> = classes.iter().map(|class| class.name()).collect();
    Status::permission_denied(format!(
        "authorization denied for the method {path}: {why}; it is for {}",
        who.join(", ")
    ))
}

impl Shared {
    /// Whether the node of an SVID is still one, and would be let in by a new handshake.
    pub(super) fn check(&self, svid: &PresentedSvid) -> Result<(), Status> {
        self.parts.nodes.check(svid, (self.parts.clock)())?;
        self.verify(svid)?;
        match nodes::node_name(&svid.id) {
            Some(name) if !self.parts.node_parts.borrow().contains_key(name) => Err(denied(
                Reason::AgentNotAttested,
                format!("the site file has no node `{name}` any more"),
            )),
            _ => Ok(()),
        }
    }
}

impl Shared {
    /// Whether a new handshake would take the SVID.
    fn verify(&self, svid: &PresentedSvid) -> Result<(), Status> {
        let bundles = self.parts.bundles.snapshot();
        let verified = svid.verify(&bundles, (self.parts.clock)(), &self.parts.provider);
        // Not a reason by which agents join again: they learn it in the next handshake.
        verified.map_err(|fault| Status::unauthenticated(fault.to_string()))
    }
}

impl<S> Layer<S> for Admission {
    type Service = Admitting<S>;

    fn layer(&self, inner: S) -> Admitting<S> {
        let gate = self.0.clone();
        Admitting { gate, inner }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(uid) => write!(f, "user {uid}"),
            Self::Remote(caller) => caller.address.fmt(f),
        }
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
            let origin = match Origin::of(request.extensions()) {
                Ok(origin) => origin,
                Err(refusal) => return Ok(refusal.into_http()),
            };
            match gate.admit(request.uri().path(), &origin).await {
                Ok(admitted) => {
                    if let Some(agent) = admitted {
                        request.extensions_mut().insert(agent);
                    }
                    inner.call(request).await
                }
                Err(refusal) => {
                    let path = request.uri().path();
                    tracing::info!(caller = %origin, path, reason = refusal.message(), "a request to the server API is refused");
                    Ok(refusal.into_http())
                }
            }
        })
    }
}

impl<S: NamedService> NamedService for Admitting<S> {
    const NAME: &'static str = S::NAME;
}
