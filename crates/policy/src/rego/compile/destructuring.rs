//! What a value is matched with: names that get a part of it, and parts that must be equal.

use super::{Compiler, Fault, operators::never_equal, refuse, scope::Locals};
use crate::rego::{
    program::{Pattern, Step},
    syntax::{Place, Term, TermKind},
    types::{Kind, Type},
};

impl Compiler<'_> {
    /// What a value of the type `of` is matched with.
    pub(super) fn pattern(
        &mut self,
        locals: &mut Locals,
        term: &Term,
        of: &Type,
        steps: &mut Vec<Step>,
    ) -> Result<Pattern, Fault> {
        if let Some(open) = self.open_variable(locals, term, of) {
            return Ok(open);
        }
        match &term.kind {
            TermKind::Array(items) => {
                let shape = Kind::Array(vec![Type::Any; items.len()], None).alone();
                never_equal(term.place, &shape, of)?;
                let mut patterns = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    let of = of.at(&index.into()).unwrap_or(Type::NEVER);
                    patterns.push(self.pattern(locals, item, &of, steps)?);
                }
                Ok(Pattern::Array(patterns))
            }
            TermKind::Object(fields) => self.object_pattern(locals, term.place, fields, of, steps),
            _ => {
                let (value, own) = self.term(locals, term, steps, true)?;
                never_equal(term.place, &own, of)?;
                locals.used(&value, of);
                Ok(Pattern::Equal(value))
            }
        }
    }

    fn object_pattern(
        &mut self,
        locals: &mut Locals,
        place: Place,
        fields: &[(Term, Term)],
        of: &Type,
        steps: &mut Vec<Step>,
    ) -> Result<Pattern, Fault> {
        let mut keys = std::collections::BTreeMap::new();
        for (key, _) in fields {
            match &key.kind {
                TermKind::Scalar(value) => {
                    if keys.insert(value.clone(), Type::Any).is_some() {
                        return refuse(key.place, "this key is written twice");
                    }
                }
                _ => return refuse(key.place, "the keys of a pattern are constants here"),
            }
        }
        never_equal(place, &Kind::Object(keys, None).alone(), of)?;
        let mut patterns = Vec::new();
        for (key, value) in fields {
            if let TermKind::Scalar(key) = &key.kind {
                let of = of.at(key).unwrap_or(Type::NEVER);
                patterns.push((key.clone(), self.pattern(locals, value, &of, steps)?));
            }
        }
        Ok(Pattern::Object(patterns))
    }
}
