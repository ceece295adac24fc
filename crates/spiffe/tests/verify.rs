//! Certificates that must be refused, each for its own reason, and TLS between two trust domains.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
};

use renkei_spiffe::{
    Authorizer, Bundle, BundleSet, CertificateFault, Denied, DocumentError, HandshakeRefusal,
    IdError, Identities, NoSvid, PeerChain, PeerError, PrivateKey, SpiffeId, TrustDomain, X509Svid,
    client_side, server_side, verify_peer,
};
use renkei_testkit::{Fault, Issued, TestAuthority};
use rustls::{ClientConnection, ServerConnection, Stream, crypto::CryptoProvider};
use rustls_pki_types::ServerName;
use time::{Duration, OffsetDateTime};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn bundle(authority: &TestAuthority) -> Arc<Bundle> {
    let trust_domain = TrustDomain::parse(authority.trust_domain()).expect("trust domain");
    let mut bundle = Bundle::empty(trust_domain);
    bundle.x509_authorities.push(authority.certificate());
    Arc::new(bundle)
}

fn bundles(authorities: &[&TestAuthority]) -> Arc<BundleSet> {
    Arc::new(
        authorities
            .iter()
            .map(|authority| bundle(authority))
            .collect(),
    )
}

fn svid(issued: Issued) -> X509Svid {
    X509Svid::new(issued.chain, PrivateKey::from_pkcs8(issued.key_pkcs8)).expect("SVID")
}

fn verify(issued: &Issued, known: &BundleSet) -> Result<SpiffeId, PeerError> {
    let algorithms = provider().signature_verification_algorithms;
    verify_peer(&issued.chain, known, OffsetDateTime::now_utc(), &algorithms)
}

#[test]
fn a_good_svid_gives_its_id() {
    let osaka = TestAuthority::new("osaka.example");
    let id = verify(&osaka.issue("/collector"), &bundles(&[&osaka])).expect("verified");
    assert_eq!(id.short(), "osaka.example/collector");
}

#[test]
fn each_broken_rule_has_its_own_reason() {
    let osaka = TestAuthority::new("osaka.example");
    let known = bundles(&[&osaka]);
    let cases = [
        (Fault::TwoUris, CertificateFault::ManyUris(2)),
        (Fault::NoUri, CertificateFault::NoUri),
        (
            Fault::NulInUri,
            CertificateFault::NotSpiffe(IdError::PathCharacter('\0')),
        ),
        (Fault::CaTrue, CertificateFault::Ca),
        (
            Fault::NoBasicConstraints,
            CertificateFault::NoBasicConstraints,
        ),
        (Fault::SigningKeyUsage, CertificateFault::SigningKeyUsage),
        (Fault::WrongKeyUsage, CertificateFault::KeyUsage),
        (Fault::ServerOnly, CertificateFault::ExtendedKeyUsage),
        (Fault::NoPath, CertificateFault::NoPath),
    ];
    for (fault, reason) in cases {
        let issued = osaka.issue_with("/collector", fault);
        assert_eq!(
            verify(&issued, &known),
            Err(PeerError::BadSvid(reason)),
            "{fault:?}"
        );
    }
}

#[test]
fn a_clock_one_hour_off_is_named() {
    let osaka = TestAuthority::new("osaka.example");
    let known = bundles(&[&osaka]);
    let late = verify(&osaka.issue_with("/collector", Fault::Expired), &known).unwrap_err();
    assert_eq!(late.label(), "expired");
    assert!(late.to_string().contains("1h 0m"), "{late}");
    let early = verify(&osaka.issue_with("/collector", Fault::NotYetValid), &known).unwrap_err();
    assert_eq!(early.label(), "not_yet_valid");
    assert!(
        early
            .to_string()
            .contains("compare the clocks of both sites"),
        "{early}"
    );
}

