//! Runs a process until a signal ends it and it has drained.

use std::{sync::Arc, time::Duration};

use renkei_api::control::Request;
use renkei_runtime::{
    drain::Drain,
    readiness::Readiness,
    signals::{self, Signals},
    systemd::Notifier,
};
use tokio::task::JoinSet;

use super::Roles;

fn begin_reload<R: Roles>(reload: &mut JoinSet<()>, roles: &Arc<R>, notifier: Option<&Notifier>) {
    if let Some(Err(error)) = notifier.map(Notifier::reloading) {
        tracing::warn!(%error, "systemd could not be notified");
    }
    let roles = roles.clone();
    reload.spawn(async move {
        // The answer goes to the log, as `renkei apply` would print it.
        let _ = roles.answer(Request::Apply).await;
    });
}

/// Reloads on SIGHUP, and returns on SIGTERM or SIGINT.
pub(super) async fn until_terminated<R: Roles>(
    roles: &Arc<R>,
    readiness: &Readiness,
    signals: &mut Signals,
    notifier: Option<&Notifier>,
) {
    let noted = |sent: std::io::Result<()>| {
        if let Err(error) = sent {
            tracing::warn!(%error, "systemd could not be notified");
        }
    };
    let ready = async {
        readiness.wait_ready().await;
        tracing::info!(
            "the {} is ready: every listener is open and every identity is present",
            R::KIND
        );
        if let Some(notifier) = notifier {
            noted(notifier.ready("serving"));
        }
        std::future::pending::<()>().await
    };
    tokio::pin!(ready);
    // A reload has a task of its own: files that give no answer must not delay a signal.
    let mut reload = JoinSet::new();
    let mut again = false;
    loop {
        tokio::select! {
            () = &mut ready => {}
            Some(_) = reload.join_next() => {
                if let Some(notifier) = notifier {
                    noted(notifier.ready("serving"));
                }
                if std::mem::take(&mut again) {
                    begin_reload(&mut reload, roles, notifier);
                }
            }
            request = signals.next() => match request {
                signals::Request::Terminate | signals::Request::Force => break,
                // What one under way has read already may have changed since.
                signals::Request::Reload if !reload.is_empty() => again = true,
                signals::Request::Reload => begin_reload(&mut reload, roles, notifier),
            }
        }
    }
    // What a file still holds up is not waited for.
    drop(reload);
    if let Some(notifier) = notifier {
        noted(notifier.stopping("draining"));
    }
}

/// Drains with the deadline; a second signal cuts what is left.
pub(super) async fn end(deadline: Duration, drain: Drain, signals: &mut Signals) {
    tracing::info!(seconds = deadline.as_secs(), "draining");
    let wait = drain.wait(deadline);
    tokio::pin!(wait);
    let drained = loop {
        tokio::select! {
            drained = &mut wait => break drained,
            request = signals.next() => if request != signals::Request::Reload { drain.force() },
        }
    };
    match drained.left {
        0 => tracing::info!("every connection is closed; the process stops"),
        left => tracing::warn!(
            left,
            "the drain time has passed; the remaining connections were reset"
        ),
    }
}
