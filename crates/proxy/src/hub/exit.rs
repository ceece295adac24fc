//! Connections of a node to other sites, by its link to a gateway of its own site. The gateway reads
//! nothing of them: it connects to the gateway of the other site and forwards the bytes.

use std::{io, net::Ipv4Addr, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use renkei_spiffe::{SpiffeId, TrustDomain};
use renkei_trunk::Code;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::oneshot,
};

use super::{
    Hub, LinkState,
    forward::quiet_while_draining,
    links::{Linked, WayOut},
};
use crate::{
    admission::Denied,
    identity::Direction,
    relay::{self, End},
    sockets::{OnClose, PlainStream, connect},
    tls::{Exit, ExitStream, NO_SERVICE},
    trunk::{IncomingStream, StreamRefused},
    wan::WanStream,
};

/// The node's end.
impl Exit for Hub {
    fn open(
        &self,
        through: &SpiffeId,
        to: &TrustDomain,
    ) -> BoxFuture<'_, Result<ExitStream, String>> {
        let own = self.own.load_full();
        let link = own.iter().find(|(target, _)| target.far() == through);
        let link = link.map(|(_, state)| state.clone());
        let (name, to) = (through.short(), to.clone());
        Box::pin(async move {
            let state = link.ok_or_else(|| format!("there is no link to {name}"))?;
            let opened = leave(state, &to).await;
            opened.map_err(|why| format!("{name}: {why}"))
        })
    }
}

/// A connection to a site by a link, as a socket of this machine.
async fn leave(state: Arc<LinkState>, to: &TrustDomain) -> Result<ExitStream, String> {
    let link = state.trunk()?;
    let target = Bytes::from(to.to_string());
    let stream = link.trunk.open(target).map_err(|error| error.to_string())?;
    let (near, far) = pair().await.map_err(|error| error.to_string())?;
    let (said, ended) = oneshot::channel();
    let remote = link.gateway;
    tokio::spawn(async move {
        let _counted = state.count();
        let (near, link_stream) = (PlainStream::armed(near), WanStream::trunk(stream));
        let end = relay::relay(near, link_stream, None, &state.traffic, &link.cut).await;
        tracing::debug!(?end, "a connection that left by a link has ended");
        // After the handshake there is no receiver any more.
        let _ = said.send(refusal(&end));
    });
    Ok(ExitStream {
        tcp: far,
        remote,
        ended,
    })
}

/// Why the gateway did not take a connection, in its own words.
fn refusal(end: &End) -> Option<String> {
    let End::Broken { error, .. } = end else {
        return None;
    };
    let refused = error.get_ref()?.downcast_ref::<StreamRefused>()?;
    Some(refused.reason.clone())
}

/// Two ends of a connection within this process.
async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let own = socket.local_addr()?;
    let far = socket.connect(listener.local_addr()?).await?;
    // Another process of this machine may have connected first.
    loop {
        let (near, from) = listener.accept().await?;
        if from == own {
            far.set_nodelay(true)?;
            near.set_nodelay(true)?;
            return Ok((near, far));
        }
    }
}

/// The gateway's end.
impl Hub {
    /// Serves a stream that a node has opened.
    pub(super) async fn let_out(self: Arc<Self>, linked: Arc<Linked>, incoming: IncomingStream) {
        let refuse = |incoming: IncomingStream, code, denied: Denied| {
            incoming.refuse(code, &denied.sentence);
            let (direction, who) = (Direction::Outbound, linked.end.name());
            let refusals = &self.context.refusals;
            let (reason, sentence) = (denied.reason, denied.sentence);
            refusals.record(direction, NO_SERVICE, who, reason, sentence);
        };
        let Some((to, WayOut { gateway, cut })) = way_out(&linked, &incoming.target) else {
            let sentence = "the site file names no such site for this node";
            return refuse(incoming, Code::REVOKED, Denied::new("no_exit", sentence));
        };
        if self.context.drain.is_signaled() {
            let denied = Denied::new("stopping", "the gateway is stopping");
            return refuse(incoming, Code::STOPPING, denied);
        }
        let _guard = self.context.drain.guard();
        let _place = match self.admission.leaving(linked.end.id(), &to) {
            Ok(place) => place,
            Err(denied) => return refuse(incoming, Code::BUSY, denied),
        };
        if let Err(fault) = incoming.check() {
            let sentence = format!("the certificates of the link are not valid any more: {fault}");
            return refuse(
                incoming,
                Code::REVOKED,
                Denied::new(fault.label(), sentence),
            );
        }
        let limit = self.context.limits.connect_timeout;
        let connected = tokio::select! {
            biased;
            () = cut.cancelled() => return,
            connected = connect(&gateway, limit, OnClose::Finish) => connected,
        };
        let tcp = match connected {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                let sentence = format!("{gateway} cannot be reached: {error}");
                let denied = Denied::new(error.label(), sentence);
                return refuse(incoming, Code::UNREACHABLE, denied);
            }
        };
        let Some(stream) = incoming.accept() else {
            return;
        };
        let _counted = linked.state.count();
        let pace = self.context.bandwidths.pace();
        let link_stream = WanStream::trunk(stream).at_pace(pace);
        let (tcp, traffic) = (PlainStream::armed(tcp), &linked.state.traffic);
        tokio::select! {
            end = relay::relay(tcp, link_stream, None, traffic, &cut) => {
                let node = linked.state.name();
                tracing::debug!(node, %to, ?end, "a connection of a node has ended");
            }
            () = quiet_while_draining(traffic, &self.context) => {}
            () = self.context.drain.forced() => {}
        }
    }
}

/// Where a node may go.
fn way_out(linked: &Linked, target: &[u8]) -> Option<(TrustDomain, WayOut)> {
    let to = TrustDomain::parse(std::str::from_utf8(target).ok()?).ok()?;
    linked.exits().remove_entry(&to)
}
