//! SPIFFE IDs and trust domain names (SPIFFE-ID section 2).
//!
//! An ID is parsed once, at the edge, and compared as a value afterwards: prefixes and patterns
//! over the text of an ID are how other systems let strangers in.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize, de};

const SCHEME: &str = "spiffe://";
/// SPIFFE-ID 2.1: a trust domain name has at most 255 bytes.
const MAX_TRUST_DOMAIN: usize = 255;
/// SPIFFE-ID 2.3: IDs of up to 2048 bytes must be supported; longer ones are refused here.
const MAX_ID: usize = 2048;

/// Why a text is not a SPIFFE ID or a trust domain name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is longer than the standard asks anyone to support.
    #[error("longer than {limit} bytes")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// The scheme is not `spiffe`.
    #[error("does not start with spiffe://")]
    Scheme,
    /// There is no trust domain after `spiffe://`.
    #[error("the trust domain is empty")]
    EmptyTrustDomain,
    /// SPIFFE-ID 2.1: only `[a-z0-9.-_]`; no port, user information or percent-encoding.
    #[error(
        "the trust domain has the character {0:?}; only a-z, 0-9, '.', '-' and '_' are allowed"
    )]
    TrustDomainCharacter(char),
    /// SPIFFE-ID 2.2: only `[a-zA-Z0-9.-_]` in a path segment; no query or fragment.
    #[error("the path has the character {0:?}; only letters, digits, '.', '-' and '_' are allowed")]
    PathCharacter(char),
    /// SPIFFE-ID 2.2: no empty segments and no trailing slash.
    #[error("the path has an empty segment or ends in '/'")]
    EmptySegment,
    /// SPIFFE-ID 2.2: no relative segments.
    #[error("the path has a '.' or '..' segment")]
    DotSegment,
}

/// The name of a trust domain, such as `osaka.example`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Parses a bare name, without the `spiffe://` scheme.
    pub fn parse(name: &str) -> Result<Self, IdError> {
        if name.is_empty() {
            return Err(IdError::EmptyTrustDomain);
        }
        if name.len() > MAX_TRUST_DOMAIN {
            return Err(IdError::TooLong {
                limit: MAX_TRUST_DOMAIN,
            });
        }
        let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_');
        match name.chars().find(|c| !allowed(*c)) {
            Some(c) => Err(IdError::TrustDomainCharacter(c)),
            None => Ok(Self(name.into())),
        }
    }

    /// The name without a scheme.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The SPIFFE ID of the trust domain itself: `spiffe://NAME`, no path.
    pub fn id(&self) -> SpiffeId {
        SpiffeId {
            trust_domain: self.clone(),
            path: "".into(),
        }
    }
}

/// A SPIFFE ID: a trust domain and a path. Cheap to clone.
///
/// The path is empty for the trust domain's own ID, otherwise it starts with `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    path: Arc<str>,
}

impl SpiffeId {
    /// Parses `spiffe://TRUST-DOMAIN/PATH`. The scheme may be in any case (RFC 3986 3.1), nothing
    /// else is normalised.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if text.len() > MAX_ID {
            return Err(IdError::TooLong { limit: MAX_ID });
        }
        match text.get(..SCHEME.len()) {
            Some(scheme) if scheme.eq_ignore_ascii_case(SCHEME) => {}
            _ => return Err(IdError::Scheme),
        }
        let rest = text.get(SCHEME.len()..).unwrap_or_default();
        let (name, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let trust_domain = TrustDomain::parse(name)?;
        Self::with_path(trust_domain, path)
    }

    /// Parses the site file's short form `TRUST-DOMAIN/PATH`, the full form, or, with `own`, the
    /// path alone.
    pub fn parse_short(text: &str, own: &TrustDomain) -> Result<Self, IdError> {
        if text
            .get(..SCHEME.len())
            .is_some_and(|s| s.eq_ignore_ascii_case(SCHEME))
        {
            return Self::parse(text);
        }
        match text.split_once('/') {
            Some(_) => Self::parse(&format!("{SCHEME}{text}")),
            None => Self::with_path(own.clone(), &format!("/{text}")),
        }
    }

    /// The ID of a path (with its leading `/`, or empty) in a trust domain.
    pub fn with_path(trust_domain: TrustDomain, path: &str) -> Result<Self, IdError> {
        if SCHEME.len() + trust_domain.as_str().len() + path.len() > MAX_ID {
            return Err(IdError::TooLong { limit: MAX_ID });
        }
        if !path.is_empty() {
            let segments = path.strip_prefix('/').ok_or(IdError::EmptySegment)?;
            segments.split('/').try_for_each(check_segment)?;
        }
        Ok(Self {
            trust_domain,
            path: path.into(),
        })
    }

    /// The part between `spiffe://` and the path.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path with its leading `/`, or an empty text.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `TRUST-DOMAIN/PATH`: what people write and read.
    pub fn short(&self) -> String {
        format!("{}{}", self.trust_domain, self.path)
    }
}

fn check_segment(segment: &str) -> Result<(), IdError> {
    match segment {
        "" => return Err(IdError::EmptySegment),
        "." | ".." => return Err(IdError::DotSegment),
        _ => {}
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match segment.chars().find(|c| !allowed(*c)) {
        Some(c) => Err(IdError::PathCharacter(c)),
        None => Ok(()),
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{}", self.trust_domain, self.path)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for TrustDomain {
    type Err = IdError;

    fn from_str(name: &str) -> Result<Self, IdError> {
        Self::parse(name)
    }
}

impl FromStr for SpiffeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

impl Serialize for TrustDomain {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl Serialize for SpiffeId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TrustDomain {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for SpiffeId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}
