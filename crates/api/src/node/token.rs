//! The one line by which a machine becomes a node of a site.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use renkei_site::{AddressError, HostPort};
use renkei_spiffe::{IdError, TrustDomain};
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};

/// The first byte of a token, so that a later form differs from this one.
const FORM: u8 = 1;
const SECRET_BYTES: usize = 32;
/// A line of more characters is refused unread: the longest trust domain and the longest address
/// stay far below.
const MAX_LINE: usize = 1024;

/// The SHA-256 of a CA certificate (DER). A node that has it needs no file to know the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CaPin([u8; 32]);

impl CaPin {
    /// The pin of this certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate.as_ref()).into())
    }

    /// Whether this certificate is the pinned one.
    pub fn matches(&self, certificate: &CertificateDer<'_>) -> bool {
        *self == Self::of(certificate)
    }
}

/// What proves that a node may join: random bytes, used once. Not shown by `Debug`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct JoinSecret([u8; SECRET_BYTES]);

impl JoinSecret {
    /// From random bytes.
    pub fn new(random: [u8; SECRET_BYTES]) -> Self {
        Self(random)
    }

    /// The text that the node sends as the payload of its attestation of the type `join_token`.
    pub fn payload(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl fmt::Debug for JoinSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinSecret(..)")
    }
}

/// What a new node needs to join its site. `Display` gives the line to paste, with the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeToken {
    /// Where the server's API is.
    pub server: HostPort,
    /// The CA that issued the server's SVID. The server sends it in its TLS handshake, behind its
    /// own certificate.
    pub ca: CaPin,
    /// The trust domain of the site.
    pub trust_domain: TrustDomain,
    /// Proves that the node may join.
    pub secret: JoinSecret,
}

/// Why a text is not the token of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeTokenError {
    /// Not base64url, or of no known form: a part of the line is missing, perhaps.
    #[error(
        "this is not a token of `renkei node token`: copy the whole line, without spaces in it"
    )]
    Malformed,
    /// Made by a release with another form of tokens.
    #[error(
        "this token has form {0}, and this release knows form {FORM}: use the release of the server"
    )]
    Form(u8),
    /// The address in it is none.
    #[error("the address of the server in the token is wrong: {0}")]
    Address(#[from] AddressError),
    /// The trust domain in it is none.
    #[error("the trust domain in the token is wrong: {0}")]
    TrustDomain(#[from] IdError),
}

impl fmt::Display for NodeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![FORM];
        bytes.extend(self.ca.0);
        bytes.extend(self.secret.0);
        bytes.extend(format!("{}/{}", self.server, self.trust_domain).as_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for NodeToken {
    type Err = NodeTokenError;

    fn from_str(line: &str) -> Result<Self, NodeTokenError> {
        let line = line.trim();
        if line.len() > MAX_LINE {
            return Err(NodeTokenError::Malformed);
        }
        let bytes = URL_SAFE_NO_PAD.decode(line);
        let bytes = bytes.map_err(|_| NodeTokenError::Malformed)?;
        let (form, rest) = bytes.split_first().ok_or(NodeTokenError::Malformed)?;
        if *form != FORM {
            return Err(NodeTokenError::Form(*form));
        }
        let (ca, rest) = rest.split_first_chunk().ok_or(NodeTokenError::Malformed)?;
        let (secret, rest) = rest.split_first_chunk().ok_or(NodeTokenError::Malformed)?;
        let text = std::str::from_utf8(rest).map_err(|_| NodeTokenError::Malformed)?;
        let (server, trust_domain) = text.split_once('/').ok_or(NodeTokenError::Malformed)?;
        Ok(Self {
            server: HostPort::parse(server)?,
            ca: CaPin(*ca),
            trust_domain: TrustDomain::parse(trust_domain)?,
            secret: JoinSecret(*secret),
        })
    }
}
