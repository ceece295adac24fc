//! `renkei node`: a machine as a node of a site: agent and proxy in one process. What it does comes
//! from the server of its site; it reads no site file and writes no file. And `renkei agent`: the
//! same without the proxy.

mod configuration;
mod introduction;
mod start;

use std::{process::ExitCode, time::Duration};

use miette::miette;
use renkei_api::control::Request;
use renkei_runtime::control::ControlError;
use serde_json::Value;

use self::{
    introduction::Introduction,
    start::{Parts, RunningNode, start},
};
use crate::{
    node_args::{Join, JoinSpire, NodeJoin, Serve},
    place,
    process::{self, Frame, Roles},
};

/// Joins, and runs the node until SIGTERM or SIGINT.
pub(crate) async fn join(args: &NodeJoin) -> miette::Result<ExitCode> {
    let Join { serve, .. } = &args.join;
    run(
        Introduction::new(&args.join),
        serve,
        Parts::AgentAndProxy,
        args.drain,
    )
    .await
}

/// The same for the agent alone. Nothing of it outlasts a request.
pub(crate) async fn join_agent(args: &Join) -> miette::Result<ExitCode> {
    let introduction = Introduction::new(args);
    run(introduction, &args.serve, Parts::Agent, Duration::ZERO).await
}

/// The agent alone, at a SPIRE server.
pub(crate) async fn join_spire(args: &JoinSpire) -> miette::Result<ExitCode> {
    let introduction = Introduction::to_spire(args)?;
    run(introduction, &args.serve, Parts::Agent, Duration::ZERO).await
}

async fn run(
    introduction: Introduction,
    serve: &Serve,
    parts: Parts,
    drain: Duration,
) -> miette::Result<ExitCode> {
    let folder = serve
        .folder
        .clone()
        .or_else(|| place::node_folder(introduction.trust_domain().as_str()))
        .ok_or_else(|| {
            miette!(
                help = "log in so that XDG_RUNTIME_DIR is set, or name a folder with --state",
                "there is no folder for the sockets of the node"
            )
        })?;
    let frame = Frame {
        folder,
        admin: process::admin_address(Some(serve.admin), None),
        drain,
    };
    process::run(frame, async |folder, shared| {
        start(&introduction, (serve, parts), folder, shared).await
    })
    .await
}

impl Roles for RunningNode {
    const KIND: &'static str = "node";

    async fn answer(&self, request: Request) -> Result<Value, ControlError> {
        self.answer(request).await
    }

    async fn close(self) {
        self.close().await;
    }
}
