//! Faulty certificates over the wire, in both directions: each is refused for its own reason,
//! and a good one is served before and after.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{
    io::{Read, Write},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use lab::{
    SOON, Site, exchange,
    foreign::{Files, Foreign, callee_of, line_echo, s_client},
    own_uid, said, serve,
};
use renkei_testkit::{Fault, Issued, free_address, wait_for};
use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::aws_lc_rs};
use rustls_pki_types::PrivatePkcs8KeyDer;

/// What breaks X509-SVID in a leaf, and words of the sentence that says so.
const BAD_SVIDS: [(Fault, &str); 9] = [
    (Fault::TwoUris, "2 URI names"),
    (Fault::NoUri, "no URI name"),
    (Fault::NulInUri, "not a SPIFFE ID"),
    (Fault::CaTrue, "cA=true"),
    (Fault::NoBasicConstraints, "basic constraints"),
    (Fault::SigningKeyUsage, "allows signing certificates"),
    (Fault::WrongKeyUsage, "allow digital signatures"),
    (Fault::ServerOnly, "extended key usage"),
    (Fault::NoPath, "no path"),
];

/// Runs `refused`, and returns the sentence of the one new refusal for `reason`.
fn sentence_after(site: &Site, reason: &str, refused: impl FnOnce()) -> String {
    let before = site.refused(reason);
    refused();
    wait_for(&format!("{} refuses for {reason}", site.name), SOON, || {
        (site.refused(reason) > before).then_some(())
    });
    assert_eq!(site.refused(reason), before + 1, "{reason}");
    site.sentence(reason)
}

/// A caller with this certificate hears nothing; returns why the gateway refused it.
fn refused_caller(hokkaido: &Site, files: &Files, reason: &str) -> String {
    sentence_after(hokkaido, reason, || {
        let answer = s_client(hokkaido.gateway, Some(files), &[], "unheard\n");
        assert!(answer.stdout.is_empty(), "{}", said(&answer));
        assert!(
            !said(&answer).contains("unable to load"),
            "{}",
            said(&answer)
        );
    })
}

#[test]
fn the_gateway_refuses_each_faulty_certificate_for_its_own_reason() {
    let foreign = Foreign::new("foreign.example");
    let hokkaido = callee_of(&foreign, line_echo());
    let good = foreign.issue("caller");
    let heard = || {
        let answer = s_client(hokkaido.gateway, Some(&good), &[], "heard\n");
        assert_eq!(answer.stdout, b"heard\n", "{}", said(&answer));
    };
    heard();
    for (fault, words) in BAD_SVIDS {
        let issued = foreign.authority.issue_with("/caller", fault);
        let files = foreign.files(&format!("{fault:?}"), &issued);
        let sentence = refused_caller(&hokkaido, &files, "bad_svid");
        assert!(sentence.contains(words), "{fault:?}: {sentence}");
    }
    heard();
}

#[test]
fn the_gateway_refuses_a_certificate_outside_its_time_and_speaks_of_clocks() {
    let foreign = Foreign::new("foreign.example");
    let hokkaido = callee_of(&foreign, line_echo());
    for (fault, reason, start) in [
        (Fault::Expired, "expired", "ended at"),
        (Fault::NotYetValid, "not_yet_valid", "starts at"),
    ] {
        let issued = foreign.authority.issue_with("/caller", fault);
        let files = foreign.files(reason, &issued);
        let sentence = refused_caller(&hokkaido, &files, reason);
        for words in ["foreign.example/caller", start, "clock"] {
            assert!(sentence.contains(words), "{reason}: {sentence}");
        }
    }
    let hour = hokkaido.sentence("not_yet_valid");
    // An hour, less what passed since the certificate was made.
    let is_so = ["1h 0m", "59m", "58m", "57m", "56m", "55m"];
    assert!(is_so.iter().any(|left| hour.contains(left)), "{hour}");
}

