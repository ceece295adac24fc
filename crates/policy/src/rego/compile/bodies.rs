//! Bodies: declarations, the order of statements, and what each becomes.

use super::{Compiler, Fault, MAX_ATTEMPTS, names, refuse, scope::Locals};
use crate::rego::{
    program::{Pattern, Step},
    syntax::{Expression, Literal, Place, Statement, Term, TermKind},
    types::Type,
    value::Value,
};

/// Statements of one body.
const MAX_STATEMENTS: usize = 500;

impl Compiler<'_> {
    /// The steps of a body in a scope of its own, and what `finish` makes of the terms in front
    /// of it, which see its variables.
    pub(super) fn body<T>(
        &mut self,
        locals: &mut Locals,
        statements: &[Statement],
        heads: &[&Term],
        finish: impl FnOnce(&mut Self, &mut Locals, &mut Vec<Step>) -> Result<T, Fault>,
    ) -> Result<(Vec<Step>, T), Fault> {
        locals.push_joined_scope();
        let mut steps = Vec::new();
        declare(locals, statements)?;
        all_used(statements, heads)?;
        self.declare_implicit(locals, statements, heads);
        self.ordered(locals, statements, &mut steps)?;
        let finished = finish(self, locals, &mut steps)?;
        locals.pop_scope();
        Ok((steps, finished))
    }

    /// A name that nothing declares is a variable of the body in which it is used.
    fn declare_implicit(&self, locals: &mut Locals, statements: &[Statement], heads: &[&Term]) {
        let mut used = Vec::new();
        for statement in statements {
            names::of_statement(statement, false, &mut used);
        }
        for head in heads {
            names::of_term(head, false, &mut used);
        }
        for (name, _) in used {
            let known = matches!(name, "_" | "input" | "data")
                || self.ids.contains_key(name)
                || self.imports.contains_key(name);
            if !known && locals.find(name).is_none() {
                locals.declare(name);
            }
        }
    }

    /// Again and again takes the first statements whose variables have values, as OPA does.
    fn ordered(
        &mut self,
        locals: &mut Locals,
        statements: &[Statement],
        steps: &mut Vec<Step>,
    ) -> Result<(), Fault> {
        let mut waiting: Vec<&Statement> = statements.iter().collect();
        if let Some(last) = waiting.get(MAX_STATEMENTS) {
            let message = format!("a body has at most {MAX_STATEMENTS} statements");
            return refuse(last.place, message);
        }
        while !waiting.is_empty() {
            let before = waiting.len();
            let mut first_fault = None;
            let mut later = Vec::new();
            for statement in waiting {
                let (mark, length) = (locals.mark(), steps.len());
                self.attempt(statement.place)?;
                // Each loop goes through all that follows it.
                let loops = steps.iter().filter(|step| loops(step)).count();
                let compiled = self.deeper(1 + loops, statement.place, |own| {
                    own.statement(locals, statement, steps)
                });
                match compiled {
                    Ok(()) => {}
                    Err(fault @ Fault::Unbound(..)) => {
                        locals.back_to(&mark);
                        steps.truncate(length);
                        first_fault.get_or_insert(fault);
                        later.push(statement);
                    }
                    Err(refused) => return Err(refused),
                }
            }
            waiting = later;
            if let Some(fault) = first_fault
                && waiting.len() == before
            {
                return Err(fault);
            }
        }
        Ok(())
    }

    fn attempt(&mut self, place: Place) -> Result<(), Fault> {
        self.attempts += 1;
        match self.attempts > MAX_ATTEMPTS {
            true => refuse(place, "the order of the statements is too hard to find"),
            false => Ok(()),
        }
    }

    fn statement(
        &mut self,
        locals: &mut Locals,
        statement: &Statement,
        steps: &mut Vec<Step>,
    ) -> Result<(), Fault> {
        if statement.with.is_empty() {
            return self.literal(locals, statement, steps);
        }
        if let Literal::Expression(Expression::Term(term)) = &statement.literal
            && matches!(term.kind, TermKind::Scalar(_))
        {
            // OPA 1.22 drops `true with ...` where it is a whole body.
            return refuse(term.place, "`with` at a constant is not available here");
        }
        let mut changes = Vec::new();
        for (_, path, value) in &statement.with {
            let (value, of) = self.term(locals, value, steps, true)?;
            let slot = locals.temporary(of);
            steps.push(Step::Match(Pattern::Bind(slot), value));
            let path = path.iter().map(|name| Value::from(name.as_str())).collect();
            changes.push((path, crate::rego::program::Expression::Slot(slot)));
        }
        let mut inner = Vec::new();
        self.literal(locals, statement, &mut inner)?;
        steps.push(Step::With {
            changes,
            steps: inner,
        });
        Ok(())
    }

    fn literal(
        &mut self,
        locals: &mut Locals,
        statement: &Statement,
        steps: &mut Vec<Step>,
    ) -> Result<(), Fault> {
        match &statement.literal {
            Literal::Some(_) => Ok(()),
            Literal::SomeIn(key, value, collection) => {
                let place = collection.place;
                let (over, of) = self.term(locals, collection, steps, true)?;
                let (keys, values) = of.parts();
                if values.is_never() {
                    return refuse(
                        place,
                        format!("`in` needs a collection with parts, not {}", of.name()),
                    );
                }
                let key = match key {
                    Some(key) => self.pattern(locals, key, &keys, steps)?,
                    None => Pattern::Any,
                };
                let value = self.pattern(locals, value, &values, steps)?;
                steps.push(Step::Scan { over, key, value });
                Ok(())
            }
            Literal::Every { .. } => self.every(locals, &statement.literal, steps),
            Literal::Not(expression) => self.negated(locals, expression, steps),
            Literal::Expression(expression) => self.expression(locals, expression, steps),
        }
    }

    fn expression(
        &mut self,
        locals: &mut Locals,
        expression: &Expression,
        steps: &mut Vec<Step>,
    ) -> Result<(), Fault> {
        match expression {
            Expression::Term(term) => {
                if let TermKind::Call(name, arguments) = &term.kind
                    && name == "print"
                {
                    return self.print(locals, arguments);
                }
                let (value, _) = self.term(locals, term, steps, true)?;
                steps.push(Step::Test(value));
                Ok(())
            }
            Expression::Assign(left, right) => {
                let (value, of) = self.term(locals, right, steps, true)?;
                assignable(left)?;
                let pattern = self.pattern(locals, left, &of, steps)?;
                steps.push(Step::Match(pattern, value));
                Ok(())
            }
            Expression::Unify(left, right) => self.unify(locals, left, right, steps),
        }
    }

    /// One side has a value; the other is matched against it.
    fn unify(
        &mut self,
        locals: &mut Locals,
        left: &Term,
        right: &Term,
        steps: &mut Vec<Step>,
    ) -> Result<(), Fault> {
        let (mark, length) = (locals.mark(), steps.len());
        let (pattern, (value, of)) = match self.term(locals, left, steps, true) {
            Ok(found) => (right, found),
            Err(Fault::Unbound(..)) => {
                locals.back_to(&mark);
                steps.truncate(length);
                (left, self.term(locals, right, steps, true)?)
            }
            Err(refused) => return Err(refused),
        };
        let matched = self.pattern(locals, pattern, &of, steps)?;
        // Now that its variables have values, the pattern is a term as well.
        if let Ok((_, of)) = self.term(locals, pattern, &mut Vec::new(), false) {
            locals.used(&value, &of);
        }
        steps.push(Step::Match(matched, value));
        Ok(())
    }

    /// `print` writes nothing here; its arguments must have values where OPA would look at them.
    fn print(&mut self, locals: &mut Locals, arguments: &[Term]) -> Result<(), Fault> {
        for argument in arguments {
            self.term(locals, argument, &mut Vec::new(), false)?;
        }
        Ok(())
    }

    fn every(
        &mut self,
        locals: &mut Locals,
        literal: &Literal,
        steps: &mut Vec<Step>,
    ) -> Result<(), Fault> {
        let Literal::Every {
            key,
            value,
            domain,
            body,
        } = literal
        else {
            return Ok(());
        };
        let (over, of) = self.term(locals, domain, steps, true)?;
        let (keys, values) = of.parts();
        if values.is_never() {
            let message = format!("`every` needs a collection with parts, not {}", of.name());
            return refuse(domain.place, message);
        }
        let slot = locals.temporary(of);
        steps.push(Step::Match(Pattern::Bind(slot), over));
        locals.push_scope();
        let mut bind = |name: &(Place, String), of: Type| match name.1.as_str() {
            "_" => Ok(Pattern::Any),
            name_text if locals.has_here(name_text) => {
                refuse(name.0, format!("{name_text} is declared twice"))
            }
            name_text => {
                let slot = locals.declare(name_text);
                locals.bind(slot, of);
                Ok(Pattern::Bind(slot))
            }
        };
        let named = key.iter().chain([value]);
        let key = match key {
            Some(key) => bind(key, keys)?,
            None => Pattern::Any,
        };
        let value = bind(value, values)?;
        let mut used = Vec::new();
        for statement in body {
            names::of_statement(statement, true, &mut used);
        }
        for (place, name) in named {
            if name != "_" && !used.iter().any(|(own, _)| own == name) {
                return refuse(*place, format!("{name} is declared and not used"));
            }
        }
        let (body, ()) = self.body(locals, body, &[], |_, _, _| Ok(()))?;
        locals.pop_scope();
        steps.push(Step::Every {
            domain: crate::rego::program::Expression::Slot(slot),
            key,
            value,
            body,
        });
        Ok(())
    }
}

