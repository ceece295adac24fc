//! Whether the server serves, for `spire-server healthcheck` and other readers of gRPC's health
//! check. It serves when a CA can sign now.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use renkei_api::health::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_server::Health,
};
use tonic::{Request, Response, Status, codegen::BoxStream};

use super::Shared;

/// How often a watcher's answer may change.
const INTERVAL: Duration = Duration::from_secs(5);

pub(super) struct Service(Arc<Shared>);

impl Service {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

fn status(shared: &Shared) -> ServingStatus {
    let parts = &shared.parts;
    let now = (parts.clock)();
    let bundles = parts.bundles.snapshot();
    let own = bundles.get(&parts.trust_domain);
    let end = own.and_then(|bundle| bundle.end());
    match end.is_some_and(|end| end.not_after > now) {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

/// The server is one service.
fn check_name(request: &HealthCheckRequest) -> Result<(), Status> {
    match request.service.as_str() {
        "" => Ok(()),
        _ => Err(Status::not_found(
            "this server has one health: ask without a name",
        )),
    }
}

#[tonic::async_trait]
impl Health for Service {
    type WatchStream = BoxStream<HealthCheckResponse>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        check_name(request.get_ref())?;
        Ok(Response::new(answer(status(&self.0))))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        check_name(request.get_ref())?;
        let first = (self.0.clone(), None);
        let changes = stream::unfold(first, async |(shared, last)| {
            loop {
                let now = status(&shared);
                if last != Some(now) {
                    return Some((Ok(answer(now)), (shared, Some(now))));
                }
                tokio::time::sleep(INTERVAL).await;
            }
        });
        Ok(Response::new(changes.boxed()))
    }
}
