//! What a running site answers: commands, metrics and health. And how it follows its federation.

use std::{net::SocketAddr, sync::Arc};

use miette::{IntoDiagnostic, miette};
use renkei_runtime::{admin, control};
use tokio::task::JoinHandle;

use super::Shared;
use crate::{
    cli::{AdminArg, Up},
    load::Loaded,
    running::{Running, request},
};

/// Where metrics and health are served unless said otherwise.
const DEFAULT_ADMIN: &str = "127.0.0.1:9901";

pub(super) async fn bind_admin(
    args: &Up,
    loaded: &Loaded,
) -> miette::Result<Option<admin::Server>> {
    let address: SocketAddr = match (args.admin, loaded.site.admin) {
        (Some(AdminArg::Off), _) => return Ok(None),
        (Some(AdminArg::At(address)), _) | (None, Some(address)) => address,
        (None, None) => DEFAULT_ADMIN.parse().into_diagnostic()?,
    };
    admin::Server::bind(address)
        .await
        .map(Some)
        .map_err(|error| miette!(help = error.hint(), "{error}"))
}

/// Links the site with the members of its federation, if it has an authority of its own.
pub(super) fn members(running: &Arc<Running>, shared: &Shared) -> Option<JoinHandle<()>> {
    let members = running.plane.members()?;
    let running = running.clone();
    let follow = move || {
        let (running, members) = (running.clone(), members.clone());
        async move { running.follow_members(members).await }
    };
    let name = "members of the federation";
    Some(shared.tasks.keep(name, || false, follow))
}

/// Answers `renkei status`, `apply` and the like.
pub(super) fn commands(
    control: control::Server,
    running: &Arc<Running>,
    shared: &Shared,
) -> JoinHandle<()> {
    let running = running.clone();
    let router = control::Router::new(move |method, path, _body| {
        let running = running.clone();
        async move { running.answer(request(&method, &path)?).await }
    });
    let control = Arc::new(control);
    let serve = move || {
        let (control, router) = (control.clone(), router.clone());
        async move { control.serve(router).await }
    };
    shared.tasks.keep("control socket", || false, serve)
}

/// Answers Prometheus and whoever asks for the health.
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
