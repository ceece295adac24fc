//! One caller's requests, one after the other.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::{
    Request, Response, StatusCode, Version,
    body::Incoming,
    header::{CONNECTION, EXPECT, HeaderValue},
    upgrade::OnUpgrade,
};
use renkei_policy::{Decision, Operation, RuleKind, ServicePolicy};
use renkei_site::{Protocol, Service, sni};
use renkei_spiffe::SpiffeId;

use super::{
    Caller,
    body::{self, Broken, Passing, ResponseOwner},
    codings::{self, CodingError},
    headers::{self, CallerHeaders},
    interim::Interim,
    pool::Pool,
    progress::{Held, Progress},
    refusal::RequestRefusal,
    send::{self, To},
    sharing, target,
    tunnel::Tunnel,
    upload::Aborted,
    upstream::Upstream,
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
    pool: Arc<Pool>,
    progress: Arc<Progress>,
    interim: Arc<Interim>,
    caller: CallerHeaders,
    /// The text of the refusal, if the caller may not connect.
    denied: Option<String>,
    upstream: tokio::sync::Mutex<Option<Upstream>>,
    tunnel: Mutex<Option<Tunnel>>,
}

/// A request that is allowed.
struct Allowed {
    service: Service,
    /// Its transfer codings, if it has others than `chunked`.
    codings: Option<HeaderValue>,
    /// A rule reads its host.
    by_host: bool,
}

/// A response on its way, and the request that it answers.
struct Exchange {
    session: Arc<HttpSession>,
    request: Aborted,
}

impl HttpSession {
    pub(super) fn new(
        flow: Arc<Flow>,
        (service, caller): (String, Caller),
        (context, backends, pool): (Arc<Context>, Arc<Backends>, Arc<Pool>),
        (progress, interim): (Arc<Progress>, Arc<Interim>),
    ) -> Self {
        let hash = &caller.certificate_hash;
        Self {
            caller: CallerHeaders::new(&flow.pair.caller, &flow.pair.callee, hash),
            denied: caller.denied,
            interim,
            flow,
            service,
            context,
            backends,
            pool,
            progress,
            upstream: tokio::sync::Mutex::new(None),
            tunnel: Mutex::new(None),
        }
    }

    pub(super) fn caller_id(&self) -> &SpiffeId {
        &self.flow.pair.caller
    }

    /// The tunnel that the connection is to become, if it is.
    pub(super) fn take_tunnel(&self) -> Option<Tunnel> {
        let mut tunnel = self.tunnel.lock().unwrap_or_else(PoisonError::into_inner);
        tunnel.take()
    }

    /// No more requests come: leaves the connection to the backend to others.
    pub(super) fn release_upstream(&self) {
        let tunnel = self.tunnel.lock().unwrap_or_else(PoisonError::into_inner);
        if tunnel.is_none()
            && let Ok(mut kept) = self.upstream.try_lock()
            && let Some(upstream) = kept.take()
        {
            send::release(upstream, &self.service, &self.pool);
        }
    }

    /// Answers a request, by a backend or by itself.
    pub(super) async fn answer(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
    ) -> Response<Passing> {
        let held = self.progress.hold();
        let surplus = self.progress.take_surplus();
        surplus.add_to(request.headers_mut());
        if let Some(name) = sni(&self.flow.pair.callee) {
            target::name_a_host(&mut request, &name);
        }
        let answered = match self.judge(&request) {
            Ok(allowed) => self.forward(request, allowed).await,
            Err(refusal) => {
                // A caller that waits for 100 Continue sends no body.
                if !request.headers().contains_key(EXPECT) {
                    body::discard(self.upload(request.into_body()));
                }
                Err(refusal)
            }
        };
        let mut response = answered.unwrap_or_else(|refusal| self.refuse(refusal, held));
        self.announce_the_end(&mut response);
        response
    }

    /// Says that the connection ends with this answer, if the process is stopping, or nothing else
    /// could be answered. Asked for when the answer is there: the drain may have begun since the
    /// connection was last looked at.
    fn announce_the_end(&self, response: &mut Response<Passing>) {
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if !switched && (self.denied.is_some() || self.context.drain.is_signaled()) {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
    }

    /// Whether the request is allowed as things are now, and to which service it goes.
    fn judge(&self, request: &Request<Incoming>) -> Result<Allowed, RequestRefusal> {
        if let Some(text) = &self.denied {
            return Err(RequestRefusal {
                status: StatusCode::FORBIDDEN,
                label: "not_allowed",
                answer_text: text.clone(),
                sentence: None,
            });
        }
        let target = target::target_of(request)
            .map_err(|bad| self.bad_request(StatusCode::BAD_REQUEST, &bad.to_string()))?;
        let codings = codings::codings_of(request.headers()).map_err(|error| {
            let status = match error {
                CodingError::Unknown => StatusCode::NOT_IMPLEMENTED,
                CodingError::ChunkedTwice => StatusCode::BAD_REQUEST,
            };
            self.bad_request(status, &error.to_string())
        })?;
        let (service, policy) = self.offered().ok_or_else(|| self.not_offered())?;
        let operation = Operation::Http {
            method: request.method().as_str(),
            host: &target.host,
            path: &target.path,
        };
        let caller = &self.flow.pair.caller;
        let source = self.flow.remote.ip().to_canonical();
        let decision = decide(&policy, &service.id, caller, operation, source);
        log(caller, &service.id, operation, &decision, self.flow.id);
        match decision.allowed {
            true => Ok(Allowed {
                service,
                codings,
                by_host: policy.reads_host(),
            }),
            false => Err(self.denied(operation, decision)),
        }
    }

    fn bad_request(&self, status: StatusCode, why: &str) -> RequestRefusal {
        let caller = self.flow.pair.caller.short();
        RequestRefusal {
            status,
            label: "bad_request",
            answer_text: why.to_owned(),
            sentence: Some(format!("{caller} sent a request that is refused: {why}")),
        }
    }

    fn not_offered(&self) -> RequestRefusal {
        let sentence = format!("{} is no longer offered", self.flow.pair.callee.short());
        RequestRefusal {
            status: StatusCode::SERVICE_UNAVAILABLE,
            label: "no_policy",
            answer_text: sentence.clone(),
            sentence: Some(sentence),
        }
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
            RuleKind::Path => return self.bad_request(StatusCode::BAD_REQUEST, &decision.reason),
        };
        RequestRefusal {
            status: StatusCode::FORBIDDEN,
            label: "request_denied",
            answer_text: format!("{caller} may not do {operation} at {callee}: {form}"),
            sentence: Some(decision.reason),
        }
    }

