//! Every method of the API by every class of caller: who may call it and who may not.

use hyper_util::rt::TokioIo;
use rcgen::KeyPair;
use renkei_api::spire::api::{
    server::{
        entry::v1::{BatchCreateEntryRequest, entry_client::EntryClient},
        svid::v1::{BatchNewX509svidRequest, NewX509svidParams, svid_client::SvidClient},
    },
    types::{Entry, Selector, Spiffeid},
};
use renkei_spiffe::X509Svid;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use crate::{
    follow::{Node, entries},
    lab::{Lab, csr, x509_svid},
};

/// Who may call what, as the contract of SPIRE's API has it: `l`ocal, a`d`min, `a`gent,
/// do`w`nstream, and `any`one.
const TABLE: &str = "
    agent.v1.Agent any AttestAgent
    agent.v1.Agent a RenewAgent PostStatus
    agent.v1.Agent ld CountAgents ListAgents GetAgent DeleteAgent BanAgent CreateJoinToken
    entry.v1.Entry a GetAuthorizedEntries SyncAuthorizedEntries
    entry.v1.Entry ld CountEntries ListEntries GetEntry BatchCreateEntry BatchUpdateEntry
    entry.v1.Entry ld BatchDeleteEntry
    svid.v1.SVID a BatchNewX509SVID NewJWTSVID BatchNewWITSVID
    svid.v1.SVID ld MintX509SVID MintJWTSVID MintWITSVID
    svid.v1.SVID w NewDownstreamX509CA
    bundle.v1.Bundle any GetBundle
    bundle.v1.Bundle lda GetFederatedBundle
    bundle.v1.Bundle w PublishJWTAuthority PublishWITAuthority
    bundle.v1.Bundle ld CountBundles AppendBundle ListFederatedBundles BatchCreateFederatedBundle
    bundle.v1.Bundle ld BatchUpdateFederatedBundle BatchSetFederatedBundle
    bundle.v1.Bundle ld BatchDeleteFederatedBundle
    trustdomain.v1.TrustDomain ld ListFederationRelationships GetFederationRelationship
    trustdomain.v1.TrustDomain ld BatchCreateFederationRelationship
    trustdomain.v1.TrustDomain ld BatchUpdateFederationRelationship
    trustdomain.v1.TrustDomain ld BatchDeleteFederationRelationship RefreshBundle
    localauthority.v1.LocalAuthority ld GetJWTAuthorityState PrepareJWTAuthority
    localauthority.v1.LocalAuthority ld ActivateJWTAuthority TaintJWTAuthority RevokeJWTAuthority
    localauthority.v1.LocalAuthority ld GetX509AuthorityState PrepareX509Authority
    localauthority.v1.LocalAuthority ld ActivateX509Authority TaintX509Authority
    localauthority.v1.LocalAuthority ld TaintX509UpstreamAuthority RevokeX509Authority
    localauthority.v1.LocalAuthority ld RevokeX509UpstreamAuthority GetWITAuthorityState
    localauthority.v1.LocalAuthority ld PrepareWITAuthority ActivateWITAuthority
    localauthority.v1.LocalAuthority ld TaintWITAuthority RevokeWITAuthority
    logger.v1.Logger l GetLogger SetLogLevel ResetLogLevel
    debug.v1.Debug l GetInfo";

/// Paths of methods, and who may call each.
fn methods() -> Vec<(String, &'static str)> {
    let mut methods = Vec::new();
    for line in TABLE.trim().lines() {
        let mut words = line.split_whitespace();
        let (service, classes) = (words.next().unwrap(), words.next().unwrap());
        let paths = words.map(|method| format!("/spire.api.server.{service}/{method}"));
        methods.extend(paths.map(|path| (path, classes)));
    }
    for method in ["Check", "Watch"] {
        methods.push((format!("/grpc.health.v1.Health/{method}"), "l"));
    }
    methods.push(("/renkei.node.v1.Node/Follow".to_owned(), ""));
    methods.push(("/renkei.node.v1.Node/ReadBundle".to_owned(), ""));
    methods
}

/// The first answer to an empty request.
async fn call(channel: &Channel, path: &str) -> Result<(), Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let codec = ProstCodec::<(), ()>::default();
    let path: PathAndQuery = path.parse().unwrap();
    let answer = client
        .server_streaming(Request::new(()), path, codec)
        .await?;
    answer.into_inner().message().await.map(|_| ())
}

