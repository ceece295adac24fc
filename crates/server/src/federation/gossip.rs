//! Members compare what they have seen of the log (rule 4), so that a registry and its mirrors
//! cannot show one of them another history than the rest. Each round a few members are asked for
//! their newest checkpoint, at their gateways; everybody is asked in turn.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use renkei_federation::{
    Fork, SignedCheckpoint, TrustDomain, UpdateError, View, log::MAX_NOTE_BYTES,
};
use renkei_site::{BundleWay, HostPort};
use renkei_spiffe::{Bundle, BundleSet, SpiffeId, anonymous_client_side};
use time::OffsetDateTime;
use tokio::task::JoinSet;
use url::Url;

use super::{Inputs, MemberPeer, Members};
use crate::{
    endpoint::CHECKPOINT_PATH,
    fetch::{self, Ask},
};

/// How many members are asked a round.
const A_ROUND: usize = 3;
const LIMIT: Duration = Duration::from_secs(5);
/// What others have seen has to be at the mirrors within this time.
const UNSEEN_LIMIT: time::Duration = time::Duration::minutes(10);

/// A checkpoint that a member has seen and this site's mirrors do not have yet.
#[derive(Debug)]
struct Ahead {
    checkpoint: SignedCheckpoint,
    since: OffsetDateTime,
}

/// What was heard from other members.
#[derive(Debug, Default)]
pub(super) struct Gossip {
    /// Who was asked last; the next one in order is next.
    last: Option<TrustDomain>,
    ahead: BTreeMap<TrustDomain, Ahead>,
    alarm: Option<String>,
}

impl Gossip {
    pub(super) fn alarm(&self) -> Option<String> {
        self.alarm.clone()
    }

    /// Asks a few members. Proof of two histories, if there is any.
    pub(super) async fn ask(
        &mut self,
        members: &Members,
        view: &View,
        inputs: &Inputs,
    ) -> Option<Box<Fork>> {
        self.ahead.retain(|name, _| members.contains_key(name));
        let mut asked = JoinSet::new();
        for (name, gateway, bundle) in self.next(members) {
            let provider = inputs.provider.clone();
            asked.spawn(async move {
                let note = ask_one(&name, &gateway, bundle, &provider).await;
                (name, note)
            });
        }
        let now = (inputs.clock)();
        while let Some(answer) = asked.join_next().await {
            let Ok((name, Some(note))) = answer else {
                continue;
            };
            // One who answers with something else is no proof of anything.
            if let Ok(checkpoint) = SignedCheckpoint::parse(&note, view.federation()) {
                let since = self.ahead.get(&name).map_or(now, |ahead| ahead.since);
                self.ahead.insert(name, Ahead { checkpoint, since });
            }
        }
        self.compare(view, now)
    }

    /// The members after the last one that was asked, in a circle.
    fn next(&mut self, members: &Members) -> Vec<(TrustDomain, HostPort, Bundle)> {
        let reached = members.iter().filter_map(|(name, member)| {
            let MemberPeer { bundle, gateway } = member;
            Some((name.clone(), gateway.clone()?, bundle.clone()))
        });
        let reached: Vec<_> = reached.collect();
        let after = |name: &TrustDomain| self.last.as_ref().is_none_or(|last| name > last);
        let (later, earlier): (Vec<_>, Vec<_>) =
            reached.into_iter().partition(|(name, ..)| after(name));
        let next: Vec<_> = later.into_iter().chain(earlier).take(A_ROUND).collect();
        self.last = next.last().map(|(name, ..)| name.clone());
        next
    }

    /// What others have seen is an earlier state of what is seen here, or proof of two histories,
    /// or still to come.
    fn compare(&mut self, view: &View, now: OffsetDateTime) -> Option<Box<Fork>> {
        let mut fork = None;
        self.ahead
            .retain(|_, ahead| match view.compare(&ahead.checkpoint) {
                Err(UpdateError::Fork(found)) => {
                    fork = Some(found);
                    false
                }
                Err(_) => false,
                Ok(()) => ahead.checkpoint.root().size > view.size(),
            });
        let late = self
            .ahead
            .iter()
            .find(|(_, ahead)| now - ahead.since > UNSEEN_LIMIT);
        let text = late.map(|(name, ahead)| {
            format!(
                "{name} has seen {} entries of the log, and the mirrors of this site show {}: the rest is hidden from it",
                ahead.checkpoint.root().size,
                view.size()
            )
        });
        if text.is_some() && self.alarm.is_none() {
            tracing::error!(alarm = text, "federation");
        }
        self.alarm = text;
        fork
    }
}

/// A member's newest checkpoint, if it sends one.
async fn ask_one(
    name: &TrustDomain,
    gateway: &HostPort,
    bundle: Bundle,
    provider: &Arc<rustls::crypto::CryptoProvider>,
) -> Option<bytes::Bytes> {
    let url = Url::parse(&format!("https://{gateway}{CHECKPOINT_PATH}")).ok()?;
    let server = SpiffeId::with_path(name.clone(), "/renkei/server").ok()?;
    let bundles: BundleSet = [Arc::new(bundle)].into_iter().collect();
    let side = anonymous_client_side(
        provider,
        Arc::new(bundles),
        Arc::new(server),
        &[b"http/1.1"],
    );
    // By name, so that a hub knows whom it is to be passed to.
    let way = BundleWay {
        dial: gateway.clone(),
        name: name.to_string(),
    };
    let ask = Ask {
        url: &url,
        way: Some(&way),
        body: None,
        tls: Some(side.ok()?.config),
        most: MAX_NOTE_BYTES,
        limit: LIMIT,
    };
    let answer = fetch::exchange(ask).await;
    let answer = answer
        .inspect_err(|error| tracing::debug!(member = %name, %error, "a member does not answer with its newest checkpoint"))
        .ok()?;
    (answer.status == http::StatusCode::OK).then_some(answer.body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_asked_in_turn() {
        let peer = |name: &str| {
            let name = TrustDomain::parse(name).unwrap();
            let peer = MemberPeer {
                bundle: Bundle::empty(name.clone()),
                gateway: HostPort::parse("127.0.0.1:8443").ok(),
            };
            (name, peer)
        };
        let members: Members = Arc::new(["a", "b", "c", "d", "e"].map(peer).into());
        let mut gossip = Gossip::default();
        let mut next = || -> String {
            let asked = gossip.next(&members);
            asked.iter().map(|(name, ..)| name.as_str()).collect()
        };
        assert_eq!([next(), next(), next()], ["abc", "dea", "bcd"]);
        let few: Members = Arc::new(["a", "b"].map(peer).into());
        let mut gossip = Gossip::default();
        assert_eq!(gossip.next(&few).len(), 2);
        assert_eq!(gossip.next(&few).len(), 2);
        assert!(gossip.next(&Members::default()).is_empty());
    }
}
