//! One connection that is forwarded: raw bytes both ways between the caller and a stream of a link.
//! The gateway reads the server name in the caller's greeting, and nothing else.

use std::{io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use renkei_spiffe::alert_in_clear;
use renkei_trunk::OpenError;
use rustls::AlertDescription;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    Hub,
    links::{LinkEnd, Linked},
};
use crate::{
    admission::{Denied, Place, Source},
    context::Context,
    identity::Direction,
    relay::{self, Traffic},
    sockets::PlainStream,
    trunk::TrunkStream,
    wan::WanStream,
};

/// The first bytes of the answer.
const FIRST: usize = 16 * 1024;
/// The name has no way from here (RFC 6066 3).
const NO_WAY: AlertDescription = AlertDescription::UnrecognisedName;
/// While the process stops, connections of a link that carry nothing for so long are not waited
/// for: lanes of trunks among them, which their ends resume elsewhere.
const QUIET: Duration = Duration::from_secs(2);

/// Why a connection did not get through.
struct NoWay {
    reason: &'static str,
    sentence: String,
    /// Nothing was handed over, so another link may carry it.
    unsent: bool,
}

/// A connection that has an answer.
struct Forwarded {
    linked: Arc<Linked>,
    stream: TrunkStream,
    answer: Bytes,
    _places: (Place, Place),
}

impl Hub {
    /// Carries a connection between a caller and one of those that it may be meant for, to its
    /// end. `received` is what the caller has sent so far. Sends the caller an alert and
    /// gives its socket back when no link works.
    pub(crate) async fn forward(
        &self,
        mut tcp: TcpStream,
        received: Bytes,
        (from, ends): (Source, Vec<LinkEnd>),
    ) -> Option<TcpStream> {
        let (linked, no_way) = match self.reach_any(&received, from, &ends).await? {
            Ok(forwarded) => {
                self.carry(tcp, forwarded, from).await;
                return None;
            }
            Err(unreached) => unreached,
        };
        let (direction, who) = (Direction::Inbound, from.to_string());
        let (
            name,
            NoWay {
                reason, sentence, ..
            },
        ) = (linked.end.name(), no_way);
        let refusals = &self.context.refusals;
        refusals.record(direction, &name, who, reason, sentence);
        // An error means that the caller has gone.
        let alert = alert_in_clear(NO_WAY);
        tcp.write_all(&alert).await.ok().map(|()| tcp)
    }

    /// The first of them that takes the connection, or why the last one did not.
    async fn reach_any(
        &self,
        received: &Bytes,
        from: Source,
        ends: &[LinkEnd],
    ) -> Option<Result<Forwarded, (Arc<Linked>, NoWay)>> {
        let mut unreached = None;
        for linked in self.links.for_caller(from.caller().ip(), ends) {
            let reached = tokio::select! {
                biased;
                () = linked.cut.cancelled() => Err(withdrawn(&linked)),
                reached = self.reach_within(&linked, received, from) => reached,
            };
            match reached {
                Ok(forwarded) => return Some(Ok(forwarded)),
                Err(no_way) => {
                    let unsent = no_way.unsent;
                    unreached = Some(Err((linked, no_way)));
                    if !unsent {
                        break;
                    }
                }
            }
        }
        unreached
    }

    /// The same as [`reach`], for a connection within its shares of this proxy and of the link.
    async fn reach_within(
        &self,
        linked: &Arc<Linked>,
        received: &Bytes,
        from: Source,
    ) -> Result<Forwarded, NoWay> {
        let no_place = |Denied { reason, sentence }, of: &str| NoWay {
            reason,
            sentence: format!("{of}{sentence}"),
            unsent: true,
        };
        let all = match &linked.end {
            LinkEnd::Site(id) => self.admission.relayed(&from, id.trust_domain()),
            LinkEnd::Node(id) => self.admission.to_node(&from, id),
        };
        let all = all.map_err(|denied| no_place(denied, ""))?;
        let of_link = format!("on the link of {}: ", linked.end.name());
        let own = linked.places.take(&from);
        let own = own.map_err(|denied| no_place(denied, &of_link))?;
        let (stream, answer) = reach(linked, received.clone(), from, &self.context).await?;
        Ok(Forwarded {
            linked: linked.clone(),
            stream,
            answer,
            _places: (all, own),
        })
    }

