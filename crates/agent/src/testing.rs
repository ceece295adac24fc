//! For tests: a CA that signs requests as a server would, and a whole agent over it.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use renkei_api::{
    issue::{CertificateIssuer, IssueError, IssueFuture, SvidRequest},
    node::{AgentPart, Entry, EntryId},
};
use renkei_runtime::supervise::Supervisor;
use renkei_site::Selector;
use renkei_spiffe::{Bundle, BundleSet, SpiffeId, TrustDomain};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    AgentMetrics,
    keeper::{KeeperInputs, Kept, keep},
    workload_api::{GrpcLimits, Sources, serve},
};

/// How long a test waits for what must come.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// What must come, or the test fails.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    let limited = tokio::time::timeout(DEADLINE, what);
    limited.await.expect("it takes too long")
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The site's server, and the entries given: each with its one selector, or for the proxy alone
/// where that is empty.
pub(crate) fn part_of(entries: &[(&str, &str)]) -> Arc<AgentPart> {
    let entry = |(name, selector): &(&str, &str)| Entry {
        id: EntryId::parse(name.replace('/', ".")).unwrap(),
        revision: 0,
        spiffe_id: id(name),
        hint: (*name).to_owned(),
        is_default: false,
        selectors: Some(selector)
            .filter(|text| !text.is_empty())
            .map(|text| Selector::parse(text).unwrap())
            .into_iter()
            .collect(),
    };
    let mut entries: Vec<Entry> = entries.iter().map(entry).collect();
    entries.push(entry(&("renkei/server", "")));
    entries.sort_by(|one, other| one.id.cmp(&other.id));
    Arc::new(AgentPart {
        version: 1,
        trust_domain: TrustDomain::parse("osaka.example").unwrap(),
        svid_lifetime: Duration::from_hours(1),
        entries,
    })
}

/// The selector of this very process's user.
pub(crate) fn me() -> String {
    format!("unix:uid:{}", nix::unistd::geteuid())
}

pub(crate) fn id(path: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://osaka.example/{path}")).unwrap()
}

pub(crate) struct Signer {
    authority: Mutex<CertifiedIssuer<'static, KeyPair>>,
    lifetime: Mutex<Duration>,
    pub(crate) fails: AtomicBool,
    pub(crate) asked: AtomicUsize,
}

fn new_authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

impl Signer {
    pub(crate) fn new(lifetime: Duration) -> Arc<Self> {
        Arc::new(Self {
            authority: Mutex::new(new_authority()),
            lifetime: Mutex::new(lifetime),
            fails: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
        })
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.authority.lock().unwrap().der().clone()
    }

    /// Signs with another CA from now on.
    pub(crate) fn rotate(&self) {
        *self.authority.lock().unwrap() = new_authority();
    }

    pub(crate) fn set_lifetime(&self, lifetime: Duration) {
        *self.lifetime.lock().unwrap() = lifetime;
    }

    fn sign(&self, request: SvidRequest) -> Vec<CertificateDer<'static>> {
        let named = id(&request.entry.as_str().replace("renkei.", "renkei/"));
        let csr = CertificateSigningRequestDer::from(request.csr);
        let asked = CertificateSigningRequestParams::from_der(&csr).unwrap();
        assert_eq!(
            asked.params.subject_alt_names,
            [uri(&named)],
            "the request names its ID"
        );
        self.certify(&csr, &named)
    }

    /// A chain for the key of a request, whatever it names.
    pub(crate) fn certify(
        &self,
        csr: &CertificateSigningRequestDer<'_>,
        named: &SpiffeId,
    ) -> Vec<CertificateDer<'static>> {
        let mut csr = CertificateSigningRequestParams::from_der(csr).unwrap();
        csr.params.subject_alt_names = vec![uri(named)];
        csr.params.is_ca = IsCa::ExplicitNoCa;
        csr.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        csr.params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let now = OffsetDateTime::now_utc();
        csr.params.not_before = now - Duration::from_secs(10);
        csr.params.not_after = now + *self.lifetime.lock().unwrap();
        let signed = csr.signed_by(&self.authority.lock().unwrap()).unwrap();
        vec![signed.der().clone()]
    }
}

