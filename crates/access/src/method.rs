//! Rules about what a caller may do at a service that speaks HTTP.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use crate::{HttpHost, HttpPath, HttpPathError, RequestPath};

/// One rule: `GET`, `GET /v1/records`, `GET /v1/*`, or the same with `*` for any method. A host may
/// come before the path: `GET //records.example/v1/*`, or stand for all of its paths: `GET
/// //records.example`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodRule {
    /// The method; any, if `None`. Methods are case-sensitive (RFC 9110 9.1).
    pub method: Option<String>,
    /// The host that the request must name; any, if `None`.
    pub host: Option<HttpHost>,
    /// The paths that the rule allows.
    pub path: PathRule,
}

/// The paths of a rule, in the canonical form of [`HttpPath`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathRule {
    /// The rule allows every path, and the `*` of `OPTIONS *`.
    Any,
    /// This path and no other.
    Exact(String),
    /// All paths that start with this. It ends in `/`, so it never matches a part of a segment.
    Under(String),
}

/// Why a text is not a rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct MethodRuleError {
    /// One sentence that quotes the text.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

const FORMS: &str = "write a method, or a method and a path, such as GET /v1/records, GET /v1/* \
                     or, with a host, GET //records.example/v1/*";
const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE",
];

impl MethodRule {
    /// Reads a rule as the site file has it.
    ///
    /// # Errors
    /// When no request could match it, or it could mean two things.
    pub fn parse(text: &str) -> Result<Self, MethodRuleError> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        match words.as_slice() {
            [path] if path.starts_with('/') => Err(error(
                format!("{text:?} has no method"),
                format!("write `GET {path}`, or `\"* {path}\"` for any method"),
            )),
            [method] => Ok(Self {
                method: method_of(method)?,
                host: None,
                path: PathRule::Any,
            }),
            [method, target] => {
                let method = method_of(method)?;
                let (host, path) = match target.strip_prefix("//") {
                    Some(rest) => host_and_path(rest)?,
                    None => (None, path_of(target)?),
                };
                Ok(Self { method, host, path })
            }
            _ => Err(error(format!("{text:?} is not a rule"), FORMS)),
        }
    }

    /// Whether the rule allows this request.
    ///
    /// # Errors
    /// Whether it does depends on the path, which has no canonical form.
    pub fn matches(
        &self,
        method: &str,
        host: &HttpHost,
        path: &RequestPath,
    ) -> Result<bool, HttpPathError> {
        let named = self.method.as_deref().is_none_or(|own| own == method)
            && self.host.as_ref().is_none_or(|own| own == host);
        match self.path {
            PathRule::Any => Ok(named),
            _ if !named => Ok(false),
            _ => Ok(self.path.matches(path.form()?)),
        }
    }
}

impl PathRule {
    fn matches(&self, path: &HttpPath) -> bool {
        let path = path.as_str();
        match self {
            Self::Any => true,
            Self::Exact(own) => own == path,
            Self::Under(prefix) => prefix.ends_with('/') && path.starts_with(prefix),
        }
    }
}

fn error(message: impl Into<String>, hint: impl Into<String>) -> MethodRuleError {
    MethodRuleError {
        message: message.into(),
        hint: hint.into(),
    }
}

