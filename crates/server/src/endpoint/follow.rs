//! The https_web endpoint as the site file has it at each moment.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use renkei_api::status::EndpointStatus;
use renkei_runtime::{backoff::Backoff, supervise::Supervisor};
use renkei_site::{BundleEndpoint, ServerPart};
use rustls::crypto::CryptoProvider;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{EndpointError, RefusedClients, WebEndpoint};

/// Between attempts to open an endpoint that could not be opened.
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// Opens, closes and replaces the https_web endpoint.
pub(crate) struct WebEndpoints {
    provider: Arc<CryptoProvider>,
    document: watch::Receiver<Bytes>,
    tasks: Supervisor,
    refused: RefusedClients,
    first: Mutex<Option<(BundleEndpoint, WebEndpoint)>>,
    state: Mutex<Option<EndpointStatus>>,
}

/// A served endpoint; dropping it closes the listener.
struct Serving {
    settings: BundleEndpoint,
    task: JoinHandle<()>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl WebEndpoints {
    /// Opens the endpoint of the site, so that a port in use ends the start.
    pub(crate) async fn open(
        part: &ServerPart,
        provider: Arc<CryptoProvider>,
        document: watch::Receiver<Bytes>,
        (tasks, refused): (Supervisor, RefusedClients),
    ) -> Result<Self, EndpointError> {
        let first = match &part.bundle_endpoint {
            Some(settings) => {
                let mut endpoint =
                    WebEndpoint::open(settings, provider.clone(), document.clone()).await?;
                endpoint.refused = refused.clone();
                Some((settings.clone(), endpoint))
            }
            None => None,
        };
        let listen = first
            .as_ref()
            .and_then(|(_, endpoint)| endpoint.local_address().ok());
        let state = first.is_some().then_some(EndpointStatus {
            listen,
            error: None,
        });
        Ok(Self {
            provider,
            document,
            tasks,
            refused,
            first: Mutex::new(first),
            state: Mutex::new(state),
        })
    }

    /// Follows the site until `stop`.
    pub(crate) async fn run(
        &self,
        mut part: watch::Receiver<Arc<ServerPart>>,
        stop: CancellationToken,
    ) {
        let first = self
            .first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let mut serving = first.map(|(settings, endpoint)| Serving {
            settings,
            task: self.serve(endpoint),
        });
        let mut backoff = RETRY;
        loop {
            let wanted = part.borrow_and_update().bundle_endpoint.clone();
            let opened = self.follow(wanted.as_ref(), &mut serving).await;
            let pause = match opened {
                true => {
                    backoff.succeeded();
                    Duration::ZERO
                }
                false => backoff.failed(),
            };
            tokio::select! {
                () = stop.cancelled() => return,
                changed = part.changed() => if changed.is_err() {
                    return stop.cancelled().await;
                },
                () = tokio::time::sleep(pause), if !opened => {}
            }
        }
    }

    /// `false` when the endpoint should be open and is not, or not as wanted.
    async fn follow(&self, wanted: Option<&BundleEndpoint>, serving: &mut Option<Serving>) -> bool {
        if wanted == serving.as_ref().map(|serving| &serving.settings) {
            return true;
        }
        let Some(wanted) = wanted else {
            *serving = None;
            self.show(None);
            return true;
        };
        // On the same address the former listener has to go first.
        if serving
            .as_ref()
            .is_some_and(|serving| serving.settings.listen == wanted.listen)
            && let Some(mut before) = serving.take()
        {
            before.task.abort();
            let _ = (&mut before.task).await;
        }
        match WebEndpoint::open(wanted, self.provider.clone(), self.document.clone()).await {
            Ok(mut endpoint) => {
                endpoint.refused = self.refused.clone();
                let listen = endpoint.local_address().ok();
                let task = self.serve(endpoint);
                *serving = Some(Serving {
                    settings: wanted.clone(),
                    task,
                });
                self.show(Some(EndpointStatus {
                    listen,
                    error: None,
                }));
                true
            }
            Err(error) => {
                tracing::error!(%error, "the bundle endpoint is not as the site file says");
                let listen: Option<SocketAddr> = serving.as_ref().map(|s| s.settings.listen);
                self.show(Some(EndpointStatus {
                    listen,
                    error: Some(error.to_string()),
                }));
                false
            }
        }
    }

    /// Until the task is aborted.
    fn serve(&self, endpoint: WebEndpoint) -> JoinHandle<()> {
        let endpoint = Arc::new(endpoint);
        let serve = move || {
            let endpoint = endpoint.clone();
            async move { endpoint.run().await }
        };
        self.tasks.keep("https_web endpoint", || false, serve)
    }

    fn show(&self, state: Option<EndpointStatus>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// What `renkei status` shows of the endpoint; nothing without one.
    pub(crate) fn status(&self) -> Option<EndpointStatus> {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
