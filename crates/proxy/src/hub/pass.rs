//! One connection through the hub: raw bytes both ways between the caller and a stream of the
//! site's link. The hub reads the server name in the caller's greeting, and nothing else.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use renkei_spiffe::{TrustDomain, alert_in_clear};
use rustls::AlertDescription;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::relays::Relayed;
use crate::{
    flows::Direction,
    plain::PlainStream,
    relay::{self, Traffic},
    shared::Shared,
    trunk::TrunkStream,
    wan::WanStream,
};

/// The first bytes of the site's answer.
const FIRST: usize = 16 * 1024;
/// The name has no way from here (RFC 6066 3).
const NO_WAY: AlertDescription = AlertDescription::UnrecognisedName;
/// While the process stops, connections of a site that carry nothing for so long are not waited
/// for: lanes of trunks among them, which their ends resume elsewhere.
const QUIET: Duration = Duration::from_secs(2);

/// Why a connection did not get through.
struct NoWay {
    reason: &'static str,
    sentence: String,
}

/// Carries a connection to its end. `greeting` is what the caller has sent so far. Gives the
/// caller's socket back, with an alert on its way, when the site is not reached.
pub(crate) async fn pass(
    mut tcp: TcpStream,
    greeting: Bytes,
    (from, site): (SocketAddr, TrustDomain),
    shared: &Arc<Shared>,
) -> Option<TcpStream> {
    let relayed = shared.relays.get(&site)?;
    let reached = tokio::select! {
        biased;
        () = relayed.cut.cancelled() => Err(withdrawn(&site)),
        reached = reach(&relayed, greeting, from, shared) => reached,
    };
    let (stream, answer) = match reached {
        Ok(reached) => reached,
        Err(NoWay { reason, sentence }) => {
            let service = site.as_str();
            let refusals = &shared.refusals;
            refusals.record(
                Direction::Inbound,
                service,
                from.to_string(),
                reason,
                sentence,
            );
            // An error means that the caller has gone.
            return tcp
                .write_all(&alert_in_clear(NO_WAY))
                .await
                .ok()
                .map(|()| tcp);
        }
    };
    let counted = relayed.board.count();
    let traffic = &relayed.board.traffic;
    tokio::select! {
        end = carry(tcp, stream, answer, &relayed) => {
            tracing::debug!(%site, %from, ?end, "a relayed connection has ended");
        }
        () = quiet_while_draining(traffic, shared) => {}
    }
    drop(counted);
    None
}

fn withdrawn(site: &TrustDomain) -> NoWay {
    NoWay {
        reason: "not_relayed",
        sentence: format!("this site does not relay for {site} any more"),
    }
}

/// Opens a stream to the site, hands the greeting over, and waits for the answer.
async fn reach(
    relayed: &Relayed,
    greeting: Bytes,
    from: SocketAddr,
    shared: &Arc<Shared>,
) -> Result<(TrunkStream, Bytes), NoWay> {
    let site = &relayed.name;
    let no_way = |reason, why: &str| NoWay {
        reason,
        sentence: format!("{site} cannot be reached through this hub: {why}"),
    };
    let way = relayed.way().await;
    let way = way.map_err(|why| no_way("not_linked", &format!("it is not linked: {why}")))?;
    if let Some(fault) = way.fault(shared) {
        return Err(no_way(
            "not_linked",
            &format!("its link is not valid any more: {fault}"),
        ));
    }
    let mut stream = way
        .open(Bytes::from(from.to_string()))
        .ok_or_else(|| no_way("link_full", "its link takes no more connections"))?;
    relayed.board.traffic.add_to_wan(greeting.len());
    let asked = timeout(shared.limits.handshake_time, ask(&mut stream, &greeting)).await;
    match asked {
        Ok(Ok(answer)) if answer.is_empty() => {
            Err(no_way("site_closed", "it closed the connection at once"))
        }
        Ok(Ok(answer)) => Ok((stream, answer)),
        Ok(Err(error)) => Err(no_way("site_closed", &error.to_string())),
        Err(_) => {
            stream.cut();
            Err(no_way("site_silent", "it does not answer"))
        }
    }
}

async fn ask(stream: &mut TrunkStream, greeting: &[u8]) -> io::Result<Bytes> {
    stream.write_all(greeting).await?;
    let mut answer = BytesMut::with_capacity(FIRST);
    stream.read_buf(&mut answer).await?;
    Ok(answer.freeze())
}

async fn carry(
    mut tcp: TcpStream,
    stream: TrunkStream,
    answer: Bytes,
    relayed: &Relayed,
) -> relay::End {
    let traffic = &relayed.board.traffic;
    if let Err(error) = tcp.write_all(&answer).await {
        let side = relay::Side::App;
        return relay::End::Broken { side, error };
    }
    traffic.add_to_app(answer.len());
    let tcp = PlainStream::armed(tcp);
    relay::relay(tcp, WanStream::Trunk(stream), None, traffic, &relayed.cut).await
}

async fn quiet_while_draining(traffic: &Traffic, shared: &Shared) {
    shared.drain.signaled().await;
    let carried = || (traffic.to_wan(), traffic.to_app());
    let mut before = carried();
    loop {
        sleep(QUIET).await;
        let now = carried();
        if now == before {
            return;
        }
        before = now;
    }
}
