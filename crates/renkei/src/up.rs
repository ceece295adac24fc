//! `renkei up`: a whole site in one process, from the first fault of its file to the last drained
//! connection. And `renkei server`: the same without agent and proxy, which its nodes run. And
//! `renkei proxy`: the proxy of one node alone, whose identities another agent keeps.

mod start;

use std::{process::ExitCode, sync::Arc, time::Duration};

use miette::miette;
use renkei_api::control::Request;
use renkei_runtime::control::ControlError;
use renkei_site::Site;
use serde_json::Value;
use tokio::task::JoinHandle;

use self::start::{start, start_proxy, start_server};
use crate::{
    cli::{Server, Up},
    load::load,
    node_args::NodeProxy,
    place,
    process::{self, Frame, Roles, Shared},
    running::Running,
    warnings,
};

/// Runs the site until SIGTERM or SIGINT.
pub(crate) async fn run(args: &Up) -> miette::Result<ExitCode> {
    let loaded = load(&args.site.file)?;
    let state = place::state_folder(args.site.state.folder.as_deref(), &loaded.site.name);
    warnings::log(&warnings::of(&loaded.site, &args.site.file, &state));
    let frame = Frame {
        folder: state,
        admin: process::admin_address(args.admin, loaded.site.admin),
        drain: args.drain,
    };
    process::run(frame, async |state, shared| {
        start(args, loaded, state, shared).await
    })
    .await
}

/// Runs the server of a site alone, for its nodes, until SIGTERM or SIGINT.
pub(crate) async fn run_server(args: &Server) -> miette::Result<ExitCode> {
    let loaded = load(&args.site.file)?;
    check_for_server(&loaded.site)?;
    let state = place::state_folder(args.site.state.folder.as_deref(), &loaded.site.name);
    warnings::log(&warnings::of(&loaded.site, &args.site.file, &state));
    let frame = Frame {
        folder: state,
        admin: process::admin_address(args.admin, loaded.site.admin),
        // Nothing of the server's lasts longer than a request.
        drain: Duration::ZERO,
    };
    process::run(frame, async |state, shared| {
        start_server(&args.site.file, loaded, state, shared).await
    })
    .await
}

/// Runs the proxy of a node alone until SIGTERM or SIGINT.
pub(crate) async fn run_proxy(args: &NodeProxy) -> miette::Result<ExitCode> {
    let loaded = load(&args.site.file)?;
    let name = format!("{}-{}", loaded.site.name, args.node);
    let state = place::state_folder(args.site.state.folder.as_deref(), &name);
    let frame = Frame {
        folder: state,
        admin: process::admin_address(args.admin, loaded.site.admin),
        drain: args.drain,
    };
    process::run(frame, async |state, shared| {
        start_proxy(args, loaded, state, shared).await
    })
    .await
}

/// What `renkei server` would not serve is no part of its file.
fn check_for_server(site: &Site) -> miette::Result<()> {
    if site.server.is_none() {
        return Err(miette!(
            help =
                "add `server: {{listen: 0.0.0.0:8081, advertise: HOST:8081}}`, or run `renkei up`",
            "the site file has no `server`: no node could come to this server"
        ));
    }
    if site.gateway.is_some() {
        return Err(miette!(
            help = "name the gateway under `nodes`, as in `gw1: {{gateway: {{listen: ..}}}}`, or run `renkei up`",
            "the site file has a `gateway` of its own, which `renkei server` does not open"
        ));
    }
    Ok(())
}

impl Roles for Running {
    const KIND: &'static str = "site";

    async fn answer(&self, request: Request) -> Result<Value, ControlError> {
        self.answer(request).await
    }

    /// Links the site with the members of its federation and with its nodes, if it has an
    /// authority of its own.
    fn tasks(self: &Arc<Self>, shared: &Shared) -> Vec<JoinHandle<()>> {
        let Some(server) = self.plane.own_server() else {
            return Vec::new();
        };
        let (running, members) = (self.clone(), server.members());
        let members = move || {
            let (running, members) = (running.clone(), members.clone());
            async move { running.follow_members(members).await }
        };
        let (running, changes) = (self.clone(), server.node_changes());
        let nodes = move || {
            let (running, changes) = (running.clone(), changes.clone());
            async move { running.follow_nodes(changes).await }
        };
        vec![
            shared
                .tasks
                .keep("members of the federation", || false, members),
            shared.tasks.keep("banned nodes", || false, nodes),
        ]
    }

    async fn close(self) {
        self.plane.close().await;
    }
}
