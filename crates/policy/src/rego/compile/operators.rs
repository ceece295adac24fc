//! Comparisons, arithmetic and `in`.

use super::{Compiler, Fault, refuse, scope::Locals, terms::Typed};
use crate::rego::{
    builtins::Parameter,
    program::{Expression, Step},
    syntax::{Operator, Place, Term},
    types::Type,
};

impl Compiler<'_> {
    pub(super) fn member(
        &mut self,
        locals: &mut Locals,
        key: Option<&Term>,
        (value, collection): (&Term, &Term),
        steps: &mut Vec<Step>,
        scan: bool,
    ) -> Result<Typed, Fault> {
        let place = collection.place;
        let key = match key {
            Some(key) => Some(self.term(locals, key, steps, scan)?),
            None => None,
        };
        let (value, of) = self.term(locals, value, steps, scan)?;
        let (collection, whole) = self.term(locals, collection, steps, scan)?;
        let (keys, values) = whole.parts();
        if !values.overlaps(&of) {
            return refuse(place, format!("this is never in {}", whole.name()));
        }
        if let Some((_, of)) = &key
            && !keys.overlaps(of)
        {
            return refuse(
                place,
                format!("there never is such a key in {}", whole.name()),
            );
        }
        locals.used(&value, &values);
        locals.used(&collection, &Parameter::Countable.as_type());
        if let Some((key, _)) = &key {
            locals.used(key, &keys);
        }
        let key = key.map(|(key, _)| Box::new(key));
        let member = Expression::Member(key, Box::new(value), Box::new(collection));
        Ok((member, Type::boolean()))
    }

    pub(super) fn binary(
        &mut self,
        locals: &mut Locals,
        operator: Operator,
        (left, right): (&Term, &Term),
        steps: &mut Vec<Step>,
        scan: bool,
    ) -> Result<Typed, Fault> {
        let place = right.place;
        let name = match operator {
            Operator::Plus => "plus",
            Operator::Minus => "minus",
            Operator::Times => "mul",
            Operator::Remainder => "rem",
            Operator::And => "and",
            Operator::Or => "or",
            _ => {
                let (left, one) = self.term(locals, left, steps, scan)?;
                let (right, two) = self.term(locals, right, steps, scan)?;
                if operator == Operator::Equal {
                    never_equal(place, &one, &two)?;
                    locals.used(&left, &two);
                    locals.used(&right, &one);
                }
                let both = Expression::Compare(operator, Box::new(left), Box::new(right));
                return Ok((both, Type::boolean()));
            }
        };
        let left = self.term(locals, left, steps, scan)?;
        let right = self.term(locals, right, steps, scan)?;
        self.builtin_call(locals, place, name, vec![left, right])
    }
}

/// OPA refuses an equality of types that have no value in common.
pub(super) fn never_equal(place: Place, one: &Type, two: &Type) -> Result<(), Fault> {
    match one.overlaps(two) {
        true => Ok(()),
        false => refuse(
            place,
            format!("these are never equal: {} and {}", one.name(), two.name()),
        ),
    }
}
