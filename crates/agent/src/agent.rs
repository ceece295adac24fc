//! The agent as one piece: a keeper, and the Workload API over what it keeps.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use renkei_api::{
    node::AgentPart,
    status::{AgentStatus, ReportFuture, RoleStatus, StatusReporter, WorkloadStatus},
};
use renkei_spiffe::Identities;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    AgentMetrics,
    keeper::{KeeperInputs, Kept, keep},
    workload_api::{GrpcLimits, SocketError, Sources, serve},
};

/// An agent that renews SVIDs and serves the Workload API until it is stopped.
#[derive(Debug)]
pub struct Agent {
    socket: PathBuf,
    part: watch::Receiver<Arc<AgentPart>>,
    kept: Kept,
    metrics: AgentMetrics,
    server: JoinHandle<()>,
}

impl Agent {
    /// Opens the socket (in a folder that exists and that workloads may enter), and runs until
    /// `stop`. Needs a tokio runtime.
    pub fn start(
        socket: PathBuf,
        limits: GrpcLimits,
        inputs: KeeperInputs,
        stop: CancellationToken,
    ) -> Result<Self, SocketError> {
        let (part, metrics) = (inputs.part.clone(), inputs.metrics.clone());
        let tasks = inputs.tasks.clone();
        // Cancelled when this function fails, taken over by the server otherwise.
        let until_served = stop.child_token().drop_guard();
        let kept = keep(inputs, until_served.token().clone());
        let sources = Sources {
            part: part.clone(),
            identities: kept.identities.clone(),
        };
        let server = serve(
            socket.clone(),
            sources,
            limits,
            metrics.clone(),
            (tasks, stop),
        )?;
        until_served.disarm();
        Ok(Self {
            socket,
            part,
            kept,
            metrics,
            server,
        })
    }

    /// Every valid SVID, and the bundles, for a proxy in the same process.
    pub fn identities(&self) -> watch::Receiver<Arc<Identities>> {
        self.kept.identities.clone()
    }

    /// The path of the Workload API's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What is going on now.
    pub fn status(&self) -> AgentStatus {
        let part = self.part.borrow().clone();
        let workloads = part.workloads().map(|entry| WorkloadStatus {
            name: entry.name().to_owned(),
            id: entry.spiffe_id.clone(),
            selectors: entry.selectors.iter().map(ToString::to_string).collect(),
        });
        AgentStatus {
            socket: self.socket.clone(),
            svids: self.kept.status.borrow().to_vec(),
            workloads: workloads.collect(),
            subscribers: self.metrics.subscribers(),
            renewals: self.metrics.renewals(),
            denials: self.metrics.denials(),
        }
    }

    /// Waits until the agent has stopped and its socket is gone.
    pub async fn stopped(self) {
        if let Err(error) = self.server.await {
            tracing::error!(%error, "the Workload API ended badly");
        }
    }
}

impl StatusReporter for Agent {
    fn report(&self) -> ReportFuture<'_> {
        Box::pin(async { RoleStatus::Agent(self.status()) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use renkei_runtime::supervise::Supervisor;

    use super::*;
    use crate::{
        client,
        testing::{Running, id, me, part_of, provider},
    };

    #[tokio::test]
    async fn status_tells_svids_workloads_and_subscribers() {
        // Only for its watches and its signer.
        let around = Running::keeper(part_of(&[("one", &me())]), Duration::from_secs(3600));
        let stop = CancellationToken::new();
        let (socket, limits) = (around.socket(), GrpcLimits::default());
        let agent = Agent::start(socket, limits, around.inputs(), stop.clone()).unwrap();
        let source = client::watch(
            &around.endpoint(),
            provider(),
            (Supervisor::default(), stop.clone()),
        )
        .unwrap();
        source
            .status
            .clone()
            .wait_for(|status| status.connected)
            .await
            .unwrap();

        let status = agent.status();
        assert_eq!(status.subscribers, 1);
        assert_eq!(status.workloads[0].selectors[0], me());
        let svid = status
            .svids
            .iter()
            .find(|svid| svid.id == id("one"))
            .unwrap();
        let served = source.identities.borrow().svids[&id("one")].clone();
        assert_eq!(svid.serial.as_deref(), Some(served.serial()));
        assert_eq!(
            agent.identities().borrow().svids[&id("one")].serial(),
            served.serial()
        );

        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["workloads"][0]["id"], "spiffe://osaka.example/one");
        assert!(json["svids"][0]["not_after"].is_string(), "{json}");

        stop.cancel();
        agent.stopped().await;
        assert!(!around.socket().exists());
    }

    #[tokio::test]
    async fn a_second_agent_at_the_same_socket_does_not_start() {
        let running = Running::serving(part_of(&[]), GrpcLimits::default());
        let stop = CancellationToken::new();
        let started = Agent::start(
            running.socket(),
            GrpcLimits::default(),
            running.inputs(),
            stop,
        );
        let error = started.unwrap_err();
        assert!(matches!(error, SocketError::InUse { .. }), "{error}");
        client::fetch(&running.endpoint(), &provider())
            .await
            .unwrap_err();
        assert!(running.socket().exists(), "the first one still runs");
    }
}
