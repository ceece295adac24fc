//! A local listener for one service that a workload uses, or for one broker of it.

use std::{net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use renkei_runtime::drain::DrainGuard;
use tokio::net::{TcpListener, TcpStream};

use super::{
    Outbound, Route, Routes,
    brokers::ServeBroker,
    connection::{self, LocalListener},
};
use crate::{
    admission::Place,
    local_caller,
    sockets::{self, ConnectionHandler, Listener},
};

/// A listener that accepts until it is dropped.
#[derive(Debug)]
pub(crate) struct OutboundListener {
    routes: Routes,
    listener: Listener,
}

impl OutboundListener {
    pub(crate) fn start(listener: TcpListener, route: Route, outbound: Arc<Outbound>) -> Self {
        let brokers = route.brokers.clone();
        let routes = Arc::new(ArcSwap::from_pointee(route));
        let serve_broker = broker_server(&routes, &outbound);
        let service = {
            let route = routes.load();
            (route.listen, route.target.clone())
        };
        let kept = outbound.broker_ports.as_ref();
        brokers.reopen((service.0, &service.1), kept, &serve_broker);
        local_caller::hold_ends(&listener);
        let name = task_name(&listener, &routes);
        let kept = (
            outbound.context.drain.clone(),
            outbound.context.tasks.clone(),
        );
        let handler = handler(&routes, None, outbound);
        Self {
            routes,
            listener: Listener::start(listener, name, handler, kept),
        }
    }

    /// Closes the listener, and cuts its connections.
    pub(crate) async fn close(mut self) {
        self.listener.close().await;
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
            if new.gateway == old.gateway {
                new.reachability = old.reachability.clone();
            }
        }
        self.routes.store(Arc::new(new));
        if !continues {
            old.cut.cancel();
        }
    }
}

impl Drop for OutboundListener {
    fn drop(&mut self) {
        self.routes.load().cut.cancel();
    }
}

fn task_name(listener: &TcpListener, routes: &Routes) -> String {
    let address = listener.local_addr().unwrap_or(routes.load().listen);
    format!("listener {address}")
}

fn handler(routes: &Routes, node: Option<i32>, outbound: Arc<Outbound>) -> Arc<LocalListener> {
    Arc::new(LocalListener {
        routes: routes.clone(),
        node,
        serve_broker: broker_server(routes, &outbound),
        outbound,
    })
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
    let name = task_name(&listener, &routes);
    let kept = (
        outbound.context.drain.clone(),
        outbound.context.tasks.clone(),
    );
    let handler = handler(&routes, Some(node), outbound);
    sockets::serve(listener, name, handler, kept, stop).await;
}

impl ConnectionHandler for Arc<LocalListener> {
    type Place = Place;

    /// A workload that has its share waits, and no other with it.
    async fn admit(&self, _peer: SocketAddr) -> Option<Place> {
        let pair = self.routes.load().pair();
        Some(self.outbound.admission.outbound(&pair).await)
    }

    fn handle(&self, stream: TcpStream, peer: SocketAddr, (place, guard): (Place, DrainGuard)) {
        let caller = stream
            .local_addr()
            .map(|local| local_caller::Caller::at(peer, local));
        let listener = self.clone();
        tokio::spawn(async move {
            connection::run(stream, (peer, caller.ok()), listener, guard).await;
            drop(place);
        });
    }
}
