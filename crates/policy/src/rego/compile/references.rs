//! References: variables, rules, input and data, and the parts of values.

use super::{Compiler, Fault, refuse, scope::Locals, terms::Typed};
use crate::rego::{
    program::{Expression, Pattern, Step},
    syntax::{Place, Term, TermKind},
    types::Type,
    value::Value,
};

impl Compiler<'_> {
    pub(super) fn variable(
        &mut self,
        locals: &Locals,
        place: Place,
        name: &str,
    ) -> Result<Typed, Fault> {
        if let Some(slot) = locals.find(name) {
            return match locals.type_of(slot) {
                Some(of) => Ok((Expression::Slot(slot), of.clone())),
                None => Err(Locals::unbound(place, name)),
            };
        }
        if name == "input" {
            return Ok((Expression::Input, Type::Any));
        }
        if name == "data" {
            return refuse(
                place,
                "the whole of `data` is not available here: name a rule",
            );
        }
        if let Some(import) = self.imports.get(name) {
            let mut value = Expression::Input;
            for part in &import.path {
                let part = Expression::Constant(part.as_str().into());
                value = Expression::At(Box::new(value), Box::new(part));
            }
            return Ok((value, Type::Any));
        }
        match self.ids.get(name).copied() {
            Some(id) => self.rule_value(id, place),
            None => Err(Locals::unbound(place, name)),
        }
    }

    pub(super) fn reference(
        &mut self,
        locals: &mut Locals,
        head: &Term,
        path: &[Term],
        steps: &mut Vec<Step>,
        scan: bool,
    ) -> Result<Typed, Fault> {
        let of_data = match &head.kind {
            TermKind::Variable(name) => name == "data" && locals.find(name).is_none(),
            _ => false,
        };
        let (mut found, rest) = match of_data {
            true => self.below_data(head.place, path)?,
            false => (self.term(locals, head, steps, scan)?, path),
        };
        for index in rest {
            found = self.part(locals, found, index, steps, scan)?;
        }
        Ok(found)
    }

    /// A rule of this module by its whole path, or what else `data` has.
    fn below_data<'t>(
        &mut self,
        place: Place,
        path: &'t [Term],
    ) -> Result<(Typed, &'t [Term]), Fault> {
        let name_at = |index: usize| match path.get(index).map(|term| &term.kind) {
            Some(TermKind::Scalar(Value::String(name))) => Some(name),
            _ => None,
        };
        let mut own = self.package.iter().enumerate();
        let Some(different) =
            own.find(|(index, part)| name_at(*index).is_none_or(|n| **n != ***part))
        else {
            let length = self.package.len();
            let Some(rule) = name_at(length) else {
                return refuse(
                    place,
                    "the whole package is not available here: name a rule",
                );
            };
            let Some(id) = self.ids.get(&**rule).copied() else {
                return refuse(place, format!("there is no rule called {rule}"));
            };
            let rest = path.get(length + 1..).unwrap_or_default();
            return Ok((self.rule_value(id, place)?, rest));
        };
        match name_at(0) {
            Some(first) if different.0 == 0 => {
                let base = self.base.at(&Value::String(std::sync::Arc::clone(first)));
                let value = base.map_or(Expression::Undefined, Expression::Constant);
                Ok(((value, Type::Any), path.get(1..).unwrap_or_default()))
            }
            _ => refuse(
                place,
                "`data` holds this module alone: name one of its rules",
            ),
        }
    }

    /// `found[index]`
    fn part(
        &mut self,
        locals: &mut Locals,
        (found, of): Typed,
        index: &Term,
        steps: &mut Vec<Step>,
        scan: bool,
    ) -> Result<Typed, Fault> {
        let (keys, values) = of.parts();
        if values.is_never() {
            return refuse(
                index.place,
                format!("this has no parts: it is {}", of.name()),
            );
        }
        if scan && let Some(key) = self.open_variable(locals, index, &keys) {
            let slot = locals.temporary(values.clone());
            let value = Pattern::Bind(slot);
            steps.push(Step::Scan {
                over: found,
                key,
                value,
            });
            return Ok((Expression::Slot(slot), values));
        }
        let (index_value, index_type) = self.term(locals, index, steps, scan)?;
        let of = match index_value.constant() {
            Some(constant) => of.at(constant),
            None => keys.overlaps(&index_type).then_some(values),
        };
        let Some(of) = of else {
            return refuse(index.place, "there never is such a part here");
        };
        Ok((Expression::At(Box::new(found), Box::new(index_value)), of))
    }

    /// A variable that this use gives its value, or `_`.
    pub(super) fn open_variable(
        &self,
        locals: &mut Locals,
        term: &Term,
        of: &Type,
    ) -> Option<Pattern> {
        let TermKind::Variable(name) = &term.kind else {
            return None;
        };
        if name == "_" {
            return Some(Pattern::Any);
        }
        let slot = locals.find(name)?;
        if !locals.is_open(slot) {
            return None;
        }
        locals.bind(slot, of.clone());
        Some(Pattern::Bind(slot))
    }
}
