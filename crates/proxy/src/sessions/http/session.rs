//! One caller's requests, one after the other.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONNECTION, CONTENT_TYPE, EXPECT, HeaderValue, X_CONTENT_TYPE_OPTIONS},
};
use renkei_policy::{Decision, Operation, RuleKind, ServicePolicy};
use renkei_site::{Protocol, Service};

use super::{
    body::{self, Broken, Passing, ResponseOwner},
    headers,
    progress::{Held, Progress},
    target,
    tunnel::Tunnel,
    upstream::{self, NoResponse, Upstream},
};
use crate::{
    authorization::{decide, log},
    context::{Context, Flow},
    identity::Direction,
    sessions::Backends,
};

/// What lasts from one request to the next.
pub(super) struct HttpSession {
    flow: Arc<Flow>,
    /// The name of the service.
    service: String,
    context: Arc<Context>,
    backends: Arc<Backends>,
    progress: Arc<Progress>,
    upstream: tokio::sync::Mutex<Option<Upstream>>,
    tunnel: Mutex<Option<Tunnel>>,
}

/// An answer of this side.
struct RequestRefusal {
    status: StatusCode,
    /// A short, stable name for the counters.
    label: &'static str,
    /// For the caller.
    answer_text: String,
    /// For this side's people, who may know more.
    sentence: String,
}

impl HttpSession {
    pub(super) fn new(
        flow: Arc<Flow>,
        service: String,
        (context, backends): (Arc<Context>, Arc<Backends>),
        progress: Arc<Progress>,
    ) -> Self {
        Self {
            flow,
            service,
            context,
            backends,
            progress,
            upstream: tokio::sync::Mutex::new(None),
            tunnel: Mutex::new(None),
        }
    }

    /// The tunnel that the connection is to become, if it is.
    pub(super) fn take_tunnel(&self) -> Option<Tunnel> {
        let mut tunnel = self.tunnel.lock().unwrap_or_else(PoisonError::into_inner);
        tunnel.take()
    }

    /// Answers a request, by a backend or by itself.
    pub(super) async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Response<Passing> {
        let held = self.progress.hold();
        let answered = match self.judge(&request) {
            Ok(service) => self.forward(request, &service).await,
            Err(refusal) => {
                // A caller that waits for 100 Continue sends no body.
                if !request.headers().contains_key(EXPECT) {
                    body::discard(self.upload(request.into_body()));
                }
                Err(refusal)
            }
        };
        let mut response = answered.unwrap_or_else(|refusal| self.refuse(refusal, held));
        self.announce_the_drain(&mut response);
        response
    }

    /// Says that the connection ends with this answer, if the process is stopping. Asked for when
    /// the answer is there: the drain may have begun since the connection was last looked at.
    fn announce_the_drain(&self, response: &mut Response<Passing>) {
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if !switched && self.context.drain.is_signaled() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
    }

    /// Whether the request is allowed as things are now, and to which service it goes.
    fn judge(&self, request: &Request<Incoming>) -> Result<Service, RequestRefusal> {
        let caller = &self.flow.pair.caller;
        let path = target::path_of(request).map_err(|bad| RequestRefusal {
            status: StatusCode::BAD_REQUEST,
            label: "bad_request",
            answer_text: bad.to_string(),
            sentence: format!("{} sent a request that is refused: {bad}", caller.short()),
        })?;
        let (service, policy) = self.offered().ok_or_else(|| {
            let sentence = format!("{} is no longer offered", self.flow.pair.callee.short());
            RequestRefusal {
                status: StatusCode::SERVICE_UNAVAILABLE,
                label: "no_policy",
                answer_text: sentence.clone(),
                sentence,
            }
        })?;
        let operation = Operation::Http {
            method: request.method().as_str(),
            path: &path,
        };
        let source = self.flow.remote.ip().to_canonical();
        let decision = decide(&policy, &service.id, caller, operation, source);
        log(caller, &service.id, operation, &decision, self.flow.id);
        if decision.allowed {
            return Ok(service);
        }
        Err(self.denied(operation, decision))
    }

    fn offered(&self) -> Option<(Service, Arc<ServicePolicy>)> {
        let desired = self.context.desired.load_full()?;
        let service = desired.site.services.get(&self.service)?;
        let policy = desired.policies.get(&self.service)?;
        let is_same = service.id == self.flow.pair.callee && service.protocol == Protocol::Http;
        is_same.then(|| (service.clone(), policy.clone()))
    }

