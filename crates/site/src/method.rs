//! Rules about what a caller may do at a service that speaks HTTP.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// One rule: `GET`, `GET /v1/records`, `GET /v1/*`, or the same with `*` for any method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodRule {
    /// The method; any, if `None`.
    pub method: Option<String>,
    /// The paths that the rule allows.
    pub path: PathRule,
}

/// The paths of a rule, percent-encoded where they must be and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathRule {
    /// The rule allows every path.
    Any,
    /// This path alone.
    Exact(String),
    /// All that starts with this; it ends in `/`.
    Under(String),
}

/// What is wrong with a rule, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MethodError {
    pub(crate) message: String,
    pub(crate) hint: String,
}

const FORMS: &str = "write a method, or a method and a path, such as GET /v1/records or GET /v1/*";
const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE",
];

impl MethodRule {
    pub(crate) fn parse(text: &str) -> Result<Self, MethodError> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        match words.as_slice() {
            [path] if path.starts_with('/') => Err(error(
                format!("{text:?} has no method"),
                format!("write `GET {path}`, or `\"* {path}\"` for any method"),
            )),
            [method] => Ok(Self {
                method: method_of(method)?,
                path: PathRule::Any,
            }),
            [method, path] => Ok(Self {
                method: method_of(method)?,
                path: path_of(path)?,
            }),
            _ => Err(error(format!("{text:?} is not a rule"), FORMS)),
        }
    }
}

fn error(message: impl Into<String>, hint: impl Into<String>) -> MethodError {
    MethodError {
        message: message.into(),
        hint: hint.into(),
    }
}

fn method_of(text: &str) -> Result<Option<String>, MethodError> {
    let upper = text.to_ascii_uppercase();
    let is_name = |text: &str| {
        let allowed = |byte: u8| byte.is_ascii_uppercase() || b"-_".contains(&byte);
        text.len() <= 32 && text.bytes().all(allowed)
    };
    match text {
        "*" => Ok(None),
        "CONNECT" => Err(error(
            "CONNECT is never passed on to a backend",
            "remove the rule",
        )),
        _ if is_name(text) => Ok(Some(text.to_owned())),
        _ if METHODS.contains(&upper.as_str()) => Err(error(
            format!("{text:?} is not a method: methods are written in capitals"),
            format!("write {upper}"),
        )),
        _ => Err(error(format!("{text:?} is not a method"), FORMS)),
    }
}

fn path_of(text: &str) -> Result<PathRule, MethodError> {
    let (path, open) = match text.strip_suffix("/*") {
        Some(before) => (format!("{before}/"), true),
        None => (text.to_owned(), false),
    };
    let bad = |why: &str, hint: &str| Err(error(format!("{text:?} is not a path: {why}"), hint));
    if !path.starts_with('/') {
        return bad("it does not start with a slash", FORMS);
    }
    if path.contains('*') {
        return bad("a `*` is allowed only at the end, after a slash", FORMS);
    }
    if path.contains(['?', '#']) {
        return bad(
            "rules are for paths alone",
            "leave out what follows the path",
        );
    }
    let segments = path.split('/').skip(1);
    let count = segments.clone().count();
    let empty = |(index, segment): (usize, &str)| segment.is_empty() && index + 1 < count;
    if segments.clone().enumerate().any(empty) {
        return bad("it has an empty segment", "write one slash");
    }
    if segments
        .clone()
        .any(|segment| matches!(segment, "." | ".."))
    {
        return bad(
            "requests with `.` or `..` in their path are refused",
            "write the path without them",
        );
    }
    if !is_canonical(path.as_bytes()) {
        let hint = "write letters, digits and -._~!$&'()+,=:@ as they are, all else as %XX in \
                    capitals; %2F, %5C, %3B and control characters are refused in requests";
        return bad(
            "requests with such a path are refused or read otherwise",
            hint,
        );
    }
    Ok(match open {
        _ if path == "/" && open => PathRule::Any,
        true => PathRule::Under(path),
        false => PathRule::Exact(path),
    })
}

/// Whether every byte that may stand for itself does, and the others are encoded in capitals.
fn is_canonical(path: &[u8]) -> bool {
    let mut rest = path;
    loop {
        rest = match rest {
            [] => return true,
            // Followed by two digits it would be encoded twice.
            [b'%', b'2', b'5', rest @ ..] if !is_escape(rest) => rest,
            [b'%', high, low, rest @ ..] if is_needed_escape(*high, *low) => rest,
            [byte, rest @ ..] if is_plain(*byte) || *byte == b'/' => rest,
            _ => return false,
        }
    }
}

/// Bytes of a path that stand for themselves (RFC 3986 3.3), `;` aside: requests with it are
/// refused.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()+,=:@*".contains(&byte)
}

fn is_escape(rest: &[u8]) -> bool {
    matches!(rest, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

fn is_needed_escape(high: u8, low: u8) -> bool {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    let byte = digit(high)
        .zip(digit(low))
        .map(|(high, low)| high * 16 + low);
    let refused = |byte: u8| b"/\\;%".contains(&byte) || byte.is_ascii_control();
    byte.is_some_and(|byte| !is_plain(byte) && !refused(byte))
}

impl fmt::Display for MethodRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.method.as_deref().unwrap_or("*"))?;
        match &self.path {
            PathRule::Any => Ok(()),
            PathRule::Exact(path) => write!(f, " {path}"),
            PathRule::Under(path) => write!(f, " {path}*"),
        }
    }
}

impl Serialize for MethodRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MethodRule {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        Self::parse(&text).map_err(|error| de::Error::custom(error.message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_back() {
        for text in [
            "GET",
            "*",
            "GET /",
            "GET /v1/records",
            "PROPFIND /dav/",
            "POST /v1/*",
            "* /v1/*",
            "GET /a%20b/%E6%97%A5",
            "GET /50%25",
        ] {
            assert_eq!(MethodRule::parse(text).unwrap().to_string(), text);
        }
        let same = |one, other| assert_eq!(MethodRule::parse(one), MethodRule::parse(other));
        same("GET /*", "GET");
        same("GET   /v1", "GET /v1");
    }

    #[test]
    fn what_no_request_could_match_is_no_rule() {
        for text in [
            "",
            "get",
            "/v1",
            "GET v1",
            "GET /v1 /v2",
            "CONNECT",
            "GET /v1*",
            "GET /*/a",
            "GET /a//b",
            "GET /a/../b",
            "GET /a?b=c",
            "GET /a;b",
            "GET /a%2Fb",
            "GET /a%2e",
            "GET /a%41",
            "GET /a%zz",
            "GET /a%",
            "GET /日本",
            "GET //",
            "GET /a\\b",
            "GET /%2541",
        ] {
            assert!(MethodRule::parse(text).is_err(), "{text}");
        }
    }
}
