//! The line that `renkei node token` prints.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use renkei_api::node::{CaPin, JoinSecret, NodeToken, NodeTokenError};
use renkei_site::HostPort;
use renkei_spiffe::TrustDomain;
use rustls_pki_types::CertificateDer;

fn token(server: &str) -> NodeToken {
    NodeToken {
        server: HostPort::parse(server).unwrap(),
        ca: CaPin::of(&CertificateDer::from(b"a CA".to_vec())),
        trust_domain: TrustDomain::parse("hokkaido.example").unwrap(),
        secret: JoinSecret::new([7; 32]),
    }
}

#[test]
fn a_token_comes_back_from_its_line() {
    for server in ["server.hokkaido.example:8081", "[::1]:8081"] {
        let line = token(server).to_string();
        assert!(!line.contains(char::is_whitespace), "{line}");
        assert_eq!(format!(" {line}\n").parse(), Ok(token(server)));
    }
    let long = format!("{}:65535", vec!["a".repeat(49); 5].join("."));
    let long = NodeToken {
        trust_domain: TrustDomain::parse(&"x".repeat(255)).unwrap(),
        ..token(&long)
    };
    assert_eq!(long.to_string().parse(), Ok(long));
}

#[test]
fn a_text_that_is_no_token_is_refused_with_what_to_do() {
    let line = token("server.hokkaido.example:8081").to_string();
    let half = &line[..line.len() / 2];
    for bad in ["", "not a token", "%%%%", half, &"A".repeat(5000)] {
        bad.parse::<NodeToken>().unwrap_err();
    }
    let bytes = URL_SAFE_NO_PAD.decode(&line).unwrap();
    let later = [&[9], &bytes[1..]].concat();
    let later = URL_SAFE_NO_PAD.encode(later).parse::<NodeToken>();
    assert_eq!(later, Err(NodeTokenError::Form(9)));
}

#[test]
fn a_secret_is_not_shown_where_a_token_is_printed_for_developers() {
    let token = token("server.hokkaido.example:8081");
    let shown = format!("{token:?}");
    assert!(!shown.contains(&token.secret.payload()) && !shown.contains("7, 7"));
}

#[test]
fn a_pin_matches_its_certificate_alone() {
    let pin = token("a.example:1").ca;
    assert!(pin.matches(&CertificateDer::from(b"a CA".to_vec())));
    assert!(!pin.matches(&CertificateDer::from(b"another".to_vec())));
}
