//! What the rules of a module refer to, looked at before anything runs.
//!
//! - A rule that depends on itself is a fault, as in OPA: the evaluators would follow it until
//!   the stack, and with it the process, ends. So is a chain of rules of great length.
//! - A rule that could have two values at once is an error at evaluation. The bytecode takes it
//!   as having none, which could pass over a denial; such modules are left to the interpreter.
//!
//! Names are compared, not scopes: a local variable named like a rule counts as that rule, and
//! rules named `a.b` and `a.c` count as one rule `a`. That can refuse too much, never too little.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use super::{
    RegoError,
    tokens::{Kind, Token},
};

/// Rules that refer to one another in a row.
const MAX_DEPTH: usize = 32;
/// Where a module's own rules are in the `data` document.
const PACKAGE: [&str; 2] = ["renkei", "authz"];

/// One definition: a head and its bodies.
struct Definition<'a> {
    name: &'a str,
    tokens: &'a [Token],
}

/// The definitions of a module.
pub(super) struct Rules<'a> {
    definitions: Vec<Definition<'a>>,
}

impl<'a> Rules<'a> {
    /// Cuts the tokens at the offsets at which definitions start.
    pub(super) fn split(tokens: &'a [Token], starts: &[u32]) -> Self {
        let at = |start: u32| tokens.partition_point(|token| token.start < start);
        let mut definitions = Vec::with_capacity(starts.len());
        for (index, start) in starts.iter().enumerate() {
            let end = starts.get(index + 1).map_or(tokens.len(), |next| at(*next));
            let tokens = tokens.get(at(*start)..end).unwrap_or_default();
            let head = |token: &&Token| token.kind == Kind::Name && token.text != "default";
            if let Some(name) = tokens.iter().find(head) {
                definitions.push(Definition {
                    name: &name.text,
                    tokens,
                });
            }
        }
        Self { definitions }
    }

    /// Refuses rules that depend on themselves, directly or not.
    pub(super) fn check_recursion(&self) -> Result<(), RegoError> {
        let graph = self.graph();
        let mut heights = BTreeMap::new();
        for definition in &self.definitions {
            let message = match height(definition.name, &graph, &mut heights, 0) {
                Ok(_) => continue,
                Err(TooDeep::Recursion) => {
                    format!(
                        "recursion: the rule `{}` depends on itself",
                        definition.name
                    )
                }
                Err(TooDeep::Chain) => {
                    format!(
                        "the rule `{}` leads to more than {MAX_DEPTH} others in a row",
                        definition.name
                    )
                }
            };
            let first = definition.tokens.first();
            return Err(first.map_or_else(|| RegoError::new(1, 1, ""), |t| t.fault(message)));
        }
        Ok(())
    }

    /// Whether every rule has at most one value, whatever the input: it is a set, or plainly
    /// true, or the same constant in all its definitions.
    pub(super) fn have_one_value(&self) -> bool {
        let mut values: BTreeMap<&str, Option<String>> = BTreeMap::new();
        self.definitions
            .iter()
            .filter(|d| !d.is_default())
            .all(|definition| {
                let Some(value) = definition.constant() else {
                    return false;
                };
                match values.entry(definition.name) {
                    Entry::Vacant(entry) => {
                        entry.insert(value);
                        true
                    }
                    Entry::Occupied(entry) => *entry.get() == value,
                }
            })
    }

    fn graph(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let names: BTreeSet<&str> = self.definitions.iter().map(|d| d.name).collect();
        let mut graph: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for definition in &self.definitions {
            graph
                .entry(definition.name)
                .or_default()
                .extend(definition.references(&names));
        }
        graph
    }
}

impl<'a> Definition<'a> {
    fn is_default(&self) -> bool {
        self.tokens
            .first()
            .is_some_and(|token| token.is_name("default"))
    }

