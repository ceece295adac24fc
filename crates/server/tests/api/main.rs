//! The port for nodes, as nodes and strangers meet it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod callers;
mod clock;
mod follow;
mod hostile;
mod lab;
mod reader;

use std::time::Duration;

use lab::{Joined, Lab, attest, csr, id};
use prost::Message;
use rcgen::KeyPair;
use renkei_api::spire::api::{
    server::{
        agent::v1::{
            CreateJoinTokenRequest, ListAgentsRequest, PostStatusRequest, agent_client::AgentClient,
        },
        bundle::v1::{
            CountBundlesRequest, GetBundleRequest, GetFederatedBundleRequest,
            bundle_client::BundleClient,
        },
        entry::v1::{
            GetAuthorizedEntriesRequest, ListEntriesRequest, SyncAuthorizedEntriesRequest,
            entry_client::EntryClient,
        },
        svid::v1::{
            BatchNewX509svidRequest, MintX509svidRequest, NewX509svidParams,
            svid_client::SvidClient,
        },
    },
    types::{EntryMask, PermissionDeniedDetails, permission_denied_details::Reason},
};
use renkei_spiffe::{PrivateKey, X509Svid};
use renkei_testkit::TestAuthority;
use tonic::{Code, Status, transport::Channel};

/// The reason in the details of a refusal, where SPIRE's agents look for it.
fn reason(status: &Status) -> Reason {
    #[derive(Clone, PartialEq, Message)]
    struct RpcStatus {
        #[prost(message, repeated, tag = "3")]
        details: Vec<prost_types::Any>,
    }
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    let details = RpcStatus::decode(status.details()).unwrap().details;
    let url = "type.googleapis.com/spire.api.types.PermissionDeniedDetails";
    assert_eq!(details[0].type_url, url);
    PermissionDeniedDetails::decode(&*details[0].value)
        .unwrap()
        .reason()
}

async fn entries(channel: Channel) -> Result<Vec<String>, Status> {
    let request = GetAuthorizedEntriesRequest::default();
    let mut client = EntryClient::new(channel);
    let answer = client.get_authorized_entries(request).await?;
    let entries = answer.into_inner().entries;
    Ok(entries.into_iter().map(|entry| entry.id).collect())
}

#[tokio::test]
async fn a_token_makes_one_node_once() {
    let lab = Lab::start().await;
    let secret = lab.node_secret("store").await;
    // A request that cannot be answered does not use the token up.
    let garbage = attest(
        lab.stranger().await,
        "join_token",
        &secret,
        b"garbage".into(),
    )
    .await;
    assert_eq!(garbage.unwrap_err().code(), Code::InvalidArgument);

    let store = lab.attest(&secret).await.unwrap();
    assert_eq!(store.0.id(), &id("renkei/node/store"));
    let again = lab.attest(&secret).await.err().unwrap();
    assert_eq!(again.code(), Code::InvalidArgument);
    assert!(again.message().contains("was used at"), "{again}");

    let (late, _) = lab
        .server
        .node_token("store", Duration::ZERO)
        .await
        .unwrap();
    let late = lab.attest(&late.secret.payload()).await.err().unwrap();
    assert!(late.message().contains("expired at"), "{late}");
    let unknown = lab.attest("not a token").await.err().unwrap();
    assert!(unknown.message().contains("does not know"), "{unknown}");

    let key = KeyPair::generate().unwrap();
    let other = attest(lab.stranger().await, "tpm_devid", "x", csr(&key)).await;
    let other = other.unwrap_err();
    assert!(other.message().contains("only join_token"), "{other}");
    let nobody = lab
        .server
        .node_token("nobody", Duration::from_secs(60))
        .await;
    assert!(nobody.unwrap_err().to_string().contains("no node `nobody`"));
}

#[tokio::test]
async fn a_spire_agent_is_named_after_its_token() {
    let lab = Lab::start().await;
    let made = lab.server.agent_token(Duration::from_mins(1)).await;
    let token = made.unwrap().0;
    let agent = lab.attest(&token).await.unwrap();
    assert_eq!(
        agent.0.id(),
        &id(&format!("spire/agent/join_token/{token}"))
    );
    // It runs what may run anywhere, and no service.
    let held = entries(agent.channel(&lab).await).await.unwrap();
    assert_eq!(held, ["file.workload.anywhere"]);
}

#[tokio::test]
async fn the_servers_ca_is_found_by_the_pin_of_a_token() {
    let lab = Lab::start().await;
    let (token, _) = lab
        .server
        .node_token("store", Duration::from_mins(1))
        .await
        .unwrap();
    let bundles = lab.bundles();
    let own = bundles.get(&token.trust_domain).unwrap();
    assert!(own.x509_authorities.iter().any(|ca| token.ca.matches(ca)));
    // The handshake brings the CA, for a client that has the pin alone.
    let chain = lab.server.own_identities();
    let chain = chain.borrow().svids[&id("spire/server")].chain().to_vec();
    assert!(token.ca.matches(chain.last().unwrap()));
}

