//! What the tests of several modules start from.

use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, KeyPair};
use renkei_site::{ServerPart, Site};
use renkei_spiffe::{PrivateKey, SpiffeId, TrustDomain, X509Svid};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};

use crate::Clock;

/// A site with one workload and one service, and whatever lines are added.
pub(crate) fn site_with(lines: &str) -> Arc<Site> {
    let text = format!(
        "site: osaka
trust_domain: osaka.example
gateway: {{listen: 127.0.0.1:8443, advertise: 127.0.0.1:8443}}
services:
  broker: {{backends: [127.0.0.1:9092]}}
workloads:
  collector: {{selectors: [unix:uid:1000]}}
{lines}"
    );
    Arc::new(renkei_site::parse("site.yaml", &text).expect("a good site file"))
}

/// What the server gets of such a site.
pub(crate) fn part_with(lines: &str) -> Arc<ServerPart> {
    Arc::new(site_with(lines).server_part(1))
}

pub(crate) fn own() -> TrustDomain {
    TrustDomain::parse("osaka.example").unwrap()
}

pub(crate) fn id(short: &str) -> SpiffeId {
    SpiffeId::parse_short(short, &own()).unwrap()
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A key and a certificate request by it, which asks for things it must not get.
pub(crate) fn request() -> (KeyPair, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["evil.example".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let request = params.serialize_request(&key).unwrap().der().to_vec();
    (key, request)
}

/// An SVID from a chain and its key, by the rules that every reader applies.
pub(crate) fn svid(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Arc<X509Svid> {
    Arc::new(X509Svid::new(chain, PrivateKey::from_pkcs8(key.serialize_der())).unwrap())
}

/// A clock that the test turns.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<Mutex<OffsetDateTime>>);

impl TestClock {
    pub(crate) fn now_is(now: OffsetDateTime) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    pub(crate) fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }

    pub(crate) fn clock(&self) -> Clock {
        let time = self.0.clone();
        Arc::new(move || *time.lock().unwrap())
    }
}
