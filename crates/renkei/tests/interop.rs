//! Programs that nobody here wrote as the other side: Envoy, openssl and curl.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    process::Command,
    time::Duration,
};

use lab::{
    SOON, Site,
    connection::Connection,
    echo,
    envoy::Envoy,
    exchange, exchange_soon,
    foreign::{Foreign, callee_of, line_echo, pattern, s_client, stdout_of},
    own_uid, run, said, two_sites,
};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use renkei_spiffe::{Bundle, TrustDomain};
use renkei_testkit::{free_address, wait_for};

/// Both directions at once; then only the sending side is ended, and the rest must still come.
fn carry(address: SocketAddr, length: usize) {
    let sent = pattern(length);
    let mut stream = TcpStream::connect(address).expect("connected");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("timeout");
    let mut writer = stream.try_clone().expect("socket handle");
    let bytes = sent.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&bytes).expect("written");
        writer.shutdown(Shutdown::Write).expect("half-closed");
    });
    let mut got = Vec::new();
    stream.read_to_end(&mut got).expect("read to a clean end");
    writing.join().expect("writer");
    assert_eq!(got.len(), sent.len());
    assert!(got == *sent, "bytes changed on the way");
}

#[test]
fn an_envoy_of_another_trust_domain_calls_a_service() {
    let foreign = Foreign::new("envoy.example");
    let hokkaido = callee_of(&foreign, echo());
    let authorities = foreign.authorities_of(&hokkaido);
    let callee = ("hokkaido.example/echo", authorities.as_path());
    let envoy = Envoy::caller(&foreign, &foreign.issue("caller"), callee, hokkaido.gateway);
    for _ in 0..3 {
        carry(envoy.address, 4_000_000);
    }
    let status = wait_for("the flows are counted", SOON, || {
        Some(hokkaido.status()).filter(|status| status["proxy"]["totals"][0]["open"] == 0)
    });
    let total = &status["proxy"]["totals"][0];
    assert_eq!(total["caller"], "spiffe://envoy.example/caller");
    assert_eq!(total["callee"], "spiffe://hokkaido.example/echo");
    assert_eq!(total["bytes_received"], 12_000_000);
    assert_eq!(total["bytes_sent"], 12_000_000);
}

#[test]
fn an_envoy_that_is_not_allowed_is_refused() {
    let foreign = Foreign::new("envoy.example");
    let hokkaido = callee_of(&foreign, echo());
    let authorities = foreign.authorities_of(&hokkaido);
    let callee = ("hokkaido.example/echo", authorities.as_path());
    let stranger = foreign.issue("stranger");
    let envoy = Envoy::caller(&foreign, &stranger, callee, hokkaido.gateway);
    let got = exchange(envoy.address, b"hello");
    assert!(got.as_ref().map_or(true, Vec::is_empty), "{got:?}");
    let sentence = hokkaido.sentence("not_allowed");
    assert!(sentence.contains("envoy.example/stranger"), "{sentence}");
    assert_eq!(hokkaido.refused("not_allowed"), 1);
}

#[test]
fn an_envoy_that_trusts_another_ca_refuses_the_service() {
    let foreign = Foreign::new("envoy.example");
    let hokkaido = callee_of(&foreign, echo());
    let other = Foreign::new("hokkaido.example");
    let authority = other.path("ca.pem");
    std::fs::write(&authority, other.authority.certificate_pem()).expect("CA file");
    let callee = ("hokkaido.example/echo", authority.as_path());
    let envoy = Envoy::caller(&foreign, &foreign.issue("caller"), callee, hokkaido.gateway);
    let got = exchange(envoy.address, b"hello");
    assert!(got.as_ref().map_or(true, Vec::is_empty), "{got:?}");
    let sentence = hokkaido.sentence("peer_refused");
    assert!(sentence.contains("the peer"), "{sentence}");
}

/// A site `osaka` whose `collector` uses `echo` of a foreign trust domain, not yet running.
fn osaka_calling(foreign: &Foreign, gateway: SocketAddr, local: SocketAddr) -> String {
    format!(
        "{}workloads:\n  collector: {{selectors: [{}], uses: {{{}/echo: {local}}}}}\n",
        foreign.peers(Some(gateway)),
        own_uid(),
        foreign.authority.trust_domain()
    )
}

