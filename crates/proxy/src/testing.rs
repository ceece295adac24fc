//! For tests of single parts: sites with real certificates, verified connections over loopback,
//! and time that passes when a test says so.

mod dialer;
mod time;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use renkei_runtime::{
    drain::{Drain, DrainWatch},
    readiness::Readiness,
    supervise::Supervisor,
};
use renkei_spiffe::{
    Bundle, Identities, PrivateKey, SpiffeId, TrustDomain, X509Svid, client_side, server_side,
};
use renkei_testkit::TestAuthority;
use rustls_pki_types::ServerName;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::{
    bandwidth::Bandwidths,
    config::ProxyLimits,
    context::Context,
    identity::{Credentials, Direction, Pair},
    record::{self, TlsConnection},
    trunk::{KeyLimits, LaneConnection, TrunkContext, TrunkLimits},
};

pub(crate) use self::{
    dialer::{Dialer, accept_lanes, trunk},
    time::{Frozen, pass, settle, until, within},
};

/// One site: its CA, and what its parts are built from.
pub(crate) struct Site {
    authority: TestAuthority,
    pub(crate) identities: watch::Sender<Arc<Identities>>,
    pub(crate) drain: Drain,
    pub(crate) context: Arc<Context>,
    pub(crate) trunks: Arc<TrunkContext>,
}

impl Site {
    /// A site with limits that no loaded machine reaches. It has no identity yet, and trusts no
    /// one.
    pub(crate) fn new(trust_domain: &str) -> Self {
        Self::with(trust_domain, ProxyLimits::default())
    }

    pub(crate) fn with(trust_domain: &str, limits: ProxyLimits) -> Self {
        let (identities, watch) = watch::channel(Arc::new(Identities::default()));
        let (drain, drain_watch) = Drain::new();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let trunks = TrunkContext::new(
            watch.clone(),
            drain_watch.clone(),
            provider.clone(),
            TrunkLimits {
                memory: limits.memory,
                grace: limits.grace,
                bundle_grace: limits.bundle_grace,
                handshake_timeout: limits.handshake_timeout,
                keys: KeyLimits {
                    records_per_key: limits.records_per_key,
                    records_per_lane: limits.records_per_lane,
                },
            },
        );
        let context = Context {
            provider,
            identities: watch,
            drain: drain_watch,
            limits,
            flows: Arc::default(),
            refusals: Arc::default(),
            desired: ArcSwapOption::empty(),
            tasks: Supervisor::new(Readiness::new()),
            expiry: Arc::default(),
            bandwidths: Bandwidths::default(),
        };
        Self {
            authority: TestAuthority::new(trust_domain),
            identities,
            drain,
            context: Arc::new(context),
            trunks,
        }
    }

    pub(crate) fn id(&self, path: &str) -> SpiffeId {
        let name = self.authority.trust_domain();
        SpiffeId::parse(&format!("spiffe://{name}{path}")).unwrap()
    }

    /// The site gets an SVID for this path.
    pub(crate) fn identify(&self, path: &str) {
        let issued = self.authority.issue(path);
        let key = PrivateKey::from_pkcs8(issued.key_pkcs8);
        let svid = Arc::new(X509Svid::new(issued.chain, key).unwrap());
        self.identities.send_modify(|all| {
            Arc::make_mut(all).svids.insert(svid.id().clone(), svid);
        });
    }

    /// The site gets the bundle of another.
    pub(crate) fn trust(&self, other: &Self) {
        let name = TrustDomain::parse(other.authority.trust_domain()).unwrap();
        let mut bundle = Bundle::empty(name);
        bundle.x509_authorities.push(other.authority.certificate());
        self.identities.send_modify(|all| {
            let bundles = &mut Arc::make_mut(all).bundles;
            Arc::make_mut(bundles).insert(Arc::new(bundle));
        });
    }

    /// Two sites that trust one another, each with an SVID of this path.
    pub(crate) fn two(limits: ProxyLimits, path: &str) -> (Self, Self) {
        let (osaka, hokkaido) = (
            Self::with("osaka.example", limits),
            Self::with("hokkaido.example", limits),
        );
        osaka.trust(&hokkaido);
        hokkaido.trust(&osaka);
        osaka.identify(path);
        hokkaido.identify(path);
        (osaka, hokkaido)
    }

    pub(crate) fn drain_watch(&self) -> DrainWatch {
        self.drain.watch()
    }
}

/// The pair of two sites' identities of one path, as its caller sees it.
pub(crate) fn pair(caller: &Site, callee: &Site, path: &str) -> Pair {
    Pair {
        direction: Direction::Outbound,
        caller: caller.id(path),
        callee: callee.id(path),
    }
}

/// The callee's end of a connection.
pub(crate) struct Accepted {
    pub(crate) connection: TlsConnection,
    pub(crate) credentials: Arc<Credentials>,
}

/// A loopback connection, not yet encrypted.
pub(crate) async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialling = TcpStream::connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(dialling, listener.accept());
    (near.unwrap(), far.unwrap().0)
}

/// Starts TLS as the caller of a pair.
pub(crate) async fn dial(
    tcp: TcpStream,
    (caller, context): (&SpiffeId, &Context),
    callee: &SpiffeId,
    protocols: &[&[u8]],
) -> LaneConnection {
    let remote = tcp.peer_addr().unwrap();
    let (svid, identities) = (context.svid(caller).unwrap(), context.identities());
    let (bundles, demand) = (identities.bundles.clone(), Arc::new(callee.clone()));
    let side = client_side(&context.provider, &svid, bundles, demand, protocols).unwrap();
    let name = ServerName::try_from("lane.example").unwrap();
    let connected = record::connect(side.config, name, tcp).await;
    let connection = connected.expect("a handshake");
    let credentials = context
        .credentials(svid, connection.peer_certificates(), identities)
        .unwrap();
    LaneConnection {
        connection,
        remote,
        credentials,
    }
}

/// A verified connection of a pair, with both ends and the caller's socket.
pub(crate) async fn connect(
    pair: &Pair,
    (caller, callee): (&Context, &Context),
    protocols: &[&[u8]],
) -> (LaneConnection, Accepted, socket2::Socket) {
    let (near, far) = tcp().await;
    let (svid, identities) = (callee.svid(&pair.callee).unwrap(), callee.identities());
    let (bundles, demand) = (identities.bundles.clone(), Arc::new(pair.caller.clone()));
    let side = server_side(&callee.provider, &svid, bundles, demand, protocols).unwrap();
    let socket = socket2::SockRef::from(&near).try_clone().unwrap();
    let dialling = dial(near, (&pair.caller, caller), &pair.callee, protocols);
    let accepting = record::accept(side.config, &[], far);
    let (lane, accepted) = tokio::join!(dialling, accepting);
    let connection = accepted.expect("a handshake");
    let credentials = callee
        .credentials(svid, connection.peer_certificates(), identities)
        .unwrap();
    let accepted = Accepted {
        connection,
        credentials,
    };
    (lane, accepted, socket)
}
