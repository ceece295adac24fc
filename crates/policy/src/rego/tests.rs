//! Modules as a site would write them, and modules that nobody should.

use std::{net::IpAddr, time::Duration};

use renkei_spiffe::SpiffeId;

use super::*;

mod agreement;
mod bounds;
mod conformance;
mod corpus;
mod generated;
mod opa;

const HEAD: &str = "package renkei.authz\n\nimport rego.v1\n\n";

fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://{text}")).unwrap()
}

fn compile(rules: &str) -> RegoModule {
    RegoModule::compile("broker.rego", &format!("{HEAD}{rules}")).unwrap()
}

fn fault(text: &str) -> RegoError {
    RegoModule::compile("broker.rego", text).unwrap_err()
}

fn ask_from(module: &RegoModule, peer: &str, source: Option<&str>) -> Result<Verdict, Stop> {
    let (peer, service) = (id(peer), id("tokyo.example/mdx"));
    let source = source.map(|ip| ip.parse::<IpAddr>().unwrap());
    module.evaluate(
        &Request {
            peer: &peer,
            service: &service,
            operation: crate::Operation::Connect,
            source,
        },
        true,
        Effort::Full,
    )
}

fn ask(module: &RegoModule, peer: &str) -> Result<Verdict, Stop> {
    ask_from(module, peer, None)
}

fn denied(message: &str) -> Result<Verdict, Stop> {
    Ok(Verdict::Denied(message.to_owned()))
}

#[test]
fn rules_see_the_whole_document() {
    let module = compile(
        r#"
allow if input == {
    "peer": {
        "id": "spiffe://osaka.example/lab/collector",
        "trust_domain": "osaka.example",
        "path": "/lab/collector",
    },
    "service": {"id": "spiffe://tokyo.example/mdx", "name": "mdx"},
    "operation": {"kind": "connect"},
    "source": {"ip": "192.0.2.7"},
}
"#,
    );
    let peer = "osaka.example/lab/collector";
    assert_eq!(
        ask_from(&module, peer, Some("192.0.2.7")),
        Ok(Verdict::Allowed)
    );
    assert_eq!(
        ask_from(&module, peer, Some("::ffff:192.0.2.7")),
        Ok(Verdict::Allowed)
    );
    assert_eq!(ask_from(&module, peer, None), Ok(Verdict::Undecided));
}

#[test]
fn deny_wins_over_allow_and_gives_its_messages() {
    let module = compile(
        r#"
default allow := false
allow if input.peer.trust_domain == "osaka.example"
deny contains "the collector is being repaired" if input.peer.path == "/collector"
deny contains msg if {
    net.cidr_contains("203.0.113.0/24", input.source.ip)
    msg := sprintf("%s is blocked", [input.source.ip])
}
"#,
    );
    assert_eq!(ask(&module, "osaka.example/reader"), Ok(Verdict::Allowed));
    assert_eq!(
        ask(&module, "osaka.example/collector"),
        denied("the collector is being repaired")
    );
    assert_eq!(
        ask(&module, "kyushu.example/reader"),
        Ok(Verdict::Undecided)
    );
    let both = ask_from(&module, "osaka.example/collector", Some("203.0.113.9"));
    assert_eq!(
        both,
        denied("203.0.113.9 is blocked; the collector is being repaired")
    );
}

#[test]
fn a_machine_that_is_used_again_remembers_nothing() {
    let module = compile(
        "allow if input.peer.path == \"/a\"\ndeny contains \"b\" if input.peer.path == \"/b\"",
    );
    for _ in 0..3 {
        assert_eq!(ask(&module, "x.example/a"), Ok(Verdict::Allowed));
        assert_eq!(ask(&module, "x.example/b"), denied("b"));
        assert_eq!(ask(&module, "x.example/c"), Ok(Verdict::Undecided));
    }
    // The clock is cached within an evaluation and must not be from one to the next.
    let module = compile("deny contains sprintf(\"%d\", [time.now_ns()])");
    let first = ask(&module, "x.example/a").unwrap();
    std::thread::sleep(Duration::from_millis(2));
    assert_ne!(first, ask(&module, "x.example/a").unwrap());
}

#[test]
fn rules_read_the_clock_that_was_given() {
    let module = compile("deny contains sprintf(\"%d\", [time.now_ns()])");
    let module = module.with_clock(|| 1_796_040_000_000_000_000);
    assert_eq!(ask(&module, "x.example/a"), denied("1796040000000000000"));
}

