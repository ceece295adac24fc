//! The two kinds of certificate that the authority makes, as X509-SVID sections 3 and 4 ask for
//! them.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use renkei_spiffe::{SpiffeId, TrustDomain};
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};

use super::Subject;
use crate::keys::CaKey;

const ORGANIZATION: &str = "Renkei";
/// So that a peer whose clock is a little behind accepts a new certificate.
const BACKDATING: Duration = Duration::seconds(10);

/// Validity of a certificate, in whole seconds as X.509 has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: OffsetDateTime,
    pub(super) not_after: OffsetDateTime,
}

impl Validity {
    /// From shortly before `now` for `lifetime`.
    pub(super) fn starting(now: OffsetDateTime, lifetime: std::time::Duration) -> Self {
        let now = now.replace_nanosecond(0).unwrap_or(now);
        let lifetime = Duration::try_from(lifetime).unwrap_or(Duration::MAX);
        // RFC 5280 4.1.2.5: no date past the year 9999.
        let last = time::macros::datetime!(9999-12-31 23:59:59 UTC);
        Self {
            not_before: now - BACKDATING,
            not_after: now.checked_add(lifetime).unwrap_or(last).min(last),
        }
    }

    /// Whether a certificate with this validity was made for `lifetime`.
    pub(super) fn is_of(self, lifetime: std::time::Duration) -> bool {
        let made = Self::starting(self.not_before.saturating_add(BACKDATING), lifetime);
        made.not_after == self.not_after
    }

    /// The same, but not past the end of the issuer.
    pub(super) fn ending_by(self, end: OffsetDateTime) -> Self {
        Self {
            not_after: self.not_after.min(end),
            ..self
        }
    }
}

/// A self-signed CA of a trust domain.
pub(super) fn authority(
    trust_domain: &TrustDomain,
    key: &CaKey,
    serial: [u8; 16],
    validity: Validity,
) -> Result<CertificateDer<'static>, rcgen::Error> {
    let mut params = common(serial, validity);
    // A name of its own for each CA: verifiers find the issuer by name.
    let mut suffix = hex::encode(serial);
    suffix.truncate(8);
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Renkei CA {suffix}"));
    params.subject_alt_names = vec![uri(&trust_domain.id())?];
    // X509-SVID 3: a signing certificate has cA=true and keyCertSign, and an ID without a path.
    // No intermediates exist, hence path length 0.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params.self_signed(key)?.into())
}

/// A leaf for a registered identity and the key of a certificate request.
pub(super) fn svid(
    subject: &Subject,
    key: &impl PublicKeyData,
    issuer: &Issuer<'static, CaKey>,
    serial: [u8; 16],
    validity: Validity,
) -> Result<CertificateDer<'static>, rcgen::Error> {
    let mut params = common(serial, validity);
    params.subject_alt_names = vec![uri(&subject.id)?];
    for name in &subject.dns_names {
        let name = name.as_str().try_into()?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    // Programs that know no other name look there.
    if let Some(name) = subject.dns_names.first() {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    Ok(params.signed_by(key, issuer)?.into())
}

fn common(serial: [u8; 16], validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, ORGANIZATION);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = validity.not_before;
    params.not_after = validity.not_after;
    params.use_authority_key_identifier_extension = true;
    params
}

fn uri(id: &SpiffeId) -> Result<SanType, rcgen::Error> {
    Ok(SanType::URI(id.to_string().try_into()?))
}
