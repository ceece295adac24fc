//! What a site tells Prometheus, held to the conventions that `promtool check metrics` holds
//! others to: names, units, types, help.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
};

use lab::{
    SOON, Site, echo, exchange_soon,
    federation::Founded,
    metrics::{admin_of, scrape},
    run, two_sites,
};
use renkei_testkit::wait_for;

/// A family as its `# TYPE` and `# HELP` lines have it.
#[derive(Default)]
struct Family {
    kind: String,
    help: String,
}

fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["#", "HELP", name, help] => {
                families.entry((*name).into()).or_default().help = (*help).into()
            }
            ["#", "TYPE", name, kind] => {
                families.entry((*name).into()).or_default().kind = (*kind).into()
            }
            _ => {}
        }
    }
    families
}

#[test]
fn names_units_types_and_help_keep_the_conventions() {
    let (mut hokkaido, mut osaka, local) = two_sites(echo());
    exchange_soon(local, b"counted");
    let _ = run(hokkaido.command(&["status"]));
    let mut stranger = TcpStream::connect(hokkaido.gateway).expect("connected");
    stranger
        .write_all(b"GET / HTTP/1.0\r\n\r\n")
        .expect("written");
    hokkaido.sentence("plaintext");
    for (site, is_callee) in [(&mut hokkaido, true), (&mut osaka, false)] {
        let text = scrape(admin_of(site));
        let families = families(&text);
        assert!(text.ends_with("# EOF\n"), "{text}");
        for name in ["renkei_trunks", "renkei_trunk_lanes"] {
            assert!(text.contains(&format!("\n{name}{{direction=")), "{text}");
        }
        let backends = [
            "renkei_backend_up{service=",
            "renkei_backend_connections_total{",
        ];
        let has_backends = backends.map(|name| text.contains(&format!("\n{name}")));
        assert_eq!(has_backends, [is_callee; 2], "{text}");
        for (name, family) in &families {
            check_family(name, family);
        }
        let mut seen = BTreeSet::new();
        for sample in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = sample.rsplit_once(' ').expect("a value");
            assert!(seen.insert(series), "twice: {series}");
            assert!(value.parse::<f64>().is_ok(), "no number: {sample}");
            let name = series.split('{').next().expect("a name");
            let bare = name
                .strip_suffix("_total")
                .or_else(|| name.strip_suffix("_info"));
            let family = families
                .get(bare.unwrap_or(name))
                .or_else(|| families.get(name));
            let family = family.unwrap_or_else(|| panic!("no TYPE and HELP: {sample}"));
            assert_eq!(
                family.kind == "counter",
                name.ends_with("_total"),
                "{sample}"
            );
        }
    }
}

/// The rules of the Prometheus documentation, "Metric and label naming".
fn check_family(name: &str, family: &Family) {
    assert!(
        ["counter", "gauge", "histogram", "info"].contains(&&*family.kind),
        "{name} is a {:?}",
        family.kind
    );
    assert!(
        family.help.len() > 5 && family.help.ends_with('.'),
        "help of {name}: {:?}",
        family.help
    );
    assert!(
        !family.help.ends_with(".."),
        "help of {name}: {:?}",
        family.help
    );
    assert!(
        name.starts_with("renkei_") || name.starts_with("process_"),
        "{name} has no prefix"
    );
    let words: Vec<&str> = name.split('_').collect();
    for word in &words {
        let is_plain = !word.is_empty()
            && word
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        assert!(is_plain, "{name} is not in snake case");
        let bad = [
            "counter",
            "gauge",
            "histogram",
            "total",
            "count",
            "sum",
            "bucket",
            "ms",
            "milliseconds",
            "minutes",
            "hours",
            "kb",
            "mb",
            "kilobytes",
            "megabytes",
            "percent",
        ];
        assert!(!bad.contains(word), "{word} in {name}");
    }
    if words.contains(&"timestamp") {
        assert!(name.ends_with("_timestamp_seconds"), "{name} names no unit");
    }
}

#[test]
fn an_operator_can_be_warned_of_what_will_fail() {
    let now = || time::OffsetDateTime::now_utc().unix_timestamp() as f64;
    let begin = now();
    let (hokkaido, mut osaka, _) = two_sites(echo());
    let value = |text: &str, series: &str| -> Option<f64> {
        let line = text.lines().find(|line| line.starts_with(series))?;
        line.rsplit_once(' ')?.1.parse().ok()
    };
    let text = scrape(admin_of(&mut osaka));
    let end = "renkei_svid_end_timestamp_seconds{spiffe_id=\"spiffe://osaka.example/collector\"}";
    let end = value(&text, end).expect("the end of the SVID");
    let life = 120.0;
    assert!(end >= begin && end <= now() + life + 1.0, "{begin} {end}");
    let fetched =
        "renkei_server_peer_bundle_fetched_timestamp_seconds{trust_domain=\"hokkaido.example\"}";
    let fetched = value(&text, fetched).expect("a fetch");
    assert!(
        fetched >= begin - 1.0 && fetched <= now() + 1.0,
        "{begin} {fetched}"
    );
    let applied = "renkei_config_last_apply_successful ";
    assert_eq!(value(&text, applied), Some(1.0));
    osaka.write("nonsense: 1\n");
    osaka.process().signal("HUP");
    wait_for("the refused file is told", SOON, || {
        (value(&scrape(admin_of(&mut osaka)), applied) == Some(0.0)).then_some(())
    });
    drop(hokkaido);
}

#[test]
fn a_registry_counts_the_requests_that_are_above_the_rate_of_their_address() {
    let osaka = Site::new("osaka");
    let program = Path::new(env!("CARGO_BIN_EXE_renkei"));
    let mut founded = Founded::by(&[&osaka], program);
    founded.serve_with("log", &["--admin", "127.0.0.1:0"]);
    let registry = founded.registry.as_ref().expect("it runs");
    let admin: SocketAddr = wait_for("the registry names its admin port", SOON, || {
        let log = registry.output();
        let line = log
            .lines()
            .find(|line| line.contains("metrics and health"))?;
        let (_, address) = line.split_once("address=")?;
        address.split_whitespace().next()?.parse().ok()
    });
    let line =
        |count: &str| format!("renkei_registry_refused_total{{reason=\"rate_limit\"}} {count}\n");
    assert!(scrape(admin).contains(&line("0")), "{}", scrape(admin));
    let post = || {
        let mut stream = TcpStream::connect(founded.address).ok()?;
        let request = b"POST /statements HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";
        stream.write_all(request).ok()?;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        Some(answer)
    };
    wait_for("a request is refused and counted", SOON, || {
        let mut answers = (0..200).filter_map(|_| post());
        answers.any(|answer| answer.contains(" 429 ")).then_some(())
    });
    assert!(!scrape(admin).contains(&line("0")), "{}", scrape(admin));
}