fn uri(id: &SpiffeId) -> SanType {
    SanType::URI(id.to_string().try_into().unwrap())
}

impl CertificateIssuer for Signer {
    fn issue(&self, request: SvidRequest) -> IssueFuture<'_> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let result = match self.fails.load(Ordering::SeqCst) {
            true => Err(IssueError::Unavailable("it is down".into())),
            false => Ok(self.sign(request)),
        };
        Box::pin(async move { result })
    }
}

pub(crate) fn bundle(trust_domain: &str, authorities: Vec<CertificateDer<'static>>) -> Arc<Bundle> {
    let trust_domain = TrustDomain::parse(trust_domain).unwrap();
    Arc::new(Bundle {
        x509_authorities: authorities,
        ..Bundle::empty(trust_domain)
    })
}

/// An agent over a signer, with the watches that drive it.
pub(crate) struct Running {
    pub(crate) signer: Arc<Signer>,
    pub(crate) part: watch::Sender<Arc<AgentPart>>,
    pub(crate) bundles: watch::Sender<Arc<BundleSet>>,
    pub(crate) kept: Kept,
    pub(crate) metrics: AgentMetrics,
    pub(crate) stop: CancellationToken,
    server: Option<tokio::task::JoinHandle<()>>,
    folder: tempfile::TempDir,
}

impl Running {
    pub(crate) fn keeper(part: Arc<AgentPart>, lifetime: Duration) -> Self {
        let signer = Signer::new(lifetime);
        let own = bundle("osaka.example", vec![signer.certificate()]);
        let (part, part_seen) = watch::channel(part);
        let (bundles, bundles_seen) = watch::channel(Arc::new(BundleSet::from_iter([own])));
        let (metrics, stop) = (AgentMetrics::default(), CancellationToken::new());
        let inputs = KeeperInputs {
            part: part_seen,
            bundles: bundles_seen,
            issuer: signer.clone(),
            provider: provider(),
            metrics: metrics.clone(),
            tasks: Supervisor::default(),
        };
        let kept = keep(inputs, stop.clone());
        let folder = tempfile::tempdir().unwrap();
        Self {
            signer,
            part,
            bundles,
            kept,
            metrics,
            stop,
            server: None,
            folder,
        }
    }

    /// With the Workload API.
    pub(crate) fn serving(part: Arc<AgentPart>, limits: GrpcLimits) -> Self {
        let mut running = Self::keeper(part, Duration::from_secs(3600));
        running.serve(limits);
        running
    }

    fn serve(&mut self, limits: GrpcLimits) {
        let sources = Sources {
            part: self.part.subscribe(),
            identities: self.kept.identities.clone(),
        };
        let (metrics, tasks) = (self.metrics.clone(), Supervisor::default());
        let served = serve(
            self.socket(),
            sources,
            limits,
            metrics,
            (tasks, self.stop.clone()),
        );
        self.server = Some(served.unwrap());
    }

    /// Once `stop` was cancelled: a new keeper and a new server over the same signer, socket and
    /// watches.
    pub(crate) async fn restart(&mut self) {
        self.server.take().unwrap().await.unwrap();
        assert!(!self.socket().exists(), "the socket goes with its server");
        self.stop = CancellationToken::new();
        self.kept = keep(self.inputs(), self.stop.clone());
        self.serve(GrpcLimits::default());
    }

    pub(crate) fn inputs(&self) -> KeeperInputs {
        KeeperInputs {
            part: self.part.subscribe(),
            bundles: self.bundles.subscribe(),
            issuer: self.signer.clone(),
            provider: provider(),
            metrics: self.metrics.clone(),
            tasks: Supervisor::default(),
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("workload.sock")
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