    /// The constant that the head gives the rule (nothing where it says none, and so is true or
    /// a set), or `None` where the value is not a constant.
    #[expect(
        clippy::option_option,
        reason = "no value in the head is not an unknown value"
    )]
    fn constant(&self) -> Option<Option<String>> {
        if self.tokens.iter().any(|token| token.is_name("else")) {
            return None;
        }
        let mut depth = 0_usize;
        let mut value: Option<String> = None;
        for token in self.tokens {
            match token.text.as_str() {
                "if" if token.kind == Kind::Name => break,
                "{" if token.kind == Kind::Symbol && depth == 0 && value.is_none() => break,
                "(" | "[" | "{" if token.kind == Kind::Symbol => depth += 1,
                ")" | "]" | "}" if token.kind == Kind::Symbol => depth = depth.saturating_sub(1),
                ":=" | "=" if token.kind == Kind::Symbol && depth == 0 && value.is_none() => {
                    value = Some(String::new());
                    continue;
                }
                _ => {}
            }
            let Some(value) = &mut value else { continue };
            if token.kind == Kind::Name && !matches!(token.text.as_str(), "true" | "false" | "null")
            {
                return None;
            }
            value.push_str(&format!("{:?} {:?} ", token.kind, token.text));
        }
        Some(value)
    }

    /// The rules that its tokens name.
    fn references(&self, names: &BTreeSet<&'a str>) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        let head = self
            .tokens
            .iter()
            .position(|token| token.text == self.name)
            .unwrap_or(0);
        for (index, token) in self.tokens.iter().enumerate().skip(head + 1) {
            let field = self
                .tokens
                .get(index - 1)
                .is_some_and(|before| before.is_symbol("."));
            if token.kind != Kind::Name || field {
                continue;
            }
            if token.text == "data" {
                found.extend(from_data(
                    self.tokens.get(index + 1..).unwrap_or_default(),
                    names,
                ));
            } else if let Some(name) = names.get(token.text.as_str()) {
                found.insert(*name);
            }
        }
        found
    }
}

/// The rules that a path within `data` reaches; all of them where the path ends above them or
/// is not known before the evaluation.
fn from_data<'a>(after: &'a [Token], names: &BTreeSet<&'a str>) -> BTreeSet<&'a str> {
    let mut path = Vec::new();
    let mut rest = after;
    while let [joint, part, tail @ ..] = rest {
        let static_part = (joint.is_symbol(".") && part.kind == Kind::Name)
            || (joint.is_symbol("[") && part.kind == Kind::Text);
        if !static_part {
            break;
        }
        path.push(part.text.as_str());
        rest = match tail {
            [bracket, tail @ ..] if bracket.is_symbol("]") => tail,
            tail => tail,
        };
    }
    let outside = path.iter().zip(PACKAGE).any(|(part, own)| *part != own);
    match path.get(PACKAGE.len()) {
        _ if outside => BTreeSet::new(),
        Some(rule) => names.get(rule).copied().into_iter().collect(),
        None => names.clone(),
    }
}

enum TooDeep {
    Recursion,
    Chain,
}

/// The longest chain of rules from `name` on; a rule that is being looked at has no height yet.
fn height<'a>(
    name: &'a str,
    graph: &BTreeMap<&'a str, BTreeSet<&'a str>>,
    heights: &mut BTreeMap<&'a str, Option<usize>>,
    depth: usize,
) -> Result<usize, TooDeep> {
    match heights.get(name) {
        Some(Some(height)) => return Ok(*height),
        Some(None) => return Err(TooDeep::Recursion),
        None if depth > MAX_DEPTH => return Err(TooDeep::Chain),
        None => heights.insert(name, None),
    };
    let mut tallest = 0;
    for next in graph.get(name).into_iter().flatten() {
        tallest = tallest.max(height(next, graph, heights, depth + 1)?);
    }
    if tallest >= MAX_DEPTH {
        return Err(TooDeep::Chain);
    }
    heights.insert(name, Some(tallest + 1));
    Ok(tallest + 1)
}
