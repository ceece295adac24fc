//! What this site knows of its own caller and its own service: the site file, the running site.

use std::net::IpAddr;

use renkei_api::status::SiteStatus;
use renkei_policy::{Operation, Request};
use renkei_site::{Service, Workload};
use renkei_spiffe::SpiffeId;
use serde::Serialize;
use time::OffsetDateTime;

use crate::{links, load::Loaded, output};

/// One thing that must hold.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    /// `None`: this site cannot know.
    pub(super) holds: Option<bool>,
    pub(super) says: String,
}

/// The steps that were found so far.
pub(super) struct Steps<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) status: Option<&'a SiteStatus>,
    pub(super) found: Vec<Step>,
}

impl<'a> Steps<'a> {
    pub(super) fn new(loaded: &'a Loaded, status: Option<&'a SiteStatus>) -> Self {
        Self {
            loaded,
            status,
            found: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, holds: Option<bool>, says: impl Into<String>) {
        self.found.push(Step {
            holds,
            says: says.into(),
        });
    }

    /// The caller is a workload of this site with a listener for the service.
    pub(super) fn of_caller(&mut self, caller: &SpiffeId, service: &SpiffeId) {
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
    pub(super) fn of_service(&mut self, caller: &SpiffeId, id: &SpiffeId) {
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

    /// Callers of other software need the server name of an ID whose path is no DNS label.
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
}
