//! Terms, which become expressions with their types, and patterns.

use super::{Compiler, Fault, refuse, scope::Locals};
use crate::rego::{
    builtins::Parameter,
    program::{Comprehension, Expression, Pattern, Step},
    syntax::{Operator, Place, Statement, Term, TermKind},
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

    fn variable(&mut self, locals: &Locals, place: Place, name: &str) -> Result<Typed, Fault> {
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

    fn reference(
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

    /// A rule of this module by its whole path, or what `data` holds beside it.
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
    fn open_variable(&self, locals: &mut Locals, term: &Term, of: &Type) -> Option<Pattern> {
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

    fn member(
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

    fn binary(
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

fn folded(constant: Option<Value>, open: impl FnOnce() -> Expression) -> Expression {
    constant.map_or_else(open, Expression::Constant)
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