    async fn carry(&self, tcp: TcpStream, forwarded: Forwarded, from: Source) {
        let Forwarded {
            linked,
            stream,
            answer,
            _places,
        } = forwarded;
        let _counted = linked.state.count();
        let traffic = &linked.state.traffic;
        let pace = self.context.bandwidths.pace();
        tokio::select! {
            end = carry(tcp, WanStream::trunk(stream).at_pace(pace), answer, &linked) => {
                let to = linked.state.name();
                tracing::debug!(to, %from, ?end, "a forwarded connection has ended");
            }
            () = quiet_while_draining(traffic, &self.context) => {}
        }
    }
}

fn withdrawn(linked: &Linked) -> NoWay {
    let name = linked.end.name();
    NoWay {
        reason: "not_relayed",
        sentence: match linked.end {
            LinkEnd::Site(_) => format!("this site does not relay for {name} any more"),
            LinkEnd::Node(_) => format!("this gateway does not lead to {name} any more"),
        },
        unsent: false,
    }
}

/// Opens a stream of the link, hands over what was received, and waits for the answer.
async fn reach(
    linked: &Linked,
    received: Bytes,
    from: Source,
    context: &Context,
) -> Result<(TrunkStream, Bytes), NoWay> {
    let (name, through) = (linked.end.name(), linked.end.through());
    let no_way = |reason, why: &str, unsent| NoWay {
        reason,
        sentence: format!("{name} cannot be reached through {through}: {why}"),
        unsent,
    };
    let target = Bytes::from(from.caller().to_string());
    let mut stream = match open(linked, target.clone()).await {
        // The link ended in this moment; the site may have another.
        Err(NotOpened::Over) => open(linked, target).await,
        opened => opened,
    }
    .map_err(|why| match why {
        NotOpened::NotLinked(why) => no_way("not_linked", &why, true),
        NotOpened::Over => no_way("not_linked", "its link has ended", true),
        NotOpened::Full => no_way("link_full", "its link takes no more connections", true),
    })?;
    linked.state.traffic.add_to_wan(received.len());
    let asked = timeout(
        context.limits.handshake_timeout,
        ask(&mut stream, &received),
    )
    .await;
    match asked {
        Ok(Ok(answer)) if answer.is_empty() => Err(no_way(
            "site_closed",
            "it closed the connection at once",
            false,
        )),
        Ok(Ok(answer)) => Ok((stream, answer)),
        Ok(Err(error)) => Err(no_way("site_closed", &error.to_string(), false)),
        Err(_) => {
            stream.cut();
            Err(no_way("site_silent", "it does not answer", false))
        }
    }
}

/// Why no stream of the link was opened.
enum NotOpened {
    NotLinked(String),
    Over,
    Full,
}

async fn open(linked: &Linked, target: Bytes) -> Result<TrunkStream, NotOpened> {
    let trunk = linked.trunk().await;
    let trunk = trunk.map_err(|why| NotOpened::NotLinked(format!("it is not linked: {why}")))?;
    if let Some(fault) = trunk.fault() {
        let why = format!("its link is not valid any more: {fault}");
        return Err(NotOpened::NotLinked(why));
    }
    match trunk.open(target) {
        Ok(stream) => Ok(stream),
        Err(OpenError::Closed | OpenError::GoingAway) => {
            linked.lose(&trunk, "its link has ended");
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
    linked: &Linked,
) -> relay::End {
    let traffic = &linked.state.traffic;
    if let Err(error) = tcp.write_all(&answer).await {
        let side = relay::Side::App;
        return relay::End::Broken { side, error };
    }
    traffic.add_to_app(answer.len());
    let tcp = PlainStream::armed(tcp);
    relay::relay(tcp, stream, None, traffic, &linked.cut).await
}

pub(super) async fn quiet_while_draining(traffic: &Traffic, context: &Context) {
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
