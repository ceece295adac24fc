//! `renkei up`: a whole site in one process, from the first fault of its file to the last drained
//! connection.

use std::{
    net::SocketAddr,
    path::Path,
    process::ExitCode,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use arc_swap::ArcSwap;
use miette::{IntoDiagnostic, WrapErr, miette};
use renkei_api::control::Request;
use renkei_proxy::{DefaultHandler, Proxy, Setup, Untouched};
use renkei_runtime::{
    admin, clock, control,
    drain::Drain,
    readiness::{Condition, Readiness},
    signals::{self, Signals},
    state_folder::StateFolder,
    supervise::Supervisor,
    systemd::Notifier,
    telemetry::{ConfigMetrics, Metrics},
};
use renkei_server::{EntriesState, federation::Members};
use renkei_site::{ServerPart, Site};
use renkei_spiffe::{Identities, SpiffeId};
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use tokio::{
    sync::{Mutex, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{AdminArg, Up},
    identity::{Inputs, Plane},
    load::{Loaded, load},
    place, provider,
    running::{Applied, NO_AUTHORITY, Running, absolute, request, with_places},
    warnings,
};

/// Where metrics and health are served unless said otherwise.
const DEFAULT_ADMIN: &str = "127.0.0.1:9901";
/// How often the system's clock is looked at, at least.
const CLOCK_INTERVAL: Duration = Duration::from_secs(5);

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
    let stop = CancellationToken::new();
    let (drain, _) = Drain::new();
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"));
    let readiness = Readiness::new();
    let tasks = Supervisor::new(readiness.clone());
    metrics.register(|registry| {
        tasks.register(registry);
        clock::process().register(registry);
    });
    renkei_spiffe::tell_time(Arc::new(TlsTime));
    tasks.keep("clock", || false, watch_clock);
    let folder =
        StateFolder::open(&state).map_err(|error| miette!(help = error.hint(), "{error}"))?;
    let control = control::Server::bind(&place::control_socket(folder.path()))
        .map_err(|error| miette!(help = error.hint(), "{error}"))?;
    let admin = bind_admin(args, &loaded).await?;
    let running = Arc::new(
        start(
            args,
            loaded,
            folder.path(),
            &metrics,
            (&readiness, &tasks),
            &drain,
            &stop,
        )
        .await?,
    );
    let following = running.plane.members().map(|members| {
        let running = running.clone();
        let follow = move || {
            let (running, members) = (running.clone(), members.clone());
            async move { running.follow_members(members).await }
        };
        tasks.keep("members of the federation", || false, follow)
    });
    let router = control::Router::new({
        let running = running.clone();
        move |method, path, _body| {
            let running = running.clone();
            async move { running.answer(request(&method, &path)?).await }
        }
    });
    let control = Arc::new(control);
    let serving = tasks.keep(
        "control socket",
        || false,
        move || {
            let (control, router) = (control.clone(), router.clone());
            async move { control.serve(router).await }
        },
    );
    if let Some(admin) = admin {
        tracing::info!(address = %admin.address(), "metrics and health");
        let (admin, readiness) = (Arc::new(admin), readiness.clone());
        tasks.keep(
            "metrics and health",
            || false,
            move || {
                let (admin, metrics, readiness) =
                    (admin.clone(), metrics.clone(), readiness.clone());
                async move { admin.serve(metrics, readiness).await }
            },
        );
    }
    crate::allocator::keep_small(&tasks);
    let notifier = Notifier::from_env()
        .into_diagnostic()
        .wrap_err("NOTIFY_SOCKET")?;
    until_terminated(&running, &mut signals, notifier.as_ref()).await;
    end(args.drain, drain, &mut signals).await;
    // The control socket's clients hold the site; they go first, then the site's parts.
    for task in [Some(serving), following].into_iter().flatten() {
        task.abort();
        let _ = task.await;
    }
    stop.cancel();
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

async fn bind_admin(args: &Up, loaded: &Loaded) -> miette::Result<Option<admin::Server>> {
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

async fn start(
    args: &Up,
    loaded: Loaded,
    state: &Path,
    metrics: &Metrics,
    (readiness, tasks): (&Readiness, &Supervisor),
    drain: &Drain,
    stop: &CancellationToken,
) -> miette::Result<Running> {
    let Loaded {
        site,
        sources,
        policies,
        ..
    } = loaded;
    let applied = Applied {
        site: site.clone(),
        sources,
        policies,
    };
    let first = applied.project(&Members::default(), 0);
    let (server_part, receiver) = watch::channel(first.server);
    let plane = plane(args, state, &site, receiver, (metrics, tasks), stop).await?;
    if let Plane::Own { .. } = &plane {
        let ready = readiness.condition("bundle endpoint");
        let certified = until_certified(plane.identities(), site.server_id.clone(), ready);
        tokio::spawn(certified);
    }
    if let Some(state) = plane.entries_state() {
        tokio::spawn(follow_entries(state, readiness.condition("entries")));
    }
    let proxy = Proxy::new(Setup {
        provider: provider(),
        identities: plane.identities(),
        default_handler: bundle_endpoint(&plane),
        broker_ports: Some(state.join("broker-ports.json")),
        drain: drain.watch(),
        limits: renkei_proxy::ProxyLimits {
            memory: renkei_runtime::memory::available() / 4,
            ..renkei_proxy::ProxyLimits::default()
        },
        ready: readiness.condition("proxy"),
        tasks: tasks.clone(),
    });
    let ends = Box::new(renkei_agent::SvidEnds(plane.identities()));
    metrics.register(|registry| {
        registry.register_collector(ends);
        proxy.register(registry);
    });
    // The last good state of a federation is in force from the first connection on.
    let members = plane.members().map(|members| members.borrow().clone());
    let linked = applied.project(&members.unwrap_or_default(), 1);
    server_part.send_replace(linked.server);
    proxy
        .apply(linked.proxy)
        .await
        .map_err(|error| miette!(help = error.hint(), "{}", with_places(&site, &error)))?;
    tracing::info!(site = site.name, trust_domain = %site.trust_domain, "every listener is open");
    let config = metrics.register(ConfigMetrics::register);
    config.applied();
    Ok(Running {
        file: absolute(&args.site.file),
        site: ArcSwap::from(linked.site),
        version: AtomicU64::new(1),
        server_part,
        plane,
        proxy,
        readiness: readiness.clone(),
        config,
        applied: Mutex::new(applied),
        state: state.to_owned(),
    })
}

/// Where the identities come from: an authority of the site's own, or the Workload API that was
/// named.
async fn plane(
    args: &Up,
    state: &Path,
    site: &Site,
    part: watch::Receiver<Arc<ServerPart>>,
    (metrics, tasks): (&Metrics, &Supervisor),
    stop: &CancellationToken,
) -> miette::Result<Plane> {
    if let Some(socket) = &args.workload_api {
        if site.federation.is_some() {
            return Err(miette!(
                help = "name the sites under `peers`, or remove --workload-api",
                "{NO_AUTHORITY}"
            ));
        }
        return Plane::foreign(socket, tasks.clone(), stop.clone());
    }
    let workload_socket = args.workload_socket.clone();
    Plane::own(Inputs {
        state: state.to_owned(),
        workload_socket: workload_socket.unwrap_or_else(|| place::workload_socket(state)),
        part,
        metrics,
        tasks: tasks.clone(),
        stop: stop.clone(),
    })
    .await
}

/// Peers may read the bundle endpoint as soon as it has a certificate.
async fn until_certified(
    mut identities: watch::Receiver<Arc<Identities>>,
    id: SpiffeId,
    ready: Condition,
) {
    let certified = identities.wait_for(|now| now.svids.contains_key(&id)).await;
    if certified.is_ok() {
        ready.set_ready();
    }
}

/// A site is not ready while entries of its file wait for the database.
async fn follow_entries(mut state: watch::Receiver<EntriesState>, ready: Condition) {
    loop {
        match &state.borrow_and_update().failed {
            Some(reason) => ready.set_not_ready(reason),
            None => ready.set_ready(),
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

/// Connections to the gateway that are for no service read the bundle endpoint; a site whose
/// identities come from elsewhere has none, and closes them.
fn bundle_endpoint(plane: &Plane) -> DefaultHandler {
    let Plane::Own { server, .. } = plane else {
        return Arc::new(|_| Box::pin(async {}));
    };
    let endpoint = server.endpoint();
    let identities = plane.identities();
    Arc::new(move |connection| {
        let Untouched { stream, received } = connection;
        let endpoint = endpoint.clone();
        let identities = identities.clone();
        Box::pin(async move {
            if let Err(error) = endpoint.serve(stream, received, &identities).await {
                tracing::debug!(%error, "a reader of the bundle endpoint went away");
            }
        })
    })
}

fn begin_reload(reload: &mut JoinSet<()>, running: &Arc<Running>, notifier: Option<&Notifier>) {
    if let Some(Err(error)) = notifier.map(Notifier::reloading) {
        tracing::warn!(%error, "systemd could not be notified");
    }
    let running = running.clone();
    reload.spawn(async move {
        // The answer goes to the log, as `renkei apply` would print it.
        let _ = running.answer(Request::Apply).await;
    });
}

async fn until_terminated(
    running: &Arc<Running>,
    signals: &mut Signals,
    notifier: Option<&Notifier>,
) {
    let told = |sent: std::io::Result<()>| {
        if let Err(error) = sent {
            tracing::warn!(%error, "systemd could not be notified");
        }
    };
    let ready = async {
        running.readiness.wait_ready().await;
        tracing::info!("the site is ready: every listener is open and every identity is present");
        if let Some(notifier) = notifier {
            told(notifier.ready("serving"));
        }
        std::future::pending::<()>().await
    };
    tokio::pin!(ready);
    // A reload has a task of its own: files that give no answer must not delay a signal.
    let mut reload = JoinSet::new();
    let mut again = false;
    loop {
        tokio::select! {
            () = &mut ready => {}
            Some(_) = reload.join_next() => {
                if let Some(notifier) = notifier {
                    told(notifier.ready("serving"));
                }
                if std::mem::take(&mut again) {
                    begin_reload(&mut reload, running, notifier);
                }
            }
            request = signals.next() => match request {
                signals::Request::Terminate | signals::Request::Force => break,
                // What one under way has read already may have changed since.
                signals::Request::Reload if !reload.is_empty() => again = true,
                signals::Request::Reload => begin_reload(&mut reload, running, notifier),
            }
        }
    }
    // What a file still holds up is not waited for.
    drop(reload);
    if let Some(notifier) = notifier {
        told(notifier.stopping("draining"));
    }
}

/// Drains with the deadline; a second signal cuts what is left.
async fn end(deadline: Duration, drain: Drain, signals: &mut Signals) {
    tracing::info!(seconds = deadline.as_secs(), "draining");
    let wait = drain.wait(deadline);
    tokio::pin!(wait);
    let drained = loop {
        tokio::select! {
            drained = &mut wait => break drained,
            request = signals.next() => if request != signals::Request::Reload { drain.force() },
        }
    };
    match drained.left {
        0 => tracing::info!("every connection is closed; the process stops"),
        left => tracing::warn!(
            left,
            "the drain time has passed; the remaining connections were reset"
        ),
    }
}
