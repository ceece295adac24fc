//! The federation file, and the keys of a site file that go with it.

#![expect(clippy::panic, reason = "a test may panic")]

use renkei_site::{BundleSource, HostPort, Mirror, diff, parse, parse_federation};
use renkei_spiffe::TrustDomain;

fn key(byte: u8) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode([byte; 32])
}

fn good() -> String {
    format!(
        "federation: intercloud
origin: federation.example/intercloud
log_key: {}
registrar: {{keys: [{}], threshold: 1}}
witnesses:
  quorum: 2
  keys: {{osaka.example: {}, kyushu.example: {}, hokkaido.example: {}}}
mirrors: [https://federation.example/intercloud, mirror, http://127.0.0.1:8480/]
",
        key(1),
        key(2),
        key(3),
        key(4),
        key(5)
    )
}

fn site(rest: &str) -> renkei_site::Site {
    let text = format!("site: osaka\ntrust_domain: osaka.example\n{rest}");
    parse("site.yaml", &text).unwrap_or_else(|faults| panic!("{}", faults.to_lines()))
}

#[test]
fn a_good_file_is_read_and_its_folders_are_beside_it() {
    let mut file = parse_federation("intercloud.yaml", &good()).unwrap();
    file.resolve_paths("/etc/renkei".as_ref());
    assert_eq!(file.name, "intercloud");
    assert_eq!((file.quorum, file.witnesses.len()), (2, 3));
    assert_eq!(file.registrar, [[2; 32]]);
    let mirrors: Vec<String> = file.mirrors.iter().map(ToString::to_string).collect();
    let wanted = [
        "https://federation.example/intercloud/",
        "/etc/renkei/mirror",
        "http://127.0.0.1:8480/",
    ];
    assert_eq!(mirrors, wanted);
    assert!(matches!(file.mirrors[1], Mirror::Folder(_)));
}

#[test]
fn all_faults_come_at_once_each_with_its_place_and_a_hint() {
    let mut said = Vec::new();
    let (log, registrar, witness) = (key(1), key(2), key(3));
    for (from, to) in [
        ("federation: intercloud\n", ""),
        ("origin: federation.example/intercloud", "origin: a + b"),
        (log.as_str(), "short"),
        ("threshold: 1", "threshold: 2"),
        ("threshold: 1", "threshold: one"),
        (registrar.as_str(), ""),
        ("quorum: 2", "quorum: 1"),
        ("quorum: 2", "quorum: 4"),
        ("quorum: 2", "quorum: 0"),
        (witness.as_str(), log.as_str()),
        (witness.as_str(), registrar.as_str()),
        ("kyushu.example", "Kyushu.example"),
        ("kyushu.example", "osaka.example"),
        ("https://federation.example/intercloud", "ftp://a/"),
        ("https://federation.example/intercloud", "https://me@a/?q"),
        ("mirrors: [", "mirrors: []\nmirrorz: ["),
        ("witnesses:", "witness:"),
        ("registrar: {keys", "registrar: {key"),
    ] {
        assert!(good().contains(from), "{from}");
        let faults = parse_federation("intercloud.yaml", &good().replacen(from, to, 1));
        said.push(format!("{} -> {}", from.trim(), to.trim().escape_debug()));
        let lines = faults.unwrap_err().to_lines();
        said.extend(lines.lines().map(|line| format!("    {line}")));
    }
    said.push(parse_federation("empty.yaml", "").unwrap_err().to_lines());
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn any_trust_domain_may_be_a_member_and_peers_may_stand_beside() {
    let site = site(
        "federation: intercloud.yaml
deny: [nara.example]
gateway: {listen: 127.0.0.1:8443}
peers: {hokkaido.example: {bundle: hokkaido.json}}
services: {store: {backends: [127.0.0.1:9000], allow: [tokyo.example/reader, hokkaido.example/x]}}
workloads: {collector: {selectors: [unix:uid:1], uses: {kyushu.example/broker: 127.0.0.1:19092}}}
",
    );
    let federation = site.federation.as_ref().unwrap();
    assert_eq!(federation.path.to_str(), Some("intercloud.yaml"));
    assert_eq!(federation.deny.len(), 1);
    assert_eq!(federation.admit, None);
    assert_eq!(site.peers.len(), 1);
}

#[test]
fn members_become_peers_and_what_the_file_says_of_a_peer_stays() {
    let site = site("federation: a.yaml\npeers: {hokkaido.example: {bundle: hokkaido.json}}\n");
    let td = |name| TrustDomain::parse(name).unwrap();
    let gateway = Some(HostPort::parse("gw.tokyo.example:8443").unwrap());
    let (tokyo, own, hokkaido) = (
        td("tokyo.example"),
        td("osaka.example"),
        td("hokkaido.example"),
    );
    let members = [(&tokyo, &gateway), (&own, &gateway), (&hokkaido, &gateway)];
    let linked = site.with_members(members);
    assert_eq!(linked.peers.len(), 2);
    assert_eq!(linked.peers[&tokyo].gateway, gateway);
    assert_eq!(linked.peers[&tokyo].bundle, BundleSource::Federation);
    assert_eq!(linked.peers[&hokkaido].gateway, None);
}

#[test]
fn a_change_of_the_federation_is_told() {
    let changed = |old: &str, new: &str| diff(&site(old), &site(new)).to_string();
    let (with, denying) = (
        "federation: a.yaml\n",
        "federation: a.yaml\ndeny: [b.example]\n",
    );
    assert_eq!(changed("", with), "+ federation");
    assert_eq!(changed(with, denying), "~ federation");
    assert_eq!(changed(with, with), "");
    assert_eq!(diff(&site(with), &site("")).needs_restart(), None);
}
