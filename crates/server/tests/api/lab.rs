//! A server with its port for nodes, and clients that speak the API as nodes do.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use renkei_api::spire::api::{
    server::agent::v1::{
        AgentX509svidParams, AttestAgentRequest, RenewAgentRequest,
        agent_client::AgentClient,
        attest_agent_request::{Params, Step},
        attest_agent_response::Step as Answer,
    },
    types::{AttestationData, X509svid},
};
use renkei_runtime::supervise::Supervisor;
use renkei_server::{Clock, Server, ServerError, ServerMetrics, ServerSettings, StoreError};
use renkei_site::{ProxyPart, ServerPart, Site};
use renkei_spiffe::{BundleSet, PrivateKey, SpiffeId, X509Svid};
use renkei_testkit::free_address;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::{net::TcpSocket, sync::watch};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

/// How long anything that should happen may take to happen on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(90);

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

pub(crate) fn id(short: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://hokkaido.example/{short}")).unwrap()
}

fn site(address: SocketAddr, rest: &str) -> Site {
    let text = format!(
        "site: hokkaido
trust_domain: hokkaido.example
server: {{listen: {address}, advertise: {address}}}
nodes:
  gw1: {{gateway: {{listen: 127.0.0.1:8443, advertise: 127.0.0.1:8443}}}}
  store: {{}}
{rest}"
    );
    renkei_site::parse("site.yaml", &text).unwrap()
}

/// What is on the nodes, unless a test says otherwise.
pub(crate) const USUAL: &str = "  other: {}
services:
  broker: {on: [store], backends: [127.0.0.1:9092]}
  web: {on: [other], backends: [127.0.0.1:8080]}
workloads:
  anywhere: {selectors: [unix:uid:1000]}
  there: {on: [other], selectors: [unix:uid:1001]}
";

type Parts = Arc<BTreeMap<String, Arc<ProxyPart>>>;

fn parts(site: &Site) -> Parts {
    let part = |name: &String| {
        let part = site.node_part(&site.nodes[name], 1, BTreeMap::new());
        (name.clone(), Arc::new(part))
    };
    Arc::new(site.nodes.keys().map(part).collect())
}

pub(crate) struct Lab {
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
    part: watch::Sender<Arc<ServerPart>>,
    nodes: watch::Sender<Parts>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    folder: TempDir,
    /// By how much the server's clock is ahead.
    ahead: Arc<Mutex<time::Duration>>,
}

impl Lab {
    pub(crate) async fn start() -> Self {
        Self::with(USUAL, tempfile::tempdir().unwrap(), free_address()).await
    }

    async fn with(rest: &str, folder: TempDir, address: SocketAddr) -> Self {
        let site = site(address, rest);
        let part = watch::Sender::new(Arc::new(site.server_part(1)));
        let nodes = watch::Sender::new(parts(&site));
        let ahead: Arc<Mutex<time::Duration>> = Arc::default();
        let clock: Clock = {
            let ahead = ahead.clone();
            Arc::new(move || OffsetDateTime::now_utc() + *ahead.lock().unwrap())
        };
        let open = || {
            Server::open(ServerSettings {
                state: folder.path().to_owned(),
                part: part.subscribe(),
                provider: provider(),
                metrics: ServerMetrics::default(),
                clock: clock.clone(),
                system: None,
                tasks: Supervisor::default(),
                nodes: nodes.subscribe(),
            })
        };
        let server = loop {
            match open().await {
                Ok(server) => break server,
                // The last connections of the server before are not closed yet.
                Err(ServerError::Store(StoreError::InUse { .. }) | ServerError::Api(_)) => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let (server, stop) = (server.clone(), stop.clone());
            async move { server.run(stop).await }
        });
        let mut certified = server.own_identities();
        certified
            .wait_for(|now| !now.svids.is_empty())
            .await
            .unwrap();
        Self {
            server,
            address,
            part,
            nodes,
            stop,
            task,
            folder,
            ahead,
        }
    }

    /// Sets the server's clock.
    pub(crate) fn set_ahead(&self, by: time::Duration) {
        *self.ahead.lock().unwrap() = by;
    }

    /// The same server again, on the same state and port.
    pub(crate) async fn restart(self) -> Self {
        self.stop.cancel();
        self.task.await.unwrap();
        self.server.close().await;
        drop(self.server);
        Self::with(USUAL, self.folder, self.address).await
    }

    /// A changed site file.
    pub(crate) fn apply(&self, rest: &str) {
        let site = site(self.address, rest);
        self.part.send_replace(Arc::new(site.server_part(2)));
        self.nodes.send_replace(parts(&site));
    }

    /// The state folder.
    pub(crate) fn state(&self) -> std::path::PathBuf {
        self.folder.path().to_owned()
    }

