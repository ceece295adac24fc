//! Selectors: what a process must be to get a workload's identity.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize, de};

use crate::suggest;

/// What a process must be, such as `unix:user:kafka`. All selectors of a workload must match.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// What the kernel says about the process.
    Unix(UnixSelector),
}

/// What the kernel says about a process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnixSelector {
    /// The number of its user.
    Uid(u32),
    /// The name of its user.
    User(String),
    /// The number of its group.
    Gid(u32),
    /// The name of its group.
    Group(String),
    /// The absolute path of its program.
    Path(PathBuf),
    /// The SHA-256 of its program.
    Sha256([u8; 32]),
}

/// Why a text is not a selector of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// A kind that is not defined.
    #[error("unknown selector {written:?}")]
    Unknown {
        /// The text in the site file.
        written: String,
        /// What was probably meant.
        meant: Option<String>,
    },
    /// A kind that this version cannot attest.
    #[error("selectors of kind `{0}` are not supported by this version")]
    Unsupported(String),
    /// A good kind with a bad value.
    #[error("`{kind}` needs {needs}, not {value:?}")]
    Value {
        /// The kind, such as `unix:uid`.
        kind: String,
        /// What the kind needs.
        needs: &'static str,
        /// The value in the site file.
        value: String,
    },
}

const UNIX_KINDS: [&str; 6] = ["uid", "user", "gid", "group", "path", "sha256"];
const LATER_KINDS: [&str; 4] = ["systemd", "slurm", "k8s", "container"];

impl Selector {
    /// Reads `unix:KIND:VALUE`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let (family, rest) = text.split_once(':').unwrap_or((text, ""));
        if LATER_KINDS.contains(&family) {
            return Err(SelectorError::Unsupported(family.to_owned()));
        }
        let (kind, value) = rest.split_once(':').unwrap_or((rest, ""));
        if family == "unix" && UNIX_KINDS.contains(&kind) {
            return UnixSelector::parse(kind, value).map(Self::Unix);
        }
        // `user:kafka` and `unx:user:kafka` are slips as likely as `unix:usr:kafka`.
        let (kind, value) = match UNIX_KINDS.contains(&family) {
            true => (family, rest),
            false => (kind, value),
        };
        let kind = suggest::nearest(kind, UNIX_KINDS);
        let meant = kind
            .filter(|_| !value.is_empty())
            .map(|kind| format!("unix:{kind}:{value}"));
        Err(SelectorError::Unknown {
            written: text.to_owned(),
            meant,
        })
    }

    /// The kind and the value, such as `unix:user` and `kafka`.
    pub fn parts(&self) -> (&'static str, String) {
        let Self::Unix(unix) = self;
        match unix {
            UnixSelector::Uid(uid) => ("unix:uid", uid.to_string()),
            UnixSelector::User(name) => ("unix:user", name.clone()),
            UnixSelector::Gid(gid) => ("unix:gid", gid.to_string()),
            UnixSelector::Group(name) => ("unix:group", name.clone()),
            UnixSelector::Path(path) => ("unix:path", path.display().to_string()),
            UnixSelector::Sha256(digest) => ("unix:sha256", hex::encode(digest)),
        }
    }

    /// Whether a process has only one value of this kind, so that two of them never match.
    pub(crate) fn is_single_valued(&self) -> bool {
        let Self::Unix(unix) = self;
        !matches!(unix, UnixSelector::Gid(_) | UnixSelector::Group(_))
    }
}

impl UnixSelector {
    fn parse(kind: &str, value: &str) -> Result<Self, SelectorError> {
        let needs = |needs| SelectorError::Value {
            kind: format!("unix:{kind}"),
            needs,
            value: value.to_owned(),
        };
        let number = || match value.parse::<u32>() {
            Ok(number) if value.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number),
            _ => Err(needs("a number")),
        };
        let name = || match value {
            "" => Err(needs("a name")),
            name => Ok(name.to_owned()),
        };
        match kind {
            "uid" => number().map(Self::Uid),
            "gid" => number().map(Self::Gid),
            "user" => name().map(Self::User),
            "group" => name().map(Self::Group),
            "path" if value.starts_with('/') => Ok(Self::Path(value.into())),
            "path" => Err(needs("an absolute path")),
            _ => parse_sha256(value)
                .map(Self::Sha256)
                .ok_or_else(|| needs("64 hex digits")),
        }
    }
}

fn parse_sha256(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).ok()?;
    Some(digest)
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, value) = self.parts();
        write!(f, "{kind}:{value}")
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

impl Serialize for Selector {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_read_back_as_written() {
        let digest = "ab".repeat(32);
        for text in [
            "unix:uid:1000",
            "unix:user:kafka",
            "unix:gid:0",
            "unix:group:a:b",
            "unix:path:/usr/bin/java",
            &format!("unix:sha256:{digest}"),
        ] {
            assert_eq!(Selector::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_slip_is_answered_with_what_was_meant() {
        let meant = |text: &str| match Selector::parse(text).unwrap_err() {
            SelectorError::Unknown { meant, .. } => meant,
            other => panic!("{other}"),
        };
        assert_eq!(meant("unix:usr:kafka").as_deref(), Some("unix:user:kafka"));
        assert_eq!(meant("unx:user:kafka").as_deref(), Some("unix:user:kafka"));
        assert_eq!(meant("user:kafka").as_deref(), Some("unix:user:kafka"));
        assert_eq!(meant("kafka"), None);
        assert_eq!(meant(""), None);
    }

    #[test]
    fn bad_values_and_later_kinds_are_told_apart() {
        for text in [
            "unix:uid:root",
            "unix:uid:+1",
            "unix:user:",
            "unix:path:java",
            "unix:gid",
        ] {
            let fault = Selector::parse(text).unwrap_err();
            assert!(
                matches!(fault, SelectorError::Value { .. }),
                "{text}: {fault}"
            );
        }
        let fault = Selector::parse("k8s:ns:default").unwrap_err();
        assert_eq!(fault, SelectorError::Unsupported("k8s".to_owned()));
    }
}