#[test]
fn only_the_peers_own_trust_domain_counts() {
    let osaka = TestAuthority::new("osaka.example");
    let tokyo = TestAuthority::new("tokyo.example");
    let forged_by_tokyo = {
        // Tokyo's key, Osaka's name.
        let impostor = TestAuthority::new("osaka.example");
        impostor.issue("/collector")
    };
    let known = bundles(&[&osaka, &tokyo]);
    let refused = verify(&forged_by_tokyo, &known).unwrap_err();
    assert_eq!(refused.label(), "untrusted_ca");
    let stranger = TestAuthority::new("nagoya.example").issue("/collector");
    assert_eq!(
        verify(&stranger, &known).unwrap_err().label(),
        "unknown_trust_domain"
    );
    let empty = Bundle::empty(TrustDomain::parse("osaka.example").expect("trust domain"));
    let nothing: BundleSet = [Arc::new(empty)].into_iter().collect();
    assert_eq!(
        verify(&osaka.issue("/a"), &nothing).unwrap_err().label(),
        "untrusted_ca"
    );
}

#[test]
fn an_expired_authority_vouches_for_nobody() {
    let osaka = TestAuthority::new("osaka.example");
    let far = OffsetDateTime::now_utc() + Duration::days(2);
    let issued = osaka.issue_between(
        "/collector",
        far - Duration::days(2),
        far + Duration::days(1),
    );
    let algorithms = provider().signature_verification_algorithms;
    let refused = verify_peer(&issued.chain, &bundles(&[&osaka]), far, &algorithms).unwrap_err();
    assert_eq!(refused.label(), "untrusted_ca");
}

#[test]
fn a_chain_that_was_good_is_asked_again_when_it_may_not_be() {
    let osaka = TestAuthority::new("osaka.example");
    let below = osaka.intermediate();
    let start = OffsetDateTime::now_utc()
        .replace_nanosecond(0)
        .expect("seconds");
    let end = start + Duration::hours(2);
    let chain = PeerChain::new(&below.issue_between("/collector", start, end).chain);
    let chain = chain.expect("a leaf");
    let (known, algorithms) = (
        bundles(&[&osaka]),
        provider().signature_verification_algorithms,
    );
    let at = |now| chain.verify(&known, now, &algorithms);
    assert_eq!(at(start), Ok(()));
    assert_eq!(chain.settled_until(&known, start), end);
    let last = end - Duration::MILLISECOND;
    assert_eq!(at(last), Ok(()));
    assert!(matches!(at(end), Err(PeerError::Expired { .. })));
    // Both CAs end before a leaf of days.
    let days = start + Duration::days(10);
    let long = PeerChain::new(&below.issue_between("/collector", start, days).chain);
    let long = long.expect("a leaf");
    let settled = long.settled_until(&known, start);
    assert!(settled < start + Duration::days(2), "{settled}");
    assert_eq!(
        long.verify(&known, settled - Duration::SECOND * 2, &algorithms),
        Ok(())
    );
    assert!(long.verify(&known, settled, &algorithms).is_err());
    // The authority has left the bundle, or the bundle is gone.
    let next = bundles(&[&TestAuthority::new("osaka.example")]);
    let gone = chain.verify(&next, start, &algorithms);
    assert!(matches!(gone, Err(PeerError::UntrustedCa(_))), "{gone:?}");
    let gone = chain.verify(&BundleSet::default(), start, &algorithms);
    assert!(
        matches!(gone, Err(PeerError::UnknownTrustDomain(_))),
        "{gone:?}"
    );
}

#[test]
fn an_identity_that_has_ended_is_told_from_one_that_never_was() {
    let osaka = TestAuthority::new("osaka.example");
    let now = OffsetDateTime::now_utc();
    let end = now + Duration::seconds(10);
    let held = Arc::new(svid(osaka.issue_between("/collector", now, end)));
    let (id, mut all) = (held.id().clone(), Identities::default());
    let missing = all.valid_svid(&id, now).expect_err("missing");
    assert_eq!(missing, NoSvid::Missing(id.clone()));
    all.svids.insert(id.clone(), held);
    assert!(all.valid_svid(&id, now).is_ok());
    let ended = all.valid_svid(&id, end).expect_err("ended");
    assert_eq!(ended.label(), "own_svid_expired");
}

