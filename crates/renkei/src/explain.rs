//! `renkei explain A B`: why A may or may not reach B, step by step, ending in one sentence.
//!
//! Each site knows its own half: the caller's site knows the listener, the gateway and the
//! bundle; the callee's site knows the rule. Steps that need the running site are added when it
//! runs.

use std::{net::IpAddr, process::ExitCode};

use miette::{IntoDiagnostic, WrapErr, miette};
use renkei_api::status::{Direction, FederationStatus, SiteStatus};
use renkei_policy::{Operation, Request};
use renkei_site::{Service, Workload};
use renkei_spiffe::{SpiffeId, TrustDomain};
use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    arguments::Output,
    cli, links,
    load::{Loaded, load},
    output, peer_identity, place,
    site_client::SiteClient,
    status::TRUSTS_NOTHING,
};

/// One thing that must hold.
#[derive(Debug, Serialize)]
struct Step {
    /// `None`: this site cannot know.
    holds: Option<bool>,
    says: String,
}

#[derive(Debug, Serialize)]
struct Explanation {
    caller: SpiffeId,
    service: SpiffeId,
    /// Nothing that this site knows stands in the way.
    allowed: bool,
    sentence: String,
    steps: Vec<Step>,
}

/// Exit status 0 when nothing stands in the way, 1 when something does.
pub(crate) async fn run(args: &cli::Explain, form: Output) -> miette::Result<ExitCode> {
    let loaded = load(&args.file)?;
    let state = place::state_folder(args.state.folder.as_deref(), &loaded.site.name);
    let status = SiteClient::new(&state).status().await.ok();
    let own = &loaded.site.trust_domain;
    let parse = |text: &str| {
        let read = loaded.site.identity(text);
        read.into_diagnostic().wrap_err_with(|| {
            format!("{text:?} is not an identity such as osaka.example/collector")
        })
    };
    let (caller, service) = (parse(&args.caller)?, parse(&args.service)?);
    if caller.trust_domain() != own && service.trust_domain() != own {
        return Err(miette!(
            help = "ask with the site file of either side",
            "neither {} nor {} belongs to {own}, so this site does not decide about them",
            caller.short(),
            service.short()
        ));
    }
    let explanation = explain(&loaded, status.as_ref(), caller, service);
    match form {
        Output::Json => output::print_json(&explanation)?,
        Output::Text => output::print(&text(&explanation)),
    }
    Ok(if explanation.allowed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn explain(
    loaded: &Loaded,
    status: Option<&SiteStatus>,
    caller: SpiffeId,
    service: SpiffeId,
) -> Explanation {
    let mut steps = Steps {
        loaded,
        status,
        found: Vec::new(),
    };
    let own = &loaded.site.trust_domain;
    if caller.trust_domain() == own {
        steps.of_caller(&caller, &service);
    }
    if service.trust_domain() == own {
        steps.of_service(&caller, &service);
    } else {
        steps.of_remote(&caller, &service);
    }
    let steps = steps.found;
    let against = steps.iter().find(|step| step.holds == Some(false));
    let sentence = match against {
        Some(step) => format!(
            "{} may not reach {}: {}",
            caller.short(),
            service.short(),
            step.says
        ),
        None if service.trust_domain() == own => {
            format!("{} may reach {}", caller.short(), service.short())
        }
        None => format!(
            "this site allows {} to reach {}. {} also decides; its rules are not visible here",
            caller.short(),
            service.short(),
            service.trust_domain()
        ),
    };
    Explanation {
        caller,
        service,
        allowed: against.is_none(),
        sentence,
        steps,
    }
}

struct Steps<'a> {
    loaded: &'a Loaded,
    status: Option<&'a SiteStatus>,
    found: Vec<Step>,
}

impl Steps<'_> {
    fn push(&mut self, holds: Option<bool>, says: impl Into<String>) {
        self.found.push(Step {
            holds,
            says: says.into(),
        });
    }

    /// The caller is a workload of this site with a listener for the service.
    fn of_caller(&mut self, caller: &SpiffeId, service: &SpiffeId) {
        let site = &self.loaded.site;
        let Some(workload) = site
            .workloads
            .values()
            .find(|workload| workload.id == *caller)
        else {
            let says = format!("{} has no workload {}", site.file(), caller.short());
            return self.push(Some(false), says);
        };
        let Workload {
            selectors, uses, ..
        } = workload;
        let selectors: Vec<String> = selectors.iter().map(ToString::to_string).collect();
        self.push(
            Some(true),
            format!(
                "{} is a process with {}",
                caller.short(),
                selectors.join(" and ")
            ),
        );
        match uses.iter().find(|used| used.target == *service) {
            Some(used) => self.push(
                Some(true),
                format!("it reaches {} at {}", service.short(), used.listen),
            ),
            None => {
                let says = format!(
                    "the workload {} has no `{}: IP:PORT` under `uses`",
                    workload.name,
                    service.short()
                );
                self.push(Some(false), says);
            }
        }
        self.of_svid("it", caller);
    }

    /// Both ends prove themselves with an SVID. Of its own the running site knows.
    fn of_svid(&mut self, who: &str, id: &SpiffeId) {
        let Some(status) = self.status else {
            return;
        };
        let (holds, says) = match status.svid_end(id) {
            Ok(end) if end > OffsetDateTime::now_utc() => (
                true,
                format!("{who} has an SVID that expires {}", output::until(end)),
            ),
            Ok(end) => {
                let when = output::since(end);
                (
                    false,
                    format!("the last SVID of {} expired {when}", id.short()),
                )
            }
            Err(Some(fault)) => (false, format!("{who} has no SVID: {fault}")),
            Err(None) => (false, format!("{who} has no SVID")),
        };
        self.push(Some(holds), says);
    }

    /// The service is this site's: its rule decides.
    fn of_service(&mut self, caller: &SpiffeId, id: &SpiffeId) {
        let site = self.loaded.site.clone();
        let Some(service) = site.services.values().find(|service| service.id == *id) else {
            return self.push(
                Some(false),
                format!("{} has no service {}", site.file(), id.short()),
            );
        };
        if caller.trust_domain() != &site.trust_domain {
            self.of_trust(caller);
        }
        let proxy = self.status.map(|status| &status.proxy);
        if caller.trust_domain() != &site.trust_domain
            && let Some((holds, says)) = links::to_this_site(&site, proxy)
        {
            self.push(holds, says);
        }
        self.of_svid(&service.id.short(), id);
        self.of_server_name(id);
        self.decide(caller, service);
        let seen = self.status.and_then(|status| {
            let mut refusals = status.proxy.refusals.iter();
            refusals.find(|r| r.peer == caller.to_string() || r.peer == caller.short())
        });
        if let Some(refusal) = seen {
            let when = output::since(refusal.time);
            self.push(None, format!("last refused {when}: {}", refusal.sentence));
        }
    }

    /// Callers of another make have to be told the server name of an ID whose path is no DNS label.
    fn of_server_name(&mut self, id: &SpiffeId) {
        let Some(name) = renkei_site::sni(id) else {
            return;
        };
        let plain = id.path().trim_start_matches('/');
        if name != format!("{plain}.{}", id.trust_domain()) {
            self.push(
                Some(true),
                format!("callers ask for it by the server name {name}"),
            );
        }
    }

    fn decide(&mut self, caller: &SpiffeId, service: &Service) {
        let Some(policy) = self.loaded.policies.get(&service.name) else {
            return;
        };
        let decision = policy.decide(&Request {
            peer: caller,
            service: &service.id,
            operation: Operation::Connect,
            source: None::<IpAddr>,
        });
        let line = self.loaded.site.line_of_allow(&service.name, caller);
        let says = match line {
            Some(line) if decision.allowed => {
                format!(
                    "allowed by {} line {line} ({})",
                    self.loaded.site.file(),
                    decision.rule
                )
            }
            _ => format!("{} ({})", decision.reason, decision.rule),
        };
        self.push(Some(decision.allowed), says);
        if let Some(methods) = service.methods.as_ref().filter(|_| decision.allowed) {
            match methods.get(caller) {
                Some(rules) => {
                    let rules: Vec<String> = rules.iter().map(ToString::to_string).collect();
                    self.push(Some(true), format!("it may do {}", rules.join(", ")));
                }
                None => {
                    let says = "it is not in `methods`, so each of its requests is refused";
                    self.push(Some(false), says);
                }
            }
        }
    }

    /// The caller's trust domain is a peer with a bundle.
    fn of_trust(&mut self, peer: &SpiffeId) {
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

    /// The service is another site's: the way there.
    fn of_remote(&mut self, caller: &SpiffeId, service: &SpiffeId) {
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

fn text(explanation: &Explanation) -> String {
    let mut text = String::new();
    for step in &explanation.steps {
        let mark = match step.holds {
            Some(true) => "✓",
            Some(false) => "✗",
            None => "·",
        };
        text.push_str(&format!("  {mark} {}\n", step.says));
    }
    format!("{text}\n{}.\n", explanation.sentence)
}