fn method_of(text: &str) -> Result<Option<String>, MethodRuleError> {
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

/// What follows the two slashes of a rule with a host.
fn host_and_path(text: &str) -> Result<(Option<HttpHost>, PathRule), MethodRuleError> {
    let (host, path) = match text.find('/') {
        Some(end) => text.split_at(end),
        None => (text, "/*"),
    };
    let parsed = HttpHost::parse(host.as_bytes())
        .ok()
        .filter(|parsed| !host.is_empty() && parsed.as_str() == host);
    let Some(parsed) = parsed else {
        return Err(error(
            format!("{host:?} is not a host"),
            "write a host in small letters without a port; a request may name any port",
        ));
    };
    Ok((Some(parsed), path_of(path)?))
}

fn path_of(text: &str) -> Result<PathRule, MethodRuleError> {
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
    if !is_canonical(&path) {
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

/// Whether requests have the path in this form when it is compared.
fn is_canonical(path: &str) -> bool {
    HttpPath::parse(path).is_ok_and(|canonical| canonical.as_str() == path)
}

impl fmt::Display for MethodRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.method.as_deref().unwrap_or("*"))?;
        match (&self.host, &self.path) {
            (None, PathRule::Any) => return Ok(()),
            (None, _) => f.write_str(" ")?,
            (Some(host), _) => write!(f, " //{host}")?,
        }
        match &self.path {
            PathRule::Any => Ok(()),
            PathRule::Exact(path) => f.write_str(path),
            PathRule::Under(path) => write!(f, "{path}*"),
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
            "GET //records.example",
            "* //records.example/v1/*",
            "GET //[2001:db8::7]/v1",
            "GET //records.example/",
        ] {
            assert_eq!(MethodRule::parse(text).unwrap().to_string(), text);
        }
        let same = |one, other| assert_eq!(MethodRule::parse(one), MethodRule::parse(other));
        same("GET /*", "GET");
        same("GET   /v1", "GET /v1");
        same("GET //a/*", "GET //a");
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
            "GET /%25u002e",
            "GET /%C0%AE",
            "GET ///a",
            "GET //a:80/b",
            "GET //A/b",
            "GET //a./b",
            "GET //a b",
            "GET //a//b",
            "GET //*/b",
            "GET //a?b",
        ] {
            assert!(MethodRule::parse(text).is_err(), "{text}");
        }
    }

    fn allows(method: Option<&str>, path: PathRule, request: (&str, &str)) -> bool {
        let rule = MethodRule {
            method: method.map(str::to_owned),
            host: None,
            path,
        };
        let (method, path) = request;
        let host = HttpHost::parse(b"records").unwrap();
        rule.matches(method, &host, &RequestPath::new(path))
            .unwrap()
    }

    #[test]
    fn a_host_is_demanded_whatever_its_port() {
        let rule = MethodRule::parse("GET //records.example/v1/*").unwrap();
        let matches = |host: &str, path: &str| {
            let host = HttpHost::parse(host.as_bytes()).unwrap();
            rule.matches("GET", &host, &RequestPath::new(path))
        };
        for (host, path, expected) in [
            ("records.example", "/v1/a", Ok(true)),
            ("Records.example.:8080", "/v1/a", Ok(true)),
            ("admin.example", "/v1/a", Ok(false)),
            ("", "/v1/a", Ok(false)),
            ("records.example", "/v2", Ok(false)),
            ("records.example", "/v1//", Err(HttpPathError::EmptySegment)),
            ("admin.example", "/v1//", Ok(false)),
        ] {
            assert_eq!(matches(host, path), expected, "{host} {path}");
        }
    }

    #[test]
    fn methods_match_as_they_are_spelled() {
        for (rule, request, expected) in [
            (Some("GET"), "GET", true),
            (Some("GET"), "get", false),
            (Some("GET"), "HEAD", false),
            (Some("GET"), "GETX", false),
            (None, "BREW", true),
        ] {
            let found = allows(rule, PathRule::Any, (request, "/v1"));
            assert_eq!(found, expected, "{rule:?} {request}");
        }
    }

    #[test]
    fn paths_match_by_whole_segments() {
        let under = || PathRule::Under("/v1/".to_owned());
        let exact = || PathRule::Exact("/v1/records".to_owned());
        for (rule, path, expected) in [
            (under(), "/v1/records", true),
            (under(), "/v1/records/7", true),
            (under(), "/v1/", true),
            (under(), "/v1", false),
            (under(), "/v10/records", false),
            (under(), "/V1/records", false),
            (under(), "/%76%31/records", true),
            (under(), "*", false),
            (exact(), "/v1/records", true),
            (exact(), "/v1/r%65cords", true),
            (exact(), "/v1/records/", false),
            (exact(), "/v1/records/7", false),
            (exact(), "/v1", false),
            (PathRule::Any, "*", true),
            (PathRule::Under("/v1".to_owned()), "/v10", false),
        ] {
            let found = allows(Some("GET"), rule.clone(), ("GET", path));
            assert_eq!(found, expected, "{rule:?} {path}");
        }
    }
}
