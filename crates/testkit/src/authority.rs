//! A CA of a trust domain that issues good SVIDs, and bad ones named by their fault.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType, string::Ia5String,
};
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};

/// What is wrong with an issued certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Two URI SANs.
    TwoUris,
    /// No URI SAN.
    NoUri,
    /// A NUL byte inside the URI SAN.
    NulInUri,
    /// Its basic constraints say cA=true.
    CaTrue,
    /// No BasicConstraints at all.
    NoBasicConstraints,
    /// KeyUsage with keyCertSign.
    SigningKeyUsage,
    /// KeyUsage without digitalSignature.
    WrongKeyUsage,
    /// Only server authentication.
    ServerOnly,
    /// The trust domain's ID without a path.
    NoPath,
    /// Validity ended an hour ago.
    Expired,
    /// Validity starts in an hour.
    NotYetValid,
}

/// A leaf with its key.
#[derive(Debug, Clone)]
pub struct Issued {
    /// Leaf first, then an intermediate CA if it has one, DER. The root is not in it.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key (PKCS#8, DER).
    pub key_pkcs8: Vec<u8>,
    /// The leaf as PEM.
    pub certificate_pem: String,
    /// The key as PEM.
    pub key_pem: String,
}

/// A CA: self-signed, or below one that is.
#[derive(Debug)]
pub struct TestAuthority {
    trust_domain: String,
    issuer: CertifiedIssuer<'static, KeyPair>,
    is_root: bool,
}

impl TestAuthority {
    /// A CA with a fresh key, valid for a day.
    pub fn new(trust_domain: &str) -> Self {
        let key = KeyPair::generate().expect("key");
        let params = ca(trust_domain, "test CA");
        Self {
            trust_domain: trust_domain.to_owned(),
            issuer: CertifiedIssuer::self_signed(params, key).expect("self-signed CA"),
            is_root: true,
        }
    }

    /// A CA below this one, as a SPIRE server has with an upstream authority.
    pub fn intermediate(&self) -> Self {
        let key = KeyPair::generate().expect("key");
        let params = ca(&self.trust_domain, "intermediate test CA");
        Self {
            trust_domain: self.trust_domain.clone(),
            issuer: CertifiedIssuer::signed_by(params, key, &self.issuer).expect("signed CA"),
            is_root: false,
        }
    }

    /// The trust domain's name.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The CA certificate, DER.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// The CA certificate, PEM.
    pub fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    /// A good SVID for `path` (with its leading `/`), valid for an hour.
    pub fn issue(&self, path: &str) -> Issued {
        let now = OffsetDateTime::now_utc();
        self.issue_between(path, now - Duration::seconds(10), now + Duration::hours(1))
    }

    /// A good SVID with the validity given.
    pub fn issue_between(
        &self,
        path: &str,
        not_before: OffsetDateTime,
        not_after: OffsetDateTime,
    ) -> Issued {
        self.sign(self.good(path, not_before, not_after))
    }

    /// An SVID for `path` that breaks one rule.
    pub fn issue_with(&self, path: &str, fault: Fault) -> Issued {
        let now = OffsetDateTime::now_utc();
        let mut params = self.good(path, now - Duration::seconds(10), now + Duration::hours(1));
        let id = format!("spiffe://{}{path}", self.trust_domain);
        match fault {
            Fault::TwoUris => params.subject_alt_names.push(uri(&format!("{id}2"))),
            Fault::NoUri => {
                params.subject_alt_names = vec![SanType::DnsName(
                    "host.example".try_into().expect("DNS name"),
                )];
            }
            Fault::NulInUri => params.subject_alt_names = vec![uri(&format!("{id}\0.evil"))],
            Fault::CaTrue => params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
            Fault::NoBasicConstraints => params.is_ca = IsCa::NoCa,
            Fault::SigningKeyUsage => params.key_usages.push(KeyUsagePurpose::KeyCertSign),
            Fault::WrongKeyUsage => params.key_usages = vec![KeyUsagePurpose::KeyEncipherment],
            Fault::ServerOnly => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }
            Fault::NoPath => {
                params.subject_alt_names = vec![uri(&format!("spiffe://{}", self.trust_domain))];
            }
            Fault::Expired => params.not_after = now - Duration::hours(1),
            Fault::NotYetValid => params.not_before = now + Duration::hours(1),
        }
        match fault {
            Fault::Expired => params.not_before = now - Duration::hours(2),
            Fault::NotYetValid => params.not_after = now + Duration::hours(2),
            _ => {}
        }
        self.sign(params)
    }

    fn good(
        &self,
        path: &str,
        not_before: OffsetDateTime,
        not_after: OffsetDateTime,
    ) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.subject_alt_names = vec![uri(&format!("spiffe://{}{path}", self.trust_domain))];
        params.not_before = not_before;
        params.not_after = not_after;
        params
    }

    fn sign(&self, params: CertificateParams) -> Issued {
        let key = KeyPair::generate().expect("key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed leaf");
        let mut chain = vec![certificate.der().clone()];
        if !self.is_root {
            chain.push(self.certificate());
        }
        Issued {
            chain,
            key_pkcs8: key.serialize_der(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }
}

fn ca(trust_domain: &str, name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("{trust_domain} {name}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}"))];
    params.not_before = OffsetDateTime::now_utc() - Duration::days(1);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(1);
    params
}

fn uri(text: &str) -> SanType {
    SanType::URI(Ia5String::try_from(text).expect("IA5 text"))
}
