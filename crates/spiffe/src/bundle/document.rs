//! The SPIFFE bundle document: a JWKS with two more members
//! (SPIFFE_Trust_Domain_and_Bundle section 4).

use std::time::Duration;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use x509_parser::{
    certificate::X509Certificate,
    oid_registry::{OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_SIG_ED25519, Oid},
    public_key::PublicKey,
};

use super::Bundle;
use crate::{CertificateFault, JwtAuthority, TrustDomain, x509::certificate};

/// The largest document that is read. A bundle with a hundred RSA-4096 authorities has 300 kB.
pub const MAX_DOCUMENT_BYTES: usize = 1 << 20;
/// The most keys of one document.
const MAX_KEYS: usize = 1_000;

/// The curves of keys (RFC 7518, section 6.2.1.1), and the bytes of a coordinate.
static CURVES: [(Oid<'static>, &str, usize); 3] = [
    (OID_EC_P256, "P-256", 32),
    (OID_NIST_EC_P384, "P-384", 48),
    (OID_NIST_EC_P521, "P-521", 66),
];

/// Why a document is not a SPIFFE bundle. `key` counts from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The document has more than [`MAX_DOCUMENT_BYTES`] bytes.
    #[error("the bundle document has {0} bytes; at most {MAX_DOCUMENT_BYTES} are read")]
    TooLarge(usize),
    /// Not JSON, or not of the form of a JWKS.
    #[error("not a bundle document: {0}")]
    Json(String),
    /// Over a thousand keys.
    #[error("the bundle document has {0} keys; at most {MAX_KEYS} are read")]
    TooManyKeys(usize),
    /// Section 4.2.1: `x5c` has exactly one element for `x509-svid`.
    #[error("key {key} for x509-svid needs exactly one certificate in x5c, it has {count}")]
    CertificateCount {
        /// Index of the key in the document, from 0.
        key: usize,
        /// Number of certificates in `x5c`.
        count: usize,
    },
    /// Section 4.2: a key has a `kty`; one that is not known is passed over.
    #[error("key {key} has no kty")]
    NoKeyType {
        /// Index of the key in the document, from 0.
        key: usize,
    },
    /// The text in `x5c` is not base64.
    #[error("key {key}: x5c is not base64")]
    Base64 {
        /// Index of the key in the document, from 0.
        key: usize,
    },
    /// The certificate in `x5c` cannot be read.
    #[error("key {key}: {fault}")]
    Certificate {
        /// Index of the key in the document, from 0.
        key: usize,
        /// What is wrong with it.
        fault: CertificateFault,
    },
    /// X509-SVID 4.1: an authority is a CA certificate.
    #[error("key {key}: the certificate is not a CA certificate")]
    NotCa {
        /// Index of the key in the document, from 0.
        key: usize,
    },
    /// Section 4.2.2: a `jwt-svid` key has a `kid`.
    #[error("key {key} for jwt-svid has no kid")]
    NoKeyId {
        /// Index of the key in the document, from 0.
        key: usize,
    },
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Map<String, Value>>,
    spiffe_sequence: Option<u64>,
    spiffe_refresh_hint: Option<u64>,
}

#[derive(Serialize)]
struct Written<'a> {
    keys: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spiffe_sequence: &'a Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spiffe_refresh_hint: Option<u64>,
}

impl Bundle {
    /// Reads a bundle document as that of `trust_domain`: the document itself does not say whose
    /// it is. Keys of an unknown `use` or `kty` are passed over (section 4.2), and so are
    /// certificates with a key that no JWK can have.
    pub fn parse_document(trust_domain: TrustDomain, json: &[u8]) -> Result<Self, DocumentError> {
        if json.len() > MAX_DOCUMENT_BYTES {
            return Err(DocumentError::TooLarge(json.len()));
        }
        let document: Document =
            serde_json::from_slice(json).map_err(|error| DocumentError::Json(error.to_string()))?;
        if document.keys.len() > MAX_KEYS {
            return Err(DocumentError::TooManyKeys(document.keys.len()));
        }
        let mut bundle = Self {
            sequence: document.spiffe_sequence,
            refresh_hint: (document.spiffe_refresh_hint)
                .map(|hint| Duration::from_secs(hint.max(1))),
            ..Self::empty(trust_domain)
        };
        for (at, key) in document.keys.into_iter().enumerate() {
            bundle.read_key(at, key)?;
        }
        Ok(bundle)
    }

