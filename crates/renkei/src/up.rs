//! `renkei up`: a whole site in one process, from the first fault of its file to the last drained
//! connection.

mod serve;
mod start;
mod terminate;

use std::{process::ExitCode, sync::Arc, time::Duration};

use miette::{IntoDiagnostic, WrapErr, miette};
use renkei_runtime::{
    clock, control, drain::Drain, readiness::Readiness, signals::Signals,
    state_folder::StateFolder, supervise::Supervisor, systemd::Notifier, telemetry::Metrics,
};
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use tokio_util::sync::CancellationToken;

use self::{
    start::start,
    terminate::{end, until_terminated},
};
use crate::{cli::Up, load::load, place, warnings};

/// How often the system's clock is looked at, at least.
const CLOCK_INTERVAL: Duration = Duration::from_secs(5);

/// What the parts of one process share.
struct Shared {
    metrics: Metrics,
    readiness: Readiness,
    tasks: Supervisor,
    drain: Drain,
    /// Ends the roles, after the drain.
    stop: CancellationToken,
}

impl Shared {
    fn new() -> Self {
        let readiness = Readiness::new();
        let shared = Self {
            metrics: Metrics::new(env!("CARGO_PKG_VERSION")),
            tasks: Supervisor::new(readiness.clone()),
            readiness,
            drain: Drain::new().0,
            stop: CancellationToken::new(),
        };
        shared.metrics.register(|registry| {
            shared.tasks.register(registry);
            clock::process().register(registry);
        });
        shared
    }
}

/// Runs the site until SIGTERM or SIGINT. Everything is opened before anything is served: a port
/// in use or a folder that cannot be written ends the start with its name.
pub(crate) async fn run(args: &Up) -> miette::Result<ExitCode> {
    let loaded = load(&args.site.file)?;
    raise_open_files();
    let state = place::state_folder(args.site.state.folder.as_deref(), &loaded.site.name);
    warnings::log(&warnings::of(&loaded.site, &args.site.file, &state));
    let mut signals = Signals::new()
        .into_diagnostic()
        .wrap_err("no signal handlers")?;
    let shared = Shared::new();
    renkei_spiffe::tell_time(Arc::new(TlsTime));
    shared.tasks.keep("clock", || false, watch_clock);
    let folder =
        StateFolder::open(&state).map_err(|error| miette!(help = error.hint(), "{error}"))?;
    let control = control::Server::bind(&place::control_socket(folder.path()))
        .map_err(|error| miette!(help = error.hint(), "{error}"))?;
    let admin = serve::bind_admin(args, &loaded).await?;
    let running = Arc::new(start(args, loaded, folder.path(), &shared).await?);
    let following = serve::members(&running, &shared);
    let serving = serve::commands(control, &running, &shared);
    if let Some(admin) = admin {
        serve::metrics(admin, &shared);
    }
    crate::allocator::keep_small(&shared.tasks);
    let notifier = Notifier::from_env()
        .into_diagnostic()
        .wrap_err("NOTIFY_SOCKET")?;
    until_terminated(&running, &mut signals, notifier.as_ref()).await;
    end(args.drain, shared.drain, &mut signals).await;
    // The control socket's clients hold the site; they go first, then the site's parts.
    for task in [Some(serving), following].into_iter().flatten() {
        task.abort();
        let _ = task.await;
    }
    shared.stop.cancel();
    if let Some(running) = Arc::into_inner(running) {
        running.plane.close().await;
    }
    Ok(ExitCode::SUCCESS)
}

/// The time by which TLS verifies certificates.
#[derive(Debug)]
struct TlsTime;

impl TimeProvider for TlsTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(clock::now().unix_timestamp()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// A jump is noticed though nothing else asks for the time.
async fn watch_clock() {
    loop {
        clock::now();
        tokio::time::sleep(CLOCK_INTERVAL).await;
    }
}

/// A connection takes up to three descriptors, and the customary soft limit is 1,024.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    if let Err(error) = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    ) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}