    fn denied(&self, operation: Operation<'_>, decision: Decision) -> RequestRefusal {
        let (caller, callee) = (self.flow.pair.caller.short(), self.flow.pair.callee.short());
        let form = match decision.kind {
            RuleKind::Methods => "no rule in its methods allows that",
            RuleKind::Policy => "its policy denies that",
            RuleKind::AllowList | RuleKind::Default => "no rule allows that",
        };
        RequestRefusal {
            status: StatusCode::FORBIDDEN,
            label: "request_denied",
            answer_text: format!("{caller} may not do {operation} at {callee}: {form}"),
            sentence: decision.reason,
        }
    }

    async fn forward(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        service: &Service,
    ) -> Result<Response<Passing>, RequestRefusal> {
        let websocket = headers::asks_for_websocket(&request);
        let waits = request.headers().contains_key(EXPECT);
        let caller = websocket.then(|| hyper::upgrade::on(&mut request));
        headers::prepare_request(&mut request, &self.flow.pair.caller, websocket);
        let request = request.map(|body| self.upload(body));
        let mut kept = self.upstream.lock().await;
        let limit = service.response_timeout;
        let limit = limit.unwrap_or(self.context.limits.backend_response_timeout);
        let to = (service, &*self.backends);
        let sent = upstream::send(request, &mut kept, to, limit).await;
        let mut response = sent.map_err(|(error, rest)| {
            if let Some(rest) = rest.filter(|_| !waits) {
                body::discard(rest);
            }
            self.no_response(&error)
        })?;
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        headers::prepare_response(&mut response, switched);
        match caller {
            Some(caller) if switched => {
                let backend = hyper::upgrade::on(&mut response);
                let held = self.progress.hold();
                let mut tunnel = self.tunnel.lock().unwrap_or_else(PoisonError::into_inner);
                *tunnel = Some(Tunnel {
                    caller,
                    backend,
                    held,
                });
            }
            None if switched => return Err(self.unasked()),
            _ => {}
        }
        let session = self.clone();
        Ok(response.map(|body| Passing::response(body, session, self.progress.hold())))
    }

    fn record(&self, label: &'static str, sentence: String) {
        let caller = self.flow.pair.caller.short();
        let refusals = &self.context.refusals;
        refusals.record(Direction::Inbound, &self.service, caller, label, sentence);
    }

    fn upload(&self, body: Incoming) -> Passing {
        Passing::request(body, self.progress.arriving(), self.progress.hold())
    }

    fn no_response(&self, error: &NoResponse) -> RequestRefusal {
        let callee = self.flow.pair.callee.short();
        let (status, label, answer_text) = match error {
            NoResponse::Unreachable(down) => (
                match down.is_silent() {
                    true => StatusCode::GATEWAY_TIMEOUT,
                    false => StatusCode::BAD_GATEWAY,
                },
                "backend_unavailable",
                format!("no backend of {callee} answers"),
            ),
            NoResponse::Broken { .. } => (
                StatusCode::BAD_GATEWAY,
                "backend_failed",
                format!("a backend of {callee} gave no response"),
            ),
            NoResponse::Late { .. } | NoResponse::Stalled { .. } => (
                StatusCode::GATEWAY_TIMEOUT,
                "backend_timeout",
                format!("a backend of {callee} gave no response in time"),
            ),
            NoResponse::Aborted => (
                StatusCode::BAD_REQUEST,
                "request_aborted",
                "the request ends in its middle".to_owned(),
            ),
        };
        RequestRefusal {
            status,
            label,
            answer_text,
            sentence: error.to_string(),
        }
    }

    fn unasked(&self) -> RequestRefusal {
        let callee = self.flow.pair.callee.short();
        let sentence = format!("a backend of {callee} changed the protocol without a request to");
        RequestRefusal {
            status: StatusCode::BAD_GATEWAY,
            label: "backend_failed",
            answer_text: sentence.clone(),
            sentence,
        }
    }

    fn refuse(&self, refusal: RequestRefusal, held: Held) -> Response<Passing> {
        let RequestRefusal {
            status,
            label,
            answer_text,
            sentence,
        } = refusal;
        self.record(label, sentence);
        let mut response = Response::new(Passing::text(format!("{answer_text}\n"), held));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(CONTENT_TYPE, text);
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

impl ResponseOwner for HttpSession {
    fn idle_limit(&self) -> Duration {
        self.context.limits.backend_idle_timeout
    }

    fn broke_off(&self, error: &Broken) {
        let label = match error {
            Broken::Silent(_) => "backend_timeout",
            Broken::Http(_) | Broken::GivenUp => "backend_failed",
        };
        let service = &self.service;
        let sentence = format!("a backend of {service} broke off its response: {error}");
        self.record(label, sentence);
    }
}
