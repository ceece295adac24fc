//! Connecting to where a service really runs.

mod health;
mod status;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use renkei_runtime::clock;
use renkei_site::{BackendAddress, HostPort, Service};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::sockets::{ConnectError, OnClose, PlainStream, connect_backend};

use health::{Change, Choice, Failed, Kind, Rotation};

/// How long a connection waits for an ejected backend while others are up. Its attempt continues
/// without it (RFC 8305 8 has the same delay).
const TRIAL_WAIT: Duration = Duration::from_millis(250);

/// An attempt that is given up after this long without an answer is a failure of the backend.
const GIVEN_UP: Duration = Duration::from_secs(1);

/// Connects to the backends of services: each in turn, without those that are known to be down.
#[derive(Debug)]
pub(crate) struct Backends {
    services: Mutex<HashMap<String, Arc<ServiceBackends>>>,
    /// For each backend.
    timeout: Duration,
}

/// The backends of one service.
#[derive(Debug)]
struct ServiceBackends {
    service: String,
    rotation: Mutex<Rotation>,
}

/// A connection to a backend.
#[derive(Debug)]
pub(crate) enum Connected<T> {
    /// One that was there.
    Reused(T),
    New(PlainStream, BackendAddress),
}

/// Why a service could not be connected to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreachable {
    /// None of them answers.
    #[error("no backend of {service} answers: {}", .tried.join("; "))]
    AllDown {
        /// The name of the service.
        service: String,
        /// Each with its reason.
        tried: Vec<String>,
        /// None of them said anything at all.
        silent: bool,
    },
    /// A broker does not answer.
    #[error("broker {node} of {service} at {address} does not answer: {error}")]
    Broker {
        /// The name of the service.
        service: String,
        /// The ID of the broker.
        node: i32,
        /// Where it says it is.
        address: HostPort,
        /// What went wrong.
        error: ConnectError,
    },
    /// The cluster has no such broker.
    #[error("{service} has no broker {node}")]
    NoBroker {
        /// The name of the service.
        service: String,
        /// The ID of the broker.
        node: i32,
    },
}

impl Unreachable {
    /// The time was up, as opposed to a refusal.
    pub(crate) fn is_silent(&self) -> bool {
        match self {
            Self::AllDown { silent, .. } => *silent,
            Self::Broker { error, .. } => matches!(error, ConnectError::Silent(_)),
            Self::NoBroker { .. } => false,
        }
    }
}

impl Backends {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self {
            services: Mutex::default(),
            timeout,
        }
    }

    /// From now on the site has these services. Backends that stay keep what is known of them.
    pub(crate) fn follow(&self, services: &BTreeMap<String, Service>) {
        let mut known = self.services();
        let old = std::mem::take(&mut *known);
        for service in services.values() {
            let rotation = match old.get(&service.name) {
                Some(old) => old.rotation().with(&service.backends),
                None => Rotation::new(&service.backends),
            };
            let backends = ServiceBackends::new(&service.name, rotation);
            known.insert(service.name.clone(), Arc::new(backends));
        }
    }

    /// Connects to one backend: the next that is up, then others until one answers.
    pub(crate) async fn connect(
        &self,
        service: &Service,
        on_close: OnClose,
    ) -> Result<PlainStream, Unreachable> {
        let nothing = |_: &BackendAddress| None::<PlainStream>;
        match self.reuse_or_connect(service, on_close, nothing).await? {
            Connected::Reused(stream) | Connected::New(stream, _) => Ok(stream),
        }
    }

    /// The same, but takes what `reuse` has for the backend whose turn it is.
    pub(crate) async fn reuse_or_connect<T>(
        &self,
        service: &Service,
        on_close: OnClose,
        reuse: impl Fn(&BackendAddress) -> Option<T>,
    ) -> Result<Connected<T>, Unreachable> {
        let backends = self.of(service);
        let mut failures = Failures::default();
        while let Some((choice, address)) = backends.choose(&failures.tried) {
            if choice.kind == Kind::Up
                && let Some(reused) = reuse(&address)
            {
                return Ok(Connected::Reused(reused));
            }
            let attempt = Attempt::new(&backends, choice, &address);
            let connecting = attempt.run(self.timeout, on_close);
            let outcome = match choice.kind {
                Kind::Trial => for_a_moment(connecting).await,
                Kind::Up | Kind::Panic => connecting.await,
            };
            match outcome {
                Ok(stream) => return Ok(Connected::New(stream, address)),
                Err(error) => failures.add(choice, &address, &error),
            }
        }
        failures.add_rest(&backends);
        Err(Unreachable::AllDown {
            service: service.name.clone(),
            tried: failures.sentences,
            silent: !failures.answered,
        })
    }

    /// What is known of the service's backends. A service that is no longer in the site file, or
    /// is there with other backends, is not followed.
    fn of(&self, service: &Service) -> Arc<ServiceBackends> {
        let known = self.services().get(&service.name).cloned();
        let same = known.filter(|known| known.rotation().is_of(&service.backends));
        same.unwrap_or_else(|| {
            let rotation = Rotation::new(&service.backends);
            Arc::new(ServiceBackends::new(&service.name, rotation))
        })
    }

    fn services(&self) -> MutexGuard<'_, HashMap<String, Arc<ServiceBackends>>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The backends that one connection has tried.
