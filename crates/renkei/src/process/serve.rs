//! What a running process answers: commands, metrics and health.

use std::{net::SocketAddr, sync::Arc};

use http::{Method, StatusCode};
use miette::miette;
use renkei_api::{
    control::{BundleDocument, Request, RequestError},
    status::{ProxyStatus, SiteStatus, StatusReporter},
};
use renkei_runtime::{
    admin,
    control::{self, ControlError},
    readiness::Readiness,
};
use renkei_spiffe::{BundleSet, TrustDomain};
use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::{Roles, Shared};
use crate::arguments::AdminArg;

/// Where metrics and health are served unless said otherwise.
const DEFAULT_ADMIN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9901);

/// Where metrics and health are served, by the command line, then by the site file.
pub(crate) fn admin_address(
    of_command_line: Option<AdminArg>,
    of_file: Option<SocketAddr>,
) -> Option<SocketAddr> {
    match of_command_line {
        Some(AdminArg::Off) => None,
        Some(AdminArg::At(address)) => Some(address),
        None => Some(of_file.unwrap_or(DEFAULT_ADMIN)),
    }
}

pub(super) async fn bind_admin(
    address: Option<SocketAddr>,
) -> miette::Result<Option<admin::Server>> {
    let Some(address) = address else {
        return Ok(None);
    };
    admin::Server::bind(address)
        .await
        .map(Some)
        .map_err(|error| miette!(help = error.hint(), "{error}"))
}

/// Answers `renkei status`, `apply` and the like.
pub(super) fn commands<R: Roles>(
    control: control::Server,
    roles: &Arc<R>,
    shared: &Shared,
) -> JoinHandle<()> {
    let roles = roles.clone();
    let router = control::Router::new(move |method, path, _body| {
        let roles = roles.clone();
        async move { roles.answer(request(&method, &path)?).await }
    });
    let control = Arc::new(control);
    let serve = move || {
        let (control, router) = (control.clone(), router.clone());
        async move { control.serve(router).await }
    };
    shared.tasks.keep("control socket", || false, serve)
}

/// Answers Prometheus and health checks.
pub(super) fn metrics(admin: admin::Server, shared: &Shared) {
    tracing::info!(address = %admin.address(), "metrics and health");
    let admin = Arc::new(admin);
    let (metrics, readiness) = (shared.metrics.clone(), shared.readiness.clone());
    let serve = move || {
        let (admin, metrics, readiness) = (admin.clone(), metrics.clone(), readiness.clone());
        async move { admin.serve(metrics, readiness).await }
    };
    shared.tasks.keep("metrics and health", || false, serve);
}

/// A request that came as method and path.
fn request(method: &Method, path: &str) -> Result<Request, ControlError> {
    Request::parse(method, path).map_err(|error| {
        let status = match &error {
            RequestError::Unknown(..) => StatusCode::NOT_FOUND,
            RequestError::TrustDomain { .. } => StatusCode::BAD_REQUEST,
        };
        ControlError::new(status, error.to_string())
    })
}

/// The bundle of a trust domain, as far as it is known here.
pub(crate) fn bundle(
    bundles: &BundleSet,
    trust_domain: &TrustDomain,
) -> Result<BundleDocument, ControlError> {
    match bundles.get(trust_domain) {
        Some(bundle) => Ok(BundleDocument {
            document: bundle.to_document(),
        }),
        None => Err(ControlError::new(
            StatusCode::NOT_FOUND,
            format!("no bundle of {trust_domain} is known here"),
        )
        .with_hint("`renkei status` shows the peers and why their bundles are missing")),
    }
}

/// An answer on the control socket.
pub(crate) fn json(answer: &impl Serialize) -> Result<Value, ControlError> {
    serde_json::to_value(answer)
        .map_err(|error| ControlError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

/// The status of a site or node of this name, with what its roles report.
pub(crate) async fn status(
    (name, trust_domain): (&str, &TrustDomain),
    readiness: &Readiness,
    reporters: &[&dyn StatusReporter],
) -> SiteStatus {
    let snapshot = readiness.snapshot();
    let status = SiteStatus {
        site: name.to_owned(),
        trust_domain: trust_domain.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ready: snapshot.ready,
        conditions: snapshot.conditions,
        proxy: ProxyStatus::default(),
        server: None,
        agent: None,
        workload_api: None,
        node: None,
    };
    status.with_reports(reporters).await
}
