//! A server for tests: SPIRE's API and the stream of nodes, for one token, with a [`Signer`].

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream, stream::BoxStream};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use rcgen::KeyPair;
use renkei_api::{
    node::{AgentPart, CaPin, JoinSecret, NodeToken},
    node_stream::{
        self, FollowRequest, NodeUpdate, Piece,
        node_server::{Node, NodeServer},
    },
    spire::api::{
        server::{
            agent::v1::{
                AttestAgentRequest, AttestAgentResponse, RenewAgentRequest, RenewAgentResponse,
                agent_server::{Agent, AgentServer},
                attest_agent_request, attest_agent_response,
            },
            bundle::v1::{
                GetBundleRequest,
                bundle_server::{Bundle, BundleServer},
            },
            svid::v1::{
                BatchNewX509svidRequest, BatchNewX509svidResponse, batch_new_x509svid_response,
                svid_server::{Svid, SvidServer},
            },
        },
        types::{self, permission_denied_details::Reason},
    },
};
use renkei_site::{HostPort, ProxyPart};
use renkei_spiffe::{SpiffeId, SvidCertificate, TrustDomain};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateSigningRequestDer, PrivateKeyDer};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_rustls::TlsAcceptor;
use tonic::{Code, Request, Response, Status, Streaming, service::Routes};
use tower::ServiceExt;

use crate::{
    server_client::refusal::denied,
    testing::{Signer, bundle, id, provider},
};

const SECRET: [u8; 32] = [7; 32];

/// Who calls, by the certificate of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) id: SpiffeId,
    pub(super) serial: String,
}

/// What the server is to say, and what it has heard.
pub(super) struct State {
    pub(super) signer: Arc<Signer>,
    /// The ID of the server's own certificate.
    pub(super) own_id: Mutex<SpiffeId>,
    /// The ID that is given to who joins.
    pub(super) node_id: Mutex<SpiffeId>,
    unused_token: Mutex<bool>,
    pub(super) configuration: watch::Sender<NodeUpdate>,
    pub(super) answers: watch::Sender<Vec<FollowRequest>>,
    /// One for each stream that was opened.
    pub(super) followers: watch::Sender<Vec<Caller>>,
    pub(super) entries: Mutex<BTreeSet<String>>,
    version: AtomicU64,
    /// Ends every stream for this reason, once it is set.
    pub(super) shut_out: watch::Sender<Option<Reason>>,
}

pub(super) struct TestServer {
    pub(super) state: Arc<State>,
    pub(super) address: SocketAddr,
    serving: Option<JoinSet<()>>,
}

impl TestServer {
    pub(super) async fn start() -> Self {
        let state = State {
            signer: Signer::new(Duration::from_hours(1)),
            own_id: Mutex::new(id("spire/server")),
            node_id: Mutex::new(id("renkei/node/store")),
            unused_token: Mutex::new(true),
            configuration: watch::Sender::new(NodeUpdate::default()),
            answers: watch::Sender::default(),
            followers: watch::Sender::default(),
            entries: Mutex::default(),
            version: AtomicU64::new(0),
            shut_out: watch::Sender::new(None),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut server = Self {
            state: Arc::new(state),
            address: listener.local_addr().unwrap(),
            serving: None,
        };
        server.serve(listener);
        server
    }

    fn serve(&mut self, listener: TcpListener) {
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, self.state.clone()));
        self.serving = Some(serving);
    }

    /// Ends the server and every connection of it.
    pub(super) async fn kill(&mut self) {
        self.serving.take().unwrap().shutdown().await;
    }

    pub(super) async fn restart(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serve(listener);
    }

    pub(super) fn address(&self) -> HostPort {
        self.address.into()
    }

    pub(super) fn token(&self) -> NodeToken {
        NodeToken {
            server: self.address(),
            ca: CaPin::of(&self.state.signer.certificate()),
            trust_domain: TrustDomain::parse("osaka.example").unwrap(),
            secret: JoinSecret::new(SECRET),
        }
    }
}

