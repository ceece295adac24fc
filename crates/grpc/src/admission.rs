//! Requests beyond a limit are answered with RESOURCE_EXHAUSTED: a client that is merely cut off, or
//! that waits for a stream, cannot know why.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use prometheus_client::metrics::counter::Counter;
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use crate::connection::Peer;

/// Counts the streams of each connection.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    pub(crate) service: &'static str,
    /// Streams at once on one connection.
    pub(crate) streams: u32,
    /// Requests refused for want of a stream.
    pub(crate) refused: Counter,
}

impl Admission {
    fn refuse(&self, peer: &Peer) {
        self.refused.inc();
        let (service, pid) = (
            self.service,
            peer.process().ok().map(|process| process.pid()),
        );
        tracing::warn!(
            pid,
            "a request to the {service} is refused: too many streams on its connection"
        );
    }
}

impl<S> Layer<S> for Admission {
    type Service = Admitting<S>;

    fn layer(&self, inner: S) -> Admitting<S> {
        let admission = self.clone();
        Admitting { admission, inner }
    }
}

/// Passes on what is within the limits.
#[derive(Debug, Clone)]
pub(crate) struct Admitting<S> {
    admission: Admission,
    inner: S,
}

impl<S> Service<Request<Body>> for Admitting<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        if let Some(reason) = peer.as_ref().and_then(|peer| peer.refused()) {
            let refusal = Status::resource_exhausted(reason).into_http();
            return Box::pin(async { Ok(refusal) });
        }
        let place = match peer.map(|peer| (peer.take_stream(self.admission.streams), peer)) {
            None => None,
            Some((Some(place), _)) => Some(place),
            Some((None, peer)) => {
                self.admission.refuse(&peer);
                let most = self.admission.streams;
                let reason = format!("more than {most} requests at once on one connection");
                let refusal = Status::resource_exhausted(reason).into_http();
                return Box::pin(async { Ok(refusal) });
            }
        };
        let answered = self.inner.call(request);
        Box::pin(async move {
            let response = answered.await?;
            // The place is taken until the stream ends.
            let with_place = |body: Body| {
                Body::new(body.map_frame(move |frame| {
                    let _taken = &place;
                    frame
                }))
            };
            Ok(response.map(with_place))
        })
    }
}
