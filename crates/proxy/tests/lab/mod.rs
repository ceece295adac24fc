//! Two sites on loopback addresses, with proxies in this process and everything else real.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test file uses another part of it"
)]

pub mod lane;
pub mod middlebox;
pub mod nodes;
pub mod path;
pub mod renewal;
pub mod tap;
pub mod three;
pub mod time;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use renkei_api::status::ProxyStatus;
use renkei_proxy::{Applied, ApplyError, DefaultHandler, Desired, Proxy, ProxyLimits, Setup};
use renkei_runtime::{drain::Drain, readiness::Readiness, supervise::Supervisor};
use renkei_site::ProxyPart;
use renkei_spiffe::{Bundle, BundleSet, Identities, PrivateKey, SpiffeId, TrustDomain, X509Svid};
use renkei_testkit::{Issued, TestAuthority, free_address, free_address_on};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};

pub const DEADLINE: Duration = Duration::from_secs(30);

pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

pub fn id(short: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://{short}")).unwrap()
}

pub fn svid(issued: Issued) -> Arc<X509Svid> {
    Arc::new(X509Svid::new(issued.chain, PrivateKey::from_pkcs8(issued.key_pkcs8)).unwrap())
}

pub fn bundle(authority: &TestAuthority) -> Arc<Bundle> {
    let mut bundle = Bundle::empty(TrustDomain::parse(authority.trust_domain()).unwrap());
    bundle.x509_authorities.push(authority.certificate());
    Arc::new(bundle)
}

pub fn identities(own: &TestAuthority, paths: &[&str], trusts: &[&TestAuthority]) -> Identities {
    let svids = paths.iter().map(|path| svid(own.issue(path)));
    let bundles: BundleSet = trusts.iter().copied().chain([own]).map(bundle).collect();
    Identities {
        svids: svids.map(|svid| (svid.id().clone(), svid)).collect(),
        bundles: Arc::new(bundles),
    }
}

/// One site's proxy.
pub struct Node {
    pub proxy: Proxy,
    pub identities: watch::Sender<Arc<Identities>>,
    pub drain: Drain,
    pub readiness: Readiness,
}

impl Node {
    pub async fn start(text: &str, identities: Identities) -> Self {
        Self::start_with(text, identities, ProxyLimits::default(), None).await
    }

    pub async fn start_with(
        text: &str,
        identities: Identities,
        limits: ProxyLimits,
        broker_ports: Option<PathBuf>,
    ) -> Self {
        Self::run(desired(text), identities, limits, broker_ports).await
    }

    /// One process of a site of several, by its own part.
    pub async fn start_part(part: ProxyPart, identities: Identities) -> Self {
        Self::run(desired_of(part), identities, ProxyLimits::default(), None).await
    }

    async fn run(
        desired: Desired,
        identities: Identities,
        limits: ProxyLimits,
        broker_ports: Option<PathBuf>,
    ) -> Self {
        let (identities, watch) = watch::channel(Arc::new(identities));
        let (drain, drain_watch) = Drain::new();
        let readiness = Readiness::new();
        let default_handler: DefaultHandler = Arc::new(|connection| {
            Box::pin(async move {
                // Not TLS: enough to tell that the connection came here.
                let mut tcp = connection.stream;
                let _ = tcp.write_all(b"elsewhere").await;
            })
        });
        let proxy = Proxy::new(Setup {
            provider: provider(),
            identities: watch,
            default_handler,
            drain: drain_watch,
            broker_ports,
            limits,
            ready: readiness.condition("proxy"),
            tasks: Supervisor::new(readiness.clone()),
        });
        let node = Self {
            proxy,
            identities,
            drain,
            readiness,
        };
        node.proxy.apply(desired).await.expect("applied");
        node
    }

    /// Follows another part.
    pub async fn follow(&self, part: ProxyPart) {
        let applied = self.proxy.apply(desired_of(part)).await;
        applied.expect("applied");
    }

    pub async fn apply(&self, text: &str) -> Result<Applied, ApplyError> {
        self.proxy.apply(desired(text)).await
    }

