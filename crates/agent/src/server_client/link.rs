//! A node's link to its server, for the roles of the node.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt;
use renkei_api::{
    issue::CertificateIssuer,
    node::AgentPart,
    status::{NodeFault, ReportFuture, RoleStatus, ServerLinkStatus, StatusReporter},
};
use renkei_runtime::supervise::Supervisor;
use renkei_site::HostPort;
use renkei_spiffe::BundleSet;
use rustls::crypto::CryptoProvider;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    BundleReaders, Joined, ProxyUpdate,
    apply::Wanted,
    follow::Report,
    follower::{Follower, Kept},
    issuer::ServerIssuer,
};

/// What a link is made from.
pub struct LinkInputs {
    /// Where the server's API is.
    pub server: HostPort,
    /// Who the node is.
    pub joined: Joined,
    /// The one crypto provider of the process.
    pub provider: Arc<CryptoProvider>,
    /// The release of Renkei on this node, for the server.
    pub release: String,
    /// No proxy runs on this node, so that it needs no identities but those of workloads.
    pub workloads_only: bool,
    /// Keeps the link's task running.
    pub tasks: Supervisor,
}

/// What a node knows from its server.
pub struct ServerLink {
    wanted: Wanted,
    issuer: Arc<ServerIssuer>,
    status: watch::Sender<ServerLinkStatus>,
    reports: watch::Sender<Option<Report>>,
}

impl ServerLink {
    /// Follows the server until `stop`. Before its first word the node has nothing to do.
    pub fn start(inputs: LinkInputs, stop: CancellationToken) -> Self {
        let Joined {
            svid, bundle, kind, ..
        } = inputs.joined;
        let own = svid.id().trust_domain().clone();
        let nothing = AgentPart {
            version: 0,
            trust_domain: own.clone(),
            svid_lifetime: Duration::from_hours(1),
            entries: Vec::new(),
        };
        let wanted = Wanted {
            own,
            workloads_only: inputs.workloads_only,
            part: watch::Sender::new(Arc::new(nothing)),
            bundles: watch::Sender::new(Arc::new(BundleSet::from_iter([bundle]))),
            proxy: watch::Sender::new(None),
        };
        let status = watch::Sender::new(ServerLinkStatus {
            id: svid.id().clone(),
            server: inputs.server.to_string(),
            connected_since: None,
            svid_end: svid.not_after(),
            version: None,
            last_error: None,
            faults: Vec::new(),
        });
        let link = Self {
            wanted: wanted.clone(),
            issuer: Arc::new(ServerIssuer::new()),
            status: status.clone(),
            reports: watch::Sender::new(None),
        };
        let follower = Follower {
            server: inputs.server,
            kind,
            provider: inputs.provider,
            release: inputs.release,
            wanted,
            issuer: link.issuer.clone(),
            status,
            reports: link.reports.subscribe(),
            kept: Arc::new(Mutex::new(Kept::new(svid))),
        };
        let over = stop.clone();
        inputs.tasks.keep(
            "server",
            move || over.is_cancelled(),
            move || {
                let running = follower.clone().run();
                stop.clone().run_until_cancelled_owned(running).map(drop)
            },
        );
        link
    }

    /// The identities of this node.
    pub fn part(&self) -> watch::Receiver<Arc<AgentPart>> {
        self.wanted.part.subscribe()
    }

    /// The bundles of the site and of its peers.
    pub fn bundles(&self) -> watch::Receiver<Arc<BundleSet>> {
        self.wanted.bundles.subscribe()
    }

    /// What the proxy is to do; nothing before the server's first word. Each is answered with
    /// [`ServerLink::report`].
    pub fn proxy_updates(&self) -> watch::Receiver<Option<ProxyUpdate>> {
        self.wanted.proxy.subscribe()
    }

    /// Where the certificates of this node come from.
    pub fn issuer(&self) -> Arc<dyn CertificateIssuer> {
        self.issuer.clone()
    }

    /// Where readers of the bundle endpoint are taken that come to this node's gateway.
    pub fn bundle_readers(&self) -> BundleReaders {
        BundleReaders::new(self.issuer.clone())
    }

    /// Says what of an update the proxy could not take; may be said again when that changes.
    pub fn report(&self, update: &ProxyUpdate, faults: Vec<NodeFault>) {
        self.status.send_modify(|status| {
            status.version = Some(update.part.version);
            status.faults.clone_from(&faults);
        });
        let revision = update.revision;
        self.reports.send_replace(Some(Report { revision, faults }));
    }

    /// How the link is doing.
    pub fn status(&self) -> ServerLinkStatus {
        self.status.borrow().clone()
    }

    /// The same, for who waits for a change.
    pub fn status_changes(&self) -> watch::Receiver<ServerLinkStatus> {
        self.status.subscribe()
    }
}

impl StatusReporter for ServerLink {
    fn report(&self) -> ReportFuture<'_> {
        Box::pin(async { RoleStatus::Node(self.status()) })
    }
}