    fn read_key(&mut self, key: usize, jwk: Map<String, Value>) -> Result<(), DocumentError> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let is_ours = matches!(text("use"), Some("x509-svid" | "jwt-svid"));
        match text("kty") {
            Some("EC" | "RSA" | "OKP") => {}
            None if is_ours => return Err(DocumentError::NoKeyType { key }),
            _ => return Ok(()),
        }
        match text("use") {
            Some("x509-svid") => self.x509_authorities.extend(read_authority(key, &jwk)?),
            Some("jwt-svid") => {
                let key_id = text("kid")
                    .ok_or(DocumentError::NoKeyId { key })?
                    .to_owned();
                self.jwt_authorities.push(JwtAuthority {
                    key_id,
                    jwk: Value::Object(jwk),
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// Writes the bundle document, ready to serve.
    pub fn to_document(&self) -> String {
        let x509 = self.x509_authorities.iter().filter_map(write_authority);
        let jwt = self
            .jwt_authorities
            .iter()
            .map(|authority| authority.jwk.clone());
        let written = Written {
            keys: x509.chain(jwt).collect(),
            spiffe_sequence: &self.sequence,
            spiffe_refresh_hint: self.refresh_hint.map(|hint| hint.as_secs().max(1)),
        };
        serde_json::to_string_pretty(&written).unwrap_or_default()
    }
}

fn read_authority(
    key: usize,
    jwk: &Map<String, Value>,
) -> Result<Option<CertificateDer<'static>>, DocumentError> {
    let listed = jwk
        .get("x5c")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let [text] = listed else {
        return Err(DocumentError::CertificateCount {
            key,
            count: listed.len(),
        });
    };
    let text = text.as_str().ok_or(DocumentError::Base64 { key })?;
    let der = STANDARD
        .decode(text)
        .map_err(|_| DocumentError::Base64 { key })?;
    let certificate =
        certificate::read(&der).map_err(|fault| DocumentError::Certificate { key, fault })?;
    if !certificate.is_ca() {
        return Err(DocumentError::NotCa { key });
    }
    // What could not be written again would be lost where the bundle is stored.
    let known = public_key(&certificate).is_some();
    Ok(known.then(|| CertificateDer::from(der)))
}

/// The JWK of an authority: go-jose, which SPIRE reads with, wants the public key spelled out
/// next to `x5c`.
fn write_authority(der: &CertificateDer<'_>) -> Option<Value> {
    let certificate = certificate::read(der).ok()?;
    let mut jwk = public_key(&certificate)?;
    let members = jwk.as_object_mut()?;
    members.insert("use".into(), json!("x509-svid"));
    members.insert("x5c".into(), json!([STANDARD.encode(der)]));
    Some(jwk)
}

/// The public key of a certificate as a JWK (RFC 7518, section 6; RFC 8037), if there is such a
/// form.
fn public_key(certificate: &X509Certificate<'_>) -> Option<Value> {
    let key = certificate.public_key();
    if key.algorithm.algorithm == OID_SIG_ED25519 {
        let x = URL_SAFE_NO_PAD.encode(&key.subject_public_key.data);
        return Some(json!({"kty": "OKP", "crv": "Ed25519", "x": x}));
    }
    let number = |bytes: &[u8]| {
        let start = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len());
        URL_SAFE_NO_PAD.encode(bytes.get(start..).unwrap_or_default())
    };
    match key.parsed().ok()? {
        PublicKey::EC(point) => {
            let curve = key.algorithm.parameters.as_ref()?.as_oid().ok()?;
            let (_, curve, size) = CURVES.iter().find(|(oid, ..)| *oid == curve)?;
            let (x, y) = point.data().get(1..)?.split_at_checked(*size)?;
            (y.len() == *size).then(|| {
                json!({"kty": "EC", "crv": curve,
                       "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
            })
        }
        PublicKey::RSA(key) => {
            Some(json!({"kty": "RSA", "n": number(key.modulus), "e": number(key.exponent)}))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
        PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256,
    };

    use super::*;

    fn authority(algorithm: &'static rcgen::SignatureAlgorithm) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(algorithm).expect("key");
        params.self_signed(&key).expect("certificate").into()
    }

    fn parse(document: &str) -> Bundle {
        let name = TrustDomain::parse("osaka.example").expect("a name");
        Bundle::parse_document(name, document.as_bytes()).expect("a bundle")
    }

    fn entry(der: &[u8]) -> Value {
        json!({"kty": "EC", "use": "x509-svid", "x5c": [STANDARD.encode(der)]})
    }

    #[test]
    fn authorities_of_every_key_type_that_jwk_has_are_there_after_writing_and_reading() {
        let kinds = [
            &PKCS_ECDSA_P256_SHA256,
            &PKCS_ECDSA_P384_SHA384,
            &PKCS_ECDSA_P521_SHA512,
            &PKCS_ED25519,
            &PKCS_RSA_SHA256,
        ];
        let authorities: Vec<_> = kinds.map(authority).into();
        let keys: Vec<Value> = authorities.iter().map(|der| entry(der)).collect();
        let bundle = parse(&json!({"keys": keys, "spiffe_refresh_hint": 0}).to_string());
        assert_eq!(bundle.x509_authorities, authorities);
        let document = bundle.to_document();
        assert_eq!(parse(&document), bundle);
        let written: Value = serde_json::from_str(&document).expect("JSON");
        let ed25519 = &written["keys"][3];
        assert_eq!(
            (&ed25519["kty"], &ed25519["crv"]),
            (&json!("OKP"), &json!("Ed25519"))
        );
        let x = ed25519["x"].as_str().expect("a key");
        assert_eq!(URL_SAFE_NO_PAD.decode(x).map(|x| x.len()), Ok(32));
    }

    #[test]
    fn an_authority_with_a_key_that_jwk_does_not_have_is_passed_over() {
        let good = authority(&PKCS_ECDSA_P256_SHA256);
        let mut unknown = good.to_vec();
        // id-ecPublicKey (RFC 5480) becomes an algorithm that nothing here knows.
        let oid = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
        let at = unknown.windows(oid.len()).position(|part| part == oid);
        unknown[at.expect("the OID") + 6] = 0x7f;
        let document = json!({"keys": [entry(&unknown), entry(&good)]}).to_string();
        assert_eq!(parse(&document).x509_authorities, [good]);
    }
}
