//! What each caller of a service may do there, by HTTP method and path.

use std::collections::BTreeMap;

use renkei_access::{HttpPath, MethodRule};
use renkei_spiffe::SpiffeId;

/// The rules of a service. Who is not in them may do nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MethodRules(BTreeMap<SpiffeId, Vec<MethodRule>>);

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

#[cfg(test)]
mod tests {
    use super::*;

    fn caller() -> SpiffeId {
        SpiffeId::parse("spiffe://osaka.example/collector").unwrap()
    }

    #[test]
    fn a_caller_without_an_entry_may_do_nothing() {
        let path = HttpPath::parse("/").unwrap();
        assert_eq!(MethodRules::default().find(&caller(), "GET", &path), None);
    }
}
