//! DSSE envelopes (Dead Simple Signing Envelope, protocol v1): signatures over the exact bytes of
//! a payload and its type. No canonical form is needed, because nothing is ever serialised again
//! to be verified.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use serde::{Deserialize, Serialize};

use crate::{
    Digest, KeySet, PublicKey, SigningKey, json,
    statement::{Statement, StatementError},
};

/// The largest envelope: an entry of a log has a length of 16 bits (C2SP tlog-tiles).
pub const MAX_ENVELOPE_BYTES: usize = 65_535;
/// `payloadType` of every statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.renkei.federation+json";
const MAX_SIGNATURES: usize = 64;

/// Why bytes are not a signed statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The envelope has more than [`MAX_ENVELOPE_BYTES`] bytes.
    #[error("the statement has {0} bytes; at most {MAX_ENVELOPE_BYTES} are taken")]
    TooLarge(usize),
    /// Not the JSON of an envelope.
    #[error("not a DSSE envelope: {0}")]
    Json(String),
    /// An envelope about something else.
    #[error("the envelope holds {0:?}, not a statement of a federation")]
    PayloadType(String),
    /// The payload or a signature is not base64.
    #[error("the envelope's {0} is not base64")]
    Base64(&'static str),
    /// The envelope has more than 64 signatures.
    #[error("the envelope has {0} signatures; at most {MAX_SIGNATURES} are taken")]
    TooManySignatures(usize),
    /// The payload is no statement.
    #[error(transparent)]
    Statement(#[from] StatementError),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    payload_type: String,
    payload: String,
    signatures: Vec<WrittenSignature>,
}

#[derive(Serialize, Deserialize)]
struct WrittenSignature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Signature {
    /// A hint that is not signed; empty when there is none.
    key: String,
    bytes: Vec<u8>,
}

/// A statement and the signatures over it. Having one says nothing of whether they are good.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    payload: Vec<u8>,
    signatures: Vec<Signature>,
    statement: Statement,
}

impl Envelope {
    /// Signs a statement with every one of `keys`.
    pub fn sign(statement: Statement, keys: &[&SigningKey]) -> Result<Self, EnvelopeError> {
        let envelope = Self::seal(statement.to_payload()?, statement, keys);
        match envelope.to_bytes().len() {
            length if length > MAX_ENVELOPE_BYTES => Err(EnvelopeError::TooLarge(length)),
            _ => Ok(envelope),
        }
    }

    pub(crate) fn seal(payload: Vec<u8>, statement: Statement, keys: &[&SigningKey]) -> Self {
        let message = pae(&payload);
        let sign = |key: &&SigningKey| Signature {
            key: key.public().to_string(),
            bytes: key.sign(&message),
        };
        Self {
            signatures: keys.iter().map(sign).collect(),
            payload,
            statement,
        }
    }

    /// Reads an envelope and the statement in it.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > MAX_ENVELOPE_BYTES {
            return Err(EnvelopeError::TooLarge(bytes.len()));
        }
        let value = json::parse(bytes).map_err(EnvelopeError::Json)?;
        let written: Written = serde_json::from_value(value)
            .map_err(|error| EnvelopeError::Json(json::describe(&error)))?;
        if written.payload_type != PAYLOAD_TYPE {
            let shown = written.payload_type.chars().take(100).collect();
            return Err(EnvelopeError::PayloadType(shown));
        }
        let count = written.signatures.len();
        if count > MAX_SIGNATURES {
            return Err(EnvelopeError::TooManySignatures(count));
        }
        let payload = base64(&written.payload).ok_or(EnvelopeError::Base64("payload"))?;
        let signature = |signature: WrittenSignature| {
            let bytes = base64(&signature.sig).ok_or(EnvelopeError::Base64("signature"))?;
            let key = signature.keyid;
            Ok(Signature { key, bytes })
        };
        let signatures = written.signatures.into_iter().map(signature);
        Ok(Self {
            statement: Statement::parse(&payload)?,
            signatures: signatures.collect::<Result<_, EnvelopeError>>()?,
            payload,
        })
    }

    /// As it is sent and logged.
    pub fn to_bytes(&self) -> Vec<u8> {
        let signature = |signature: &Signature| WrittenSignature {
            keyid: signature.key.clone(),
            sig: STANDARD.encode(&signature.bytes),
        };
        let written = Written {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: STANDARD.encode(&self.payload),
            signatures: self.signatures.iter().map(signature).collect(),
        };
        // Texts alone: writing them cannot fail.
        serde_json::to_vec(&written).unwrap_or_default()
    }

    /// The statement; whether it is true is for its verifier.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The digest of the payload: the identity of a statement, independent of its signatures.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.payload)
    }

    /// The keys among `keys` that have signed.
    pub fn signers(&self, keys: &[PublicKey]) -> Vec<PublicKey> {
        let message = pae(&self.payload);
        let signed = |key: &&PublicKey| {
            let name = key.to_string();
            let mut signatures = self.signatures.iter();
            signatures.any(|signature| {
                (signature.key.is_empty() || signature.key == name)
                    && key.verifies(&message, &signature.bytes)
            })
        };
        keys.iter().filter(signed).copied().collect()
    }

    /// Whether enough keys of the set have signed.
    pub fn is_signed_by(&self, set: &KeySet) -> bool {
        self.signers(&set.keys).len() >= set.threshold
    }
}

/// What is signed (DSSE, "pre-authentication encoding"): lengths make it unambiguous.
fn pae(payload: &[u8]) -> Vec<u8> {
    let mut message = format!(
        "DSSEv1 {} {PAYLOAD_TYPE} {} ",
        PAYLOAD_TYPE.len(),
        payload.len()
    )
    .into_bytes();
    message.extend_from_slice(payload);
    message
}

/// DSSE: both alphabets are to be read.
fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD
        .decode(text)
        .or_else(|_| URL_SAFE.decode(text))
        .ok()
}
