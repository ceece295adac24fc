//! What each caller of a service may do there, by HTTP method and path.

use std::{collections::BTreeMap, fmt};

use renkei_spiffe::SpiffeId;

use crate::HttpPath;

/// The rules of a service. Who is not in them may do nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MethodRules(BTreeMap<SpiffeId, Vec<MethodRule>>);

/// Something that a caller may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodRule {
    /// With this method, as it is spelled; any, if `None`.
    pub method: Option<String>,
    /// At these paths.
    pub path: PathRule,
}

/// Which paths are meant, by their canonical form (see [`HttpPath`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathRule {
    /// All, the `*` of `OPTIONS *` included.
    Any,
    /// One.
    Exact(String),
    /// All that start with this, which ends in a slash: whole segments, never a part of one.
    Under(String),
}

impl MethodRules {
    /// From what the site file says of each caller.
    pub fn new(rules: BTreeMap<SpiffeId, Vec<MethodRule>>) -> Self {
        Self(rules)
    }

    /// The rule that lets a caller do this, if there is one.
    pub(crate) fn find(
        &self,
        caller: &SpiffeId,
        method: &str,
        path: &HttpPath,
    ) -> Option<&MethodRule> {
        let mut rules = self.0.get(caller)?.iter();
        rules.find(|rule| rule.matches(method, path))
    }
}

impl FromIterator<(SpiffeId, Vec<MethodRule>)> for MethodRules {
    fn from_iter<I: IntoIterator<Item = (SpiffeId, Vec<MethodRule>)>>(rules: I) -> Self {
        Self(rules.into_iter().collect())
    }
}

impl MethodRule {
    fn matches(&self, method: &str, path: &HttpPath) -> bool {
        // Methods are case-sensitive (RFC 9110 9.1).
        let named = self.method.as_deref().is_none_or(|own| own == method);
        named && self.path.matches(path.as_str())
    }
}

impl PathRule {
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(own) => own == path,
            Self::Under(prefix) => prefix.ends_with('/') && path.starts_with(prefix),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn caller() -> SpiffeId {
        SpiffeId::parse("spiffe://osaka.example/collector").unwrap()
    }

    fn allows(method: Option<&str>, path: PathRule, request: (&str, &str)) -> bool {
        let rule = MethodRule {
            method: method.map(str::to_owned),
            path,
        };
        let rules: MethodRules = [(caller(), vec![rule])].into_iter().collect();
        let (method, path) = request;
        let path = HttpPath::parse(path).unwrap();
        rules.find(&caller(), method, &path).is_some()
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

    #[test]
    fn a_caller_without_an_entry_may_do_nothing() {
        let path = HttpPath::parse("/").unwrap();
        assert_eq!(MethodRules::default().find(&caller(), "GET", &path), None);
    }
}
