//! The frame of a process that runs roles until a signal ends it: signals, clock, control socket,
//! metrics and health, drain. What it starts in this frame is the business of its command.

mod serve;
mod terminate;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use miette::{IntoDiagnostic, WrapErr, miette};
use renkei_api::control::Request;
use renkei_proxy::{DefaultHandler, ProxyLimits, Setup};
use renkei_runtime::{
    clock,
    control::{self, ControlError},
    drain::Drain,
    memory,
    readiness::Readiness,
    signals::Signals,
    state_folder::StateFolder,
    supervise::Supervisor,
    systemd::Notifier,
    telemetry::Metrics,
};
use renkei_spiffe::Identities;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use serde_json::Value;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub(crate) use self::serve::{admin_address, bundle, json, status};
use self::terminate::{end, until_terminated};
use crate::{place, provider};

/// How often the system's clock is looked at, at least.
const CLOCK_INTERVAL: Duration = Duration::from_secs(5);

/// What of the open files of the process is the proxy's. The server's port for nodes takes the rest.
const FILES_OF_PROXY: u64 = 15;
const FILES_OF_ALL: u64 = 16;

/// What the parts of one process share.
pub(crate) struct Shared {
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    pub(crate) tasks: Supervisor,
    pub(crate) drain: Drain,
    /// Ends the roles, after the drain.
    pub(crate) stop: CancellationToken,
}

/// The roles of a process, once they are started.
pub(crate) trait Roles: Send + Sync + Sized + 'static {
    /// What the process is to the people who run it: `site` or `node`.
    const KIND: &'static str;

    /// Answers one request of the control socket. SIGHUP is [`Request::Apply`].
    fn answer(&self, request: Request) -> impl Future<Output = Result<Value, ControlError>> + Send;

    /// Tasks that hold the roles, and are ended before them.
    fn tasks(self: &Arc<Self>, _shared: &Shared) -> Vec<JoinHandle<()>> {
        Vec::new()
    }

    /// Closes what is open, after the drain.
    fn close(self) -> impl Future<Output = ()>;
}

/// What the command line and the configuration say of the process itself.
pub(crate) struct Frame {
    /// A private folder, for the control socket and what the roles keep there.
    pub(crate) folder: PathBuf,
    /// Where metrics and health are served.
    pub(crate) admin: Option<SocketAddr>,
    /// How long open connections may continue after SIGTERM.
    pub(crate) drain: Duration,
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

/// Runs what `start` makes until SIGTERM or SIGINT. Everything is opened before anything is served:
/// a port in use or a folder that cannot be written ends the start with its name.
pub(crate) async fn run<R: Roles>(
    frame: Frame,
    start: impl AsyncFnOnce(&Path, &Shared) -> miette::Result<R>,
) -> miette::Result<ExitCode> {
    raise_open_files();
    let mut signals = Signals::new()
        .into_diagnostic()
        .wrap_err("no signal handlers")?;
    let shared = Shared::new();
    renkei_spiffe::tell_time(Arc::new(TlsTime));
    shared.tasks.keep("clock", || false, watch_clock);
    let folder = StateFolder::open(&frame.folder)
        .map_err(|error| miette!(help = error.hint(), "{error}"))?;
    let control = control::Server::bind(&place::control_socket(folder.path()))
        .map_err(|error| miette!(help = error.hint(), "{error}"))?;
    let admin = serve::bind_admin(frame.admin).await?;
    let roles = Arc::new(start(folder.path(), &shared).await?);
    let mut tasks = roles.tasks(&shared);
    tasks.push(serve::commands(control, &roles, &shared));
    if let Some(admin) = admin {
        serve::metrics(admin, &shared);
    }
    crate::allocator::keep_small(&shared.tasks);
    let notifier = Notifier::from_env()
        .into_diagnostic()
        .wrap_err("NOTIFY_SOCKET")?;
    let readiness = &shared.readiness;
    until_terminated(&roles, readiness, &mut signals, notifier.as_ref()).await;
    end(frame.drain, shared.drain, &mut signals).await;
    // The control socket's clients hold the roles; they go first, then the roles themselves.
    for task in tasks {
        task.abort();
        let _ = task.await;
    }
    shared.stop.cancel();
    if let Some(roles) = Arc::into_inner(roles) {
        roles.close().await;
    }
    Ok(ExitCode::SUCCESS)
}

/// A proxy with what the process shares. Without `broker_ports` no file is written.
pub(crate) fn proxy_setup(
    shared: &Shared,
    identities: watch::Receiver<Arc<Identities>>,
    default_handler: DefaultHandler,
    broker_ports: Option<PathBuf>,
) -> Setup {
    Setup {
        provider: provider(),
        identities,
        default_handler,
        broker_ports,
        drain: shared.drain.watch(),
        limits: ProxyLimits::for_resources(
            memory::open_files() / FILES_OF_ALL * FILES_OF_PROXY,
            memory::available(),
        ),
        ready: shared.readiness.condition("proxy"),
        tasks: shared.tasks.clone(),
    }
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
