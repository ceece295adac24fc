//! Which nodes are connected, and what each has taken of its part.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use renkei_api::{
    node_stream::FollowRequest,
    status::{NodeFault, NodeLink, NodeStatus},
};
use renkei_site::ProxyPart;
use time::{Duration, OffsetDateTime};
use tokio_util::sync::CancellationToken;

use crate::{nodes, store::AgentRow};

/// Faults of one node that are kept.
const MAX_FAULTS: usize = 256;
/// A longer text of a node is cut.
const MAX_TEXT: usize = 1024;
/// A certificate is valid from 10 s before it was issued: a clock that is behind by more refuses it.
const CLOCK_TOLERANCE: Duration = Duration::seconds(10);

/// The nodes that follow their parts.
#[derive(Debug, Clone, Default)]
pub(super) struct Followers(Arc<Mutex<BTreeMap<String, Follower>>>);

#[derive(Debug)]
struct Follower {
    link: NodeLink,
    /// Ends the stream when the node opens another.
    replaced: CancellationToken,
}

/// A stream of one node. When it is dropped, the node is not connected any more.
#[derive(Debug)]
pub(super) struct Following {
    name: String,
    followers: Followers,
    pub(super) replaced: CancellationToken,
}

impl Followers {
    /// A node has opened a stream; its stream before ends.
    pub(super) fn begin(&self, name: &str, address: SocketAddr, now: OffsetDateTime) -> Following {
        let replaced = CancellationToken::new();
        let follower = Follower {
            link: NodeLink {
                address,
                since: now,
                release: String::new(),
                sent: 0,
                taken: 0,
                faults: Vec::new(),
                clock_ahead_seconds: 0,
            },
            replaced: replaced.clone(),
        };
        if let Some(before) = self.lock().insert(name.to_owned(), follower) {
            before.replaced.cancel();
        }
        Following {
            name: name.to_owned(),
            followers: self.clone(),
            replaced,
        }
    }

    /// The nodes of the site file, and the other agents that have joined.
    pub(super) fn status(
        &self,
        known: &BTreeMap<String, Arc<ProxyPart>>,
        joined: &[AgentRow],
    ) -> Vec<NodeStatus> {
        let linked = self.lock();
        let of_file = known.keys().map(|name| {
            let row = joined
                .iter()
                .find(|row| nodes::node_name(&row.id) == Some(name));
            NodeStatus {
                name: name.clone(),
                link: linked.get(name).map(|follower| follower.link.clone()),
                ..status(row)
            }
        });
        let others = joined.iter().filter(|row| {
            let name = nodes::node_name(&row.id);
            name.is_none_or(|name| !known.contains_key(name))
        });
        let others = others.map(|row| NodeStatus {
            name: row.id.path().trim_start_matches('/').to_owned(),
            ..status(Some(row))
        });
        of_file.chain(others).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Follower>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn status(row: Option<&AgentRow>) -> NodeStatus {
    NodeStatus {
        name: String::new(),
        attestor: row.map(|row| row.attestor.clone()).unwrap_or_default(),
        attested_at: row.map(|row| row.attested_at),
        not_after: row.map(|row| row.not_after),
        banned: row.is_some_and(|row| row.banned),
        link: None,
    }
}

impl Following {
    /// An update was sent.
    pub(super) fn sent(&self, version: u64) {
        self.change(|link| link.sent = version);
    }

    /// The node has answered. A clock that is wrong is reported once a stream.
    pub(super) fn answered(&self, answer: &FollowRequest, now: OffsetDateTime) {
        let ahead = answer.time.saturating_sub(now.unix_timestamp());
        let text = |text: &str| -> String { text.chars().take(MAX_TEXT).collect() };
        let faults = answer.faults.iter().take(MAX_FAULTS);
        let faults = faults.map(|fault| NodeFault {
            item: text(&fault.item),
            reason: text(&fault.reason),
        });
        let faults: Vec<NodeFault> = faults.collect();
        for NodeFault { item, reason } in &faults {
            tracing::warn!(
                node = self.name,
                item,
                reason,
                "a node could not take a part"
            );
        }
        let is_first = answer.version == 0;
        if is_first && Duration::seconds(ahead).abs() > CLOCK_TOLERANCE {
            tracing::warn!(
                node = self.name,
                seconds_ahead = ahead,
                "the clock of a node differs from the server's: set both by NTP, or its certificates are refused"
            );
        }
        self.change(|link| {
            link.taken = answer.version;
            link.faults = faults;
            link.clock_ahead_seconds = ahead;
            if !answer.release.is_empty() {
                link.release = text(&answer.release);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut NodeLink)) {
        // A newer stream of the node has its own state.
        if self.replaced.is_cancelled() {
            return;
        }
        if let Some(follower) = self.followers.lock().get_mut(&self.name) {
            change(&mut follower.link);
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut followers = self.followers.lock();
        if !self.replaced.is_cancelled() {
            followers.remove(&self.name);
        }
    }
}