impl State {
    /// What nodes are told from now on.
    pub(super) fn configure(&self, agent: &AgentPart, proxy: &ProxyPart) {
        let ids = agent.entries.iter().map(|entry| entry.id.to_string());
        *self.entries.lock().unwrap() = ids.collect();
        let own = bundle("osaka.example", vec![self.signer.certificate()]);
        let own = node_stream::Bundle {
            trust_domain: own.trust_domain.to_string(),
            document: own.to_document().into_bytes(),
        };
        self.configuration.send_replace(NodeUpdate {
            version: self.version.fetch_add(1, Ordering::SeqCst) + 1,
            agent_part: serde_json::to_vec(agent).unwrap(),
            proxy_part: serde_json::to_vec(proxy).unwrap(),
            bundles: vec![own],
        });
    }

    fn certify(&self, csr: Vec<u8>, named: &SpiffeId) -> types::X509svid {
        let chain = self.signer.certify(&csr.into(), named);
        types::X509svid {
            cert_chain: chain.into_iter().map(|one| one.to_vec()).collect(),
            ..types::X509svid::default()
        }
    }

    fn tls(&self) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::default();
        let csr = params.serialize_request(&key).unwrap();
        let csr = CertificateSigningRequestDer::from(csr.der().to_vec());
        let mut chain = self.signer.certify(&csr, &self.own_id.lock().unwrap());
        chain.push(self.signer.certificate());
        let mut roots = RootCertStore::empty();
        roots.add(self.signer.certificate()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .allow_unauthenticated()
            .build()
            .unwrap();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let state = state.clone();
        connections.spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(state.tls()));
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let certificates = stream.get_ref().1.peer_certificates();
            let leaf = certificates.and_then(<[_]>::first);
            let caller = leaf.map(|leaf| {
                let certificate = SvidCertificate::parse_leaf(leaf).unwrap();
                Caller {
                    id: certificate.id,
                    serial: certificate.serial,
                }
            });
            let routes = Routes::new(AgentServer::from_arc(state.clone()))
                .add_service(BundleServer::from_arc(state.clone()))
                .add_service(SvidServer::from_arc(state.clone()))
                .add_service(NodeServer::from_arc(state));
            let service = tower::service_fn(move |mut request: http::Request<_>| {
                if let Some(caller) = &caller {
                    request.extensions_mut().insert(caller.clone());
                }
                routes.clone().oneshot(request)
            });
            let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                .http2_only()
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
                .await;
        });
    }
}

/// The node behind a connection.
fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| Status::unauthenticated("no certificate"))
}

#[tonic::async_trait]
impl Agent for State {
    async fn attest_agent(
        &self,
        request: Request<Streaming<AttestAgentRequest>>,
    ) -> Result<Response<tonic::codegen::BoxStream<AttestAgentResponse>>, Status> {
        let first = request.into_inner().message().await?.unwrap();
        let Some(attest_agent_request::Step::Params(params)) = first.step else {
            return Err(Status::invalid_argument("no parameters"));
        };
        let (data, csr) = (params.data.unwrap(), params.params.unwrap().csr);
        let known = JoinSecret::new(SECRET).payload().into_bytes();
        if data.r#type != "join_token" || data.payload != known {
            return Err(Status::permission_denied("no such token"));
        }
        if !std::mem::take(&mut *self.unused_token.lock().unwrap()) {
            return Err(Status::invalid_argument("the token has been used already"));
        }
        let node = self.node_id.lock().unwrap().clone();
        let result = attest_agent_response::Result {
            svid: Some(self.certify(csr, &node)),
            reattestable: false,
        };
        let step = Some(attest_agent_response::Step::Result(result));
        let answer = AttestAgentResponse { step };
        Ok(Response::new(stream::iter([Ok(answer)]).boxed()))
    }

    async fn renew_agent(
        &self,
        request: Request<RenewAgentRequest>,
    ) -> Result<Response<RenewAgentResponse>, Status> {
        let caller = caller(&request)?;
        let csr = request.into_inner().params.unwrap().csr;
        let svid = Some(self.certify(csr, &caller.id));
        Ok(Response::new(RenewAgentResponse { svid }))
    }
}

