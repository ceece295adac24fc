//! What each caller of a service may do there, by HTTP method, host and path.

use std::collections::BTreeMap;

use renkei_access::{HttpHost, HttpPathError, MethodRule, RequestPath};
use renkei_spiffe::SpiffeId;

/// The rules of a service. Who is not in them may do nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MethodRules(BTreeMap<SpiffeId, Vec<MethodRule>>);

impl MethodRules {
    /// From what the site file says of each caller.
    pub fn new(rules: BTreeMap<SpiffeId, Vec<MethodRule>>) -> Self {
        Self(rules)
    }

    /// Whether a rule demands a host.
    pub(crate) fn reads_host(&self) -> bool {
        self.0.values().flatten().any(|rule| rule.host.is_some())
    }

    /// The rule that lets a caller do this, if there is one.
    ///
    /// # Errors
    /// Whether there is one depends on the path, which has no form to compare.
    pub(crate) fn find(
        &self,
        caller: &SpiffeId,
        method: &str,
        (host, path): (&HttpHost, &RequestPath),
    ) -> Result<Option<&MethodRule>, HttpPathError> {
        let mut unclear = None;
        for rule in self.0.get(caller).into_iter().flatten() {
            match rule.matches(method, host, path) {
                Ok(true) => return Ok(Some(rule)),
                Ok(false) => {}
                Err(error) => unclear = Some(error),
            }
        }
        unclear.map_or(Ok(None), Err)
    }
}

impl FromIterator<(SpiffeId, Vec<MethodRule>)> for MethodRules {
    fn from_iter<I: IntoIterator<Item = (SpiffeId, Vec<MethodRule>)>>(rules: I) -> Self {
        Self(rules.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller() -> SpiffeId {
        SpiffeId::parse("spiffe://osaka.example/collector").unwrap()
    }

    #[test]
    fn a_caller_without_an_entry_may_do_nothing() {
        let (rules, host) = (MethodRules::default(), HttpHost::parse(b"a").unwrap());
        let found = rules.find(&caller(), "GET", (&host, &RequestPath::new("/")));
        assert_eq!(found, Ok(None));
    }
}
