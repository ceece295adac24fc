//! The stream that configures a node: its part as a whole at once, and again when it changes. The
//! next update is sent when the one before was answered, so a slow node gets the newest alone.

use std::{sync::Arc, time::Duration};

use futures_util::stream;
use renkei_api::{
    node::AgentPart,
    node_stream::{Bundle, FollowRequest, NodeUpdate, Piece, node_server::Node},
    spire::api::types::permission_denied_details::Reason,
};
use renkei_site::ProxyPart;
use renkei_spiffe::BundleSet;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, codegen::BoxStream};

use super::{
    Shared, bundle_reader, callers::AgentCaller, followers::Following, listener::Caller,
    refusal::denied,
};
use crate::{
    entries::EntryHolder,
    nodes::{self, NotActive, PresentedSvid},
};

/// A node says nothing before its first message for at most so long.
const FIRST_TIME: Duration = Duration::from_secs(10);

pub(super) struct Service {
    shared: Arc<Shared>,
    stop: CancellationToken,
}

type Updates = mpsc::Sender<Result<NodeUpdate, Status>>;

/// What a node was sent last, without its versions.
#[derive(PartialEq)]
struct Content {
    agent: AgentPart,
    proxy: ProxyPart,
    bundles: Arc<BundleSet>,
}

/// The stream of one node that follows its part.
struct Stream {
    shared: Arc<Shared>,
    name: String,
    svid: PresentedSvid,
    following: Following,
    requests: Streaming<FollowRequest>,
    updates: Updates,
    stop: CancellationToken,
}

/// What the update is made from.
struct Sources {
    entries: watch::Receiver<Arc<AgentPart>>,
    parts: super::NodeParts,
    bundles: watch::Receiver<Arc<BundleSet>>,
    nodes: watch::Receiver<u64>,
}

impl Sources {
    /// Waits until anything changes that an update is made from.
    async fn changed(&mut self) {
        tokio::select! {
            Ok(()) = self.entries.changed() => {}
            Ok(()) = self.parts.changed() => {}
            Ok(()) = self.bundles.changed() => {}
            Ok(()) = self.nodes.changed() => {}
            else => std::future::pending().await,
        }
    }
}

impl Service {
    pub(super) fn new(shared: Arc<Shared>, stop: CancellationToken) -> Self {
        Self { shared, stop }
    }
}

#[tonic::async_trait]
impl Node for Service {
    type FollowStream = BoxStream<NodeUpdate>;
    type ReadBundleStream = BoxStream<Piece>;

    async fn follow(
        &self,
        request: Request<Streaming<FollowRequest>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let caller = AgentCaller::of(&request)?;
        let Some(name) = nodes::node_name(caller.id()).map(str::to_owned) else {
            return Err(Status::permission_denied(
                "only a node of Renkei may call it",
            ));
        };
        let connection = request.extensions().get::<Arc<Caller>>().cloned();
        let connection = connection.ok_or_else(|| Status::internal("no connection"))?;
        let mut requests = request.into_inner();
        let now = || (self.shared.parts.clock)();
        let first = tokio::time::timeout(FIRST_TIME, requests.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("the node said nothing"))??;
        let first = first.ok_or_else(|| Status::invalid_argument("the node said nothing"))?;
        let following = self
            .shared
            .followers
            .begin(&name, connection.address, now());
        following.answered(
            &FollowRequest {
                version: 0,
                ..first
            },
            now(),
        );
        let (updates, sent) = mpsc::channel(1);
        let stream = Stream {
            shared: self.shared.clone(),
            name,
            svid: caller.svid,
            following,
            requests,
            updates,
            stop: self.stop.clone(),
        };
        tokio::spawn(stream.run());
        let sent = stream::unfold(sent, async |mut sent| Some((sent.recv().await?, sent)));
        Ok(Response::new(Box::pin(sent)))
    }

    async fn read_bundle(
        &self,
        request: Request<Streaming<Piece>>,
    ) -> Result<Response<Self::ReadBundleStream>, Status> {
        let caller = AgentCaller::of(&request)?;
        let parts = self.shared.parts.node_parts.borrow().clone();
        let part = nodes::node_name(caller.id()).and_then(|name| parts.get(name));
        if part.is_none_or(|part| part.gateway.is_none()) {
            let text = "only a gateway of the site brings readers of its bundle";
            return Err(Status::permission_denied(text));
        }
        let answers = bundle_reader::serve(&self.shared, caller.id(), request.into_inner()).await?;
        Ok(Response::new(answers))
    }
}

