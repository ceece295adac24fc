//! Certificate requests (PKCS#10). Only the public key is taken from one, once its signature has
//! shown that the requester holds the private key. Names and extensions it asks for are ignored:
//! the identity comes from the registration entry. Only a manager names the identity itself.

use rcgen::{
    CertificateSigningRequestParams, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    PublicKeyData, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateSigningRequestDer;
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

/// A request with an EC key has some 300 bytes.
const MAX_REQUEST: usize = 16 * 1024;

/// Why a certificate request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Longer than any sensible request.
    #[error("the certificate request is longer than {MAX_REQUEST} bytes")]
    TooLong,
    /// Not DER of a PKCS#10 request.
    #[error("the certificate request is not a PKCS#10 request")]
    Malformed,
    /// The signature is not by the key inside.
    #[error("the certificate request is not signed by the key that it contains: {0}")]
    Signature(String),
    /// A key of another kind.
    #[error(
        "the certificate request has a key of an unsupported kind; use ECDSA P-256, P-384 or Ed25519"
    )]
    Key,
}

/// Whether a request can be signed for.
pub(crate) fn check_request(der: &[u8]) -> Result<(), RequestError> {
    requested_key(der).map(|_| ())
}

/// The URIs and the DNS names that a request asks for.
pub(crate) fn requested_names(der: &[u8]) -> Result<(Vec<String>, Vec<String>), RequestError> {
    check_request(der)?;
    let (_, request) =
        X509CertificationRequest::from_der(der).map_err(|_| RequestError::Malformed)?;
    let (mut uris, mut names) = (Vec::new(), Vec::new());
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(alternatives) = extension else {
            continue;
        };
        for name in &alternatives.general_names {
            match name {
                GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                GeneralName::DNSName(name) => names.push((*name).to_owned()),
                _ => {}
            }
        }
    }
    Ok((uris, names))
}

/// The public key of a request that proves possession of its private key.
pub(super) fn requested_key(der: &[u8]) -> Result<SubjectPublicKeyInfo, RequestError> {
    if der.len() > MAX_REQUEST {
        return Err(RequestError::TooLong);
    }
    let (rest, request) =
        X509CertificationRequest::from_der(der).map_err(|_| RequestError::Malformed)?;
    if !rest.is_empty() {
        return Err(RequestError::Malformed);
    }
    CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
        .map_err(|error| RequestError::Signature(error.to_string()))?;
    let key = SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)
        .map_err(|_| RequestError::Key)?;
    let supported = [
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
        &PKCS_ED25519,
    ];
    if supported.contains(&key.algorithm()) {
        Ok(key)
    } else {
        Err(RequestError::Key)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn request(key: &KeyPair) -> Vec<u8> {
        CertificateParams::default()
            .serialize_request(key)
            .unwrap()
            .der()
            .to_vec()
    }

    #[test]
    fn the_key_is_taken_when_the_request_is_signed_by_it() {
        for algorithm in [
            &PKCS_ECDSA_P256_SHA256,
            &PKCS_ECDSA_P384_SHA384,
            &PKCS_ED25519,
        ] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let found = requested_key(&request(&key)).unwrap();
            assert_eq!(
                found.subject_public_key_info(),
                key.subject_public_key_info()
            );
        }
    }

    #[test]
    fn a_key_of_somebody_else_is_refused() {
        let (own, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut der = request(&own);
        let at = der
            .windows(own.public_key_raw().len())
            .position(|window| window == own.public_key_raw())
            .unwrap();
        der[at..at + other.public_key_raw().len()].copy_from_slice(other.public_key_raw());
        assert!(matches!(
            requested_key(&der),
            Err(RequestError::Signature(_))
        ));
    }

    #[test]
    fn garbage_is_refused() {
        let good = request(&KeyPair::generate().unwrap());
        assert_eq!(requested_key(b""), Err(RequestError::Malformed));
        assert_eq!(
            requested_key(&good[..good.len() - 1]),
            Err(RequestError::Malformed)
        );
        assert_eq!(
            requested_key(&[good.clone(), vec![0]].concat()),
            Err(RequestError::Malformed)
        );
        assert_eq!(
            requested_key(&[0x30; MAX_REQUEST + 1]),
            Err(RequestError::TooLong)
        );
    }
}
