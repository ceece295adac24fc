//! Values of the language, cheap to clone, in the order in which OPA sorts them.

use std::{fmt, sync::Arc};

/// A value. The order of the variants is OPA's order of types.
///
/// Numbers are integers: OPA computes fractions with binary floats of 64 bits, which nothing here
/// does, so the compiler refuses what could make one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(i128),
    String(Arc<str>),
    Array(Arc<[Value]>),
    Object(Object),
    Set(Set),
}

/// A set: sorted, without repetition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Set(Arc<[Value]>);

/// An object: sorted by key, each key once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Object(Arc<[(Value, Value)]>);

impl Set {
    pub(super) fn new(mut items: Vec<Value>) -> Self {
        items.sort_unstable();
        items.dedup();
        Self(items.into())
    }

    pub(super) fn contains(&self, item: &Value) -> bool {
        self.0.binary_search(item).is_ok()
    }

    pub(super) fn items(&self) -> &[Value] {
        &self.0
    }
}

impl Object {
    /// `None` where a key has two different values.
    pub(super) fn new(mut fields: Vec<(Value, Value)>) -> Option<Self> {
        fields.sort_unstable();
        fields.dedup();
        let twice = fields.windows(2).any(|pair| match pair {
            [(first, _), (second, _)] => first == second,
            _ => false,
        });
        (!twice).then(|| Self(fields.into()))
    }

    pub(super) fn get(&self, key: &Value) -> Option<&Value> {
        let at = self.0.binary_search_by(|(own, _)| own.cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    pub(super) fn fields(&self) -> &[(Value, Value)] {
        &self.0
    }

    /// A copy in which one key has another value.
    pub(super) fn with(&self, key: Value, value: Value) -> Self {
        let mut fields: Vec<_> = self.0.to_vec();
        match fields.binary_search_by(|(own, _)| own.cmp(&key)) {
            Ok(at) => {
                if let Some(field) = fields.get_mut(at) {
                    field.1 = value;
                }
            }
            Err(at) => fields.insert(at, (key, value)),
        }
        Self(fields.into())
    }
}

impl Value {
    pub(super) fn array(items: Vec<Value>) -> Self {
        Self::Array(items.into())
    }

    pub(super) fn set(items: Vec<Value>) -> Self {
        Self::Set(Set::new(items))
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_number(&self) -> Option<i128> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The value of `collection[key]`, if there is one.
    pub(super) fn at(&self, key: &Value) -> Option<Value> {
        match self {
            Self::Array(items) => {
                let at = usize::try_from(key.as_number()?).ok()?;
                items.get(at).cloned()
            }
            Self::Object(object) => object.get(key).cloned(),
            Self::Set(set) => set.contains(key).then(|| key.clone()),
            _ => None,
        }
    }

    /// The number of parts of a collection.
    pub(super) fn len(&self) -> Option<usize> {
        match self {
            Self::Array(items) => Some(items.len()),
            Self::Object(object) => Some(object.fields().len()),
            Self::Set(set) => Some(set.items().len()),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        // A usize has at most 64 bits on every platform that Rust knows.
        Self::Number(i128::try_from(number).unwrap_or(i128::MAX))
    }
}

/// As the text of a policy would have it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, items: &[Value]| {
            for (index, item) in items.iter().enumerate() {
                let comma = if index == 0 { "" } else { ", " };
                write!(f, "{comma}{item}")?;
            }
            Ok(())
        };
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::String(text) => {
                f.write_str(&serde_json::to_string(&**text).map_err(|_| fmt::Error)?)
            }
            Self::Array(items) => {
                f.write_str("[")?;
                list(f, items)?;
                f.write_str("]")
            }
            Self::Set(set) if set.items().is_empty() => f.write_str("set()"),
            Self::Set(set) => {
                f.write_str("{")?;
                list(f, set.items())?;
                f.write_str("}")
            }
            Self::Object(object) => {
                f.write_str("{")?;
                for (index, (key, value)) in object.fields().iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{key}: {value}")?;
                }
                f.write_str("}")
            }
        }
    }
}