#[test]
fn a_workload_calls_a_service_behind_an_envoy_across_renewals() {
    let foreign = Foreign::new("envoy.example");
    let (mut osaka, local) = (Site::renewing("osaka"), free_address());
    let authorities = foreign.authorities_of(&osaka);
    let caller = ("osaka.example/collector", authorities.as_path());
    let envoy = Envoy::callee(&foreign, &foreign.issue("echo"), caller, echo());
    osaka.write(&osaka_calling(&foreign, envoy.address, local));
    osaka.start();
    osaka.wait_linked();
    carry(local, 4_000_000);
    let mut open = Connection::open(local);
    wait_for("two renewals", 2 * SOON, || {
        open.say();
        (osaka.renewals() >= 2).then_some(())
    });
    carry(local, 1_000_000);
    open.say();
    assert_eq!(envoy.tls_counter("handshake"), 3);
    assert_eq!(envoy.tls_counter("fail_verify_san"), 0);
    let refused = &osaka.status()["proxy"]["refused"];
    assert_eq!(refused.as_array().map(Vec::len), Some(0), "{refused}");
}

#[test]
fn an_envoy_that_does_not_want_the_caller_is_understood() {
    let foreign = Foreign::new("envoy.example");
    let (mut osaka, local) = (Site::new("osaka"), free_address());
    let authorities = foreign.authorities_of(&osaka);
    let caller = ("osaka.example/somebody-else", authorities.as_path());
    let envoy = Envoy::callee(&foreign, &foreign.issue("echo"), caller, echo());
    osaka.write(&osaka_calling(&foreign, envoy.address, local));
    osaka.start();
    osaka.wait_linked();
    let got = exchange(local, b"hello");
    assert!(got.as_ref().map_or(true, Vec::is_empty), "{got:?}");
    let sentence = osaka.sentence("peer_refused");
    assert!(sentence.contains("envoy.example/echo"), "{sentence}");
    assert_eq!(envoy.tls_counter("fail_verify_san"), 1);
}

#[test]
fn openssl_calls_a_service_and_verifies_it() {
    let foreign = Foreign::new("openssl.example");
    let hokkaido = callee_of(&foreign, line_echo());
    let authorities = foreign.authorities_of(&hokkaido);
    let caller = foreign.issue("caller");
    let gateway = hokkaido.gateway;
    let trusted = ["-CAfile", authorities.to_str().expect("UTF-8")];
    let verify = [&trusted[..], &["-verify_return_error", "-verify", "4"]].concat();
    let answer = s_client(gateway, Some(&caller), &verify, "by openssl\n");
    assert_eq!(answer.stdout, b"by openssl\n", "{}", said(&answer));
    assert!(answer.status.success(), "{}", said(&answer));

    let certificate = foreign.path("ca.pem");
    std::fs::write(&certificate, foreign.authority.certificate_pem()).expect("CA file");
    let wrong = ["-CAfile", certificate.to_str().expect("UTF-8")];
    let verify = [&wrong[..], &["-verify_return_error", "-verify", "4"]].concat();
    let answer = s_client(gateway, Some(&caller), &verify, "unheard\n");
    assert!(answer.stdout.is_empty(), "{}", said(&answer));
    let sentence = hokkaido.sentence("peer_refused");
    assert!(sentence.contains("does not trust"), "{sentence}");
}

#[test]
fn openssl_without_a_certificate_or_with_tls_1_2_is_refused() {
    let foreign = Foreign::new("openssl.example");
    let hokkaido = callee_of(&foreign, line_echo());
    let answer = s_client(hokkaido.gateway, None, &[], "unheard\n");
    assert!(answer.stdout.is_empty(), "{}", said(&answer));
    assert!(
        said(&answer).contains("certificate required"),
        "{}",
        said(&answer)
    );
    let sentence = hokkaido.sentence("no_certificate");
    assert!(sentence.contains("no certificate"), "{sentence}");
    assert_eq!(hokkaido.refused("no_certificate"), 1);

    let caller = foreign.issue("caller");
    let answer = s_client(hokkaido.gateway, Some(&caller), &["-tls1_2"], "unheard\n");
    assert!(answer.stdout.is_empty(), "{}", said(&answer));
    assert!(
        said(&answer).contains("protocol version"),
        "{}",
        said(&answer)
    );
    assert!(!hokkaido.sentence("bad_handshake").is_empty());
    let answer = s_client(hokkaido.gateway, Some(&caller), &["-tls1_3"], "heard\n");
    assert_eq!(answer.stdout, b"heard\n", "{}", said(&answer));
}

