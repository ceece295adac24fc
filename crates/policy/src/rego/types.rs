//! What a term can be, as far as the text shows.
//!
//! OPA refuses terms that can never match. So does this, at least as often: a policy that is
//! accepted here must load in OPA. The strings that a pattern can be are followed as well, so
//! that all patterns are compiled when the policy is read.

use std::{collections::BTreeMap, sync::Arc};

use super::value::Value;

/// More different patterns than this are not followed.
const MAX_STRINGS: usize = 256;

/// The type of a term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Type {
    /// Anything, as `input` is.
    Any,
    /// One of these; none for the elements of something that is empty.
    OneOf(Vec<Kind>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Number,
    /// With the strings that it can be, where they are known.
    String(Option<Vec<Arc<str>>>),
    /// Elements of known places, and the type of more of them.
    Array(Vec<Type>, Option<Box<Type>>),
    /// Fields of known keys, and the types of more of them.
    Object(BTreeMap<Value, Type>, Option<Box<(Type, Type)>>),
    Set(Box<Type>),
}

impl Kind {
    pub(super) fn alone(self) -> Type {
        Type::OneOf(vec![self])
    }

    pub(super) fn list_of(element: Type) -> Self {
        let rest = (!element.is_never()).then(|| Box::new(element));
        Self::Array(Vec::new(), rest)
    }

    pub(super) fn map_of(key: Type, value: Type) -> Self {
        let known = !key.is_never() && !value.is_never();
        Self::Object(BTreeMap::new(), known.then(|| Box::new((key, value))))
    }

    pub(super) fn set_of(element: Type) -> Self {
        Self::Set(Box::new(element))
    }

    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null)
            | (Self::Bool, Self::Bool)
            | (Self::Number, Self::Number)
            | (Self::String(_), Self::String(_)) => true,
            (Self::Set(one), Self::Set(two)) => one.overlaps(two),
            (Self::Array(one, more), Self::Array(two, rest)) => {
                let fits = |own: &[Type], other: &[Type], rest: &Option<Box<Type>>| {
                    own.iter().enumerate().all(|(index, element)| {
                        let there = other.get(index).or(rest.as_deref());
                        there.is_some_and(|there| element.overlaps(there))
                    })
                };
                fits(one, two, rest) && fits(two, one, more) && both_overlap(more, rest)
            }
            (Self::Object(one, more), Self::Object(two, rest)) => {
                let fits = |own: &BTreeMap<Value, Type>, other: &Self| {
                    own.iter().all(|(key, value)| match other.field(key) {
                        Some(there) => value.overlaps(&there),
                        None => more.is_some() || rest.is_some(),
                    })
                };
                let values = |rest: &Option<Box<(Type, Type)>>| {
                    rest.as_ref().map(|rest| Box::new(rest.1.clone()))
                };
                fits(one, other) && fits(two, self) && both_overlap(&values(more), &values(rest))
            }
            _ => false,
        }
    }

    /// The type of a field of an object with this constant key.
    fn field(&self, key: &Value) -> Option<Type> {
        match self {
            Self::Object(fields, rest) => fields.get(key).cloned().or_else(|| {
                let rest = rest.as_deref()?;
                rest.0.overlaps(&Type::of(key)).then(|| rest.1.clone())
            }),
            _ => None,
        }
    }
}

fn both_overlap(one: &Option<Box<Type>>, two: &Option<Box<Type>>) -> bool {
    match (one, two) {
        (Some(one), Some(two)) => one.overlaps(two),
        _ => true,
    }
}

impl Type {
    pub(super) const NEVER: Self = Self::OneOf(Vec::new());

    pub(super) fn text() -> Self {
        Kind::String(None).alone()
    }

    pub(super) fn number() -> Self {
        Kind::Number.alone()
    }

    pub(super) fn boolean() -> Self {
        Kind::Bool.alone()
    }

    /// The type that has this one value, or is as near to it as types go.
    pub(super) fn of(value: &Value) -> Self {
        match value {
            Value::Null => Kind::Null,
            Value::Bool(_) => Kind::Bool,
            Value::Number(_) => Kind::Number,
            Value::String(text) => Kind::String(Some(vec![Arc::clone(text)])),
            Value::Array(items) => Kind::Array(items.iter().map(Self::of).collect(), None),
            Value::Object(object) => {
                let fields = object.fields().iter();
                let fields = fields.map(|(key, value)| (key.clone(), Self::of(value)));
                Kind::Object(fields.collect(), None)
            }
            Value::Set(set) if set.items().is_empty() => Kind::set_of(Self::Any),
            Value::Set(set) => Kind::set_of(Self::union(set.items().iter().map(Self::of))),
        }
        .alone()
    }

    pub(super) fn union(types: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::NEVER;
        for one in types {
            all.add(one);
        }
        all
    }