    async fn forward(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        allowed: Allowed,
    ) -> Result<Response<Passing>, RequestRefusal> {
        let Allowed {
            service,
            codings,
            by_host,
        } = allowed;
        let websocket = headers::asks_for_websocket(&request);
        let waits = request.headers().contains_key(EXPECT);
        let version = request.version();
        let caller = websocket.then(|| hyper::upgrade::on(&mut request));
        headers::prepare_request(&mut request, &self.caller, (websocket, by_host), codings);
        let mut request = request.map(|body| self.upload(body));
        let shareable = sharing::allowed_by_request(&request, websocket);
        if version == Version::HTTP_11 {
            self.pass_interim_responses(&mut request);
        }
        let mut kept = self.upstream.lock().await;
        let limit = service.response_timeout;
        let limit = limit.unwrap_or(self.context.limits.backend_response_timeout);
        let to = To {
            service: &service,
            backends: &self.backends,
            pool: &self.pool,
        };
        let sent = send::send(request, &mut kept, &to, (limit, shareable)).await;
        self.interim.finish().await;
        let (mut response, aborted) = sent.map_err(|(error, rest)| {
            if let Some(rest) = rest.filter(|_| !waits) {
                body::discard(rest);
            }
            RequestRefusal::of(&error, &self.flow.pair.callee)
        })?;
        self.prepare_response(&mut response, version)?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            self.open_tunnel(caller, &mut response)?;
        }
        let exchange = Arc::new(Exchange {
            session: self.clone(),
            request: aborted,
        });
        Ok(response.map(|body| Passing::response(body, exchange, self.progress.hold())))
    }

    /// The backend has changed the protocol, which a caller must have asked for.
    fn open_tunnel<B>(
        &self,
        caller: Option<OnUpgrade>,
        response: &mut Response<B>,
    ) -> Result<(), RequestRefusal> {
        let Some(caller) = caller else {
            return Err(self.backend_fault("changed the protocol without a request to"));
        };
        let opened = Tunnel {
            caller,
            backend: hyper::upgrade::on(response),
            held: self.progress.hold(),
        };
        *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened);
        Ok(())
    }

    /// Makes the response of a backend one of this side, for a caller of this version.
    fn prepare_response(
        &self,
        response: &mut Response<Incoming>,
        version: Version,
    ) -> Result<(), RequestRefusal> {
        let codings = codings::codings_of(response.headers())
            .map_err(|error| self.backend_fault(&format!("sent no valid response: {error}")))?;
        if version != Version::HTTP_11 && codings.is_some() {
            let what = "sent a response with a transfer coding, which HTTP/1.0 does not have";
            return Err(self.backend_fault(what));
        }
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        headers::prepare_response(response, switched, codings);
        Ok(())
    }

    /// Lets responses such as 103 through that come before the response.
    fn pass_interim_responses(&self, request: &mut Request<Passing>) {
        self.interim.begin();
        let interim = self.interim.clone();
        hyper::ext::on_informational(request, move |response| {
            // 100 is this side's to give.
            if response.status() != StatusCode::CONTINUE {
                let headers = headers::interim_headers(response.headers());
                interim.send(response.status(), &headers);
            }
        });
    }

    pub(super) fn record(&self, label: &'static str, sentence: String) {
        let caller = self.flow.pair.caller.short();
        let refusals = &self.context.refusals;
        refusals.record(Direction::Inbound, &self.service, caller, label, sentence);
    }

    fn upload(&self, body: Incoming) -> Passing {
        Passing::request(body, self.progress.arriving(), self.progress.hold())
    }

    fn backend_fault(&self, what: &str) -> RequestRefusal {
        let sentence = format!("a backend of {} {what}", self.flow.pair.callee.short());
        RequestRefusal {
            status: StatusCode::BAD_GATEWAY,
            label: "backend_failed",
            answer_text: sentence.clone(),
            sentence: Some(sentence),
        }
    }

    fn refuse(&self, mut refusal: RequestRefusal, held: Held) -> Response<Passing> {
        if let Some(sentence) = refusal.sentence.take() {
            self.record(refusal.label, sentence);
        }
        refusal.into_response(held)
    }
}

impl ResponseOwner for Exchange {
    fn idle_limit(&self) -> Duration {
        self.session.context.limits.backend_idle_timeout
    }

    fn broke_off(&self, error: &Broken) {
        if self.request.is_set() {
            let sentence = "the caller broke off its request while it was answered";
            return self.session.record("request_aborted", sentence.to_owned());
        }
        let label = match error {
            Broken::Silent(_) => "backend_timeout",
            Broken::Http(_) | Broken::GivenUp => "backend_failed",
        };
        let service = &self.session.service;
        let sentence = format!("a backend of {service} broke off its response: {error}");
        self.session.record(label, sentence);
    }
}
