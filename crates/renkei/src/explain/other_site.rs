//! What this site knows of the other one: whether it is a peer or a member, its bundle, and how its
//! gateway is reached.

use renkei_api::status::{Direction, FederationStatus, SiteStatus};
use renkei_spiffe::{SpiffeId, TrustDomain};

use super::steps::Steps;
use crate::{links, output, peer_identity, status::TRUSTS_NOTHING};

impl Steps<'_> {
    /// The caller's trust domain is a peer with a bundle.
    pub(super) fn of_trust(&mut self, peer: &SpiffeId) {
        let site = &self.loaded.site;
        let name = peer.trust_domain();
        match (site.peers.contains_key(name), &site.federation) {
            (true, _) => self.push(Some(true), format!("{name} is a peer")),
            (false, Some(_)) => return self.of_member(name),
            (false, None) => {
                return self.push(
                    Some(false),
                    format!("{name} is not under `peers` in {}", site.file()),
                );
            }
        }
        if let Some(api) = self.status.and_then(|status| status.workload_api.as_ref()) {
            let known = api.trust_domains.contains(name);
            let says = match known {
                true => format!("the agent at {} gives its bundle", api.socket),
                false => format!("the agent at {} gives no bundle of {name}", api.socket),
            };
            return self.push(Some(known), says);
        }
        let peers = self
            .status
            .and_then(SiteStatus::authority)
            .map(|server| &server.peers);
        let Some(known) = peers.and_then(|peers| peers.iter().find(|p| p.trust_domain == *name))
        else {
            return;
        };
        if let Some(seen) = peer_identity::seen(known) {
            self.push(None, format!("{name} is known by its identity: {seen}"));
        }
        let fault = known
            .last_error
            .clone()
            .map_or(String::new(), |error| format!(" (last fetch: {error})"));
        match known.authorities {
            0 if known.trusts_nothing() => {
                self.push(Some(false), format!("{TRUSTS_NOTHING}{fault}"))
            }
            0 => self.push(Some(false), format!("its bundle is not known yet{fault}")),
            1 => self.push(Some(true), format!("its bundle has one authority{fault}")),
            count => self.push(
                Some(true),
                format!("its bundle has {count} authorities{fault}"),
            ),
        }
    }

    fn federation(&self) -> Option<&FederationStatus> {
        self.status?.authority()?.federation.as_ref()
    }

    /// The caller's trust domain is linked through the federation, which only the running site
    /// knows.
    fn of_member(&mut self, name: &TrustDomain) {
        let Some(seen) = self.federation() else {
            let says =
                format!("only the running site knows whether {name} is a member of the federation");
            return self.push(None, says);
        };
        let member = seen.members.iter().find(|m| m.trust_domain == *name);
        let (holds, says) = match member {
            Some(member) if member.counts => (true, format!("{name} is a member of {}", seen.name)),
            Some(member) => {
                let why = member.reason.clone().unwrap_or_default();
                (
                    false,
                    format!("{name} is not a valid member of {}: {why}", seen.name),
                )
            }
            None => (false, format!("{name} is not a member of {}", seen.name)),
        };
        self.push(Some(holds), says);
    }

    /// The service is another site's: how it is reached.
    pub(super) fn of_remote(&mut self, caller: &SpiffeId, service: &SpiffeId) {
        self.of_trust(service);
        let site = &self.loaded.site;
        let proxy = self.status.map(|status| &status.proxy);
        if let Some((holds, says)) = links::to_relayed(site, proxy, service.trust_domain()) {
            self.push(holds, says);
        } else if let Some(peer) = site.peers.get(service.trust_domain()) {
            match &peer.gateway {
                Some(gateway) => self.push(Some(true), format!("its gateway is {gateway}")),
                None => self.push(
                    Some(false),
                    format!("{} has no `gateway` under `peers`", peer.trust_domain),
                ),
            }
        } else if let Some(member) = self.federation().and_then(|seen| {
            let mut members = seen.members.iter();
            members.find(|m| m.counts && m.trust_domain == *service.trust_domain())
        }) {
            match member.gateways.first().cloned() {
                Some(gateway) => self.push(Some(true), format!("its gateway is {gateway}")),
                None => self.push(Some(false), "it has published no gateway"),
            }
        }
        let seen = self.status.and_then(|status| {
            let mut refusals = status.proxy.refusals.iter();
            refusals.find(|r| {
                r.direction == Direction::Outbound && r.sentence.contains(&service.short())
            })
        });
        if let Some(refusal) = seen {
            let when = output::since(refusal.time);
            self.push(None, format!("last failure {when}: {}", refusal.sentence));
        }
        self.push(
            None,
            format!(
                "{} decides whether it allows {}; its rules are not visible here",
                service.trust_domain(),
                caller.short()
            ),
        );
    }
}
