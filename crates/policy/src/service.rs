//! The policy of one service.

use std::collections::BTreeSet;

use renkei_spiffe::SpiffeId;

use crate::{
    MethodRules,
    decision::{Decision, Operation, Request, RuleKind},
    rego::{Effort, RegoModule, Stop, Verdict, Why},
};

/// Decides who may use one service. Cheap to share between threads behind an `Arc`.
#[derive(Debug)]
pub struct ServicePolicy {
    service: SpiffeId,
    allow: BTreeSet<SpiffeId>,
    rego: Option<RegoModule>,
    methods: Option<MethodRules>,
}

impl ServicePolicy {
    /// From what the site file says of the service.
    pub fn new(service: SpiffeId, allow: Vec<SpiffeId>, rego: Option<RegoModule>) -> Self {
        Self {
            service,
            allow: allow.into_iter().collect(),
            rego,
            methods: None,
        }
    }

    /// With rules about what a caller may do over HTTP.
    pub fn with_methods(mut self, methods: Option<MethodRules>) -> Self {
        self.methods = methods;
        self
    }

    /// The service it decides for.
    pub fn service(&self) -> &SpiffeId {
        &self.service
    }

    /// Whether the host of a request may matter to a decision.
    pub fn reads_host(&self) -> bool {
        self.rego.as_ref().is_some_and(RegoModule::reads_host)
            || self.methods.as_ref().is_some_and(MethodRules::reads_host)
    }

    /// Decides. A request for another service is denied.
    ///
    /// This may take some milliseconds, if the rules are made to.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        match self.decide_with(request, Effort::Full) {
            Ok(decision) => decision,
            Err(stop) => self.stopped(&stop),
        }
    }

    /// Decides if that takes a fraction of a millisecond at most; else there is no decision yet.
    pub fn decide_briefly(&self, request: &Request<'_>) -> Option<Decision> {
        match self.decide_with(request, Effort::Brief) {
            Ok(decision) => Some(decision),
            Err(stop) if stop.why() == Why::Steps => None,
            Err(stop) => Some(self.stopped(&stop)),
        }
    }

    /// The answer where none came in time, for a `reason` outside of the rules.
    pub fn undecided(&self, reason: &str) -> Decision {
        let name = self.rego.as_ref().map_or("the policy", RegoModule::name);
        denied(
            &format!("policy {name}"),
            RuleKind::Policy,
            format!("{name} did not come to a decision: {reason}"),
        )
    }

    fn stopped(&self, stop: &Stop) -> Decision {
        self.undecided(&stop.to_string())
    }

    fn decide_with(&self, request: &Request<'_>, effort: Effort) -> Result<Decision, Stop> {
        if *request.service != self.service {
            let reason = format!(
                "the policy of {} says nothing about {}",
                self.service.short(),
                request.service.short()
            );
            return Ok(denied("default deny", RuleKind::Default, reason));
        }
        let caller = self.decide_caller(request, effort)?;
        Ok(match (&self.methods, request.operation) {
            (Some(methods), Operation::Http { method, host, path }) if caller.allowed => {
                match methods.find(request.peer, method, (host, path)) {
                    Ok(rule) => self.by_method(request, rule.map(ToString::to_string)),
                    Err(unclear) => denied("methods", RuleKind::Path, unclear.to_string()),
                }
            }
            _ => caller,
        })
    }

    /// Everything but the rules by method.
    fn decide_caller(&self, request: &Request<'_>, effort: Effort) -> Result<Decision, Stop> {
        let listed = self.allow.contains(request.peer);
        match &self.rego {
            Some(rego) => self.with_rego(rego, request, listed, effort),
            None if listed => Ok(self.listed(request)),
            None => Ok(self.unlisted(request)),
        }
    }

    fn with_rego(
        &self,
        rego: &RegoModule,
        request: &Request<'_>,
        listed: bool,
        effort: Effort,
    ) -> Result<Decision, Stop> {
        let rule = format!("policy {}", rego.name());
        if let Operation::Http { path, .. } = request.operation
            && let Err(unclear) = path.form()
            && rego.reads_path()
        {
            return Ok(denied(&rule, RuleKind::Path, unclear.to_string()));
        }
        Ok(match rego.evaluate(request, !listed, effort)? {
            Verdict::Denied(message) => denied(&rule, RuleKind::Policy, message),
            Verdict::Allowed => {
                let (peer, service) = (request.peer.short(), self.service.short());
                let reason = format!("{} lets {peer} use {service}", rego.name());
                Decision {
                    allowed: true,
                    rule,
                    kind: RuleKind::Policy,
                    reason,
                }
            }
            Verdict::Undecided if listed => self.listed(request),
            Verdict::Undecided => {
                let mut decision = self.unlisted(request);
                decision.reason = format!("{}, nor does {} let it", decision.reason, rego.name());
                decision
            }
        })
    }

    fn listed(&self, request: &Request<'_>) -> Decision {
        let (peer, service) = (request.peer.short(), self.service.short());
        Decision {
            allowed: true,
            rule: format!("allow {peer}"),
            kind: RuleKind::AllowList,
            reason: format!("{peer} is in the allow list of {service}"),
        }
    }

    fn unlisted(&self, request: &Request<'_>) -> Decision {
        let (peer, service) = (request.peer.short(), self.service.short());
        let reason = format!("{peer} is not in the allow list of {service}");
        denied("default deny", RuleKind::Default, reason)
    }

    fn by_method(&self, request: &Request<'_>, rule: Option<String>) -> Decision {
        let (peer, service) = (request.peer.short(), self.service.short());
        let operation = request.operation;
        // A request that is denied for its host looks like one that is allowed.
        let host = match operation {
            Operation::Http { host, .. } if self.reads_host() => format!(" with host {host:?}"),
            _ => String::new(),
        };
        match rule {
            Some(rule) => Decision {
                allowed: true,
                reason: format!("{rule} lets {peer} do {operation} at {service}"),
                rule: format!("methods {rule}"),
                kind: RuleKind::Methods,
            },
            None => {
                let reason =
                    format!("no rule in `methods` of {service} lets {peer} do {operation}{host}");
                denied("methods", RuleKind::Methods, reason)
            }
        }
    }
}