#[test]
fn a_bundle_document_survives_writing_and_reading() {
    let osaka = TestAuthority::new("osaka.example");
    let mut written = Bundle::clone(&bundle(&osaka));
    written.sequence = Some(7);
    written.refresh_hint = Some(std::time::Duration::from_secs(300));
    let document = written.to_document();
    let read = Bundle::parse_document(written.trust_domain.clone(), document.as_bytes());
    assert_eq!(read, Ok(written));
}

#[test]
fn hostile_documents_are_refused_with_the_place() {
    let parse = |text: &str| {
        let trust_domain = TrustDomain::parse("osaka.example").expect("trust domain");
        Bundle::parse_document(trust_domain, text.as_bytes())
    };
    assert!(matches!(parse("<html>"), Err(DocumentError::Json(_))));
    assert!(matches!(parse("{}"), Err(DocumentError::Json(_))));
    assert!(
        parse(r#"{"keys":[]}"#)
            .expect("trusts nothing")
            .x509_authorities
            .is_empty()
    );
    assert!(
        parse(r#"{"keys":[{"kty":"new","use":"x509-svid"},{"kty":"EC","use":"new"}]}"#).is_ok()
    );
    assert_eq!(
        parse(r#"{"keys":[{"kty":"EC","use":"x509-svid","x5c":["AA==","AA=="]}]}"#),
        Err(DocumentError::CertificateCount { key: 0, count: 2 })
    );
    for x5c in ["", r#","x5c":[]"#, r#","x5c":"AA==""#, r#","x5c":null"#] {
        assert_eq!(
            parse(&format!(
                r#"{{"keys":[{{"kty":"EC","use":"x509-svid"{x5c}}}]}}"#
            )),
            Err(DocumentError::CertificateCount { key: 0, count: 0 }),
            "{x5c}"
        );
    }
    for name in ["x509-svid", "jwt-svid"] {
        assert_eq!(
            parse(&format!(r#"{{"keys":[{{"use":"{name}","kid":"a"}}]}}"#)),
            Err(DocumentError::NoKeyType { key: 0 })
        );
    }
    assert!(matches!(
        parse(r#"{"keys":[{"kty":"EC","use":"x509-svid","x5c":["AA=="]}]}"#),
        Err(DocumentError::Certificate { key: 0, .. })
    ));
    assert_eq!(
        parse(r#"{"keys":[{"kty":"EC","use":"jwt-svid"}]}"#),
        Err(DocumentError::NoKeyId { key: 0 })
    );
    let keys = vec![r#"{"kty":"EC","use":"x"}"#; 1_001].join(",");
    assert_eq!(
        parse(&format!(r#"{{"keys":[{keys}]}}"#)),
        Err(DocumentError::TooManyKeys(1_001))
    );
    assert!(matches!(
        parse(&" ".repeat(2 << 20)),
        Err(DocumentError::TooLarge(_))
    ));
}

#[derive(Debug)]
struct Nobody;

impl Authorizer for Nobody {
    fn authorize(&self, _peer: &SpiffeId) -> Result<(), Denied> {
        Err(Denied {
            label: "not_allowed",
            reason: "nobody may".into(),
        })
    }
}

/// What the callee saw, and what the caller saw.
type Seen = (
    Result<SpiffeId, Option<HandshakeRefusal>>,
    Result<SpiffeId, (io::Error, Option<HandshakeRefusal>)>,
);

/// One handshake and one byte each way.
fn connect(
    server: X509Svid,
    client: X509Svid,
    known: Arc<BundleSet>,
    admit: Arc<dyn Authorizer>,
    expect: SpiffeId,
) -> Seen {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
    let address = listener.local_addr().expect("address");
    let callee = server_side(&provider(), &server, known.clone(), admit, &[]).expect("config");
    let thread = std::thread::spawn(move || {
        let (mut tcp, _) = listener.accept().expect("accept");
        let mut tls = ServerConnection::new(callee.config.clone()).expect("server");
        let mut byte = [0];
        let done = Stream::new(&mut tls, &mut tcp)
            .read_exact(&mut byte)
            .and_then(|()| Stream::new(&mut tls, &mut tcp).write_all(&byte));
        match done {
            Ok(()) => Ok(callee.outcome.peer().expect("peer")),
            Err(error) => Err(callee.outcome.refusal(&error)),
        }
    });
    let caller = client_side(&provider(), &client, known, Arc::new(expect), &[]).expect("config");
    let mut tcp = TcpStream::connect(address).expect("connect");
    let name = ServerName::try_from("x.example").expect("name");
    let mut tls = ClientConnection::new(caller.config.clone(), name).expect("client");
    let mut byte = [1];
    let done = Stream::new(&mut tls, &mut tcp)
        .write_all(&byte)
        .and_then(|()| Stream::new(&mut tls, &mut tcp).read_exact(&mut byte));
    let seen_by_caller = match done {
        Ok(()) => Ok(caller.outcome.peer().expect("peer")),
        Err(error) => {
            let refusal = caller.outcome.refusal(&error);
            Err((error, refusal))
        }
    };
    drop(tcp);
    (thread.join().expect("server thread"), seen_by_caller)
}

#[test]
fn two_trust_domains_meet_and_know_each_other() {
    let (osaka, tokyo) = (
        TestAuthority::new("osaka.example"),
        TestAuthority::new("tokyo.example"),
    );
    let known = bundles(&[&osaka, &tokyo]);
    let mdx = SpiffeId::parse("spiffe://tokyo.example/mdx").expect("id");
    let collector = SpiffeId::parse("spiffe://osaka.example/collector").expect("id");
    let (callee, caller) = connect(
        svid(tokyo.issue("/mdx")),
        svid(osaka.issue("/collector")),
        known,
        Arc::new(collector.clone()),
        mdx.clone(),
    );
    assert_eq!(callee, Ok(collector));
    assert_eq!(caller.expect("connected"), mdx);
}

#[test]
fn a_denied_caller_gets_the_alert_access_denied_and_no_more() {
    let (osaka, tokyo) = (
        TestAuthority::new("osaka.example"),
        TestAuthority::new("tokyo.example"),
    );
    let (callee, caller) = connect(
        svid(tokyo.issue("/mdx")),
        svid(osaka.issue("/collector")),
        bundles(&[&osaka, &tokyo]),
        Arc::new(Nobody),
        SpiffeId::parse("spiffe://tokyo.example/mdx").expect("id"),
    );
    let refusal = callee.unwrap_err().expect("refusal");
    assert_eq!(refusal.label(), "not_allowed");
    let (error, own_refusal) = caller.unwrap_err();
    assert_eq!(own_refusal, None, "the caller refused nothing");
    assert!(error.to_string().contains("AccessDenied"), "{error}");
}

#[test]
fn a_callee_of_another_name_is_refused_by_the_caller() {
    let (osaka, tokyo) = (
        TestAuthority::new("osaka.example"),
        TestAuthority::new("tokyo.example"),
    );
    let collector = SpiffeId::parse("spiffe://osaka.example/collector").expect("id");
    let (_, caller) = connect(
        svid(tokyo.issue("/other")),
        svid(osaka.issue("/collector")),
        bundles(&[&osaka, &tokyo]),
        Arc::new(collector),
        SpiffeId::parse("spiffe://tokyo.example/mdx").expect("id"),
    );
    let (_, refusal) = caller.unwrap_err();
    assert_eq!(refusal.expect("refusal").label(), "unexpected_peer");
}

#[test]
fn a_key_never_shows_itself() {
    let osaka = TestAuthority::new("osaka.example");
    let svid = svid(osaka.issue("/collector"));
    assert!(!format!("{svid:?} {:?}", svid.key()).contains("key:"));
    assert_eq!(format!("{:?}", svid.key()), "PrivateKey(redacted)");
}