    pub fn reasons(&self) -> Vec<&'static str> {
        self.proxy
            .refusals()
            .last()
            .into_iter()
            .filter_map(|refusal| match refusal.reason {
                std::borrow::Cow::Borrowed(reason) => Some(reason),
                // A proxy makes none.
                std::borrow::Cow::Owned(_) => None,
            })
            .collect()
    }

    /// Waits until the status shows this.
    pub async fn shows<T>(
        &self,
        what: &str,
        mut found: impl FnMut(&ProxyStatus) -> Option<T>,
    ) -> T {
        let start = std::time::Instant::now();
        loop {
            let status = self.proxy.status().await;
            if let Some(found) = found(&status) {
                return found;
            }
            assert!(
                start.elapsed() < DEADLINE,
                "waited in vain for: {what}; {status:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn open(&self) -> usize {
        self.proxy.flows().list().len()
    }

    /// Waits until the newest refusal is this one, and gives its sentence.
    pub async fn refusal(&self, reason: &str) -> String {
        let what = format!("refusal {reason}");
        let found = eventually(&what, || {
            self.proxy
                .refusals()
                .last()
                .into_iter()
                .find(|refusal| refusal.reason == reason)
        });
        found.await.sentence
    }
}

pub fn desired(text: &str) -> Desired {
    let site = renkei_site::parse("site.yaml", text).unwrap_or_else(|f| panic!("{f:?}"));
    desired_of(site.proxy_part(1, Default::default()))
}

pub fn desired_of(part: ProxyPart) -> Desired {
    let site = Arc::new(part);
    let (policies, faults) = renkei_proxy::compile_policies(&site);
    assert!(faults.is_empty(), "{faults:?}");
    Desired { site, policies }
}

/// Osaka's collector uses Hokkaido's broker.
pub struct Lab {
    pub hokkaido_ca: TestAuthority,
    pub osaka_ca: TestAuthority,
    pub gateway: SocketAddr,
    pub listen: SocketAddr,
    pub backends: Vec<SocketAddr>,
}

impl Lab {
    pub fn new(backends: &[SocketAddr]) -> Self {
        Self {
            hokkaido_ca: TestAuthority::new("hokkaido.example"),
            osaka_ca: TestAuthority::new("osaka.example"),
            gateway: free_gateway(),
            listen: free_address(),
            backends: backends.to_vec(),
        }
    }

    pub fn hokkaido_text(&self, allow: &str) -> String {
        let backends: Vec<_> = self.backends.iter().map(ToString::to_string).collect();
        format!(
            "site: hokkaido\ntrust_domain: hokkaido.example\n\
             gateway: {{listen: '{gateway}', advertise: '{gateway}'}}\n\
             peers: {{osaka.example: {{bundle: osaka.json}}}}\n\
             services:\n  broker: {{backends: [{backends}], allow: [{allow}]}}\n",
            gateway = self.gateway,
            backends = backends.join(", "),
        )
    }

    pub fn osaka_text(&self) -> String {
        self.osaka_text_for(rustix::process::geteuid().as_raw())
    }

    pub fn osaka_text_for(&self, uid: u32) -> String {
        format!(
            "site: osaka\ntrust_domain: osaka.example\n\
             peers: {{hokkaido.example: {{bundle: h.json, gateway: '{}'}}}}\n\
             workloads:\n  collector:\n    selectors: ['unix:uid:{uid}']\n    \
             uses: {{hokkaido.example/broker: '{}'}}\n",
            self.gateway, self.listen
        )
    }

    pub fn hokkaido_identities(&self) -> Identities {
        identities(
            &self.hokkaido_ca,
            &["/broker", "/renkei/server"],
            &[&self.osaka_ca],
        )
    }

    pub fn osaka_identities(&self) -> Identities {
        identities(&self.osaka_ca, &["/collector"], &[&self.hokkaido_ca])
    }

    pub async fn hokkaido(&self) -> Node {
        let text = self.hokkaido_text("osaka.example/collector");
        Node::start(&text, self.hokkaido_identities()).await
    }

    pub async fn osaka(&self) -> Node {
        Node::start(&self.osaka_text(), self.osaka_identities()).await
    }

    /// Osaka with an SVID of another CA of its trust domain.
    pub async fn osaka_with(&self, authority: &TestAuthority) -> Node {
        let identities = identities(authority, &["/collector"], &[&self.hokkaido_ca]);
        Node::start(&self.osaka_text(), identities).await
    }

    /// The application at Osaka connects and is reset, at once or a moment later.
    pub async fn assert_refused(&self) {
        assert_refused(self.listen).await;
    }

    /// A connection of the application at Osaka.
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.listen)
            .await
            .expect("local listener")
    }
}

/// A free port on an address that no connection has as its own end: while a gateway is restarted,
/// no other test's connection can take it.
pub fn free_gateway() -> SocketAddr {
    free_address_on("127.0.9.90")
}

/// A backend whose connections the test handles itself.
pub async fn backend() -> (SocketAddr, mpsc::Receiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (accepted, connections) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if accepted.send(stream).await.is_err() {
                return;
            }
        }
    });
    (address, connections)
}

/// A backend that sends back what it gets.
pub async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                if tokio::io::copy(&mut read, &mut write).await.is_ok() {
                    let _ = write.shutdown().await;
                }
            });
        }
    });
    address
}

/// Sends and receives a short message.
pub async fn ping(stream: &mut TcpStream, message: &[u8]) {
    stream.write_all(message).await.unwrap();
    let mut answer = vec![0; message.len()];
    within(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, message);
}

/// What must come, or the test fails. Time that a test lets pass does not count.
pub async fn within<T>(what: impl Future<Output = T>) -> T {
    let start = std::time::Instant::now();
    let stuck = async {
        while start.elapsed() < DEADLINE {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        biased;
        result = what => result,
        () = stuck => panic!("it takes too long"),
    }
}

/// The connection ends with a reset, never with a clean end of file.
pub async fn assert_reset(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let error = within(stream.read_to_end(&mut rest))
        .await
        .expect_err("a reset, not an end");
    assert_eq!(
        error.kind(),
        std::io::ErrorKind::ConnectionReset,
        "after {rest:?}"
    );
}

/// A new connection is reset: at once, so that connecting fails with it, or a moment later.
pub async fn assert_refused(address: SocketAddr) {
    match TcpStream::connect(address).await {
        Ok(mut app) => assert_reset(&mut app).await,
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

pub async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = std::time::Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