#[test]
fn the_gateway_refuses_the_right_name_from_the_wrong_ca_and_strangers() {
    let foreign = Foreign::new("foreign.example");
    let hokkaido = callee_of(&foreign, line_echo());
    let impostor = Foreign::new("foreign.example");
    let sentence = refused_caller(&hokkaido, &impostor.issue("caller"), "untrusted_ca");
    assert!(sentence.contains("foreign.example/caller"), "{sentence}");
    // Nor may a peer speak for the site itself.
    let own = Foreign::new("hokkaido.example");
    let sentence = refused_caller(&hokkaido, &own.issue("echo"), "untrusted_ca");
    assert!(sentence.contains("hokkaido.example/echo"), "{sentence}");
    let stranger = Foreign::new("nowhere.example");
    let sentence = refused_caller(&hokkaido, &stranger.issue("caller"), "unknown_trust_domain");
    assert!(sentence.contains("nowhere.example"), "{sentence}");
    let uninvited = foreign.issue("uninvited");
    let sentence = refused_caller(&hokkaido, &uninvited, "not_allowed");
    assert!(sentence.contains("foreign.example/uninvited"), "{sentence}");
    let answer = s_client(
        hokkaido.gateway,
        Some(&foreign.issue("caller")),
        &[],
        "heard\n",
    );
    assert_eq!(answer.stdout, b"heard\n", "{}", said(&answer));
}

/// A gateway that presents whatever certificate it is told to, and keeps what it is sent.
#[derive(Clone)]
struct FakeGateway {
    presents: Arc<Mutex<Issued>>,
    received: Arc<Mutex<Vec<u8>>>,
}

impl FakeGateway {
    fn start(first: Issued) -> (Self, SocketAddr) {
        let gateway = Self {
            presents: Arc::new(Mutex::new(first)),
            received: Arc::default(),
        };
        let serving = gateway.clone();
        let address = serve(move |stream| {
            let connection = ServerConnection::new(serving.config()).expect("TLS");
            serving.echo(StreamOwned::new(connection, stream));
        });
        (gateway, address)
    }

    fn config(&self) -> Arc<ServerConfig> {
        let issued = self.presents.lock().expect("lock").clone();
        let key = PrivatePkcs8KeyDer::from(issued.key_pkcs8).into();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(issued.chain, key);
        Arc::new(config.expect("a certificate that rustls can present"))
    }

    fn echo(&self, mut stream: StreamOwned<ServerConnection, std::net::TcpStream>) {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            let bytes = &buffer[..count];
            self.received.lock().expect("lock").extend_from_slice(bytes);
            if stream.write_all(bytes).is_err() {
                return;
            }
        }
        stream.conn.send_close_notify();
        let _ = stream.flush();
    }

    fn present(&self, issued: Issued) {
        *self.presents.lock().expect("lock") = issued;
    }
}

#[test]
fn a_workload_sends_nothing_to_a_gateway_with_a_faulty_certificate() {
    let foreign = Foreign::new("foreign.example");
    let authority = &foreign.authority;
    let (fake, gateway) = FakeGateway::start(authority.issue("/echo"));
    let (mut osaka, local) = (Site::new("osaka"), free_address());
    osaka.write(&format!(
        "{}workloads:\n  collector: {{selectors: [{}], uses: {{foreign.example/echo: {local}}}}}\n",
        foreign.peers(Some(gateway)),
        own_uid()
    ));
    osaka.start();
    osaka.wait_linked();
    assert_eq!(exchange(local, b"good").expect("echo"), b"good");

    let refused = |issued: Issued, reason: &str, words: &str| {
        fake.present(issued);
        let sentence = sentence_after(&osaka, reason, || {
            let got = exchange(local, b"secret");
            assert!(got.as_ref().map_or(true, Vec::is_empty), "{got:?}");
        });
        for words in ["foreign.example", "echo", words] {
            assert!(sentence.contains(words), "{reason}: {sentence}");
        }
    };
    for (fault, words) in BAD_SVIDS {
        refused(authority.issue_with("/echo", fault), "bad_svid", words);
    }
    let timed = |fault| authority.issue_with("/echo", fault);
    refused(timed(Fault::Expired), "expired", "clock");
    refused(timed(Fault::NotYetValid), "not_yet_valid", "clock");
    let issued_by = |trust_domain: &str| Foreign::new(trust_domain).authority.issue("/echo");
    refused(issued_by("foreign.example"), "untrusted_ca", "CA");
    let unknown = ("unknown_trust_domain", "nowhere.example");
    refused(issued_by("nowhere.example"), unknown.0, unknown.1);
    let other = ("unexpected_peer", "foreign.example/other");
    refused(authority.issue("/other"), other.0, other.1);
    // The gateway's own identity is how a site says that it has no such service.
    let server = ("no_such_service", "has no service `echo`");
    refused(authority.issue("/renkei/server"), server.0, server.1);

    fake.present(authority.issue("/echo"));
    assert_eq!(exchange(local, b" again").expect("echo"), b" again");
    let received = fake.received.lock().expect("lock").clone();
    assert_eq!(String::from_utf8_lossy(&received), "good again");
}
