//! The built-in functions that are proved to give what OPA gives, and no others.
//!
//! An error of a function is, as in OPA, no value: `Ok(None)`. Each function pays for its work
//! from the budget before it does it.

mod collections;
mod matching;
mod network;
mod numbers;
mod printing;
mod strings;
mod time;

use super::{
    limits::{Budget, Stop},
    patterns::Patterns,
    types::{Kind, Type},
    value::Value,
};

pub(super) use printing::{directives, print};
pub(super) use time::timestamp;

/// Whether a text is a network.
pub(super) fn network(text: &str) -> Option<network::Network> {
    network::Network::parse(text)
}

/// What a function may look at in addition to its arguments.
pub(super) struct Call<'a> {
    pub(super) budget: &'a mut Budget,
    pub(super) patterns: &'a Patterns,
    /// In nanoseconds since 1970.
    pub(super) now: i64,
}

type Outcome = Result<Option<Value>, Stop>;

pub(super) struct Builtin {
    pub(super) name: &'static str,
    pub(super) parameters: &'static [Parameter],
    pub(super) result: Answer,
    pub(super) special: Special,
    pub(super) run: fn(&mut Call<'_>, &[Value]) -> Outcome,
}

impl std::fmt::Debug for Builtin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// What more must be known when the policy is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Special {
    None,
    /// The first argument is a constant regular expression.
    Regex,
    /// The first argument is a constant glob, the second constant delimiters.
    Glob,
    /// The first argument is a constant format, the second an array of known length.
    Format,
    /// The first argument is a constant network.
    Network,
    /// The argument is a constant time.
    Timestamp,
    /// The argument is a number, with or without UTC as its zone.
    Moment,
}

/// The type of an argument, as OPA declares it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Parameter {
    Any,
    Number,
    Text,
    Array,
    Object,
    Set,
    Countable,
    ListOrSet,
    Numbers,
    NumberOrSet,
    Texts,
    TextOrTexts,
    SetOfSets,
    Delimiters,
    Moment,
}

impl Parameter {
    pub(super) fn as_type(self) -> Type {
        let list = |of: Type| Kind::list_of(of);
        let any_object = || Kind::map_of(Type::Any, Type::Any);
        let kinds = match self {
            Self::Any => return Type::Any,
            Self::Number => vec![Kind::Number],
            Self::Text => vec![Kind::String(None)],
            Self::Array => vec![list(Type::Any)],
            Self::Object => vec![any_object()],
            Self::Set => vec![Kind::set_of(Type::Any)],
            Self::Countable => vec![
                list(Type::Any),
                Kind::set_of(Type::Any),
                any_object(),
                Kind::String(None),
            ],
            Self::ListOrSet => vec![list(Type::Any), Kind::set_of(Type::Any)],
            Self::Numbers => vec![list(Type::number()), Kind::set_of(Type::number())],
            Self::NumberOrSet => vec![Kind::Number, Kind::set_of(Type::Any)],
            Self::Texts => vec![list(Type::text()), Kind::set_of(Type::text())],
            Self::TextOrTexts => vec![
                Kind::String(None),
                list(Type::text()),
                Kind::set_of(Type::text()),
            ],
            Self::SetOfSets => vec![Kind::set_of(Kind::set_of(Type::Any).alone())],
            Self::Delimiters => vec![Kind::Null, list(Type::text())],
            Self::Moment => vec![
                Kind::Number,
                Kind::Array(vec![Type::number(), Type::text()], None),
            ],
        };
        Type::OneOf(kinds)
    }
}

/// The type of a result, as OPA declares it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    Any,
    Bool,
    Number,
    Text,
    Texts,
    List,
    Set,
    NumberOrSet,
    ThreeNumbers,
}

impl Answer {
    pub(super) fn as_type(self) -> Type {
        match self {
            Self::Any => return Type::Any,
            Self::Bool => Kind::Bool,
            Self::Number => Kind::Number,
            Self::Text => Kind::String(None),
            Self::Texts => Kind::list_of(Type::text()),
            Self::List => Kind::list_of(Type::Any),
            Self::Set => Kind::set_of(Type::Any),
            Self::NumberOrSet => {
                return Type::OneOf(vec![Kind::Number, Kind::set_of(Type::Any)]);
            }
            Self::ThreeNumbers => Kind::Array(vec![Type::number(); 3], None),
        }
        .alone()
    }
}

/// An entry of a table of functions.
const fn function(
    name: &'static str,
    parameters: &'static [Parameter],
    result: Answer,
    run: fn(&mut Call<'_>, &[Value]) -> Outcome,
) -> Builtin {
    Builtin {
        name,
        parameters,
        result,
        special: Special::None,
        run,
    }
}

const fn special(mut builtin: Builtin, special: Special) -> Builtin {
    builtin.special = special;
    builtin
}

const TABLES: [&[Builtin]; 7] = [
    strings::TABLE,
    collections::TABLE,
    numbers::TABLE,
    matching::TABLE,
    network::TABLE,
    time::TABLE,
    printing::TABLE,
];

pub(super) fn find(name: &str) -> Option<&'static Builtin> {
    let mut all = TABLES.into_iter().flatten();
    all.find(|builtin| builtin.name == name)
}

/// Functions that a policy must not have, not only not yet.
const OUTSIDE: [&str; 4] = [
    "http.send",
    "net.lookup_ip_addr",
    "opa.runtime",
    "rego.parse_module",
];

/// Why there is no such function.
pub(super) fn why_not(name: &str) -> String {
    if OUTSIDE.contains(&name) {
        return format!("{name} is not available here: it reaches outside the policy");
    }
    format!(
        "{name} is not available here: it is not among the functions that are known to answer \
         as in OPA and to have bounds; docs/policy.md lists them"
    )
}

fn text(value: &Value) -> Option<&str> {
    value.as_str()
}

fn truth(value: bool) -> Outcome {
    Ok(Some(Value::Bool(value)))
}
