//! Rules that grow or run without end where the caller's name says so.

use super::*;

/// How it ends; `None` where it is refused.
fn stop(rules: &str) -> Option<Stop> {
    let longest = "a".repeat(1900);
    let module = RegoModule::compile("broker.rego", &format!("{HEAD}{rules}")).ok()?;
    Some(ask(&module, &format!("osaka.example/{longest}")).expect_err(rules))
}

/// `r0` and so on, each made of the one before.
fn chain(first: &str, next: &str, length: usize) -> String {
    let mut rules = format!("r0 := {first}\n");
    for index in 1..=length {
        let before = format!("r{}", index - 1);
        rules.push_str(&format!("r{index} := {}\n", next.replace('$', &before)));
    }
    format!("{rules}deny contains \"x\" if r{length} == input.none\n")
}

#[test]
fn functions_without_bounds_are_refused() {
    for call in [
        "units.parse(trim_prefix(input.peer.path, \"/\"))",
        "units.parse_bytes(input.peer.path)",
        "to_number(input.peer.path)",
        "numbers.range(1, count(input.peer.path))",
        "format_int(count(input.peer.path), 2)",
        "bits.lsh(1, count(input.peer.path))",
        "sprintf(\"%2000000000d\", [1])",
        "sprintf(\"%.2000000000f\", [1])",
        "sprintf(\"%*d\", [2000000000, 1])",
        "sprintf(input.peer.path, [1])",
        "regex.match(input.peer.path, \"a\")",
        "regex.match(`(a{1000}){1000}`, input.peer.path)",
        "regex.replace(input.peer.path, \"a\", \"b\")",
        "glob.match(input.peer.path, [], \"a\")",
        "json.unmarshal(input.peer.path)",
        "yaml.unmarshal(input.peer.path)",
        "base64.decode(input.peer.path)",
        "time.parse_duration_ns(input.peer.path)",
        "net.cidr_expand(input.peer.path)",
        "graph.reachable({}, {input.peer.path})",
        "1e99999999",
    ] {
        let error = fault(&format!("{HEAD}deny contains \"x\" if {call} == 1000\n"));
        assert_eq!(error.line, 5, "{call}: {error}");
    }
}

#[test]
fn what_grows_ends_at_a_limit_and_is_named() {
    for (first, next, why) in [
        ("input.peer.path", "concat(\"\", [$, $])", Why::Text),
        ("input.peer.path", "replace($, \"a\", $)", Why::Text),
        ("input.peer.path", "sprintf(\"%s%s\", [$, $])", Why::Text),
        ("[1, 2, 3, 4]", "array.concat($, $)", Why::Items),
        (
            "split(input.peer.path, \"\")",
            "[[a, b] | some a in $; some b in $]",
            Why::Items,
        ),
        (
            "{1, 2, 3, 4, 5}",
            "{[a, b] | some a in $; some b in $}",
            Why::Items,
        ),
        (
            "{1: 1, 2: 2, 3: 3}",
            "{[a, b]: 1 | some a, _ in $; some b, _ in $}",
            Why::Items,
        ),
        ("count(input.peer.path)", "$ * $", Why::Number),
        ("count(input.peer.path)", "product([$, $, $])", Why::Number),
    ] {
        // Types grow as well, and then the file is refused.
        let length = if next.contains("some") { 8 } else { 24 };
        assert!(
            length == 24 || stop(&chain(first, next, 24)).is_none(),
            "{next}"
        );
        let stop = stop(&chain(first, next, length)).unwrap();
        assert!(
            [why, Why::Steps, Why::Bytes].contains(&stop.why()),
            "{next}: {stop}"
        );
        assert!(
            stop.to_string().starts_with("in the rule r"),
            "{next}: {stop}"
        );
    }
}

#[test]
fn what_runs_ends_at_a_limit() {
    for body in [
        "some a in parts; some b in parts; some c in parts; a + b + c == \"x\"",
        "some a in parts; some b in parts; some c in parts; a == b; b == c; a == \"b\"",
        "every a in parts { every b in parts { every c in parts { a != \"b\"; b != \"b\"; c != \"b\" } } }",
        "some a in parts; some b in parts; contains(input.peer.path, concat(a, [b, b])); a == \"b\"",
        "some a in parts; some b in parts; regex.match(`(a|aa)+$`, input.peer.path); a != b",
        "some a in parts; some b in parts; glob.match(`*a*a*a*b`, [], input.peer.path); a != b",
        "some a in parts; some b in parts; f(f(f(a))) == b; a == \"b\"",
        "count({x | some a in parts; some b in parts; x := [parts, a, b]}) == 7",
        "some a in parts; some b in parts; sort([parts, parts, a, b]) == parts",
    ] {
        let body = body.replace("a + b + c", "concat(a, [b, c])");
        let stop = stop(&format!(
            "parts := split(input.peer.path, \"\")\nf(x) := y if {{ some y in parts; y == x }}\n\
             deny contains \"x\" if {{ {body} }}\n"
        ))
        .unwrap();
        assert!(
            [Why::Steps, Why::Bytes, Why::Items].contains(&stop.why()),
            "{body}: {stop}"
        );
    }
}
