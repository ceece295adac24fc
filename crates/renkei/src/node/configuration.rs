//! The proxy of a node follows its part. What it cannot take (an address in use, a policy that does
//! not compile) is reported to the server and shown in the status; the rest applies. Of an agent alone
//! that is all that would need a proxy.

use std::{sync::Arc, time::Duration};

use renkei_agent::server_client::ServerLink;
use renkei_api::status::NodeFault;
use renkei_proxy::{Desired, ListenFault, Proxy, compile_policies};
use renkei_runtime::{readiness::Condition, telemetry::ConfigMetrics};
use renkei_site::{Item, ProxyPart};

/// After so long an address that was in use is tried again.
const AGAIN: Duration = Duration::from_secs(15);

/// Applies each update, and reports what became of it. Ends with the link.
pub(super) async fn follow(
    link: &ServerLink,
    proxy: Option<&Proxy>,
    ready: &Condition,
    config: &ConfigMetrics,
) {
    let mut updates = link.proxy_updates();
    loop {
        let update = updates.borrow_and_update().clone();
        let mut again = false;
        match update {
            None => ready.set_not_ready("the server has not sent the configuration yet"),
            Some(update) => {
                let taken = match proxy {
                    Some(proxy) => apply(proxy, &update.part).await,
                    None => without_proxy(&update.part),
                };
                again = taken.again;
                match taken.faults.is_empty() {
                    true => config.applied(),
                    false => config.refused(),
                }
                tell(&link.status().faults, &taken.faults);
                link.report(&update, taken.faults);
                ready.set_ready();
            }
        }
        tokio::select! {
            changed = updates.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN), if again => {}
        }
    }
}

/// Faults that are new, in the log.
fn tell(before: &[NodeFault], now: &[NodeFault]) {
    for NodeFault { item, reason } in now.iter().filter(|fault| !before.contains(fault)) {
        tracing::error!(
            item,
            reason,
            "a part of the configuration does not work here"
        );
    }
}

struct Taken {
    faults: Vec<NodeFault>,
    /// Whether another attempt may have another outcome.
    again: bool,
}

/// What an agent alone leaves to a proxy.
fn without_proxy(part: &ProxyPart) -> Taken {
    let services = part.services.keys().cloned();
    let listeners = part.listeners.iter();
    let uses = listeners.map(|one| format!("{} for {}", one.workload, one.target.short()));
    let gateway = part.gateway.iter().map(|_| "gateway".to_owned());
    let fault = |item| NodeFault {
        item,
        reason: "an agent runs here without a proxy".to_owned(),
    };
    let mut faults: Vec<NodeFault> = services.chain(uses).chain(gateway).map(fault).collect();
    faults.sort();
    Taken {
        faults,
        again: false,
    }
}

async fn apply(proxy: &Proxy, part: &Arc<ProxyPart>) -> Taken {
    let compiled = {
        let part = part.clone();
        tokio::task::spawn_blocking(move || compile_policies(&part)).await
    };
    let (policies, closed) = match compiled {
        Ok(compiled) => compiled,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    };
    // A service without a policy is closed.
    let closed = closed.into_iter().map(|fault| NodeFault {
        item: fault.service.clone(),
        reason: fault.to_string(),
    });
    let mut faults: Vec<NodeFault> = closed.collect();
    let (mut rest, mut again) = (part.clone(), false);
    loop {
        let desired = Desired {
            site: rest.clone(),
            policies: policies.clone(),
        };
        let Err(error) = proxy.apply(desired).await else {
            break;
        };
        again = true;
        faults.extend(error.faults.iter().map(not_listened));
        let left = without(&rest, &error.faults);
        if left == *rest {
            break;
        }
        rest = Arc::new(left);
    }
    faults.sort();
    Taken { faults, again }
}

fn not_listened(fault: &ListenFault) -> NodeFault {
    let item = match &fault.item {
        Item::Use(workload, target) => format!("{workload} for {}", target.short()),
        Item::GatewayListen => "gateway".to_owned(),
        other => format!("{other:?}"),
    };
    let reason = fault.to_string();
    NodeFault { item, reason }
}

/// The part without the addresses that cannot be listened on.
fn without(part: &ProxyPart, faults: &[ListenFault]) -> ProxyPart {
    let mut left = part.clone();
    left.listeners
        .retain(|listener| !faults.iter().any(|fault| fault.item == listener.item()));
    if faults.iter().any(|fault| fault.item == Item::GatewayListen) {
        left.gateway = None;
    }
    left
}
