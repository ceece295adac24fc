//! The rules a leaf certificate must keep to be an X.509-SVID (X509-SVID sections 2 to 5).

use time::OffsetDateTime;
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    prelude::{FromDer, X509Error},
};

use crate::{IdError, SpiffeId};

/// Which rule of X509-SVID a certificate breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// Not a DER certificate, or one of its extensions cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Malformed(String),
    /// X509-SVID 2: exactly one URI SAN.
    #[error("the certificate has no URI name, so it carries no SPIFFE ID")]
    NoUri,
    /// X509-SVID 2: exactly one URI SAN.
    #[error("the certificate has {0} URI names; an X.509-SVID has exactly one")]
    ManyUris(usize),
    /// The URI SAN is not a SPIFFE ID.
    #[error("the certificate's URI name is not a SPIFFE ID: {0}")]
    NotSpiffe(IdError),
    /// X509-SVID 5.2: a leaf's ID has a path.
    #[error("the certificate's SPIFFE ID has no path; only a signing certificate may have none")]
    NoPath,
    /// X509-SVID 4.1: a leaf states cA=false.
    #[error("the certificate is a CA certificate (cA=true); it cannot be used as an identity")]
    Ca,
    /// X509-SVID 4.1: a leaf states cA=false.
    #[error("the certificate has no basic constraints; a leaf must state cA=false")]
    NoBasicConstraints,
    /// X509-SVID 4.3: key usage present, critical, with digitalSignature.
    #[error("the certificate's key usage must be critical and allow digital signatures")]
    KeyUsage,
    /// X509-SVID 4.3: keyCertSign and cRLSign must not be set on a leaf.
    #[error("the certificate's key usage allows signing certificates; a leaf must not")]
    SigningKeyUsage,
    /// X509-SVID 4.4: an extended key usage names both server and client authentication.
    #[error("the certificate's extended key usage lacks server or client authentication")]
    ExtendedKeyUsage,
}

impl From<X509Error> for CertificateFault {
    fn from(error: X509Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// What a well-formed leaf says about itself. Says nothing about who signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SvidCertificate {
    /// The one URI SAN.
    pub id: SpiffeId,
    /// When the certificate becomes valid.
    pub not_before: OffsetDateTime,
    /// When the certificate expires.
    pub not_after: OffsetDateTime,
    /// Serial number in lower-case hexadecimal digits.
    pub serial: String,
}

impl SvidCertificate {
    /// Reads a DER leaf and checks every rule that needs no issuer (X509-SVID 5.2).
    pub fn parse_leaf(der: &[u8]) -> Result<Self, CertificateFault> {
        let certificate = read(der)?;
        let id = spiffe_id(&certificate)?;
        if id.path().is_empty() {
            return Err(CertificateFault::NoPath);
        }
        check_leaf_constraints(&certificate)?;
        let validity = certificate.validity();
        Ok(Self {
            id,
            not_before: validity.not_before.to_datetime(),
            not_after: validity.not_after.to_datetime(),
            serial: certificate.serial.to_str_radix(16),
        })
    }
}

/// Reads a certificate and insists that nothing follows it.
pub(crate) fn read(der: &[u8]) -> Result<X509Certificate<'_>, CertificateFault> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(CertificateFault::Malformed(
            "bytes follow the certificate".into(),
        )),
        Err(error) => Err(CertificateFault::Malformed(error.to_string())),
    }
}

fn spiffe_id(certificate: &X509Certificate<'_>) -> Result<SpiffeId, CertificateFault> {
    let Some(names) = certificate.subject_alternative_name()? else {
        return Err(CertificateFault::NoUri);
    };
    let mut uris = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
    let first = uris.next().ok_or(CertificateFault::NoUri)?;
    match uris.count() {
        0 => SpiffeId::parse(first).map_err(CertificateFault::NotSpiffe),
        more => Err(CertificateFault::ManyUris(more + 1)),
    }
}

fn check_leaf_constraints(certificate: &X509Certificate<'_>) -> Result<(), CertificateFault> {
    match certificate.basic_constraints()? {
        None => return Err(CertificateFault::NoBasicConstraints),
        Some(constraints) if constraints.value.ca => return Err(CertificateFault::Ca),
        Some(_) => {}
    }
    match certificate.key_usage()? {
        Some(usage) if usage.value.key_cert_sign() || usage.value.crl_sign() => {
            return Err(CertificateFault::SigningKeyUsage);
        }
        Some(usage) if usage.critical && usage.value.digital_signature() => {}
        _ => return Err(CertificateFault::KeyUsage),
    }
    match certificate.extended_key_usage()? {
        Some(usage) if !(usage.value.server_auth && usage.value.client_auth) => {
            Err(CertificateFault::ExtendedKeyUsage)
        }
        _ => Ok(()),
    }
}
