//! `renkei up`: a whole site in one process, from the first fault of its file to the last drained
//! connection.

mod start;

use std::{process::ExitCode, sync::Arc};

use renkei_api::control::Request;
use renkei_runtime::control::ControlError;
use serde_json::Value;
use tokio::task::JoinHandle;

use self::start::start;
use crate::{
    cli::Up,
    load::load,
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

impl Roles for Running {
    const KIND: &'static str = "site";

    async fn answer(&self, request: Request) -> Result<Value, ControlError> {
        self.answer(request).await
    }

    /// Links the site with the members of its federation, if it has an authority of its own.
    fn tasks(self: &Arc<Self>, shared: &Shared) -> Vec<JoinHandle<()>> {
        let Some(members) = self.plane.members() else {
            return Vec::new();
        };
        let running = self.clone();
        let follow = move || {
            let (running, members) = (running.clone(), members.clone());
            async move { running.follow_members(members).await }
        };
        let name = "members of the federation";
        vec![shared.tasks.keep(name, || false, follow)]
    }

    async fn close(self) {
        self.plane.close().await;
    }
}