fn curl(options: &[&str]) -> String {
    let written = "\n%{http_code} HTTP/%{http_version} %{content_type}";
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "20"]);
    stdout_of(command.args(["--write-out", written]).args(options))
}

fn assert_is_bundle_of(site: &Site, document: &str) {
    let name = TrustDomain::parse(&format!("{}.example", site.name)).expect("trust domain");
    let parse = |text: &str| Bundle::parse_document(name.clone(), text.as_bytes()).expect("bundle");
    let got = parse(document);
    assert_eq!(got.x509_authorities.len(), 1);
    assert!(got.sequence.is_some());
    assert_eq!(got.refresh_hint, Some(Duration::from_secs(1)));
    assert_eq!(got, parse(&site.own_bundle()));
}

#[test]
fn curl_reads_the_bundle_from_the_gateway_port() {
    let mut site = Site::new("hokkaido");
    site.start();
    let url = format!("https://{}/", site.gateway);
    for (option, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let answer = curl(&["--insecure", option, &url]);
        let (document, line) = answer.rsplit_once('\n').expect("two parts");
        assert_eq!(line, format!("200 HTTP/{version} application/json"));
        assert_is_bundle_of(&site, document);
        let answer = curl(&["--insecure", option, "--request", "POST", &url]);
        assert!(answer.trim().starts_with("405 "), "{answer}");
        let head = curl(&["--insecure", option, "--head", &url]);
        assert!(head.contains("200"), "{head}");
    }
}

#[test]
fn curl_reads_the_bundle_by_the_rules_of_the_web() {
    let mut site = Site::new("hokkaido");
    let listen = free_address();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "web CA");
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("key");
    let authority = CertifiedIssuer::self_signed(params, key).expect("CA");
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::IpAddress(listen.ip())];
    let key = KeyPair::generate().expect("key");
    let certificate = params.signed_by(&key, &authority).expect("certificate");
    for (name, text) in [
        ("ca.pem", authority.pem()),
        ("web.pem", certificate.pem()),
        ("web.key", key.serialize_pem()),
    ] {
        std::fs::write(site.path(name), text).expect("PEM file");
    }
    site.write(&format!(
        "bundle_endpoint: {{listen: {listen}, certificate: web.pem, key: web.key}}\n"
    ));
    site.start();
    let authority = site.path("ca.pem");
    let authority = authority.to_str().expect("UTF-8");
    let url = format!("https://{listen}/bundle");
    let answer = wait_for("the endpoint answers", SOON, || {
        let answer = run(Command::new("curl").args(["--silent", "--cacert", authority, &url]));
        answer.status.success().then_some(answer)
    });
    assert_is_bundle_of(&site, &String::from_utf8_lossy(&answer.stdout));
    let unknown = run(Command::new("curl").args(["--silent", "--show-error", &url]));
    assert!(!unknown.status.success(), "no CA of the web's is trusted");
}

#[test]
fn plaintext_garbage_and_silence_at_the_gateway_disturb_nobody() {
    let (hokkaido, _osaka, local) = two_sites(echo());
    let mut open = Connection::open(local);
    let dial = || TcpStream::connect(hokkaido.gateway).expect("connected");
    let silent: Vec<TcpStream> = (0..20).map(|_| dial()).collect();
    dial()
        .write_all(b"GET / HTTP/1.1\r\nHost: hokkaido\r\n\r\n")
        .expect("written");
    let sentence = hokkaido.sentence("plaintext");
    assert!(sentence.contains("plaintext"), "{sentence}");
    let garbage = [&[0x16, 3, 1, 2, 0][..], &pattern(512)].concat();
    let mut stream = dial();
    stream.write_all(&garbage).expect("written");
    assert!(!hokkaido.sentence("bad_handshake").is_empty());
    // A record that never ends, and one that claims to be larger than TLS allows.
    let mut half = dial();
    half.write_all(&garbage[..100]).expect("written");
    dial()
        .write_all(&[0x16, 3, 1, 0xff, 0xff, 1])
        .expect("written");
    open.say();
    exchange_soon(local, b"and a new one");
    drop((silent, half));
    open.say();
    assert_eq!(hokkaido.refused("plaintext"), 1);
}
