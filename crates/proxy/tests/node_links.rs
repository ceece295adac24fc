//! Services on nodes behind a gateway of their own site: what callers, nodes and gateway see.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lab;

use std::sync::Arc;

use lab::{
    Node, assert_refused, assert_reset, echo, eventually, id,
    nodes::{Nodes, linked, unlinked},
    path::{MIB, Progress, bytes, exchange},
    ping, within,
};
use renkei_testkit::TestAuthority;
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_of_another_site_reaches_a_service_on_a_node() {
    let nodes = Nodes::new(echo().await).await;
    let (gateway, store, _osaka) = nodes.sites().await;
    let mut app = nodes.connect().await;
    ping(&mut app, b"to the node").await;
    // The gateway has forwarded it, and has neither key nor flow.
    let status = gateway.proxy.status().await;
    assert_eq!((status.flows.len(), status.totals.len()), (0, 0));
    let link = &status.node_links[0];
    assert_eq!(link.node, id("hokkaido.example/renkei/node/store"));
    assert_eq!((link.link.open, link.link.connections), (1, 1));
    let keys: Vec<_> = gateway.identities.borrow().svids.keys().cloned().collect();
    assert_eq!(keys, [id("hokkaido.example/renkei/node/gw1")]);
    // The node listens nowhere, and knows who calls.
    let status = store.proxy.status().await;
    assert_eq!(status.gateway, None);
    let link = &status.gateway_links[0];
    assert_eq!(link.id, id("hokkaido.example/renkei/node/gw1"));
    assert_eq!(link.gateway, nodes.link.address.to_string());
    assert_eq!(status.flows[0].pair.caller, id("osaka.example/collector"));
    let mut registry = prometheus_client::registry::Registry::default();
    gateway.proxy.register(&mut registry);
    let mut metrics = String::new();
    prometheus_client::encoding::text::encode(&mut metrics, &registry).unwrap();
    let line = "renkei_link_up{peer=\"hokkaido.example/renkei/node/store\",role=\"node\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_crosses_the_gateway_is_ciphertext() {
    let nodes = Nodes::new(echo().await).await;
    let _sites = nodes.sites().await;
    let secret = b"the quick brown fox is a secret of Osaka and the node; ".repeat(10_000);
    let secret = Arc::new(secret);
    let app = nodes.connect().await;
    within(exchange(app, secret.clone(), Progress::default())).await;
    for seen in [nodes.tap.there.seen(), nodes.tap.back.seen()] {
        assert!(seen.len() > secret.len());
        let part = &secret[..20];
        assert!(!seen.windows(part.len()).any(|window| window == part));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_within_the_site_goes_the_same_way() {
    let nodes = Nodes::new(echo().await).await;
    let (gateway, store, _osaka) = nodes.sites().await;
    let part = nodes.part("compute", "store");
    let _compute = Node::start_part(part, nodes.identities("compute", &["/job"])).await;
    let mut app = TcpStream::connect(nodes.inside).await.unwrap();
    ping(&mut app, b"from another node").await;
    let flow = store.proxy.status().await.flows.remove(0);
    assert_eq!(flow.pair.caller, id("hokkaido.example/job"));
    assert_eq!(gateway.open(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_the_site_file_does_not_name_is_refused() {
    let nodes = Nodes::new(echo().await).await;
    let (gateway, store, _osaka) = nodes.sites().await;
    let mut app = nodes.connect().await;
    ping(&mut app, b"while it lasts").await;
    // The node has not heard of it yet.
    gateway.follow(nodes.part("gw1", "spare")).await;
    assert_reset(&mut app).await;
    unlinked(
        &store,
        "takes no link of hokkaido.example/renkei/node/store",
    )
    .await;
    let sentence = gateway.refusal("no_services").await;
    assert!(
        sentence.contains("hokkaido.example/renkei/node/store holds no service"),
        "{sentence}"
    );
    let links = gateway.proxy.status().await.node_links;
    assert_eq!(links.len(), 1, "{links:?}");
    assert_eq!(links[0].node, id("hokkaido.example/renkei/node/spare"));
    gateway.follow(nodes.part("gw1", "store")).await;
    linked(&gateway, &store).await;
    eventually_answers(&nodes).await;
    // A node that holds nothing any more leaves the gateway by itself.
    store.follow(nodes.part("store", "spare")).await;
    assert!(store.proxy.status().await.gateway_links.is_empty());
}

/// A caller that was refused may have to come again: it is told at once what it was told before.
async fn eventually_answers(nodes: &Nodes) {
    let start = std::time::Instant::now();
    loop {
        if let Ok(mut app) = TcpStream::connect(nodes.listen).await {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut heard = [0; 4];
            let asked = async {
                app.write_all(b"ping").await?;
                app.read_exact(&mut heard).await
            };
            if within(asked).await.is_ok() {
                return assert_eq!(&heard, b"ping");
            }
        }
        assert!(start.elapsed() < lab::DEADLINE, "no answer");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_of_another_site_or_another_ca_is_no_node() {
    let nodes = Nodes::new(echo().await).await;
    let gateway = nodes.gateway("store").await;
    let path = "/renkei/node/store";
    // The same path in another trust domain.
    let mut part = nodes.part("store", "store");
    part.link_id = id("osaka.example/renkei/node/store");
    let trusts = [&nodes.hokkaido_ca];
    let foreign = lab::identities(&nodes.osaka_ca, &[path], &trusts);
    let _foreign = Node::start_part(part, foreign).await;
    let sentence = gateway.refusal("not_relayed").await;
    assert!(sentence.contains("osaka.example"), "{sentence}");
    // The same name, by a CA that is not the site's.
    let forger = TestAuthority::new("hokkaido.example");
    let mut forged = lab::identities(&forger, &[path], &[]);
    forged.bundles = gateway.identities.borrow().bundles.clone();
    let _forged = Node::start_part(nodes.part("store", "store"), forged).await;
    gateway.refusal("untrusted_ca").await;
    // Another identity of the site, which holds nothing.
    let mut part = nodes.part("store", "store");
    part.link_id = id("hokkaido.example/broker");
    let other = lab::identities(&nodes.hokkaido_ca, &["/broker"], &[]);
    let _other = Node::start_part(part, other).await;
    gateway.refusal("no_services").await;
    let links = gateway.proxy.status().await.node_links;
    assert!(links.iter().all(|node| !node.link.linked), "{links:?}");
}

/// A site that is relayed for has one that may link it: its server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_a_relayed_site_is_not_its_server() {
    let nodes = Nodes::new(echo().await).await;
    let text = format!(
        "site: hokkaido\ntrust_domain: hokkaido.example\n\
         gateway: {{listen: '{gateway}'}}\nrelays: [osaka.example]\n\
         peers: {{osaka.example: {{bundle: o.json}}}}\n",
        gateway = nodes.gateway
    );
    let server = lab::identities(&nodes.hokkaido_ca, &["/renkei/server"], &[&nodes.osaka_ca]);
    let hub = Node::start(&text, server).await;
    let mut part = nodes.part("store", "store");
    part.link_id = id("osaka.example/renkei/node/store");
    part.links[0].id = id("hokkaido.example/renkei/server");
    let trusts = [&nodes.hokkaido_ca];
    let foreign = lab::identities(&nodes.osaka_ca, &["/renkei/node/store"], &trusts);
    let _foreign = Node::start_part(part, foreign).await;
    let sentence = hub.refusal("unexpected_peer").await;
    assert!(
        sentence.contains("is not the server of osaka.example"),
        "{sentence}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_outlives_the_loss_of_the_link() {
    let nodes = Nodes::new(echo().await).await;
    let (gateway, store, osaka) = nodes.sites().await;
    let got = Progress::default();
    let transfer = exchange(nodes.connect().await, bytes(12 * MIB), got.clone());
    let transfer = tokio::spawn(transfer);
    got.reached(4 * MIB).await;
    nodes.link.refuse(true);
    nodes.link.kill_all();
    let refused = || (nodes.link.refused() >= 2).then_some(());
    eventually("attempts to dial", refused).await;
    nodes.link.refuse(false);
    within(transfer).await.unwrap();
    linked(&gateway, &store).await;
    assert_eq!(osaka.proxy.status().await.totals[0].totals.connections, 1);
    assert_eq!(store.proxy.status().await.totals[0].totals.connections, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_link_callers_are_told_and_the_node_says_why() {
    let nodes = Nodes::new(echo().await).await;
    let gateway = nodes.gateway("store").await;
    let osaka = nodes.osaka().await;
    assert_refused(nodes.listen).await;
    let sentence = gateway.refusal("not_linked").await;
    assert!(
        sentence.contains("it has not dialled this gateway yet"),
        "{sentence}"
    );
    let sentence = osaka.refusal("not_linked").await;
    assert!(
        sentence.contains("the node that holds the service"),
        "{sentence}"
    );
    // It has no identity yet; the gateway comes to know it without a restart of either.
    let (own, part) = (
        nodes.identities("store", &["/broker"]),
        nodes.part("store", "store"),
    );
    let mut none = own.clone();
    none.svids.clear();
    let store = Node::start_part(part, none).await;
    unlinked(&store, "hokkaido.example/renkei/node/store has no identity").await;
    store.identities.send(Arc::new(own)).unwrap();
    linked(&gateway, &store).await;
    eventually_answers(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_on_two_nodes_outlives_one_of_them() {
    let nodes = Nodes::new(echo().await).await;
    let on = "store, spare";
    let gateway = nodes.gateway(on).await;
    let holders = [
        nodes.holder("store", on).await,
        nodes.holder("spare", on).await,
    ];
    gateway
        .shows("two links", |status| {
            let linked = status.node_links.iter().filter(|node| node.link.linked);
            (linked.count() == 2).then_some(())
        })
        .await;
    let _osaka = nodes.osaka().await;
    // All connections of a caller come to one node.
    let mut first = nodes.connect().await;
    ping(&mut first, b"one").await;
    let mut second = nodes.connect().await;
    ping(&mut second, b"two").await;
    let [store, spare] = holders;
    let (leaving, staying) = match store.open() {
        0 => (spare, store),
        _ => (store, spare),
    };
    assert_eq!((leaving.open(), staying.open()), (2, 0));
    drop((first, second));
    assert_eq!(leaving.drain.wait(lab::DEADLINE).await.left, 0);
    drop(leaving);
    eventually_answers(&nodes).await;
    assert_eq!(staying.proxy.status().await.totals.len(), 1);
}
