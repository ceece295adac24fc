//! One connection through the hub: raw bytes both ways between the caller and a stream of the
//! site's link. The hub reads the server name in the caller's received, and nothing else.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use renkei_spiffe::{TrustDomain, alert_in_clear};
use renkei_trunk::OpenError;
use rustls::AlertDescription;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{Hub, relays::Relayed};
use crate::{
    admission::{Denied, Place, Source},
    context::Context,
    identity::Direction,
    relay::{self, Traffic},
    sockets::PlainStream,
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

impl Hub {
    /// Carries a connection between a caller and a site that this one relays for, to its end.
    /// `received` is what the caller has sent so far. Gives the caller's socket back, with an
    /// alert on its way, when the site is not reached.
    pub(crate) async fn forward(
        &self,
        mut tcp: TcpStream,
        received: Bytes,
        (from, site): (Source, TrustDomain),
    ) -> Option<TcpStream> {
        let relayed = self.relays.get(&site)?;
        let place = relayed.places.take(&from);
        let reached = tokio::select! {
            biased;
            () = relayed.cut.cancelled() => Err(withdrawn(&site)),
            reached = reach_within(&place, &relayed, (received, from), &self.context) => reached,
        };
        let (stream, answer) = match reached {
            Ok(reached) => reached,
            Err(NoWay { reason, sentence }) => {
                let (direction, who) = (Direction::Inbound, from.to_string());
                let refusals = &self.context.refusals;
                refusals.record(direction, site.as_str(), who, reason, sentence);
                // An error means that the caller has gone.
                let alert = alert_in_clear(NO_WAY);
                return tcp.write_all(&alert).await.ok().map(|()| tcp);
            }
        };
        let counted = relayed.state.count();
        let traffic = &relayed.state.traffic;
        let pace = self.context.bandwidths.pace();
        tokio::select! {
            end = carry(tcp, WanStream::trunk(stream).at_pace(pace), answer, &relayed) => {
                tracing::debug!(%site, %from, ?end, "a relayed connection has ended");
            }
            () = quiet_while_draining(traffic, &self.context) => {}
        }
        drop(counted);
        None
    }
}

fn withdrawn(site: &TrustDomain) -> NoWay {
    NoWay {
        reason: "not_relayed",
        sentence: format!("this site does not relay for {site} any more"),
    }
}

/// The same as [`reach`], for a connection within its share of the link.
async fn reach_within(
    place: &Result<Place, Denied>,
    relayed: &Relayed,
    (received, from): (Bytes, Source),
    context: &Context,
) -> Result<(TrunkStream, Bytes), NoWay> {
    match place {
        Ok(_) => reach(relayed, received, from, context).await,
        Err(Denied { reason, sentence }) => Err(NoWay {
            reason,
            sentence: format!("on the link of {}: {sentence}", relayed.name),
        }),
    }
}

/// Opens a stream to the site, hands over what was received, and waits for the answer.
async fn reach(
    relayed: &Relayed,
    received: Bytes,
    from: Source,
    context: &Context,
) -> Result<(TrunkStream, Bytes), NoWay> {
    let site = &relayed.name;
    let no_way = |reason, why: &str| NoWay {
        reason,
        sentence: format!("{site} cannot be reached through this hub: {why}"),
    };
    let target = Bytes::from(from.caller().to_string());
    let mut stream = match open(relayed, target.clone()).await {
        // The link ended in this moment; the site may have another.
        Err(NotOpened::Over) => open(relayed, target).await,
        opened => opened,
    }
    .map_err(|why| match why {
        NotOpened::NotLinked(why) => no_way("not_linked", &why),
        NotOpened::Over => no_way("not_linked", "its link has ended"),
        NotOpened::Full => no_way("link_full", "its link takes no more connections"),
    })?;
    relayed.state.traffic.add_to_wan(received.len());
    let asked = timeout(
        context.limits.handshake_timeout,
        ask(&mut stream, &received),
    )
    .await;
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

/// Why no stream of the link was opened.
enum NotOpened {
    NotLinked(String),
    Over,
    Full,
}

async fn open(relayed: &Relayed, target: Bytes) -> Result<TrunkStream, NotOpened> {
    let trunk = relayed.trunk().await;
    let trunk = trunk.map_err(|why| NotOpened::NotLinked(format!("it is not linked: {why}")))?;
    if let Some(fault) = trunk.fault() {
        let why = format!("its link is not valid any more: {fault}");
        return Err(NotOpened::NotLinked(why));
    }
    match trunk.open(target) {
        Ok(stream) => Ok(stream),
        Err(OpenError::Closed | OpenError::GoingAway) => {
            relayed.lose(&trunk, "its link has ended");
            Err(NotOpened::Over)
        }
        Err(_) => Err(NotOpened::Full),
    }
}

async fn ask(stream: &mut TrunkStream, received: &[u8]) -> io::Result<Bytes> {
    stream.write_all(received).await?;
    let mut answer = BytesMut::with_capacity(FIRST);
    stream.read_buf(&mut answer).await?;
    Ok(answer.freeze())
}

async fn carry(
    mut tcp: TcpStream,
    stream: WanStream,
    answer: Bytes,
    relayed: &Relayed,
) -> relay::End {
    let traffic = &relayed.state.traffic;
    if let Err(error) = tcp.write_all(&answer).await {
        let side = relay::Side::App;
        return relay::End::Broken { side, error };
    }
    traffic.add_to_app(answer.len());
    let tcp = PlainStream::armed(tcp);
    relay::relay(tcp, stream, None, traffic, &relayed.cut).await
}

async fn quiet_while_draining(traffic: &Traffic, context: &Context) {
    context.drain.signaled().await;
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

#[cfg(test)]
mod tests;
