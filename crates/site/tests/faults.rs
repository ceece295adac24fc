//! What is said about a bad site file.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use miette::{GraphicalReportHandler, GraphicalTheme};
use renkei_site::{Faults, parse};

const GOOD: &str = "site: osaka
trust_domain: osaka.example
gateway: {listen: 127.0.0.1:8443}
peers:
  hokkaido.example: {bundle: hokkaido.json, gateway: 127.0.0.2:8443}
services:
  store: {backends: [127.0.0.1:9000]}
workloads:
  collector:
    selectors: [unix:user:sensor]
    uses: {hokkaido.example/broker: 127.0.0.1:19092}
";

fn faults(text: &str) -> Faults {
    parse("site.yaml", text).expect_err("the file is bad")
}

fn render(faults: &Faults) -> String {
    let mut text = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(90)
        .render_report(&mut text, faults)
        .unwrap();
    text
}

/// Replaces one piece of the good file and returns all that is said.
fn with(from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.contains(from), "{from}");
    let faults = faults(&GOOD.replacen(from, to, 1));
    faults.to_lines().lines().map(str::to_owned).collect()
}

#[test]
fn the_good_file_is_good() {
    parse("site.yaml", GOOD).unwrap();
}

#[test]
fn many_faults_are_told_at_once() {
    insta::assert_snapshot!(render(&faults(include_str!("fixtures/many-faults.yaml"))));
}

#[test]
fn broken_links_are_told_at_once() {
    insta::assert_snapshot!(faults(include_str!("fixtures/links.yaml")).to_lines());
}

#[test]
fn bad_yaml_has_a_place() {
    insta::assert_snapshot!(render(&faults(include_str!("fixtures/bad-brackets.yaml"))));
}

#[test]
fn machines_get_the_same_as_people() {
    let faults = faults(&GOOD.replace("services:", "servces:"));
    assert_eq!(
        serde_json::to_value(&faults).unwrap(),
        serde_json::json!([{
            "file": "site.yaml", "line": 6, "column": 1,
            "message": "unknown key `servces`", "hint": "did you mean `services`?"
        }])
    );
}