#[test]
fn deny_of_any_other_shape_denies_unless_it_plainly_does_not() {
    let module = compile("deny if input.peer.path == \"/a\"");
    assert_eq!(
        ask(&module, "x.example/a"),
        denied("denied without a message")
    );
    assert_eq!(ask(&module, "x.example/b"), Ok(Verdict::Undecided));
    for (value, message) in [
        ("\"no\"", "no"),
        ("[\"one\", 2]", "one; 2"),
        ("{\"code\": 7}", "code"),
        ("0", "0"),
        ("\"two\\nlines\"", "two lines"),
    ] {
        assert_eq!(
            ask(&compile(&format!("deny := {value}")), "x.example/a"),
            denied(message)
        );
    }
    for value in ["false", "null", "[]", "{}", "set()"] {
        let module = compile(&format!("deny := {value}\nallow := true"));
        assert_eq!(ask(&module, "x.example/a"), Ok(Verdict::Allowed), "{value}");
    }
}

#[test]
fn only_true_allows() {
    for value in ["false", "\"true\"", "1", "[true]", "{true}", "null"] {
        let module = compile(&format!("allow := {value}"));
        assert_eq!(
            ask(&module, "x.example/a"),
            Ok(Verdict::Undecided),
            "{value}"
        );
    }
}

#[test]
fn a_module_with_with_runs_in_the_interpreter_to_the_same_end() {
    let module = compile(
        r#"
is_reader if endswith(input.peer.path, "/reader")
allow if is_reader with input.peer.path as concat("", [input.peer.path, "er"])
deny contains "not at night" if { print("asked"); input.peer.path == "/night" }
"#,
    );
    for _ in 0..2 {
        assert_eq!(ask(&module, "x.example/read"), Ok(Verdict::Allowed));
        assert_eq!(ask(&module, "x.example/reader"), Ok(Verdict::Undecided));
        assert_eq!(ask(&module, "x.example/night"), denied("not at night"));
    }
}

#[test]
fn a_runaway_rule_denies_and_is_named() {
    let loops: String = "abcdefghi"
        .chars()
        .map(|c| format!("some {c} in digits; "))
        .collect();
    let module = compile(&format!(
        "digits := [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n\
         slow if {{ {loops} a + b + c + d + e + f + g + h == -1 }}\n\
         allow if slow\n"
    ));
    for _ in 0..2 {
        let stop = ask(&module, "x.example/a").unwrap_err();
        assert_eq!(stop.why(), Why::Steps);
        assert!(
            stop.to_string()
                .starts_with("in the rule slow: it took too long"),
            "{stop}"
        );
    }
}

#[test]
fn a_rule_that_fails_denies_with_its_reason() {
    for rules in [
        "allow := true if input.peer.id\nallow := false if input.peer.id",
        "allow := x if some x in [true, false]",
        "level := 1 if input.peer\nlevel := 2 if input.service\ndeny contains \"x\" if level == 3",
        "f(x) := y if some y in [x, 1]\nallow if f(2) == 1",
    ] {
        let error = ask(&compile(rules), "x.example/a").unwrap_err();
        assert_eq!(error.why(), Why::Conflict, "{rules}");
    }
}

#[test]
fn functions_that_reach_outside_or_allocate_without_bound_are_refused_where_they_stand() {
    for (call, name) in [
        (
            "http.send({\"method\": \"get\", \"url\": \"http://192.0.2.1\"})",
            "http.send",
        ),
        ("opa.runtime()", "opa.runtime"),
        ("net.lookup_ip_addr(\"x.example\")", "net.lookup_ip_addr"),
        ("numbers.range(0, 1000000000000)", "numbers.range"),
        (
            "numbers.range_step(0, 1000000000000, 1)",
            "numbers.range_step",
        ),
        ("net.cidr_expand(\"::/0\")", "net.cidr_expand"),
        ("bits.lsh(1, 4294967295)", "bits.lsh"),
    ] {
        let error = fault(&format!("{HEAD}allow if {call}"));
        assert_eq!((error.line, error.column), (5, 10), "{call}");
        assert!(
            error
                .message
                .starts_with(&format!("{name} is not available")),
            "{error}"
        );
    }
    compile("# unlike http.send and numbers.range\ndeny contains \"http.send\" if false");
}

#[test]
fn other_functions_that_do_not_exist_are_faults() {
    let error = fault(&format!(
        "{HEAD}allow if {{\n    io.jwt.decode(input.token)\n}}"
    ));
    assert_eq!(error.line, 6, "{error}");
    assert!(error.message.contains("io.jwt.decode"), "{error}");
}

