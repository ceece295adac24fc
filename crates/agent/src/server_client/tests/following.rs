use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use renkei_api::{
    issue::IssueError,
    node::AgentPart,
    spire::api::types::permission_denied_details::Reason,
    status::{NodeFault, ServerLinkStatus},
};
use renkei_runtime::supervise::Supervisor;
use renkei_site::ProxyPart;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::server::TestServer;
use crate::{
    AgentMetrics,
    certificate::CertificateRequest,
    keeper::{KeeperInputs, keep},
    server_client::{LinkInputs, ProxyUpdate, ServerLink, join},
    testing::{id, me, part_of, provider, within},
};

struct Node {
    link: ServerLink,
    stop: CancellationToken,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn node(server: &TestServer) -> Node {
    let joined = within(join(&server.address(), &server.token(), &provider())).await;
    let inputs = LinkInputs {
        server: server.address(),
        joined: joined.unwrap(),
        provider: provider(),
        workloads_only: false,
        release: "1.2.3".to_owned(),
        tasks: Supervisor::default(),
    };
    let stop = CancellationToken::new();
    Node {
        link: ServerLink::start(inputs, stop.clone()),
        stop,
    }
}

fn proxy_part(version: u64) -> Arc<ProxyPart> {
    let text = "site: osaka\ntrust_domain: osaka.example\n\
                gateway: {listen: 127.0.0.1:8443, advertise: 127.0.0.1:8443}\n";
    let site = renkei_site::parse("site.yaml", text).unwrap();
    Arc::new(site.proxy_part(version, Default::default()))
}

fn numbered(version: u64, entries: &[(&str, &str)]) -> Arc<AgentPart> {
    let mut part = part_of(entries);
    Arc::make_mut(&mut part).version = version;
    part
}

async fn until<T: Clone>(watch: &mut watch::Receiver<T>, is_so: impl FnMut(&T) -> bool) -> T {
    within(watch.wait_for(is_so)).await.unwrap().clone()
}

async fn update(node: &Node, version: u64) -> ProxyUpdate {
    let is_new = |update: &Option<ProxyUpdate>| {
        update
            .as_ref()
            .is_some_and(|update| update.part.version == version)
    };
    until(&mut node.link.proxy_updates(), is_new).await.unwrap()
}

#[tokio::test]
async fn a_node_follows_what_its_server_says_and_answers() {
    let server = TestServer::start().await;
    server
        .state
        .configure(&numbered(4, &[("one", &me())]), &proxy_part(2));
    let node = node(&server).await;
    let first = update(&node, 2).await;
    assert_eq!(first.part, proxy_part(2));
    assert_eq!(*node.link.part().borrow(), numbered(4, &[("one", &me())]));
    let fault = NodeFault {
        item: "one".to_owned(),
        reason: "its port is taken".to_owned(),
    };
    node.link.report(&first, vec![fault.clone()]);
    let heard = until(&mut server.state.answers.subscribe(), |heard| {
        heard.len() == 2
    })
    .await;
    let (hello, answer) = (&heard[0], &heard[1]);
    assert_eq!((hello.version, &*hello.release), (0, "1.2.3"));
    assert_eq!((answer.version, &*answer.faults[0].item), (1, "one"));
    let status = node.link.status();
    assert_eq!((status.version, status.faults), (Some(2), vec![fault]));
    assert!(status.connected_since.is_some() && status.last_error.is_none());

    server.state.configure(&numbered(5, &[]), &proxy_part(3));
    node.link.report(&update(&node, 3).await, Vec::new());
    assert_eq!(node.link.part().borrow().version, 5);
    let heard = until(&mut server.state.answers.subscribe(), |heard| {
        heard.len() == 3
    })
    .await;
    assert!(
        heard[2].version == 2 && heard[2].faults.is_empty(),
        "{heard:?}"
    );
    assert!(node.link.status().faults.is_empty());
}

#[tokio::test]
async fn a_part_that_cannot_be_read_leaves_the_one_before_in_force() {
    let server = TestServer::start().await;
    server
        .state
        .configure(&numbered(1, &[("one", &me())]), &proxy_part(1));
    let node = node(&server).await;
    update(&node, 1).await;
    let bundles = node.link.bundles().borrow().clone();
    server.state.configuration.send_modify(|update| {
        update.version = 2;
        update.agent_part = b"{}".to_vec();
        update.bundles.clear();
        update.proxy_part = serde_json::to_vec(&*proxy_part(2)).unwrap();
    });
    // The proxy's part is good.
    update(&node, 2).await;
    let mut answers = server.state.answers.subscribe();
    let heard = until(&mut answers, |heard| {
        heard.iter().any(|one| one.version == 2)
    })
    .await;
    let faults = &heard.last().unwrap().faults;
    let items: Vec<_> = faults.iter().map(|fault| &*fault.item).collect();
    assert_eq!(items, ["bundles", "identities"]);
    assert_eq!(node.link.part().borrow().version, 1);
    assert_eq!(*node.link.bundles().borrow(), bundles);
}

#[tokio::test]
async fn a_node_without_its_server_keeps_what_it_has_and_says_so() {
    let mut server = TestServer::start().await;
    server
        .state
        .configure(&numbered(1, &[("one", &me())]), &proxy_part(1));
    let node = node(&server).await;
    update(&node, 1).await;
    server.kill().await;
    let mut status = node.link.status_changes();
    let is_away = |status: &ServerLinkStatus| status.last_error.is_some();
    let away = until(&mut status, is_away).await;
    assert_eq!(away.connected_since, None);
    assert_eq!(node.link.part().borrow().version, 1);
    let csr = CertificateRequest::new(Some(&id("one"))).unwrap().csr();
    let entry = node.link.part().borrow().entries[0].id.clone();
    let request = renkei_api::issue::SvidRequest { entry, csr };
    let asked = node.link.issuer();
    let refused = within(asked.issue(request)).await.unwrap_err();
    assert!(matches!(refused, IssueError::Unavailable(_)), "{refused}");

    server.state.configure(&numbered(2, &[]), &proxy_part(2));
    server.restart().await;
    update(&node, 2).await;
    assert_eq!(node.link.part().borrow().version, 2);
    let back = until(&mut status, |status| status.connected_since.is_some()).await;
    assert_eq!(back.last_error, None);
}

#[tokio::test]
async fn a_node_whose_ca_leaves_the_bundle_comes_again_with_a_new_svid() {
    let server = TestServer::start().await;
    server.state.configure(&numbered(1, &[]), &proxy_part(1));
    let node = node(&server).await;
    update(&node, 1).await;
    server.state.signer.rotate();
    server.state.configure(&numbered(1, &[]), &proxy_part(1));
    let mut followers = server.state.followers.subscribe();
    let seen = until(&mut followers, |seen| seen.len() == 2).await;
    assert!(
        seen.iter()
            .all(|caller| caller.id == id("renkei/node/store"))
    );
    assert_ne!(seen[0].serial, seen[1].serial);
    // Told of nothing: the connection before lasted until there was another.
    assert_eq!(node.link.status().last_error, None);
}

#[tokio::test]
async fn identities_of_the_node_come_from_its_server() {
    let server = TestServer::start().await;
    server
        .state
        .configure(&numbered(1, &[("one", &me())]), &proxy_part(1));
    let node = node(&server).await;
    let kept = keep(
        KeeperInputs {
            part: node.link.part(),
            bundles: node.link.bundles(),
            issuer: node.link.issuer(),
            provider: provider(),
            metrics: AgentMetrics::default(),
            tasks: Supervisor::default(),
        },
        node.stop.clone(),
    );
    let mut identities = kept.identities.clone();
    until(&mut identities, |now| now.svids.contains_key(&id("one"))).await;

    // An entry that the server does not give to this node.
    let csr = CertificateRequest::new(Some(&id("two"))).unwrap().csr();
    let entry = renkei_api::node::EntryId::parse("two").unwrap();
    let request = renkei_api::issue::SvidRequest { entry, csr };
    let issuer = node.link.issuer();
    let refused = within(issuer.issue(request)).await.unwrap_err();
    assert!(matches!(refused, IssueError::Refused(_)), "{refused}");
}

#[tokio::test]
async fn readers_of_the_bundle_endpoint_are_taken_to_the_server() {
    let server = TestServer::start().await;
    server.state.configure(&numbered(1, &[]), &proxy_part(1));
    let node = node(&server).await;
    update(&node, 1).await;
    let (mut reader, at_gateway) = tokio::io::duplex(64);
    let source = "192.0.2.1:5".parse().unwrap();
    let readers = node.link.bundle_readers();
    let served = readers.serve(source, Bytes::from_static(b" hello"), at_gateway);
    let reading = async {
        reader.write_all(b" world").await.unwrap();
        reader.shutdown().await.unwrap();
        let mut said = String::new();
        reader.read_to_string(&mut said).await.unwrap();
        said
    };
    let (served, said) = within(async { tokio::join!(served, reading) }).await;
    served.unwrap();
    assert_eq!(said, "192.0.2.1:5 hello world");
}

/// All requests of a node share one connection to its server.
#[tokio::test]
async fn readers_of_the_bundle_endpoint_leave_room_for_the_nodes_own_requests() {
    let server = TestServer::start().await;
    server
        .state
        .configure(&numbered(1, &[("one", &me())]), &proxy_part(1));
    let node = node(&server).await;
    update(&node, 1).await;
    let readers = node.link.bundle_readers();
    let (mut open, mut reading) = (Vec::new(), JoinSet::new());
    // More than the server takes requests; they say nothing and do not go away.
    for host in 1..=2 {
        for port in 1..=200 {
            let source = SocketAddr::from(([192, 0, 2, host], port));
            let (near, at_gateway) = tokio::io::duplex(64);
            open.push(near);
            let readers = readers.clone();
            reading.spawn(async move { readers.serve(source, Bytes::new(), at_gateway).await });
        }
    }
    let refused = within(reading.join_next()).await.unwrap().unwrap();
    assert_eq!(refused.unwrap_err().code(), Code::ResourceExhausted);
    let csr = CertificateRequest::new(Some(&id("one"))).unwrap().csr();
    let entry = renkei_api::node::EntryId::parse("one").unwrap();
    let request = renkei_api::issue::SvidRequest { entry, csr };
    within(node.link.issuer().issue(request)).await.unwrap();
    let elsewhere = "198.51.100.1:1".parse().unwrap();
    let (mut reader, at_gateway) = tokio::io::duplex(64);
    let served = readers.serve(elsewhere, Bytes::from_static(b" hello"), at_gateway);
    let reading = async {
        reader.shutdown().await.unwrap();
        let mut said = String::new();
        reader.read_to_string(&mut said).await.unwrap();
        said
    };
    let (served, said) = within(async { tokio::join!(served, reading) }).await;
    served.unwrap();
    assert_eq!(said, "198.51.100.1:1 hello");
}

#[tokio::test]
async fn a_node_that_is_put_out_has_nothing_until_the_server_takes_it_again() {
    let server = TestServer::start().await;
    server
        .state
        .configure(&numbered(1, &[("one", &me())]), &proxy_part(1));
    let node = node(&server).await;
    update(&node, 1).await;
    server
        .state
        .shut_out
        .send_replace(Some(Reason::AgentBanned));
    let is_empty = |part: &Arc<AgentPart>| part.entries.is_empty();
    until(&mut node.link.part(), is_empty).await;
    let emptied = |update: &Option<ProxyUpdate>| {
        update
            .as_ref()
            .is_some_and(|now| now.part.gateway.is_none())
    };
    until(&mut node.link.proxy_updates(), emptied).await;

    server.state.shut_out.send_replace(None);
    until(&mut node.link.part(), |part| !is_empty(part)).await;
    let restored =
        |update: &Option<ProxyUpdate>| update.as_ref().is_some_and(|now| now.part == proxy_part(1));
    until(&mut node.link.proxy_updates(), restored).await;
}