#[test]
fn faults_are_one_line_each() {
    let mut said = Vec::new();
    for (from, to) in [
        ("site: osaka\n", ""),
        ("site: osaka", "site: [osaka]"),
        ("site: osaka", "site: \"\""),
        ("trust_domain: osaka.example", "trust_domain: Osaka.example"),
        (
            "trust_domain: osaka.example",
            "trust_domain: osaka..example",
        ),
        ("trust_domain: osaka.example", "trust_domain:"),
        ("gateway: {listen: 127.0.0.1:8443}\n", ""),
        ("127.0.0.1:8443", "127.0.0.1"),
        ("127.0.0.1:8443", "127.0.0.1:0"),
        ("127.0.0.1:8443", "localhost:8443"),
        ("{listen: 127.0.0.1:8443}", "127.0.0.1:8443"),
        ("{listen: 127.0.0.1:8443}", "{port: 8443}"),
        (
            "{listen: 127.0.0.1:8443}",
            "{via: hokkaido.example, advertise: gw.osaka.example:8443}",
        ),
        ("{listen: 127.0.0.1:8443}", "{via: hokaido.example}"),
        ("{listen: 127.0.0.1:8443}", "{via: [hokkaido.example]}"),
        (
            "gateway: {listen: 127.0.0.1:8443}",
            "gateway: {via: hokkaido.example}\nrelays: [hokkaido.example]",
        ),
        (
            "gateway: {listen: 127.0.0.1:8443}\npeers:\n  hokkaido.example: {bundle: hokkaido.json, gateway: 127.0.0.2:8443}",
            "relays: [hokkaido.example]\npeers:\n  hokkaido.example: {bundle: hokkaido.json}",
        ),
        (
            "{listen: 127.0.0.1:8443}\npeers:\n  hokkaido.example: {bundle: hokkaido.json, gateway: 127.0.0.2:8443}",
            "{via: hokkaido.example}\npeers:\n  hokkaido.example: {bundle: hokkaido.json}",
        ),
        (
            "gateway: {listen: 127.0.0.1:8443}",
            "gateway: {via: tokyo.example}\nrelays: tokyo.example",
        ),
        (
            "peers:\n",
            "relays: [hokkaido.example, tokyo.example, osaka.example, Tokyo, hokaido.example]\npeers:\n",
        ),
        (
            "peers:\n",
            "relays: [tokyo.example, tokyo.example]\npeers:\n  tokyo.example: {bundle: a}\n",
        ),
        (
            "  hokkaido.example:",
            "  osaka.example: {bundle: a}\n  hokkaido.example:",
        ),
        ("bundle: hokkaido.json, ", ""),
        ("bundle: hokkaido.json, ", "identity: 6d0c, "),
        (
            "bundle: hokkaido.json, ",
            "bundle: https://a/, bootstrap: a.json, identity: 6d0c51bd6d0c51bd6d0c51bd6d0c51bd6d0c51bd6d0c51bd6d0c51bd6d0c51bd@0, ",
        ),
        (
            "bundle: hokkaido.json, gateway: 127.0.0.2:8443",
            "identity: 6d0c51bd6d0c51bd6d0c51bd6d0c51bd6d0c51bd6d0c51bd6d0c51bd6d0c51bd",
        ),
        (
            "bundle: hokkaido.json",
            "bundle: hokkaido.json, bootstrap: a.json",
        ),
        (
            "bundle: hokkaido.json",
            "bundle: https://a/, endpoint_id: spiffe://hokkaido.example/x",
        ),
        (
            "bundle: hokkaido.json",
            "bundle: https://a/, bootstrap: a, web_roots: b",
        ),
        (
            "bundle: hokkaido.json",
            "bundle: https://a/, bootstrap: a, endpoint_id: tokyo.example/x",
        ),
        ("bundle: hokkaido.json", "bundle: https://user@a/"),
        (", gateway: 127.0.0.2:8443", ""),
        ("{backends: [127.0.0.1:9000]}", ""),
        ("{backends: [127.0.0.1:9000]}", "[127.0.0.1:9000]"),
        ("[127.0.0.1:9000]", "127.0.0.1:9000"),
        (
            "[127.0.0.1:9000]",
            "[127.0.0.1:9000, {port: 1}, 127.0.0.1:9000]",
        ),
        ("[127.0.0.1:9000]", "[127.0.0.1:9000], protocol: kafak"),
        (
            "[127.0.0.1:9000]",
            "[unix:/run/app.sock, unix:///run//app.sock, unix:app.sock, 'unix:@app', 'unix:9000']",
        ),
        ("[127.0.0.1:9000]", "[unix:/run/app.sock], protocol: kafka"),
        ("[127.0.0.1:9000]", "[127.0.0.1:9000], protocol: htpt"),
        ("[127.0.0.1:9000]", "[127.0.0.1:9000], methods: [GET]"),
        (
            "[127.0.0.1:9000]",
            "[127.0.0.1:9000], protocol: http, methods: {}",
        ),
        (
            "[127.0.0.1:9000]",
            "[127.0.0.1:9000], protocol: http, methods: {collector: [GET], tokio.example/a: []}",
        ),
        (
            "[127.0.0.1:9000]",
            "[127.0.0.1:9000], protocol: http, policy: a.rego, methods: {collector: [GET, get, /v1, \
             GET /a/../b, GET /v1*, 'GET /a;b', GET /a /b, GET], osaka.example/collector: GET}",
        ),
        (
            "[127.0.0.1:9000]",
            "[127.0.0.1:9000], protocol: http, response_timeout: 25h",
        ),
        ("[127.0.0.1:9000]", "[127.0.0.1:9000], response_timeout: 5m"),
        (
            "[127.0.0.1:9000]",
            "[127.0.0.1:9000], topics: {collector: {consume: [a]}}",
        ),
        (
            "[127.0.0.1:9000]",
            "[127.0.0.1:9000], protocol: kafka, topics: {}",
        ),
        (
            "[127.0.0.1:9000]",
            "[127.0.0.1:9000], protocol: kafka, allow: [collector], topics: {collector: {}, \
             hokkaido.example/reader: {consume: [a]}, tokio.example/a: {consume: [a]}}",
        ),
        (
            "[127.0.0.1:9000]",
            "[127.0.0.1:9000], protocol: kafka, policy: a.rego, topics: {collector: {produces: [a], \
             consume: [a*b, 'a b', .., a, a], group: ['a*b'], describe: a}, \
             osaka.example/collector: [a]}",
        ),
        (
            "[127.0.0.1:9000]",
            "[127.0.0.1:9000], allow: [hokkaido.example, osaka.example, a/b/../c]",
        ),
        (
            "[127.0.0.1:9000]",
            "[127.0.0.1:9000], allow: [collector, osaka.example/collector]",
        ),
        ("store:", "my_store:"),
        ("store:", "renkei:"),
        ("  collector:", "  store:"),
        ("  collector:", "  a/b:"),
        ("    selectors: [unix:user:sensor]\n", ""),
        (
            "[unix:user:sensor]",
            "[unix:user:sensor, unix:user:kafka, unix:user:sensor]",
        ),
        ("[unix:user:sensor]", "[unix:uid:sensor]"),
        ("[unix:user:sensor]", "[slurm:account:a]"),
        (
            "[unix:user:sensor]",
            "[systemd:id:a.service, container:image:b]",
        ),
        ("[unix:user:sensor]", "[{unix: sensor}]"),
        ("hokkaido.example/broker", "stroe"),
        ("hokkaido.example/broker", "spiffe://hokkaido.example"),
        ("127.0.0.1:19092", "10.0.0.1:19092"),
        (
            "127.0.0.1:19092}",
            "127.0.0.1:19092, store: 127.0.0.1:19092}",
        ),
        ("site: osaka", "site: osaka\nlifetimes: {ca: 30m}"),
        (
            "site: osaka",
            "site: osaka\nlifetimes: {ca: 60s, x509_svid: 20s}",
        ),
        (
            "site: osaka",
            "site: osaka\nlifetimes: {ca: 7m, x509_svid: 20s, bundle_refresh: 1s}",
        ),
        (
            "site: osaka",
            "site: osaka\nlifetimes: {bundle_refresh: 4h}",
        ),
        ("store: {", "store: {id: tokyo.example/store, "),
        ("store: {", "store: {id: /renkei/store, "),
        ("store: {", "store: {id: /a//b, "),
        ("store: {", "store: {id: /collector, "),
        (
            "collector:\n",
            "collector:\n    id: /ns/prod\n    hint: ''\n    default: yes\n",
        ),
        (
            "workloads:\n",
            "workloads:\n  other: {selectors: [unix:uid:1], hint: collector, id: /store}\n",
        ),
        (
            "site: osaka",
            "site: osaka\nworkload_api: {connections: 0, streams_per_connection: x}",
        ),
        (
            "site: osaka",
            "site: osaka\nworkload_api: {connections: 100}",
        ),
        (
            "site: osaka",
            "site: osaka\nlifetimes: {ca: 4000d, x509_svid: 1s, jwt_svid: 5m}",
        ),
        (
            "site: osaka",
            "site: osaka\nbundle_endpoint: {listen: \"[::]:8443\", certificate: a}",
        ),
        (
            "site: osaka",
            "site: osaka\nbundle_endpoint: {listen: \"[::]:8443\", certificate: a, key: b}",
        ),
        ("site: osaka", "site: osaka\nsite: tokyo\n[a]: b"),
        (
            "site: osaka",
            "site: osaka\nfederation: intercloud.yaml\nworkload: {}",
        ),
        (
            "site: osaka",
            "site: osaka\ndeny: [tokyo.example]\nadmit: {tokyo.example: x}",
        ),
        (
            "site: osaka",
            "site: osaka\nfederation: [a]\ndeny: [osaka.example, hokkaido.example, a b]\nadmit: {osaka.example: x}",
        ),
        (
            "[127.0.0.1:9000]}",
            "[127.0.0.1:9000], allow: [tokyo.example]}\nfederation: intercloud.yaml",
        ),
        ("peers:\n  hokkaido.example:", "peers:\n- hokkaido.example:"),
        ("  collector:\n", "  collector: [a]\n  other:\n"),
        ("site: osaka", "site: osaka\n<<: {admin: 127.0.0.1:8443}"),
    ] {
        said.push(format!("{} -> {}", from.trim(), to.trim().escape_debug()));
        said.extend(with(from, to).into_iter().map(|line| format!("    {line}")));
    }
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn files_that_are_no_site_files() {
    let mut said = Vec::new();
    let deep = "[".repeat(10_000);
    let billion_laughs = (0..9).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
        let alias = format!("*a{n},").repeat(9);
        format!("{text}a{}: &a{} [{alias}]\n", n + 1, n + 1)
    });
    for text in [
        "",
        "# nothing\n",
        "~",
        "just words",
        "- a\n- b",
        "a: b\n---\nc: d",
        "site: *nobody",
        "site: !secret x",
        "\tsite: a",
        "\u{feff}sitee: a",
        "site: a\0b",
        "trust_domain: \"日本.example\"",
        &deep,
        &billion_laughs,
    ] {
        said.push(
            text.chars()
                .take(40)
                .collect::<String>()
                .escape_debug()
                .to_string(),
        );
        let lines = faults(text).to_lines();
        said.extend(lines.lines().map(|line| format!("    {line}")));
    }
    let big = "#".repeat(renkei_site::MAX_TEXT + 1);
    said.push(faults(&big).to_lines());
    insta::assert_snapshot!(said.join("\n"));
}
