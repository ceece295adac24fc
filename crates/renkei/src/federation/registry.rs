//! `renkei registry`: the log of a federation on an HTTP server.

use std::process::ExitCode;

use miette::{IntoDiagnostic, WrapErr, miette};
use renkei_federation::PublicKey;
use renkei_registry::{Log, Registry};
use renkei_runtime::signals::{Request, Signals};
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
    let registry = Registry::new(log, &args.folder);
    let serving = registry.serve(listener, stop.clone());
    tokio::pin!(serving);
    loop {
        tokio::select! {
            () = &mut serving => break,
            request = signals.next() => if request != Request::Reload { stop.cancel() },
        }
    }
    Ok(ExitCode::SUCCESS)
}