    fn add(&mut self, other: Self) {
        let (Self::OneOf(own), Self::OneOf(more)) = (&mut *self, other) else {
            *self = Self::Any;
            return;
        };
        for kind in more {
            let Kind::String(texts) = kind else {
                if !own.contains(&kind) {
                    own.push(kind);
                }
                continue;
            };
            let known = own.iter_mut().find_map(|kind| match kind {
                Kind::String(known) => Some(known),
                _ => None,
            });
            match (known, texts) {
                (None, texts) => own.push(Kind::String(texts)),
                (Some(Some(known)), Some(texts)) => {
                    let new = texts.into_iter().filter(|text| !known.contains(text));
                    let new: Vec<_> = new.collect();
                    known.extend(new);
                }
                (Some(known), _) => *known = None,
            }
        }
        for kind in own {
            if let Kind::String(Some(texts)) = kind
                && texts.len() > MAX_STRINGS
            {
                *kind = Kind::String(None);
            }
        }
    }

    /// Whether it has at most so many parts. Types of types grow fast.
    pub(super) fn fits(&self, left: &mut usize) -> bool {
        let Self::OneOf(kinds) = self else {
            return true;
        };
        kinds.iter().all(|kind| {
            let Some(less) = left.checked_sub(1) else {
                return false;
            };
            *left = less;
            match kind {
                Kind::Array(fixed, rest) => {
                    fixed.iter().all(|part| part.fits(left))
                        && rest.iter().all(|part| part.fits(left))
                }
                Kind::Object(fields, rest) => {
                    fields.values().all(|part| part.fits(left))
                        && rest
                            .iter()
                            .all(|rest| rest.0.fits(left) && rest.1.fits(left))
                }
                Kind::Set(element) => element.fits(left),
                _ => true,
            }
        })
    }

    /// Whether a value can be of both.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let (Self::OneOf(one), Self::OneOf(two)) = (self, other) else {
            return true;
        };
        one.iter()
            .any(|own| two.iter().any(|other| own.overlaps(other)))
    }

    pub(super) fn is_never(&self) -> bool {
        *self == Self::NEVER
    }

    /// Of `this[key]` with a constant key; `None` where there never is one.
    pub(super) fn at(&self, key: &Value) -> Option<Self> {
        let Self::OneOf(kinds) = self else {
            return Some(Self::Any);
        };
        let found = kinds.iter().filter_map(|kind| match kind {
            Kind::Array(fixed, rest) => {
                let index = usize::try_from(key.as_number()?).ok()?;
                fixed.get(index).or(rest.as_deref()).cloned()
            }
            Kind::Object(..) => kind.field(key),
            Kind::Set(element) => element
                .overlaps(&Self::of(key))
                .then(|| (**element).clone()),
            _ => None,
        });
        let found: Vec<_> = found.collect();
        (!found.is_empty()).then(|| Self::union(found))
    }

    /// Of the keys and values of a collection; never where this is none.
    pub(super) fn parts(&self) -> (Self, Self) {
        let Self::OneOf(kinds) = self else {
            return (Self::Any, Self::Any);
        };
        let (mut keys, mut values) = (Self::NEVER, Self::NEVER);
        for kind in kinds {
            match kind {
                Kind::Array(fixed, rest) => {
                    if !fixed.is_empty() || rest.is_some() {
                        keys.add(Self::number());
                    }
                    fixed
                        .iter()
                        .cloned()
                        .for_each(|element| values.add(element));
                    rest.iter()
                        .for_each(|element| values.add((**element).clone()));
                }
                Kind::Object(fields, rest) => {
                    for (key, value) in fields {
                        keys.add(Self::of(key));
                        values.add(value.clone());
                    }
                    if let Some(rest) = rest {
                        keys.add(rest.0.clone());
                        values.add(rest.1.clone());
                    }
                }
                Kind::Set(element) => {
                    keys.add((**element).clone());
                    values.add((**element).clone());
                }
                _ => {}
            }
        }
        (keys, values)
    }

    /// All strings that it can be, if it can be nothing else.
    pub(super) fn strings(&self) -> Option<&[Arc<str>]> {
        match self {
            Self::OneOf(kinds) => match kinds.as_slice() {
                [Kind::String(Some(texts))] => Some(texts),
                _ => None,
            },
            Self::Any => None,
        }
    }

    /// In words, for a message.
    pub(super) fn name(&self) -> String {
        let Self::OneOf(kinds) = self else {
            return "anything".to_owned();
        };
        let names = kinds.iter().map(|kind| match kind {
            Kind::Null => "null",
            Kind::Bool => "a boolean",
            Kind::Number => "a number",
            Kind::String(_) => "a string",
            Kind::Array(..) => "an array",
            Kind::Object(..) => "an object",
            Kind::Set(_) => "a set",
        });
        let mut names: Vec<_> = names.collect();
        names.dedup();
        match names.is_empty() {
            true => "nothing".to_owned(),
            false => names.join(" or "),
        }
    }
}
