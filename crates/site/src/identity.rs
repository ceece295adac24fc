//! The lasting identity of a site, as another site writes it down: `IDENTITY` or
//! `IDENTITY@VERSION`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The identity that a peer must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedIdentity {
    /// The SHA-256 of the first version of the peer's site root, in hexadecimal digits.
    pub digest: String,
    /// The lowest version of its site root that counts: what the peer had when the line was
    /// handed over.
    pub at_least: u64,
}

impl PinnedIdentity {
    /// Reads 64 hexadecimal digits, with `@VERSION` behind them or without.
    pub fn parse(text: &str) -> Option<Self> {
        let (digest, version) = match text.split_once('@') {
            Some((digest, version)) => (digest, Some(version)),
            None => (text, None),
        };
        let is_hexadecimal = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if digest.len() != 64 || !digest.bytes().all(is_hexadecimal) {
            return None;
        }
        let at_least = match version {
            None => 1,
            // A sign is no digit.
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|version| *version > 0)?
            }
            Some(_) => return None,
        };
        Some(Self {
            digest: digest.to_owned(),
            at_least,
        })
    }
}

impl fmt::Display for PinnedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.digest)?;
        match self.at_least {
            1 => Ok(()),
            version => write!(f, "@{version}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_a_whole_digest_and_maybe_a_version() {
        let digest = "6d".repeat(32);
        let read = |text: &str| PinnedIdentity::parse(text).map(|it| it.to_string());
        assert_eq!(read(&digest), Some(digest.clone()));
        assert_eq!(read(&format!("{digest}@1")), Some(digest.clone()));
        let third = format!("{digest}@3");
        assert_eq!(read(&third), Some(third.clone()));
        let upper = digest.to_uppercase();
        for bad in ["", "6d0c", &digest[1..], &upper, "@2"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        for version in ["", "0", "-1", "+1", "x", "99999999999999999999"] {
            assert_eq!(read(&format!("{digest}@{version}")), None, "{version}");
        }
    }
}