    pub(crate) fn bundles(&self) -> Arc<BundleSet> {
        self.server.bundles().borrow().clone()
    }

    /// A client that proves this SVID, or nothing.
    pub(crate) async fn client(
        &self,
        svid: Option<&X509Svid>,
    ) -> Result<Channel, tonic::transport::Error> {
        self.client_from(svid, Ipv4Addr::LOCALHOST).await
    }

    /// The same from another address of this machine.
    pub(crate) async fn client_from(
        &self,
        svid: Option<&X509Svid>,
        from: Ipv4Addr,
    ) -> Result<Channel, tonic::transport::Error> {
        let (bundles, authorizer) = (self.bundles(), Arc::new(id("spire/server")));
        let side = match svid {
            Some(svid) => {
                renkei_spiffe::client_side(&provider(), svid, bundles, authorizer, &[b"h2"])
            }
            None => {
                renkei_spiffe::anonymous_client_side(&provider(), bundles, authorizer, &[b"h2"])
            }
        };
        let connector = TlsConnector::from(side.unwrap().config);
        let address = self.address;
        let connect = tower::service_fn(move |_| {
            let connector = connector.clone();
            async move {
                let socket = TcpSocket::new_v4()?;
                socket.bind(SocketAddr::from((from, 0)))?;
                let stream = socket.connect(address).await?;
                let name = "server".try_into().unwrap();
                let stream = connector.connect(name, stream).await?;
                std::io::Result::Ok(TokioIo::new(stream))
            }
        });
        let endpoint = Endpoint::from_static("http://server");
        endpoint.connect_with_connector(connect).await
    }

    pub(crate) async fn stranger(&self) -> Channel {
        self.client(None).await.unwrap()
    }

    pub(crate) async fn node_secret(&self, name: &str) -> String {
        let made = self.server.node_token(name, Duration::from_mins(10)).await;
        made.unwrap().0.secret.payload()
    }

    /// A node of the site file that has joined.
    pub(crate) async fn join(&self, name: &str) -> Joined {
        let secret = self.node_secret(name).await;
        self.attest(&secret).await.unwrap()
    }

    /// An agent of SPIRE that has joined.
    pub(crate) async fn join_agent(&self) -> Joined {
        let made = self.server.agent_token(Duration::from_mins(10)).await;
        self.attest(&made.unwrap().0).await.unwrap()
    }

    pub(crate) async fn attest(&self, secret: &str) -> Result<Joined, Status> {
        let key = KeyPair::generate().unwrap();
        let svid = attest(self.stranger().await, "join_token", secret, csr(&key)).await?;
        Ok(Joined(x509_svid(svid, &key)))
    }
}

/// A node with the SVID that it was given.
pub(crate) struct Joined(pub(crate) X509Svid);

impl Joined {
    pub(crate) async fn channel(&self, lab: &Lab) -> Channel {
        lab.client(Some(&self.0)).await.unwrap()
    }

    pub(crate) async fn renew(&self, lab: &Lab) -> Result<Self, Status> {
        let key = KeyPair::generate().unwrap();
        let params = Some(AgentX509svidParams { csr: csr(&key) });
        let mut client = AgentClient::new(self.channel(lab).await);
        let answer = client.renew_agent(RenewAgentRequest { params }).await?;
        Ok(Self(x509_svid(answer.into_inner().svid.unwrap(), &key)))
    }
}

pub(crate) fn csr(key: &KeyPair) -> Vec<u8> {
    let params = CertificateParams::default();
    params.serialize_request(key).unwrap().der().to_vec()
}

pub(crate) fn x509_svid(svid: X509svid, key: &KeyPair) -> X509Svid {
    let chain = svid.cert_chain.into_iter().map(CertificateDer::from);
    let key = PrivateKey::from_pkcs8(key.serialize_der());
    X509Svid::new(chain.collect(), key).unwrap()
}

pub(crate) async fn attest(
    channel: Channel,
    kind: &str,
    payload: &str,
    csr: Vec<u8>,
) -> Result<X509svid, Status> {
    let params = Params {
        data: Some(AttestationData {
            r#type: kind.to_owned(),
            payload: payload.into(),
        }),
        params: Some(AgentX509svidParams { csr }),
    };
    let step = Some(Step::Params(params));
    let request = futures_util::stream::iter([AttestAgentRequest { step }]);
    let answer = AgentClient::new(channel).attest_agent(request).await?;
    let answer = answer.into_inner().message().await?;
    match answer.and_then(|answer| answer.step) {
        Some(Answer::Result(result)) => Ok(result.svid.unwrap()),
        other => panic!("{other:?}"),
    }
}
