//! The stream by which the server configures a node: what comes in, and what is said back.

use std::sync::Arc;

use futures_util::{Stream, stream};
use renkei_api::{
    node_stream::{Fault, FollowRequest, NodeUpdate, node_client::NodeClient},
    status::NodeFault,
};
use renkei_runtime::clock;
use renkei_site::ProxyPart;
use tokio::sync::mpsc;
use tonic::{Streaming, transport::Channel};

use super::{ANSWER_TIME, LinkError, update::Update};

/// The largest update: thousands of entries, policies and bundles.
const MAX_UPDATE: usize = 16 << 20;
/// Answers that the server has not read yet. Of more, the latest alone would be of use.
const ANSWERS: usize = 4;

/// Which update of which stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision {
    /// Streams are counted from the start of the process.
    pub(super) stream: u64,
    pub(super) version: u64,
}

impl Revision {
    /// The revision of what the node has decided itself. It is not sent to a server.
    pub(super) const NONE: Self = Self {
        stream: 0,
        version: 0,
    };
}

/// What the proxy of the node is to do, by the server's latest word.
#[derive(Debug, Clone)]
pub struct ProxyUpdate {
    /// Names the update when it is answered.
    pub revision: Revision,
    /// The proxy's part.
    pub part: Arc<ProxyPart>,
}

/// An open stream of updates.
pub(super) struct Updates {
    updates: Streaming<NodeUpdate>,
    answers: mpsc::Sender<FollowRequest>,
    release: String,
}

impl Updates {
    /// Opens the stream; the server then sends the whole configuration.
    pub(super) async fn open(channel: Channel, release: &str) -> Result<Self, LinkError> {
        let (answers, sent) = mpsc::channel(ANSWERS);
        let release = release.to_owned();
        let first = message(0, Vec::new(), &release);
        // There is room for it.
        let _ = answers.try_send(first);
        let mut client = NodeClient::new(channel).max_decoding_message_size(MAX_UPDATE);
        let opened = tokio::time::timeout(ANSWER_TIME, client.follow(requests(sent))).await;
        let updates = opened.map_err(|_| LinkError::Timeout)??.into_inner();
        Ok(Self {
            updates,
            answers,
            release,
        })
    }

    /// The next update. May be cancelled.
    pub(super) async fn next(&mut self) -> Result<Update, LinkError> {
        let update = self.updates.message().await?.ok_or(LinkError::Ended)?;
        Ok(update.into())
    }

    /// Reports to the server what became of an update.
    pub(super) async fn answer(&self, version: u64, faults: Vec<Fault>) -> Result<(), LinkError> {
        let answer = message(version, faults, &self.release);
        let sent = tokio::time::timeout(ANSWER_TIME, self.answers.send(answer)).await;
        sent.map_err(|_| LinkError::Timeout)?
            .map_err(|_| LinkError::Ended)
    }
}

fn message(version: u64, faults: Vec<Fault>, release: &str) -> FollowRequest {
    FollowRequest {
        version,
        faults,
        release: release.to_owned(),
        time: clock::now().unix_timestamp(),
    }
}

fn requests(
    sent: mpsc::Receiver<FollowRequest>,
) -> impl Stream<Item = FollowRequest> + Send + 'static {
    stream::unfold(sent, async |mut sent| Some((sent.recv().await?, sent)))
}

/// What became of an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) revision: Revision,
    pub(super) faults: Vec<NodeFault>,
}
