//! Terms, which become expressions with their types.

use super::{Compiler, Fault, refuse, scope::Locals};
use crate::rego::{
    program::{Comprehension, Expression, Step},
    syntax::{Place, Statement, Term, TermKind},
    types::{Kind, Type},
    value::{Object, Value},
};

/// Parts of the type of a term that is made of others.
const MAX_TYPE: usize = 10_000;

pub(super) type Typed = (Expression, Type);

impl Compiler<'_> {
    /// A term that has a value. Where `scan` allows it, a variable without a value in the path of
    /// a reference goes over all parts there: a step in front of the term does that.
    pub(super) fn term(
        &mut self,
        locals: &mut Locals,
        term: &Term,
        steps: &mut Vec<Step>,
        scan: bool,
    ) -> Result<Typed, Fault> {
        let (value, of) = self.deeper(1, term.place, |own| {
            own.shallow_term(locals, term, steps, scan)
        })?;
        let made = matches!(
            value,
            Expression::Array(_)
                | Expression::Set(_)
                | Expression::Object(_)
                | Expression::Comprehension(_)
        );
        if made && !of.fits(&mut MAX_TYPE.clone()) {
            return refuse(term.place, "this has too many parts within one another");
        }
        Ok((value, of))
    }

    fn shallow_term(
        &mut self,
        locals: &mut Locals,
        term: &Term,
        steps: &mut Vec<Step>,
        scan: bool,
    ) -> Result<Typed, Fault> {
        match &term.kind {
            TermKind::Scalar(value) => Ok((Expression::Constant(value.clone()), Type::of(value))),
            TermKind::Variable(name) => self.variable(locals, term.place, name),
            TermKind::Array(items) => {
                let (items, types) = self.terms(locals, items, steps, scan)?;
                let constants: Option<Vec<_>> =
                    items.iter().map(|i| i.constant().cloned()).collect();
                let of = Kind::Array(types, None).alone();
                Ok((
                    folded(constants.map(Value::array), || Expression::Array(items)),
                    of,
                ))
            }
            TermKind::Set(items) => {
                let (items, types) = self.terms(locals, items, steps, scan)?;
                let constants: Option<Vec<_>> =
                    items.iter().map(|i| i.constant().cloned()).collect();
                let element = match types.is_empty() {
                    true => Type::Any,
                    false => Type::union(types),
                };
                let of = Kind::set_of(element).alone();
                Ok((
                    folded(constants.map(Value::set), || Expression::Set(items)),
                    of,
                ))
            }
            TermKind::Object(fields) => self.object(locals, fields, steps, scan),
            TermKind::Reference(head, path) => self.reference(locals, head, path, steps, scan),
            TermKind::Call(name, arguments) => {
                self.call(locals, term.place, name, arguments, steps, scan)
            }
            TermKind::Binary(operator, left, right) => {
                self.binary(locals, *operator, (left, right), steps, scan)
            }
            TermKind::Member(key, value, collection) => {
                self.member(locals, key.as_deref(), (value, collection), steps, scan)
            }
            _ => self.comprehension(locals, term),
        }
    }

    pub(super) fn terms(
        &mut self,
        locals: &mut Locals,
        terms: &[Term],
        steps: &mut Vec<Step>,
        scan: bool,
    ) -> Result<(Vec<Expression>, Vec<Type>), Fault> {
        let mut found = (Vec::new(), Vec::new());
        for term in terms {
            let (value, of) = self.term(locals, term, steps, scan)?;
            found.0.push(value);
            found.1.push(of);
        }
        Ok(found)
    }

    fn object(
        &mut self,
        locals: &mut Locals,
        fields: &[(Term, Term)],
        steps: &mut Vec<Step>,
        scan: bool,
    ) -> Result<Typed, Fault> {
        let mut types = std::collections::BTreeMap::new();
        let (mut keys, mut values) = (Type::NEVER, Type::NEVER);
        let (mut found, mut constants) = (Vec::new(), Vec::new());
        let mut open_keys = 0;
        for (key_term, value) in fields {
            let (key, key_type) = self.term(locals, key_term, steps, scan)?;
            let (value, of) = self.term(locals, value, steps, scan)?;
            match key.constant() {
                Some(key) => {
                    if types.insert(key.clone(), of.clone()).is_some() {
                        return refuse(key_term.place, "this key is written twice");
                    }
                    if let Some(value) = value.constant() {
                        constants.push((key.clone(), value.clone()));
                    }
                }
                None => {
                    open_keys += 1;
                    keys = Type::union([keys, key_type]);
                    values = Type::union([values, of]);
                }
            }
            found.push((key, value));
        }
        if open_keys > 0 && fields.len() > 1 {
            let place = fields.first().map(|(key, _)| key.place);
            return refuse(
                place.unwrap_or(Place { line: 1, column: 1 }),
                "an object with a key that is not a constant has one field here; use an object \
                 comprehension",
            );
        }
        let rest = (open_keys > 0).then(|| Box::new((keys, values)));
        let of = Kind::Object(types, rest).alone();
        let whole = constants.len() == found.len();
        let constant = whole
            .then(|| Object::new(constants))
            .flatten()
            .map(Value::Object);
        Ok((folded(constant, || Expression::Object(found)), of))
    }

    fn comprehension(&mut self, locals: &mut Locals, term: &Term) -> Result<Typed, Fault> {
        let (made, of) = match &term.kind {
            TermKind::ArrayComprehension(head, body) => {
                let (steps, (head, of)) = self.closure(locals, head, body)?;
                let of = locals.of_elements(&head, of);
                (Comprehension::Array(steps, head), Kind::list_of(of))
            }
            TermKind::SetComprehension(head, body) => {
                let (steps, (head, of)) = self.closure(locals, head, body)?;
                let of = locals.of_elements(&head, of);
                (Comprehension::Set(steps, head), Kind::set_of(of))
            }
            TermKind::ObjectComprehension(key, value, body) => {
                let (steps, (key, value)) =
                    self.scoped(locals, body, &[&**key, &**value], |own, locals, steps| {
                        let key = own.term(locals, key, steps, true)?;
                        Ok((key, own.term(locals, value, steps, true)?))
                    })?;
                let of_key = locals.of_elements(&key.0, key.1);
                let of_value = locals.of_elements(&value.0, value.1);
                let of = Kind::map_of(of_key, of_value);
                (Comprehension::Object(steps, key.0, value.0), of)
            }
            _ => return refuse(term.place, "this term is not available here"),
        };
        Ok((Expression::Comprehension(Box::new(made)), of.alone()))
    }

    fn closure(
        &mut self,
        locals: &mut Locals,
        head: &Term,
        body: &[Statement],
    ) -> Result<(Vec<Step>, Typed), Fault> {
        self.scoped(locals, body, &[head], |own, locals, steps| {
            own.term(locals, head, steps, true)
        })
    }

    /// A body whose names may be those of variables around it.
    fn scoped<T>(
        &mut self,
        locals: &mut Locals,
        body: &[Statement],
        heads: &[&Term],
        finish: impl FnOnce(&mut Self, &mut Locals, &mut Vec<Step>) -> Result<T, Fault>,
    ) -> Result<(Vec<Step>, T), Fault> {
        locals.push_scope();
        let done = self.body(locals, body, heads, finish)?;
        locals.pop_scope();
        Ok(done)
    }
}

fn folded(constant: Option<Value>, open: impl FnOnce() -> Expression) -> Expression {
    constant.map_or_else(open, Expression::Constant)
}