fn is_refused(answer: &Result<(), Status>) -> bool {
    answer.as_ref().is_err_and(|status| {
        status.code() == Code::PermissionDenied
            && status
                .message()
                .contains("authorization denied for the method")
    })
}

/// The local socket.
pub(crate) async fn local(lab: &Lab) -> Channel {
    let socket = lab.state().join("server.sock");
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move {
            let stream = tokio::net::UnixStream::connect(socket).await?;
            std::io::Result::Ok(TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_static("http://server");
    endpoint.connect_with_connector(connect).await.unwrap()
}

fn entry(id: &str) -> Entry {
    let own = |path: &str| {
        Some(Spiffeid {
            trust_domain: "hokkaido.example".to_owned(),
            path: path.to_owned(),
        })
    };
    Entry {
        id: id.to_owned(),
        spiffe_id: own(&format!("/{id}")),
        parent_id: own("/renkei/nodes"),
        selectors: vec![Selector {
            r#type: "unix".to_owned(),
            value: "uid:1".to_owned(),
        }],
        admin: id == "admin",
        downstream: id == "downstream",
        ..Entry::default()
    }
}

async fn make(local: &Channel, ids: &[&str]) {
    let entries = ids.iter().map(|id| entry(id)).collect();
    let made = EntryClient::new(local.clone())
        .batch_create_entry(BatchCreateEntryRequest {
            entries,
            output_mask: None,
        })
        .await
        .unwrap();
    for item in made.into_inner().results {
        assert_eq!(item.status.unwrap().code, 0);
    }
}

/// The SVID of an entry, from an agent that may ask for it.
async fn svid(agent: &Channel, entry: &str) -> X509Svid {
    let key = KeyPair::generate().unwrap();
    let params = vec![NewX509svidParams {
        entry_id: entry.to_owned(),
        csr: csr(&key),
    }];
    let mut client = SvidClient::new(agent.clone());
    let answer = client
        .batch_new_x509svid(BatchNewX509svidRequest { params })
        .await;
    let item = answer.unwrap().into_inner().results.remove(0);
    assert_eq!(item.status.unwrap().code, 0, "{entry}");
    x509_svid(item.svid.unwrap(), &key)
}

#[tokio::test]
async fn every_method_is_for_its_classes_of_callers_and_for_no_other() {
    let lab = Lab::start().await;
    let local = local(&lab).await;
    make(&local, &["admin", "downstream", "workload"]).await;
    let agent = lab.join_agent().await.channel(&lab).await;
    let mut callers = vec![('l', local), ('-', lab.stranger().await)];
    for (class, entry) in [('d', "admin"), ('w', "downstream"), ('-', "workload")] {
        let svid = svid(&agent, entry).await;
        callers.push((class, lab.client(Some(&svid)).await.unwrap()));
    }
    callers.push(('a', agent));
    for (path, classes) in methods() {
        for (class, channel) in &callers {
            let may = classes == "any" || classes.contains(*class);
            let answer = call(channel, &path).await;
            assert_eq!(is_refused(&answer), !may, "{path} by {class}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn an_entry_of_the_api_reaches_a_node_that_follows_and_outlives_a_restart() {
    let lab = Lab::start().await;
    let store = lab.join("store").await;
    let mut node = Node::follow(store.channel(&lab).await).await.unwrap();
    let before = node.update().await.unwrap();
    assert!(!entries(&before).contains(&"robot".to_owned()));
    node.answer(before.version, Vec::new()).await;
    make(&local(&lab).await, &["robot"]).await;
    let after = node.update().await.unwrap();
    assert!(entries(&after).contains(&"robot".to_owned()));
    svid(&store.channel(&lab).await, "robot").await;

    let lab = lab.restart().await;
    svid(&store.channel(&lab).await, "robot").await;
    let removed = renkei_api::spire::api::server::entry::v1::BatchDeleteEntryRequest {
        ids: vec![
            "robot".to_owned(),
            "file.server".to_owned(),
            "none".to_owned(),
        ],
    };
    let answer = EntryClient::new(local(&lab).await)
        .batch_delete_entry(removed)
        .await;
    let codes = answer.unwrap().into_inner().results.into_iter();
    let codes: Vec<Code> = codes.map(|item| item.status.unwrap().code.into()).collect();
    assert_eq!(codes, [Code::Ok, Code::FailedPrecondition, Code::NotFound]);
}
