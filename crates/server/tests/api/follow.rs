//! The stream that configures nodes.

use renkei_api::{
    node::AgentPart,
    node_stream::{Fault, FollowRequest, NodeUpdate, node_client::NodeClient},
    spire::api::types::permission_denied_details::Reason,
    status::NodeStatus,
};
use renkei_site::ProxyPart;
use time::OffsetDateTime;
use tokio::{sync::mpsc, time::timeout};
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::{
    lab::{Lab, SOON, USUAL},
    reason,
};

pub(crate) struct Node {
    answers: mpsc::Sender<FollowRequest>,
    updates: Streaming<NodeUpdate>,
}

fn hello() -> FollowRequest {
    FollowRequest {
        version: 0,
        faults: Vec::new(),
        release: "0.1.0".to_owned(),
        time: OffsetDateTime::now_utc().unix_timestamp(),
    }
}

/// The first answer to a node that follows.
pub(crate) async fn first(channel: Channel) -> Result<NodeUpdate, Status> {
    let mut node = Node::follow(channel).await?;
    node.update().await
}

impl Node {
    pub(crate) async fn follow(channel: Channel) -> Result<Self, Status> {
        let (answers, sent) = mpsc::channel(4);
        answers.send(hello()).await.unwrap();
        let sent =
            futures_util::stream::unfold(sent, async |mut sent| Some((sent.recv().await?, sent)));
        let answer = NodeClient::new(channel).follow(sent).await?;
        let updates = answer.into_inner();
        Ok(Self { answers, updates })
    }

    pub(crate) async fn update(&mut self) -> Result<NodeUpdate, Status> {
        let update = timeout(SOON, self.updates.message()).await.unwrap();
        update.map(Option::unwrap)
    }

    pub(crate) async fn answer(&self, version: u64, faults: Vec<Fault>) {
        let answer = FollowRequest {
            version,
            faults,
            ..hello()
        };
        self.answers.send(answer).await.unwrap();
    }

    /// Why the stream ended, whatever was sent before.
    async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.update().await {
                return status;
            }
        }
    }
}

pub(crate) fn entries(update: &NodeUpdate) -> Vec<String> {
    let part: AgentPart = serde_json::from_slice(&update.agent_part).unwrap();
    part.entries
        .iter()
        .map(|entry| entry.id.to_string())
        .collect()
}

async fn status(lab: &Lab, name: &str) -> NodeStatus {
    let nodes = lab.server.status().await.unwrap().nodes;
    nodes.into_iter().find(|node| node.name == name).unwrap()
}

#[tokio::test]
async fn a_node_gets_its_part_at_once_and_each_change_of_it() {
    let lab = Lab::start().await;
    let channel = lab.join("store").await.channel(&lab).await;
    let mut node = Node::follow(channel).await.unwrap();
    let first = node.update().await.unwrap();
    assert_eq!(first.version, 1);
    assert_eq!(
        entries(&first),
        [
            "file.node.store",
            "file.service.broker",
            "file.workload.anywhere"
        ]
    );
    let proxy: ProxyPart = serde_json::from_slice(&first.proxy_part).unwrap();
    assert_eq!(proxy.services.keys().collect::<Vec<_>>(), ["broker"]);
    assert_eq!(first.bundles[0].trust_domain, "hokkaido.example");
    let fault = Fault {
        item: "service broker".to_owned(),
        reason: "no".to_owned(),
    };
    node.answer(1, vec![fault]).await;

    // What is of other nodes alone is not told.
    lab.apply(&USUAL.replace("unix:uid:1001", "unix:uid:1002"));
    lab.apply(&USUAL.replace("unix:uid:1000", "unix:uid:1003"));
    let second = node.update().await.unwrap();
    assert_eq!(second.version, 2);
    let part: AgentPart = serde_json::from_slice(&second.agent_part).unwrap();
    assert!(format!("{part:?}").contains("1003"), "{part:?}");
    node.answer(2, Vec::new()).await;

    // One more update may come, when the entry is on record.
    let known = timeout(SOON, async {
        loop {
            let link = status(&lab, "store").await.link.unwrap();
            if link.taken >= 2 && link.taken == link.sent {
                return link;
            }
            tokio::select! {
                update = node.update() => node.answer(update.unwrap().version, Vec::new()).await,
                () = tokio::task::yield_now() => {}
            }
        }
    });
    let link = known.await.unwrap();
    assert_eq!(link.release, "0.1.0");
    assert!(link.faults.is_empty());
    assert!(status(&lab, "gw1").await.attested_at.is_none());
    drop(node);
    let gone = async {
        while status(&lab, "store").await.link.is_some() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, gone).await.unwrap();
}

#[tokio::test]
async fn a_slow_node_gets_the_newest_part_when_it_has_answered() {
    let lab = Lab::start().await;
    let channel = lab.join("store").await.channel(&lab).await;
    let mut node = Node::follow(channel).await.unwrap();
    assert_eq!(node.update().await.unwrap().version, 1);
    for uid in 2000..2010 {
        lab.apply(&USUAL.replace("1000", &uid.to_string()));
    }
    // The server has taken the last of them.
    let mut own = lab.server.agent_part();
    let last = |part: &std::sync::Arc<AgentPart>| format!("{part:?}").contains("2009");
    own.wait_for(last).await.unwrap();
    node.answer(1, Vec::new()).await;
    let second = node.update().await.unwrap();
    assert_eq!(second.version, 2);
    let text = String::from_utf8(second.agent_part).unwrap();
    assert!(text.contains("2009"), "{text}");
}

#[tokio::test]
async fn a_stream_ends_when_its_node_is_out() {
    let lab = Lab::start().await;
    let channel = lab.join("store").await.channel(&lab).await;
    let mut node = Node::follow(channel).await.unwrap();
    node.update().await.unwrap();
    lab.server.ban_node("store").await.unwrap();
    assert_eq!(reason(&node.end().await), Reason::AgentBanned);

    let channel = lab.join("gw1").await.channel(&lab).await;
    let mut before = Node::follow(channel.clone()).await.unwrap();
    before.update().await.unwrap();
    let mut gateway = Node::follow(channel.clone()).await.unwrap();
    gateway.update().await.unwrap();
    assert_eq!(before.end().await.code(), Code::Aborted);

    let other = lab.join("other").await.channel(&lab).await;
    let mut removed = Node::follow(other.clone()).await.unwrap();
    removed.update().await.unwrap();
    lab.apply("workloads:\n  anywhere: {selectors: [unix:uid:1000]}\n");
    assert_eq!(reason(&removed.end().await), Reason::AgentNotAttested);
    let refused = Node::follow(other).await.err().unwrap();
    assert!(refused.message().contains("no node `other`"), "{refused}");
}

#[tokio::test]
async fn a_server_that_stops_ends_its_streams_and_takes_its_nodes_back() {
    let lab = Lab::start().await;
    let store = lab.join("store").await;
    let mut node = Node::follow(store.channel(&lab).await).await.unwrap();
    node.update().await.unwrap();
    let (lab, _end) = tokio::join!(lab.restart(), node.end());
    first(store.channel(&lab).await).await.unwrap();
}