fn loops(step: &Step) -> bool {
    matches!(step, Step::Scan { .. } | Step::With { .. })
}

/// Names of `some`, `some ... in` and `:=` belong to the body; each is declared once, and before
/// it is used: OPA would take an earlier use for another variable.
fn declare(locals: &mut Locals, statements: &[Statement]) -> Result<(), Fault> {
    let mut used = Vec::new();
    for statement in statements {
        names::of_statement(statement, true, &mut used);
        for (name, place) in names::declared(statement) {
            if matches!(name, "input" | "data") {
                return refuse(place, format!("{name} cannot be declared"));
            }
            if locals.has_here(name) {
                return refuse(place, format!("{name} is declared twice"));
            }
            if used.iter().any(|(own, _)| *own == name) {
                return refuse(place, format!("{name} is used before it is declared"));
            }
            locals.declare(name);
        }
    }
    Ok(())
}

/// OPA refuses names of `some` and of `every` that are not used.
fn all_used(statements: &[Statement], heads: &[&Term]) -> Result<(), Fault> {
    let mut used = Vec::new();
    for statement in statements {
        names::of_statement(statement, true, &mut used);
    }
    for head in heads {
        names::of_term(head, true, &mut used);
    }
    for statement in statements {
        let Literal::Some(declared) = &statement.literal else {
            continue;
        };
        for (place, name) in declared {
            if !used.iter().any(|(own, _)| own == name) {
                return refuse(*place, format!("{name} is declared and not used"));
            }
        }
    }
    Ok(())
}

/// The left side of `:=` is made of names.
fn assignable(term: &Term) -> Result<(), Fault> {
    match &term.kind {
        TermKind::Variable(_) => Ok(()),
        TermKind::Array(items) => items.iter().try_for_each(assignable),
        TermKind::Object(fields) => fields.iter().try_for_each(|(key, value)| match &key.kind {
            TermKind::Scalar(_) => assignable(value),
            _ => refuse(key.place, "the keys on the left of `:=` are constants"),
        }),
        _ => refuse(term.place, "on the left of `:=` there are names"),
    }
}
