//! A local listener for one service that a workload uses, or for one broker of it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    Outbound, Route, Routes,
    brokers::ServeBroker,
    connection::{self, LocalListener},
};
use crate::{local_caller, sockets};

/// A listener that accepts until it is dropped.
#[derive(Debug)]
pub(crate) struct OutboundListener {
    routes: Routes,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl OutboundListener {
    pub(crate) fn start(listener: TcpListener, route: Route, outbound: Arc<Outbound>) -> Self {
        let brokers = route.brokers.clone();
        let routes = Arc::new(ArcSwap::from_pointee(route));
        let stop = CancellationToken::new();
        let serve_broker = broker_server(&routes, &outbound);
        let service = {
            let route = routes.load();
            (route.listen, route.target.clone())
        };
        let kept = outbound.broker_ports.as_ref();
        brokers.reopen((service.0, &service.1), kept, &serve_broker);
        local_caller::hold_ends(&listener);
        let task = tokio::spawn(serve(
            listener,
            None,
            routes.clone(),
            outbound,
            stop.clone(),
        ));
        Self {
            routes,
            stop,
            task: Some(task),
        }
    }

    /// Closes the listener, and cuts its connections.
    pub(crate) async fn close(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            // An error means that it has ended all the same.
            let _ = task.await;
        }
    }

    pub(crate) fn route(&self) -> Arc<Route> {
        self.routes.load_full()
    }

    /// Continues with another route on the same address. If it is for another caller or another
    /// service, the open connections are cut.
    pub(crate) fn follow(&self, mut new: Route) {
        let old = self.route();
        let continues = new.continues(&old);
        if continues {
            new.brokers = old.brokers.clone();
            new.cut = old.cut.clone();
        }
        self.routes.store(Arc::new(new));
        if !continues {
            old.cut.cancel();
        }
    }
}

impl Drop for OutboundListener {
    fn drop(&mut self) {
        self.stop.cancel();
        self.routes.load().cut.cancel();
    }
}

/// Serves the listeners for the brokers behind a route.
fn broker_server(routes: &Routes, outbound: &Arc<Outbound>) -> ServeBroker {
    let (routes, outbound) = (routes.clone(), outbound.clone());
    Arc::new(move |listener, node| {
        let (routes, outbound) = (routes.clone(), outbound.clone());
        tokio::spawn(serve_broker(listener, node, routes, outbound));
    })
}

/// Accepts connections for one broker of the route's target, until the route ends.
async fn serve_broker(listener: TcpListener, node: i32, routes: Routes, outbound: Arc<Outbound>) {
    let stop = routes.load().cut.clone();
    local_caller::hold_ends(&listener);
    serve(listener, Some(node), routes, outbound, stop).await;
}

async fn serve(
    listener: TcpListener,
    node: Option<i32>,
    routes: Routes,
    outbound: Arc<Outbound>,
    stop: CancellationToken,
) {
    let open = outbound.context.drain.guard();
    let over = || stop.is_cancelled() || outbound.context.drain.is_signaled();
    let accept = || accept(&listener, node, &routes, &outbound, &stop);
    let address = listener.local_addr().unwrap_or(routes.load().listen);
    let tasks = outbound.context.tasks.clone();
    tasks.run(format!("listener {address}"), over, accept).await;
    // The address is free before the drain hears of it.
    drop(listener);
    drop(open);
}

async fn accept(
    listener: &TcpListener,
    node: Option<i32>,
    routes: &Routes,
    outbound: &Arc<Outbound>,
    stop: &CancellationToken,
) {
    let ended = async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = outbound.context.drain.signaled() => {}
        }
    };
    tokio::pin!(ended);
    let context = Arc::new(LocalListener {
        routes: routes.clone(),
        node,
        outbound: outbound.clone(),
        serve_broker: broker_server(routes, outbound),
    });
    loop {
        let next = async {
            let place = outbound.admission.outbound().await;
            (place, sockets::accept(listener).await)
        };
        let (place, (stream, peer)) = tokio::select! {
            biased;
            () = &mut ended => break,
            next = next => next,
        };
        let caller = stream
            .local_addr()
            .map(|local| local_caller::Caller::at(peer, local));
        let context = context.clone();
        let guard = outbound.context.drain.guard();
        tokio::spawn(async move {
            connection::run(stream, (peer, caller.ok()), context, guard).await;
            drop(place);
        });
    }
}
