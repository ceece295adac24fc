//! `renkei registry`: the log of a federation on an HTTP server.

use std::{net::SocketAddr, process::ExitCode};

use miette::{IntoDiagnostic, WrapErr, miette};
use renkei_federation::PublicKey;
use renkei_registry::{Log, Registry, RegistryMetrics};
use renkei_runtime::{
    admin,
    readiness::Readiness,
    signals::{Request, Signals},
    telemetry::Metrics,
};
use renkei_server::federation::{anchors, read_key};
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::args;
use crate::load::load_federation;

pub(crate) async fn run(args: &args::Registry) -> miette::Result<ExitCode> {
    let file = load_federation(&args.file)?;
    let key = read_key(&args.key).into_diagnostic()?;
    if key.public() != PublicKey::from_bytes(file.log_key) {
        return Err(miette!(
            help = "`renkei federation init` wrote log.pem in the folder of the federation file",
            "{} is not the key of {}'s log",
            args.key.display(),
            file.name
        ));
    }
    let mut signals = Signals::new()
        .into_diagnostic()
        .wrap_err("no signal handlers")?;
    let interval = args.interval.try_into().into_diagnostic()?;
    let now = OffsetDateTime::now_utc();
    let log = Log::open(&args.folder, anchors(&file), key, interval, now).into_diagnostic()?;
    let listener = TcpListener::bind(args.listen)
        .await
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot listen on {}", args.listen))?;
    tracing::info!(
        federation = file.name,
        address = %args.listen,
        entries = log.size(),
        "the registry is up"
    );
    let stop = CancellationToken::new();
    let counted = RegistryMetrics::default();
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"));
    metrics.register(|registry| counted.register(registry));
    let registry = Registry::new(log, &args.folder, counted);
    let serving = registry.serve(listener, stop.clone());
    tokio::pin!(serving);
    let metrics = serve_metrics(args.admin, metrics).await?;
    tokio::pin!(metrics);
    loop {
        tokio::select! {
            () = &mut serving => break,
            () = &mut metrics => {}
            request = signals.next() => if request != Request::Reload { stop.cancel() },
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens the admin port, if there is to be one. The future serves it, and never ends.
async fn serve_metrics(
    address: Option<SocketAddr>,
    metrics: Metrics,
) -> miette::Result<impl Future<Output = ()>> {
    let admin = match address {
        Some(address) => {
            let bound = admin::Server::bind(address).await;
            Some(bound.map_err(|error| miette!(help = error.hint(), "{error}"))?)
        }
        None => None,
    };
    if let Some(admin) = &admin {
        tracing::info!(address = %admin.address(), "metrics and health");
    }
    Ok(async move {
        if let Some(admin) = &admin {
            admin.serve(metrics, Readiness::new()).await;
        }
        std::future::pending().await
    })
}
