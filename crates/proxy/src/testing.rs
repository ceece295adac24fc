//! For tests of single parts: sites with real certificates, verified connections over loopback,
//! and time that passes when a test says so.

use std::{
    marker::PhantomData,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Sender, channel},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
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
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::{
    bandwidth::Bandwidths,
    config::ProxyLimits,
    context::Context,
    identity::{Credentials, Direction, Pair},
    record::{self, TlsConnection},
    trunk::{
        Acceptor, Connector, DialError, KeyLimits, LaneConnection, LaneDialer, TrunkContext,
        TrunkEvents, TrunkLimits,
    },
};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

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

/// Dials lanes to a site in the same process; the test gets the callee's ends.
pub(crate) struct Dialer<E> {
    pair: Pair,
    ends: (Arc<Context>, Arc<Context>),
    protocols: &'static [&'static [u8]],
    accepted: mpsc::UnboundedSender<Accepted>,
    refusing: AtomicBool,
    dialled: AtomicUsize,
    /// The sockets of all lanes, to cut them.
    sockets: Mutex<Vec<socket2::Socket>>,
    error: PhantomData<fn() -> E>,
}

impl<E> Dialer<E> {
    pub(crate) fn new(
        pair: &Pair,
        (caller, callee): (&Site, &Site),
        protocols: &'static [&'static [u8]],
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Accepted>) {
        let (accepted, lanes) = mpsc::unbounded_channel();
        let dialer = Arc::new(Self {
            pair: pair.clone(),
            ends: (caller.context.clone(), callee.context.clone()),
            protocols,
            accepted,
            refusing: AtomicBool::new(false),
            dialled: AtomicUsize::new(0),
            sockets: Mutex::default(),
            error: PhantomData,
        });
        (dialer, lanes)
    }

    /// From now on attempts fail, or succeed again.
    pub(crate) fn refuse(&self, refuse: bool) {
        self.refusing.store(refuse, Ordering::SeqCst);
    }

    /// Attempts so far.
    pub(crate) fn dialled(&self) -> usize {
        self.dialled.load(Ordering::SeqCst)
    }

    /// Breaks every connection.
    pub(crate) fn cut(&self) {
        for socket in self.sockets.lock().unwrap().drain(..) {
            // It may have ended already.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl<E: DialError> LaneDialer for Dialer<E> {
    type Error = E;

    fn dial(&self) -> BoxFuture<'_, Result<LaneConnection, E>> {
        Box::pin(async {
            self.dialled.fetch_add(1, Ordering::SeqCst);
            if self.refusing.load(Ordering::SeqCst) {
                return Err(E::no_trunks());
            }
            let ends = (&*self.ends.0, &*self.ends.1);
            let (lane, accepted, socket) = connect(&self.pair, ends, self.protocols).await;
            self.sockets.lock().unwrap().push(socket);
            // The test may take no more lanes.
            let _ = self.accepted.send(accepted);
            Ok(lane)
        })
    }

    fn is_lane(&self, _alpn: Option<&[u8]>) -> bool {
        true
    }

    fn failed(&self, _error: &E) {}
}

/// Takes lanes as long as they come; gives the events of each new trunk.
pub(crate) fn accept_lanes(
    acceptor: Arc<Acceptor>,
    pair: &Pair,
    mut lanes: mpsc::UnboundedReceiver<Accepted>,
) -> mpsc::UnboundedReceiver<TrunkEvents> {
    let (trunks, new) = mpsc::unbounded_channel();
    let pair = Pair {
        direction: Direction::Inbound,
        ..pair.clone()
    };
    tokio::spawn(async move {
        while let Some(Accepted {
            connection,
            credentials,
        }) = lanes.recv().await
        {
            // A lane that breaks at once is dialled again.
            let Ok((lane, events)) = acceptor.join(connection, credentials, &pair).await else {
                continue;
            };
            tokio::spawn(lane.run());
            if let Some(events) = events {
                let _ = trunks.send(events);
            }
        }
    });
    new
}

/// A trunk that is kept, with the events of both ends: the caller's first.
pub(crate) async fn trunk<E: DialError>(
    connector: &Connector,
    pair: &Pair,
    dialer: &Arc<Dialer<E>>,
    accepted: &mut mpsc::UnboundedReceiver<TrunkEvents>,
) -> (TrunkEvents, TrunkEvents) {
    let kept = within(connector.keep(pair, dialer)).await;
    let (own, _) = kept.expect("a trunk");
    (own, within(accepted.recv()).await.expect("a trunk"))
}

/// Lets so much time pass at once for all timers of this test's runtime. Connections cost none.
pub(crate) async fn pass(by: Duration) {
    tokio::time::pause();
    tokio::time::advance(by).await;
    tokio::time::resume();
}

/// As long as it is held, no time passes for the timers of this test's runtime.
pub(crate) struct Frozen {
    _release: Sender<()>,
    _waiting: JoinHandle<()>,
}

impl Frozen {
    pub(crate) fn new() -> Self {
        tokio::time::pause();
        let (release, released) = channel::<()>();
        // Time does not go on by itself while a thread is at work.
        let waiting = tokio::task::spawn_blocking(move || {
            let _ = released.recv();
        });
        Self {
            _release: release,
            _waiting: waiting,
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        tokio::time::resume();
    }
}

/// What must come, or the test fails. Time that a test lets pass does not count.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    let start = std::time::Instant::now();
    let stuck = async {
        while start.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        biased;
        result = what => result,
        () = stuck => panic!("it takes too long"),
    }
}

/// Lets all other tasks run until this holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for: {what}");
        tokio::task::yield_now().await;
    }
}

/// Lets all other tasks do what they can do now.
pub(crate) async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