fn denied(rule: &str, kind: RuleKind, reason: String) -> Decision {
    Decision {
        allowed: false,
        rule: rule.to_owned(),
        kind,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use renkei_access::{HttpHost, MethodRule, PathRule, RequestPath};

    use super::*;

    const RULES: &str = r#"package renkei.authz

import rego.v1

allow if input.peer.trust_domain == "kyushu.example"
deny contains "the collector is being repaired" if input.peer.path == "/collector"
"#;

    fn id(short: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://{short}")).unwrap()
    }

    fn decide(policy: &ServicePolicy, peer: &str) -> Decision {
        let (peer, service) = (id(peer), policy.service().clone());
        policy.decide(&Request {
            peer: &peer,
            service: &service,
            operation: Operation::Connect,
            source: None,
        })
    }

    fn policy(allow: &[&str], rules: Option<&str>) -> ServicePolicy {
        let rego = rules.map(|text| RegoModule::compile("broker.rego", text).unwrap());
        let allow = allow.iter().map(|short| id(short)).collect();
        ServicePolicy::new(id("tokyo.example/mdx"), allow, rego)
    }

    #[test]
    fn the_allow_list_is_of_whole_ids() {
        let policy = policy(&["osaka.example/collector"], None);
        let decision = decide(&policy, "osaka.example/collector");
        assert!(decision.allowed);
        assert_eq!(decision.rule, "allow osaka.example/collector");
        for other in [
            "osaka.example/collector/more",
            "osaka.example/collect",
            "osaka.example",
            "kyushu.example/collector",
            "osaka.example.evil.example/collector",
        ] {
            let decision = decide(&policy, other);
            assert!(!decision.allowed, "{other}");
            assert_eq!(decision.rule, "default deny");
            let reason = format!("{other} is not in the allow list of tokyo.example/mdx");
            assert_eq!(decision.reason, reason);
        }
    }

    #[test]
    fn rules_add_callers_and_their_denial_wins() {
        let policy = policy(
            &["osaka.example/collector", "osaka.example/reader"],
            Some(RULES),
        );
        let decided = |peer| {
            let Decision {
                allowed,
                rule,
                reason,
                ..
            } = decide(&policy, peer);
            (allowed, rule, reason)
        };
        let (allowed, rule, reason) = decided("osaka.example/collector");
        assert!(!allowed, "denied although it is in the allow list");
        assert_eq!(
            (rule.as_str(), reason.as_str()),
            ("policy broker.rego", "the collector is being repaired")
        );
        let (allowed, rule, _) = decided("osaka.example/reader");
        assert_eq!(
            (allowed, rule.as_str()),
            (true, "allow osaka.example/reader")
        );
        let (allowed, rule, reason) = decided("kyushu.example/reader");
        assert_eq!((allowed, rule.as_str()), (true, "policy broker.rego"));
        assert_eq!(
            reason,
            "broker.rego lets kyushu.example/reader use tokyo.example/mdx"
        );
        let (allowed, rule, reason) = decided("osaka.example/other");
        assert_eq!((allowed, rule.as_str()), (false, "default deny"));
        assert!(reason.ends_with("nor does broker.rego let it"), "{reason}");
    }

    #[test]
    fn rules_that_fail_deny_even_those_in_the_allow_list() {
        let rules = "package renkei.authz\n\
                     level := 1 if input.peer\n\
                     level := 2 if input.service\n\
                     deny contains \"x\" if level == 3";
        let decision = decide(
            &policy(&["osaka.example/a"], Some(rules)),
            "osaka.example/a",
        );
        assert!(!decision.allowed);
        assert_eq!(decision.rule, "policy broker.rego");
        let start = "broker.rego did not come to a decision: ";
        assert!(decision.reason.starts_with(start), "{}", decision.reason);
    }

    #[test]
    fn a_request_for_another_service_is_denied() {
        let policy = policy(&["osaka.example/a"], None);
        let (peer, service) = (id("osaka.example/a"), id("tokyo.example/other"));
        let decision = policy.decide(&Request {
            peer: &peer,
            service: &service,
            operation: Operation::Connect,
            source: None,
        });
        assert!(!decision.allowed);
    }

    #[test]
    fn methods_narrow_what_the_other_rules_allow() {
        let collector = id("osaka.example/collector");
        let rule = MethodRule {
            method: Some("GET".to_owned()),
            host: None,
            path: PathRule::Under("/v1/".to_owned()),
        };
        let methods: MethodRules = [
            (collector.clone(), vec![rule.clone()]),
            (id("osaka.example/stranger"), vec![rule]),
        ]
        .into_iter()
        .collect();
        let allow = ["osaka.example/collector", "osaka.example/reader"];
        let policy = policy(&allow, None).with_methods(Some(methods));
        let ask = |peer: &str, method, path| {
            policy.decide(&Request {
                peer: &id(peer),
                service: policy.service(),
                operation: Operation::Http {
                    method,
                    host: &HttpHost::parse(b"records").unwrap(),
                    path: &RequestPath::new(path),
                },
                source: None,
            })
        };
        let allowed = ask("osaka.example/collector", "GET", "/v1/records");
        assert!(allowed.allowed);
        assert_eq!(allowed.rule, "methods GET /v1/*");
        let denied = ask("osaka.example/collector", "POST", "/v1/records");
        assert_eq!((denied.allowed, denied.kind), (false, RuleKind::Methods));
        assert_eq!(
            denied.reason,
            "no rule in `methods` of tokyo.example/mdx lets osaka.example/collector do \
             POST /v1/records"
        );
        assert!(
            decide(&policy, "osaka.example/reader").allowed,
            "may connect"
        );
        assert!(!ask("osaka.example/reader", "GET", "/v1/a").allowed);
        let denied = ask("osaka.example/stranger", "GET", "/v1/a");
        assert_eq!((denied.allowed, denied.kind), (false, RuleKind::Default));
    }

    #[test]
    fn rules_see_each_request() {
        let rules = r#"package renkei.authz

allow if input.operation.kind == "connect"
allow if { input.operation.method == "GET"; startswith(input.operation.path, "/v1/") }
deny contains "closed" if input.operation == {"kind": "http", "method": "GET", "path": "/v1/x"}
"#;
        let policy = policy(&[], Some(rules));
        let ask = |method, path| {
            let operation = Operation::Http {
                method,
                host: &HttpHost::parse(b"records").unwrap(),
                path: &RequestPath::new(path),
            };
            let decision = policy.decide(&Request {
                peer: &id("osaka.example/a"),
                service: policy.service(),
                operation,
                source: None,
            });
            (decision.allowed, decision.reason)
        };
        assert!(decide(&policy, "osaka.example/a").allowed);
        assert!(ask("GET", "/v1/records").0);
        assert!(!ask("POST", "/v1/records").0);
        assert_eq!(ask("GET", "/%761/x"), (false, "closed".to_owned()));
    }

    /// What a policy with these rules makes of requests: allowed, or which kind of rule denies.
    fn verdicts<const N: usize>(
        policy: &ServicePolicy,
        requests: [(&str, &str, &str); N],
    ) -> [Result<(), RuleKind>; N] {
        requests.map(|(method, host, path)| {
            let decision = policy.decide(&Request {
                peer: &id("osaka.example/a"),
                service: policy.service(),
                operation: Operation::Http {
                    method,
                    host: &HttpHost::parse(host.as_bytes()).unwrap(),
                    path: &RequestPath::new(path),
                },
                source: None,
            });
            match decision.allowed {
                true => Ok(()),
                false => Err(decision.kind),
            }
        })
    }

    #[test]
    fn a_path_that_can_be_misread_is_denied_where_a_rule_reads_it_alone() {
        const UNCLEAR: [&str; 4] = ["/a//b", "/a%2Fb", "/a;b", "/%25%32e%25%32e/"];
        let rule = |method: Option<&str>, path| MethodRule {
            method: method.map(str::to_owned),
            host: None,
            path,
        };
        let under = || PathRule::Under("/a/".to_owned());
        let with = |rules: Vec<MethodRule>| {
            let methods = [(id("osaka.example/a"), rules)].into_iter().collect();
            policy(&["osaka.example/a"], None).with_methods(Some(methods))
        };
        let by_path = with(vec![rule(None, under())]);
        let some = with(vec![
            rule(Some("PUT"), under()),
            rule(Some("GET"), PathRule::Any),
        ]);
        for path in UNCLEAR {
            let ask = |policy: &ServicePolicy, method| verdicts(policy, [(method, "a", path)]);
            let open = policy(&["osaka.example/a"], None);
            assert_eq!(ask(&open, "GET"), [Ok(())], "{path}");
            assert_eq!(ask(&by_path, "GET"), [Err(RuleKind::Path)], "{path}");
            assert_eq!(ask(&some, "GET"), [Ok(())], "{path}");
            assert_eq!(ask(&some, "PUT"), [Err(RuleKind::Path)], "{path}");
            assert_eq!(ask(&some, "POST"), [Err(RuleKind::Methods)], "{path}");
            for (rules, reads) in [
                ("allow if input.operation.path == \"/b\"", true),
                (
                    "deny contains \"no\" if input.operation[\"path\"] == \"/b\"",
                    true,
                ),
                (
                    "allow if { some k, v in input.operation; k == \"path\"; v == \"/b\" }",
                    true,
                ),
                (
                    "allow if { k := \"path\"; input.operation[k] == \"/b\" }",
                    true,
                ),
                ("allow if input.operation == {\"kind\": \"http\"}", true),
                (
                    "allow if { whole := input; whole.operation.path == \"/b\" }",
                    true,
                ),
                (
                    "f(x) := x.path\nallow if f(input.operation) == \"/b\"",
                    true,
                ),
                (
                    "allow if { some x in [y | y := input.operation.path]; x == \"/b\" }",
                    true,
                ),
                ("allow if input.operation.method == \"GET\"", false),
                (
                    "allow if { input.peer.path == \"/a\"; input.request.host == \"a\" }",
                    false,
                ),
                (
                    "deny contains \"no\" if input.operation.method != \"GET\"",
                    false,
                ),
            ] {
                let rules = format!("package renkei.authz\n{rules}\n");
                let policy = policy(&["osaka.example/a"], Some(&rules));
                let expected = match reads {
                    true => Err(RuleKind::Path),
                    false => Ok(()),
                };
                assert_eq!(ask(&policy, "GET"), [expected], "{path} {rules}");
                assert_eq!(
                    policy.reads_host(),
                    rules.contains("host") || rules.contains("whole")
                );
            }
        }
    }

    #[test]
    fn rules_can_demand_a_host() {
        let rules = r#"package renkei.authz
allow if { input.operation.kind == "http"; input.request.host == "records.example" }
"#;
        let policy = policy(&[], Some(rules));
        assert!(policy.reads_host());
        let asked = [
            ("GET", "records.example", "/"),
            ("GET", "Records.Example.:8080", "/"),
            ("GET", "admin.example", "/"),
            ("GET", "", "/"),
        ];
        let denied = Err(RuleKind::Default);
        assert_eq!(verdicts(&policy, asked), [Ok(()), Ok(()), denied, denied]);
        let rule = MethodRule::parse("GET //records.example").unwrap();
        let methods = [(id("osaka.example/a"), vec![rule])].into_iter().collect();
        let policy = self::policy(&["osaka.example/a"], None).with_methods(Some(methods));
        assert!(policy.reads_host());
        let denied = Err(RuleKind::Methods);
        assert_eq!(verdicts(&policy, asked), [Ok(()), Ok(()), denied, denied]);
    }

    fn ids() -> impl Strategy<Value = SpiffeId> {
        ("[a-z0-9._-]{1,20}", "(/[a-zA-Z0-9_-]{1,10}){0,4}").prop_map(|(domain, path)| {
            SpiffeId::parse(&format!("spiffe://{domain}{path}")).unwrap()
        })
    }

    proptest! {
        #[test]
        fn nobody_is_allowed_without_rules(peer in ids(), service in ids(), ip in any::<Option<std::net::IpAddr>>()) {
            let policy = ServicePolicy::new(service.clone(), Vec::new(), None);
            let decision = policy.decide(&Request { peer: &peer, service: &service, operation: Operation::Connect, source: ip });
            prop_assert!(!decision.allowed);
            prop_assert!(!decision.reason.is_empty());
        }

        #[test]
        fn those_in_the_list_are_allowed_and_no_others(
            peer in ids(),
            allow in prop::collection::vec(ids(), 0..5),
            service in ids(),
        ) {
            let expected = allow.contains(&peer);
            let policy = ServicePolicy::new(service.clone(), allow, None);
            let decision = policy.decide(&Request { peer: &peer, service: &service, operation: Operation::Connect, source: None });
            prop_assert_eq!(decision.allowed, expected);
        }

        #[test]
        fn no_text_makes_the_compiler_or_a_decision_panic(
            parts in prop::collection::vec(prop_oneof![
                Just("allow"), Just("deny"), Just(" if "), Just(" contains "), Just("{"), Just("}"),
                Just("input.peer.path"), Just(" := "), Just(" == "), Just("some x in "), Just("[1,2]"),
                Just("\n"), Just("with input as 1"), Just("not "), Just("\"x\""), Just("x"), Just("(1)"),
                Just("data.renkei.authz"), Just("else := true"), Just("default "), Just("false"),
            ], 0..14),
        ) {
            let text = format!("package renkei.authz\n{}", parts.concat());
            if let Ok(rego) = RegoModule::compile("p", &text) {
                let (peer, service) = (id("a.example/b"), id("c.example/d"));
                let policy = ServicePolicy::new(service.clone(), Vec::new(), Some(rego));
                policy.decide(&Request { peer: &peer, service: &service, operation: Operation::Connect, source: None });
            }
        }
    }
}
