//! The methods of the Workload API.

use std::sync::Arc;

use futures_util::{StreamExt, stream::BoxStream};
use renkei_api::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svidRequest,
    X509svidResponse, spiffe_workload_api_server::SpiffeWorkloadApi,
};
use renkei_grpc::Peer;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    Sources,
    message::Message,
    subscription::{Attestor, Subscription},
};
use crate::{AgentMetrics, metrics::Denial};

/// SPIFFE_Workload_Endpoint 6: a request forged by way of a browser could not carry this.
const SECURITY_HEADER: &str = "workload.spiffe.io";

pub(super) struct Service {
    sources: Sources,
    attestor: Arc<Attestor>,
    metrics: AgentMetrics,
    stop: CancellationToken,
}

type Messages<M> = BoxStream<'static, Result<M, Status>>;

impl Service {
    pub(super) fn new(sources: Sources, metrics: AgentMetrics, stop: CancellationToken) -> Self {
        let attestor = Arc::new(Attestor::new(metrics.clone()));
        Self {
            sources,
            attestor,
            metrics,
            stop,
        }
    }

    async fn subscribe<R, M: Message>(
        &self,
        request: &Request<R>,
    ) -> Result<Response<Messages<M>>, Status> {
        self.check_header(request)?;
        let Some(peer) = request.extensions().get::<Arc<Peer>>() else {
            return Err(Status::internal("the connection has no caller"));
        };
        let mut subscription = Subscription::new(
            Arc::clone(peer),
            self.sources.clone(),
            Arc::clone(&self.attestor),
            self.stop.clone(),
        );
        let first = subscription.first().await?;
        Ok(Response::new(subscription.into_stream(first).boxed()))
    }

    /// Exactly one `workload.spiffe.io: true`.
    fn check_header<R>(&self, request: &Request<R>) -> Result<(), Status> {
        let mut values = request.metadata().get_all(SECURITY_HEADER).iter();
        match (values.next(), values.next()) {
            (Some(value), None) if value == "true" => Ok(()),
            _ => Err(self.bad_request("the metadata workload.spiffe.io: true must be set once")),
        }
    }

    fn bad_request(&self, what: &str) -> Status {
        self.metrics.denied(Denial::BadRequest);
        Status::invalid_argument(what)
    }

    /// JWT-SVIDs do not exist in this version; a bad request is still a bad request.
    fn no_jwt<R>(&self, request: &Request<R>, is_empty: Option<&str>) -> Status {
        let checked = self.check_header(request);
        match (checked, is_empty) {
            (Err(status), _) => status,
            (_, Some(what)) => self.bad_request(what),
            _ => Status::unimplemented("this agent issues X.509-SVIDs only, no JWT-SVIDs"),
        }
    }
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for Service {
    type FetchX509SVIDStream = Messages<X509svidResponse>;
    type FetchX509BundlesStream = Messages<X509BundlesResponse>;
    type FetchJWTBundlesStream = Messages<JwtBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        self.subscribe(&request).await
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        self.subscribe(&request).await
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<JwtsvidRequest>,
    ) -> Result<Response<JwtsvidResponse>, Status> {
        let audience = &request.get_ref().audience;
        let is_empty = audience.is_empty() || audience.iter().any(String::is_empty);
        Err(self.no_jwt(
            &request,
            is_empty.then_some("the audience must not be empty"),
        ))
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        Err(self.no_jwt(&request, None))
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        let asked = request.get_ref();
        let is_empty = asked.audience.is_empty() || asked.svid.is_empty();
        Err(self.no_jwt(
            &request,
            is_empty.then_some("audience and token must not be empty"),
        ))
    }
}
