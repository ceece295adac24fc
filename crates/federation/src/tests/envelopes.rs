//! The form of statements: what is signed, what is refused before anything is believed.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::world::{Site, key, sign, td};
use crate::{Envelope, EnvelopeError, MAX_ENVELOPE_BYTES, Statement, StatementError, Withdrawal};

fn withdrawal() -> Statement {
    Statement::Withdrawal(Withdrawal {
        trust_domain: td("osaka.example"),
        genesis: crate::Digest::of(b"x"),
        reason: "done".to_owned(),
    })
}

fn parsed(envelope: &Value) -> Result<Envelope, EnvelopeError> {
    Envelope::parse(envelope.to_string().as_bytes())
}

fn written(payload: &str) -> Value {
    use base64::{Engine, engine::general_purpose::STANDARD};
    json!({"payloadType": crate::PAYLOAD_TYPE, "payload": STANDARD.encode(payload), "signatures": []})
}

#[test]
fn every_kind_comes_back_as_it_was_signed() {
    let osaka = Site::new("osaka.example", 100);
    let keys = osaka.root_keys(1);
    for envelope in [
        osaka.genesis(),
        osaka.bundle(1),
        osaka.admission(crate::AdmissionStatus::Suspended),
        osaka.withdrawal(&[&keys[0]]),
    ] {
        let again = Envelope::parse(&envelope.to_bytes()).unwrap();
        assert_eq!(again, envelope);
        assert_eq!(again.digest(), envelope.digest());
    }
}

#[test]
fn the_signed_bytes_are_those_of_dsse() {
    // DSSE protocol, "Signature Definition": PAE(type, body).
    let envelope = sign(withdrawal(), &[&key(1)]);
    let value: Value = serde_json::from_slice(&envelope.to_bytes()).unwrap();
    use base64::{Engine, engine::general_purpose::STANDARD};
    let decode = |text: &Value| STANDARD.decode(text.as_str().unwrap()).unwrap();
    let payload = decode(&value["payload"]);
    let kind = crate::PAYLOAD_TYPE;
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    message.extend(payload);
    let signature = decode(&value["signatures"][0]["sig"]);
    assert!(key(1).public().verifies(&message, &signature));
}

#[test]
fn unknown_fields_are_kept_under_the_signature_and_not_used() {
    let mut payload = serde_json::to_value(withdrawal()).unwrap();
    payload["colour"] = json!({"of": "the future"});
    let payload = payload.to_string().into_bytes();
    let envelope = Envelope::seal(payload, withdrawal(), &[&key(1)]);
    let again = Envelope::parse(&envelope.to_bytes()).unwrap();
    assert_eq!(again.statement(), &withdrawal());
    assert_eq!(again.signers(&[key(1).public()]).len(), 1);
}

#[test]
fn a_repeated_key_is_refused_in_payload_and_envelope() {
    let twice = r#"{"kind":"withdrawal","trust_domain":"a.example","trust_domain":"b.example","genesis":"00","reason":""}"#;
    let error = parsed(&written(twice)).unwrap_err();
    assert!(
        matches!(error, EnvelopeError::Statement(StatementError::Json(_))),
        "{error}"
    );
    assert!(error.to_string().contains("twice"), "{error}");
    let envelope = sign(withdrawal(), &[&key(1)]).to_bytes();
    let text = String::from_utf8(envelope).unwrap();
    let doubled = text.replacen('{', r#"{"payload":"AAAA","#, 1);
    let error = Envelope::parse(doubled.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("twice"), "{error}");
}

#[test]
fn what_is_too_large_or_of_another_type_is_refused_unread() {
    let long = vec![b' '; MAX_ENVELOPE_BYTES + 1];
    assert_eq!(
        Envelope::parse(&long),
        Err(EnvelopeError::TooLarge(long.len()))
    );
    let mut other = written("{}");
    other["payloadType"] = json!("text/plain");
    assert!(matches!(parsed(&other), Err(EnvelopeError::PayloadType(_))));
    let mut many = written("{}");
    many["signatures"] = json!(vec![json!({"sig": ""}); 65]);
    assert_eq!(parsed(&many), Err(EnvelopeError::TooManySignatures(65)));
    let mut large = Site::new("osaka.example", 100).statement(1);
    large.bundle["padding"] = json!("x".repeat(60_000));
    let signed = Envelope::sign(Statement::Bundle(large), &[&key(1)]);
    assert!(matches!(signed, Err(EnvelopeError::TooLarge(_))));
}

#[test]
fn values_that_no_statement_may_have_are_refused() {
    let osaka = Site::new("osaka.example", 100);
    let root = |change: fn(&mut crate::SiteRoot)| {
        let mut root = osaka.root(1, None);
        change(&mut root);
        Statement::SiteRoot(root)
    };
    let bundle = |change: fn(&mut crate::BundleStatement)| {
        let mut bundle = osaka.statement(1);
        change(&mut bundle);
        Statement::Bundle(bundle)
    };
    for bad in [
        root(|r| r.version = 0),
        root(|r| r.version = 2),
        root(|r| r.root.threshold = 0),
        root(|r| r.root.threshold = 3),
        root(|r| r.root.keys[1] = r.root.keys[0]),
        root(|r| r.online_keys.clear()),
        root(|r| r.online_keys[0] = r.root.keys[0]),
        root(|r| r.online_keys[0] = r.recovery_keys[0]),
        bundle(|b| b.expires = b.issued),
        bundle(|b| b.expires = b.issued + time::Duration::days(15)),
        bundle(|b| b.gateways = vec!["no port".to_owned()]),
        bundle(|b| b.gateways = vec!["host:0".to_owned()]),
        bundle(|b| b.services = [("\u{1b}[2J".to_owned(), "tcp".to_owned())].into()),
    ] {
        let signed = Envelope::sign(bad.clone(), &[&key(1)]);
        assert!(
            matches!(signed, Err(EnvelopeError::Statement(_))),
            "{bad:?}"
        );
    }
}

#[test]
fn a_threshold_counts_keys_and_not_signatures() {
    let two = crate::KeySet {
        keys: vec![key(1).public(), key(2).public()],
        threshold: 2,
    };
    let signed = |keys: &[&crate::SigningKey]| sign(withdrawal(), keys).is_signed_by(&two);
    assert!(signed(&[&key(1), &key(2)]));
    assert!(!signed(&[&key(1), &key(1)]));
    assert!(!signed(&[&key(1), &key(3)]));
    assert!(!signed(&[]));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let _ = Envelope::parse(&bytes);
    }

    #[test]
    fn no_changed_byte_goes_unnoticed(at in 0_usize..10_000, with in any::<u8>()) {
        let envelope = sign(withdrawal(), &[&key(1)]);
        let mut bytes = envelope.to_bytes();
        let at = at % bytes.len();
        prop_assume!(bytes[at] != with);
        bytes[at] = with;
        // What still reads as signed by the key says what the key has signed.
        if let Ok(read) = Envelope::parse(&bytes)
            && !read.signers(&[key(1).public()]).is_empty()
        {
            prop_assert_eq!(read.digest(), envelope.digest());
        }
    }
}
