//! Statements of a federation, one of each kind, and the log that they make.

use std::collections::BTreeMap;

use renkei_federation::{
    Admission, AdmissionStatus, BundleStatement, Endorsement, Envelope, KeySet, SignedCheckpoint,
    SigningKey, SiteRoot, Statement, Withdrawal, log::Tree,
};
use renkei_spiffe::{Bundle, TrustDomain};
use renkei_testkit::TestAuthority;
use time::Duration;

use crate::{
    Seeds,
    federation::{NOW, file, key},
};

pub(crate) fn write(seeds: &Seeds) {
    let osaka = TrustDomain::parse("osaka.example").expect("a name");
    let [root, online, recovery] = [4, 5, 6].map(key);
    let genesis = sign(
        Statement::SiteRoot(SiteRoot {
            trust_domain: osaka.clone(),
            version: 1,
            prev: None,
            root: KeySet {
                keys: vec![root.public()],
                threshold: 1,
            },
            online_keys: vec![online.public()],
            recovery_keys: vec![recovery.public()],
            expires: NOW + Duration::days(365),
        }),
        &root,
    );
    let identity = genesis.digest();
    let admission = Admission {
        trust_domain: osaka.clone(),
        genesis: identity,
        status: AdmissionStatus::Admitted,
        scope: vec!["weather".to_owned()],
        issued: NOW - Duration::hours(1),
        expires: NOW + Duration::days(365),
    };
    let bundle = Bundle {
        x509_authorities: vec![TestAuthority::new("osaka.example").certificate()],
        sequence: Some(1),
        ..Bundle::empty(osaka.clone())
    };
    let bundle = BundleStatement {
        trust_domain: osaka.clone(),
        genesis: identity,
        root_version: 1,
        sequence: 1,
        bundle: serde_json::from_str(&bundle.to_document()).expect("JSON"),
        bundle_endpoint: Some("gw.osaka.example:8443".to_owned()),
        gateways: vec!["gw.osaka.example:8443".to_owned()],
        services: BTreeMap::from([("broker".to_owned(), "kafka".to_owned())]),
        issued: NOW - Duration::hours(1),
        expires: NOW + Duration::days(7),
    };
    let endorsement = Endorsement {
        by: identity,
        trust_domain: osaka.clone(),
        genesis: identity,
    };
    let withdrawal = Withdrawal {
        trust_domain: osaka.clone(),
        genesis: identity,
        reason: "moved".to_owned(),
    };
    let all = [
        genesis,
        sign(Statement::Admission(admission), &key(2)),
        sign(Statement::Bundle(bundle), &online),
        sign(Statement::Endorsement(endorsement), &online),
        sign(Statement::Withdrawal(withdrawal), &recovery),
    ];
    for envelope in &all {
        seeds.write(
            "envelope",
            envelope.statement().kind(),
            &envelope.to_bytes(),
        );
    }
    let entries: Vec<Vec<u8>> = all.iter().map(Envelope::to_bytes).collect();
    log(seeds, &osaka, &entries);
}

/// A cosigned checkpoint and the entries below it.
fn log(seeds: &Seeds, witness: &TrustDomain, entries: &[Vec<u8>]) {
    let mut tree = Tree::default();
    assert!(entries.iter().all(|entry| tree.append(entry)));
    let mut checkpoint = SignedCheckpoint::sign(&file().origin, tree.root(), &key(1));
    checkpoint.cosign(witness, &key(3), NOW);
    let text = checkpoint.to_text();
    let length = u16::try_from(text.len()).expect("a short note");
    let mut bytes = [&length.to_be_bytes(), text.as_bytes()].concat();
    for entry in entries {
        let length = u16::try_from(entry.len()).expect("a short entry");
        bytes.extend(length.to_be_bytes());
        bytes.extend(entry);
    }
    seeds.write("log", "three", &bytes);
}

fn sign(statement: Statement, key: &SigningKey) -> Envelope {
    Envelope::sign(statement, &[key]).expect("a statement that can be signed")
}