#[tonic::async_trait]
impl Bundle for State {
    async fn get_bundle(
        &self,
        _request: Request<GetBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        let authority = types::X509Certificate {
            asn1: self.signer.certificate().to_vec(),
            tainted: false,
        };
        Ok(Response::new(types::Bundle {
            trust_domain: "osaka.example".to_owned(),
            x509_authorities: vec![authority],
            ..types::Bundle::default()
        }))
    }
}

#[tonic::async_trait]
impl Svid for State {
    async fn batch_new_x509svid(
        &self,
        request: Request<BatchNewX509svidRequest>,
    ) -> Result<Response<BatchNewX509svidResponse>, Status> {
        caller(&request)?;
        let one = |asked: renkei_api::spire::api::server::svid::v1::NewX509svidParams| {
            let known = self.entries.lock().unwrap().contains(&asked.entry_id);
            let named = id(&asked.entry_id.replace("renkei.", "renkei/"));
            let code = if known { Code::Ok } else { Code::NotFound };
            batch_new_x509svid_response::Result {
                status: Some(types::Status {
                    code: code.into(),
                    message: format!("{}: {code}", asked.entry_id),
                }),
                svid: known.then(|| self.certify(asked.csr, &named)),
            }
        };
        let results = request.into_inner().params.into_iter().map(one).collect();
        Ok(Response::new(BatchNewX509svidResponse { results }))
    }
}

#[tonic::async_trait]
impl Node for State {
    type FollowStream = BoxStream<'static, Result<NodeUpdate, Status>>;
    type ReadBundleStream = BoxStream<'static, Result<Piece, Status>>;

    async fn follow(
        &self,
        request: Request<Streaming<FollowRequest>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let caller = caller(&request)?;
        self.followers.send_modify(|all| all.push(caller));
        let (mut heard, answers) = (request.into_inner(), self.answers.clone());
        let updates = updates(self.configuration.subscribe());
        // Read for as long as the updates are.
        let reading = tokio::spawn(async move {
            while let Ok(Some(answer)) = heard.message().await {
                answers.send_modify(|all| all.push(answer));
            }
        });
        let reading = tokio_util::task::AbortOnDropHandle::new(reading);
        let updates = updates.map(move |update| {
            let _ = &reading;
            Ok(update)
        });
        let mut shut_out = self.shut_out.subscribe();
        let end = stream::once(async move {
            let reason = *shut_out.wait_for(Option::is_some).await.unwrap();
            Err(denied(reason.unwrap()))
        });
        // The end comes of itself, and nothing after it.
        let all = stream::select(updates, end).scan(false, |ended, update| {
            let is_over = std::mem::replace(ended, update.is_err());
            std::future::ready((!is_over).then_some(update))
        });
        Ok(Response::new(all.boxed()))
    }

    async fn read_bundle(
        &self,
        request: Request<Streaming<Piece>>,
    ) -> Result<Response<Self::ReadBundleStream>, Status> {
        caller(&request)?;
        // Says back who reads and what comes, until the reader has said everything.
        let pieces = request.into_inner().map(|piece| {
            let piece = piece?;
            let said = [piece.source.as_bytes(), &piece.data].concat();
            Ok(Piece {
                source: String::new(),
                data: said,
            })
        });
        Ok(Response::new(pieces.boxed()))
    }
}

/// The configuration now, and each later one. The empty one of the start is none.
fn updates(mut configuration: watch::Receiver<NodeUpdate>) -> impl Stream<Item = NodeUpdate> {
    configuration.mark_changed();
    stream::unfold(configuration, async |mut configuration| {
        configuration.changed().await.ok()?;
        let update = configuration
            .wait_for(|update| update.version > 0)
            .await
            .ok()?
            .clone();
        configuration.mark_unchanged();
        Some((update, configuration))
    })
}
