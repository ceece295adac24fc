//! Selectors in messages, and how a filter compares sets of them.

use std::collections::BTreeSet;

use renkei_api::spire::api::types::{Selector, SelectorMatch, selector_match::MatchBehavior};

/// Selectors of one entry at most, and the length of one.
const MOST: usize = 256;
const MAX_LENGTH: usize = 2_048;

/// As the store has them: `unix:uid:1000`, each once.
pub(super) fn parse(messages: &[Selector]) -> Result<Vec<String>, String> {
    if messages.len() > MOST {
        return Err(format!("{} selectors are more than {MOST}", messages.len()));
    }
    let parse = |one: &Selector| match (one.r#type.as_str(), one.value.as_str()) {
        ("", _) => Err("missing selector type".to_owned()),
        (kind, _) if kind.contains(':') => Err("selector type contains ':'".to_owned()),
        (_, "") => Err("missing selector value".to_owned()),
        (kind, value) if kind.len() + value.len() > MAX_LENGTH => {
            Err(format!("a selector is longer than {MAX_LENGTH} bytes"))
        }
        (kind, value) => Ok(format!("{kind}:{value}")),
    };
    // In an order of their own: a set is equal however it was written.
    let selectors: Result<BTreeSet<String>, String> = messages.iter().map(parse).collect();
    Ok(selectors?.into_iter().collect())
}

/// Back to a message.
pub(super) fn message(text: &str) -> Option<Selector> {
    let (kind, value) = text.split_once(':')?;
    Some(Selector {
        r#type: kind.to_owned(),
        value: value.to_owned(),
    })
}

/// How a filter compares the set of an item with its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    /// They are equal.
    Exact,
    /// The item has nothing that the filter has not.
    Subset,
    /// The item has all that the filter has.
    Superset,
    /// They have something in common.
    Any,
}

impl Comparison {
    pub(super) fn holds<T: Ord>(self, item: &BTreeSet<T>, wanted: &BTreeSet<T>) -> bool {
        match self {
            Self::Exact => item == wanted,
            Self::Subset => !item.is_empty() && item.is_subset(wanted),
            Self::Superset => item.is_superset(wanted),
            Self::Any => !item.is_disjoint(wanted),
        }
    }
}

impl From<MatchBehavior> for Comparison {
    fn from(behavior: MatchBehavior) -> Self {
        match behavior {
            MatchBehavior::MatchExact => Self::Exact,
            MatchBehavior::MatchSubset => Self::Subset,
            MatchBehavior::MatchSuperset => Self::Superset,
            MatchBehavior::MatchAny => Self::Any,
        }
    }
}

/// A filter by selectors.
#[derive(Debug)]
pub(super) struct BySelectors(Comparison, BTreeSet<String>);

impl BySelectors {
    pub(super) fn parse(filter: Option<SelectorMatch>) -> Result<Option<Self>, String> {
        let Some(filter) = filter else {
            return Ok(None);
        };
        let wanted = parse(&filter.selectors)?;
        if wanted.is_empty() {
            return Err("empty selector set".to_owned());
        }
        let comparison = filter.r#match().into();
        Ok(Some(Self(comparison, wanted.into_iter().collect())))
    }

    pub(super) fn takes(&self, selectors: &[String]) -> bool {
        self.0.holds(&selectors.iter().cloned().collect(), &self.1)
    }
}