impl Stream {
    async fn run(mut self) {
        tracing::info!(node = self.name, "a node is connected");
        let why = self.follow().await;
        tracing::info!(
            node = self.name,
            reason = why.message(),
            "a node is not connected any more"
        );
        // An error means that the node has left.
        let _ = self.updates.send(Err(why)).await;
    }

    /// Sends updates until the stream is to end, and says why.
    async fn follow(&mut self) -> Status {
        let shared = self.shared.clone();
        let parts = &shared.parts;
        let mut sources = Sources {
            entries: parts.entries.agent_part(),
            parts: parts.node_parts.clone(),
            bundles: parts.bundles.subscribe(),
            nodes: parts.nodes.changes(),
        };
        let mut last = None;
        let (mut version, mut answered) = (0_u64, 0_u64);
        loop {
            let active = parts.nodes.check(&self.svid, (parts.clock)());
            if matches!(active, Err(NotActive::Replaced(_))) {
                // By its own next one, mostly: then it is let in again.
                return Status::aborted("the node has a newer SVID");
            }
            if let Err(refusal) = shared.check(&self.svid) {
                return refusal;
            }
            if version == answered {
                match self.content() {
                    Ok(now) if last.as_ref() == Some(&now) => {}
                    Ok(now) => {
                        version += 1;
                        match self.send(version, &now).await {
                            Ok(()) => last = Some(now),
                            Err(status) => return status,
                        }
                    }
                    Err(status) => return status,
                }
            }
            let expired = tokio::time::sleep(self.left());
            tokio::select! {
                request = self.requests.message() => match request {
                    Ok(Some(answer)) => {
                        answered = answered.max(answer.version.min(version));
                        self.following.answered(&answer, (parts.clock)());
                    }
                    Ok(None) => return Status::cancelled("the node has ended the stream"),
                    Err(status) => return status,
                },
                () = sources.changed() => {}
                () = expired => {}
                () = self.following.replaced.cancelled() => {
                    return Status::aborted("the node has opened another stream");
                }
                () = self.stop.cancelled() => return Status::unavailable("the server stops"),
            }
        }
    }

    /// Until the SVID of the connection expires: then the node comes again with its next one.
    fn left(&self) -> Duration {
        let left = self.svid.not_after - (self.shared.parts.clock)();
        Duration::try_from(left).unwrap_or_default()
    }

    fn content(&self) -> Result<Content, Status> {
        let parts = &self.shared.parts;
        let proxy = parts.node_parts.borrow().get(&self.name).cloned();
        let proxy = proxy.ok_or_else(|| {
            let text = format!("the site file has no node `{}` any more", self.name);
            denied(Reason::AgentNotAttested, text)
        })?;
        let holder = EntryHolder::Node(self.name.clone());
        Ok(Content {
            agent: AgentPart {
                version: 0,
                ..parts.entries.part_of(&holder)
            },
            proxy: ProxyPart {
                version: 0,
                ..ProxyPart::clone(&proxy)
            },
            bundles: parts.bundles.snapshot(),
        })
    }

    async fn send(&self, version: u64, content: &Content) -> Result<(), Status> {
        let unwritable =
            |error: serde_json::Error| Status::internal(format!("the part is not JSON: {error}"));
        let agent = AgentPart {
            version,
            ..content.agent.clone()
        };
        let proxy = ProxyPart {
            version,
            ..content.proxy.clone()
        };
        let bundles = content.bundles.iter().map(|bundle| Bundle {
            trust_domain: bundle.trust_domain.to_string(),
            document: bundle.to_document().into_bytes(),
        });
        let update = NodeUpdate {
            version,
            agent_part: serde_json::to_vec(&agent).map_err(unwritable)?,
            proxy_part: serde_json::to_vec(&proxy).map_err(unwritable)?,
            bundles: bundles.collect(),
        };
        self.following.sent(version);
        let sent = self.updates.send(Ok(update)).await;
        sent.map_err(|_| Status::cancelled("the node has left"))
    }
}