#[tokio::test]
async fn strangers_join_and_read_the_bundle_and_nothing_else() {
    let lab = Lab::start().await;
    let channel = lab.stranger().await;
    let bundle = BundleClient::new(channel.clone())
        .get_bundle(GetBundleRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(bundle.trust_domain, "hokkaido.example");
    assert_eq!(bundle.x509_authorities.len(), 1);

    let refused = [
        entries(channel.clone()).await.unwrap_err(),
        federated(channel.clone()).await.unwrap_err(),
        batch(channel.clone(), &["file.workload.anywhere"])
            .await
            .unwrap_err(),
        post_status(channel.clone()).await.unwrap_err(),
        follow::first(channel.clone()).await.unwrap_err(),
    ];
    for status in refused {
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        assert!(status.message().contains("it presents no SVID"), "{status}");
    }
    assert_managers_only(channel).await;
}

#[tokio::test]
async fn nodes_manage_nothing() {
    let lab = Lab::start().await;
    assert_managers_only(lab.join("store").await.channel(&lab).await).await;
    let agent = lab.join_agent().await.channel(&lab).await;
    let refused = follow::first(agent.clone()).await.unwrap_err();
    assert!(
        refused.message().contains("it is for a node of Renkei"),
        "{refused}"
    );
    assert_managers_only(agent).await;
}

/// What only a manager may call, one of each service.
async fn assert_managers_only(channel: Channel) {
    let mut agents = AgentClient::new(channel.clone());
    let list = agents.list_agents(ListAgentsRequest::default()).await;
    let token = agents
        .create_join_token(CreateJoinTokenRequest::default())
        .await;
    let mut list_entries = EntryClient::new(channel.clone());
    let entries = list_entries
        .list_entries(ListEntriesRequest::default())
        .await;
    let mut svids = SvidClient::new(channel.clone());
    let mint = svids.mint_x509svid(MintX509svidRequest::default()).await;
    let mut bundles = BundleClient::new(channel);
    let count = bundles.count_bundles(CountBundlesRequest::default()).await;
    for status in [
        list.unwrap_err(),
        token.unwrap_err(),
        entries.unwrap_err(),
        mint.unwrap_err(),
        count.unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    }
}

async fn federated(channel: Channel) -> Result<(), Status> {
    let request = GetFederatedBundleRequest {
        trust_domain: "osaka.example".to_owned(),
        output_mask: None,
    };
    let mut client = BundleClient::new(channel);
    client.get_federated_bundle(request).await.map(|_| ())
}

async fn post_status(channel: Channel) -> Result<(), Status> {
    let request = PostStatusRequest {
        agent_version: "1.2.3".to_owned(),
        ..PostStatusRequest::default()
    };
    let answer = AgentClient::new(channel).post_status(request).await;
    answer.map(|_| ())
}

/// The code of each item, and the ID of what was issued for it.
async fn batch(channel: Channel, entries: &[&str]) -> Result<Vec<(Code, String)>, Status> {
    let key = KeyPair::generate().unwrap();
    let params = entries.iter().map(|entry| NewX509svidParams {
        entry_id: (*entry).to_owned(),
        csr: csr(&key),
    });
    let params = params.collect();
    let answer = SvidClient::new(channel)
        .batch_new_x509svid(BatchNewX509svidRequest { params })
        .await?;
    let results = answer.into_inner().results.into_iter();
    let item =
        |item: renkei_api::spire::api::server::svid::v1::batch_new_x509svid_response::Result| {
            let code = Code::from(item.status.unwrap().code);
            let id = item
                .svid
                .map(|svid| lab::x509_svid(svid, &key).id().short());
            (code, id.unwrap_or_default())
        };
    Ok(results.map(item).collect())
}

#[tokio::test]
async fn a_certificate_of_another_trust_domain_is_refused() {
    let lab = Lab::start().await;
    let foreign = TestAuthority::new("osaka.example").issue("/renkei/node/store");
    let forged = TestAuthority::new("hokkaido.example").issue("/renkei/node/store");
    for issued in [foreign, forged] {
        let key = PrivateKey::from_pkcs8(issued.key_pkcs8.clone());
        let svid = X509Svid::new(issued.chain, key).unwrap();
        // The client may have finished its handshake before the server refuses it.
        if let Ok(channel) = lab.client(Some(&svid)).await {
            entries(channel).await.unwrap_err();
        }
    }
}

#[tokio::test]
async fn a_node_gets_its_own_entries_and_nobody_elses() {
    let lab = Lab::start().await;
    let channel = lab.join("store").await.channel(&lab).await;
    let own = [
        "file.node.store",
        "file.service.broker",
        "file.workload.anywhere",
    ];
    assert_eq!(entries(channel.clone()).await.unwrap(), own);

    let asked = [
        "file.service.broker",
        "file.service.web",
        "file.workload.there",
        "file.node.gw1",
        "file.server",
        "no/such",
        "file.workload.anywhere",
    ];
    let items = batch(channel.clone(), &asked).await.unwrap();
    let none = || (Code::NotFound, String::new());
    let expected = [
        (Code::Ok, "hokkaido.example/broker".to_owned()),
        none(),
        none(),
        none(),
        none(),
        none(),
        (Code::Ok, "hokkaido.example/anywhere".to_owned()),
    ];
    assert_eq!(items, expected);

    // One bad request does not fail the batch.
    let params = [
        ("file.service.broker", b"bad".to_vec()),
        ("file.service.broker", csr(&KeyPair::generate().unwrap())),
    ];
    let params = params.map(|(entry, csr)| NewX509svidParams {
        entry_id: entry.to_owned(),
        csr,
    });
    let request = BatchNewX509svidRequest {
        params: params.into(),
    };
    let answer = SvidClient::new(channel.clone())
        .batch_new_x509svid(request)
        .await
        .unwrap();
    let codes: Vec<i32> = answer
        .into_inner()
        .results
        .into_iter()
        .map(|item| item.status.unwrap().code)
        .collect();
    assert_eq!(codes, [i32::from(Code::InvalidArgument), 0]);
    let empty = batch(channel, &[]).await.unwrap_err();
    assert_eq!(empty.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn entries_are_synced_with_what_the_mask_asks_for() {
    let lab = Lab::start().await;
    let channel = lab.join_agent().await.channel(&lab).await;
    let mask = EntryMask {
        spiffe_id: true,
        selectors: true,
        ..EntryMask::default()
    };
    let first = SyncAuthorizedEntriesRequest {
        output_mask: Some(mask),
        ids: Vec::new(),
    };
    let request = futures_util::stream::iter([first]);
    let answer = EntryClient::new(channel)
        .sync_authorized_entries(request)
        .await;
    let answer = answer
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap();
    assert!(answer.entry_revisions.is_empty() && !answer.more);
    let [entry] = &answer.entries[..] else {
        panic!("{answer:?}")
    };
    assert_eq!(entry.spiffe_id.as_ref().unwrap().path, "/anywhere");
    let selector = &entry.selectors[0];
    assert_eq!((&*selector.r#type, &*selector.value), ("unix", "uid:1000"));
    assert!(entry.parent_id.is_none() && entry.hint.is_empty());
}

#[tokio::test]
async fn a_lost_answer_locks_no_node_out_and_an_old_svid_is_not_good_for_long() {
    let lab = Lab::start().await;
    let first = lab.join("store").await;
    // The node has not seen this one.
    let _lost = first.renew(&lab).await.unwrap();
    let second = first.renew(&lab).await.unwrap();
    assert!(first.renew(&lab).await.is_ok());
    let third = first.renew(&lab).await.unwrap();
    let replaced = entries(second.channel(&lab).await).await.unwrap_err();
    assert_eq!(reason(&replaced), Reason::AgentNotActive);

    post_status(third.channel(&lab).await).await.unwrap();
    let replaced = entries(first.channel(&lab).await).await.unwrap_err();
    assert_eq!(reason(&replaced), Reason::AgentNotActive);
    let again = lab.join("store").await;
    let replaced = entries(third.channel(&lab).await).await.unwrap_err();
    assert_eq!(reason(&replaced), Reason::AgentNotActive);
    entries(again.channel(&lab).await).await.unwrap();
}

#[tokio::test]
async fn nodes_and_used_tokens_outlive_a_restart_of_the_server() {
    let lab = Lab::start().await;
    let secret = lab.node_secret("store").await;
    let store = lab.attest(&secret).await.unwrap();
    let next = store.renew(&lab).await.unwrap();
    let lab = lab.restart().await;
    entries(store.channel(&lab).await).await.unwrap();
    entries(next.channel(&lab).await).await.unwrap();
    let again = lab.attest(&secret).await.err().unwrap();
    assert!(again.message().contains("was used at"), "{again}");
}

#[tokio::test]
async fn a_banned_node_is_out_and_cannot_join_again() {
    let lab = Lab::start().await;
    let store: Joined = lab.join("store").await;
    let channel = store.channel(&lab).await;
    lab.server.ban_node("store").await.unwrap();
    let refused = entries(channel).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::AgentBanned);
    let secret = lab.node_secret("store").await;
    let refused = lab.attest(&secret).await.err().unwrap();
    assert_eq!(reason(&refused), Reason::AgentBanned);

    assert!(lab.server.remove_node("store").await.unwrap());
    let refused = entries(store.channel(&lab).await).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::AgentNotAttested);
    lab.join("store").await;
    assert!(!lab.server.remove_node("gw1").await.unwrap());
}

#[tokio::test]
async fn a_burst_from_one_address_is_refused_as_such() {
    let lab = Lab::start().await;
    let channel = lab.stranger().await;
    // So many that the allowance of 10 a second cannot cover them on a slow machine either.
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..2_000 {
        let mut client = BundleClient::new(channel.clone());
        asked.spawn(async move {
            let answer = client.get_bundle(GetBundleRequest::default()).await;
            answer.map_or_else(|status| status.code(), |_| Code::Ok)
        });
    }
    let codes = asked.join_all().await;
    let count = |code| codes.iter().filter(|found| **found == code).count();
    assert!(count(Code::Ok) >= 200, "{}", count(Code::Ok));
    assert!(count(Code::ResourceExhausted) > 0);
    assert_eq!(count(Code::Ok) + count(Code::ResourceExhausted), 2_000);
}