#[derive(Default)]
struct Failures {
    tried: Vec<usize>,
    sentences: Vec<String>,
    /// One of them answered, with a refusal for example.
    answered: bool,
}

impl Failures {
    fn add(&mut self, choice: Choice, address: &BackendAddress, error: &ConnectError) {
        self.tried.push(choice.index);
        self.sentences.push(format!("{address}: {error}"));
        self.answered |= !matches!(error, ConnectError::Silent(_));
    }

    /// Those for which other connections wait already.
    fn add_rest(&mut self, backends: &ServiceBackends) {
        let rotation = backends.rotation();
        for (index, backend) in rotation.backends().iter().enumerate() {
            if let Some(ejection) = &backend.ejection
                && !self.tried.contains(&index)
            {
                let (address, reason) = (&backend.address, &ejection.reason);
                self.sentences.push(format!("{address}: {reason}"));
            }
        }
    }
}

/// The outcome of an attempt, if it comes soon. The attempt continues in any case.
async fn for_a_moment(
    connecting: impl Future<Output = Result<PlainStream, ConnectError>> + Send + 'static,
) -> Result<PlainStream, ConnectError> {
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        // A connection that no request waits for any more is closed.
        let _ = sender.send(connecting.await);
    });
    match timeout(TRIAL_WAIT, receiver).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) | Err(_) => Err(ConnectError::Silent(TRIAL_WAIT)),
    }
}

impl ServiceBackends {
    fn new(service: &str, rotation: Rotation) -> Self {
        Self {
            service: service.to_owned(),
            rotation: Mutex::new(rotation),
        }
    }

    fn choose(&self, tried: &[usize]) -> Option<(Choice, BackendAddress)> {
        let mut rotation = self.rotation();
        let choice = rotation.choose(tried, Instant::now())?;
        let backend = rotation.backends().get(choice.index)?;
        Some((choice, backend.address.clone()))
    }

    fn succeeded(&self, choice: Choice, address: &BackendAddress) {
        let mut rotation = self.rotation();
        let change = rotation.succeeded(choice);
        if change == Some(Change::Recovered) {
            tracing::info!(service = self.service, %address, "the backend answers again");
        }
    }

    fn failed(&self, choice: Choice, address: &BackendAddress, failed: Failed) {
        let mut rotation = self.rotation();
        let (reason, now) = (failed.reason.clone(), (Instant::now(), clock::now()));
        let change = rotation.failed(choice, failed, now);
        if change == Some(Change::Ejected) {
            let service = &self.service;
            tracing::warn!(service, %address, reason, "the backend is skipped until it answers");
        }
    }

    fn abandoned(&self, choice: Choice) {
        self.rotation().abandoned(choice);
    }

    fn rotation(&self) -> MutexGuard<'_, Rotation> {
        self.rotation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One attempt to connect to a backend, whose outcome is remembered.
struct Attempt {
    backends: Arc<ServiceBackends>,
    choice: Choice,
    address: BackendAddress,
    began: Instant,
    /// Its outcome is known.
    over: bool,
}

impl Attempt {
    fn new(backends: &Arc<ServiceBackends>, choice: Choice, address: &BackendAddress) -> Self {
        Self {
            backends: backends.clone(),
            choice,
            address: address.clone(),
            began: Instant::now(),
            over: false,
        }
    }

    async fn run(
        mut self,
        limit: Duration,
        on_close: OnClose,
    ) -> Result<PlainStream, ConnectError> {
        let connected = connect_backend(&self.address, limit, on_close).await;
        self.over = true;
        match &connected {
            Ok(_) => self.backends.succeeded(self.choice, &self.address),
            // It says nothing about the backend.
            Err(error) if error.is_local() => self.backends.abandoned(self.choice),
            Err(error) => self.fail(error.to_string(), matches!(error, ConnectError::Silent(_))),
        }
        connected
    }

    fn fail(&self, reason: String, is_silent: bool) {
        let failed = Failed { reason, is_silent };
        self.backends.failed(self.choice, &self.address, failed);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let waited = self.began.elapsed();
        match waited < GIVEN_UP {
            true => self.backends.abandoned(self.choice),
            false => self.fail(format!("no answer within {} s", waited.as_secs()), true),
        }
    }
}

#[cfg(test)]
mod tests;