#[test]
fn faults_have_their_place() {
    let error = fault(&format!("{HEAD}allow if {{\n    input.peer ==\n}}"));
    assert_eq!((error.line, error.column), (7, 1), "{error}");
    assert!(!error.message.contains('\n'), "{error}");
    let error = fault(&format!("{HEAD}allow if x == 1"));
    assert_eq!((error.line, error.column), (5, 10), "{error}");
    let error = fault("\n\npackage other\n\nallow := true");
    assert_eq!(error.line, 3);
    assert!(
        error.to_string().contains("the package is `other`"),
        "{error}"
    );
    let error = fault(HEAD);
    assert!(
        error.message.contains("neither `allow` nor `deny`"),
        "{error}"
    );
    for empty in ["", "\n", "# nothing"] {
        fault(empty);
    }
    let error = fault(&format!("{HEAD}allow if a\na if b\nb if a"));
    assert!(error.message.contains("recursion"), "{error}");
    let deep = format!(
        "{HEAD}allow if {}1{}",
        "(".repeat(50_000),
        ")".repeat(50_000)
    );
    fault(&deep);
}

#[test]
fn threads_share_a_module() {
    let module = compile("allow if input.peer.trust_domain == \"osaka.example\"");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for n in 0..200 {
                    let (peer, expected) = match n % 2 {
                        0 => ("osaka.example/a", Verdict::Allowed),
                        _ => ("kyushu.example/a", Verdict::Undecided),
                    };
                    assert_eq!(ask(&module, peer), Ok(expected));
                }
            });
        }
    });
}

#[test]
fn rules_that_depend_on_themselves_are_faults() {
    for rules in [
        "allow if allow",
        "allow if a\na if b\nb if a",
        "allow if a with input.x as 1\na if b\nb if a",
        "f(x) := f(x)\nallow if f(1)",
        "deny contains m if some m in deny",
        "allow if data.renkei.authz.allow",
        "allow if data[\"renkei\"][\"authz\"].allow",
        "allow if data.renkei.authz[input.peer.path]",
        "allow if data.renkei",
        "allow if count(data) > 0",
        "allow if data[input.peer.path]",
        "allow if { x := data; x.renkei.authz.allow }",
    ] {
        let error = fault(&format!("{HEAD}{rules}"));
        let known = ["recursion", "name a rule", "name one of"]
            .iter()
            .any(|part| error.message.contains(part));
        assert!(known, "{rules}: {error}");
    }
    let error = fault("package renkei.authz\nimport data.renkei.authz as me\nallow if me.allow");
    assert_eq!(error.line, 2);
}

#[test]
fn long_modules_neither_end_the_process_nor_pass() {
    let chain = |length: usize| {
        let links: Vec<String> = (0..length)
            .map(|n| format!("r{n} if r{}\n", n + 1))
            .collect();
        format!(
            "{HEAD}allow if r0\n{}r{length} if input.peer\n",
            links.concat()
        )
    };
    let with = "deny contains \"x\" if input.none with input as {}\n";
    for more in ["", with] {
        let module = RegoModule::compile("p", &format!("{}{more}", chain(30))).unwrap();
        assert_eq!(ask(&module, "x.example/a"), Ok(Verdict::Allowed));
    }
    for long in [40, 500, 3000] {
        let error = fault(&chain(long));
        assert!(error.message.contains("in a row"), "{error}");
    }
    let body = "    input.peer.path == \"/a\"\n".repeat(3900);
    for with in ["", with] {
        if let Ok(module) = RegoModule::compile("p", &format!("{HEAD}{with}allow if {{\n{body}}}"))
        {
            ask(&module, "x.example/a").unwrap();
        }
    }
    let loops = "some a in [1]; ".repeat(300);
    let mut number = 0;
    let loops: String = loops
        .split("a in")
        .map(|part| {
            number += 1;
            format!("{part}a{number} in")
        })
        .collect();
    let error = fault(&format!(
        "{HEAD}allow if {{ {}true }}",
        loops.trim_end_matches("a301 in")
    ));
    assert!(error.message.contains("too deep"), "{error}");
    let (open, close) = ("[x | x := ".repeat(9), "]".repeat(9));
    let chain: String = (0..28)
        .map(|n| format!("r{n} := {open}r{}{close}\n", n + 1))
        .collect();
    let error = fault(&format!("{HEAD}allow if r0\n{chain}r28 := 1\n"));
    assert!(error.message.contains("too deep"), "{error}");
    fault(&format!(
        "{HEAD}allow if \"{}\" == input",
        "x".repeat(300 * 1024)
    ));
}
