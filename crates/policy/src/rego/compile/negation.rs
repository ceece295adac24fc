//! `not`.
//!
//! OPA computes the operands of a negated statement before it negates: `not x in input.none` is
//! undefined, not true, while `not input.none == 1` is true. What is computed in front and what
//! within follows OPA's rewriting of calls, comparisons and references.

use super::{Compiler, Fault, refuse, scope::Locals};
use crate::rego::{
    program::{Expression, Pattern, Step},
    syntax::{Expression as Syntax, Operator, TermKind},
    types::Type,
};

impl Compiler<'_> {
    pub(super) fn negated(
        &mut self,
        locals: &mut Locals,
        expression: &Syntax,
        steps: &mut Vec<Step>,
    ) -> Result<(), Fault> {
        let inner = match expression {
            // OPA 1.22 drops `not true` where it is a whole body, which should never hold.
            Syntax::Term(term) if matches!(term.kind, TermKind::Scalar(_)) => {
                return refuse(
                    term.place,
                    "the negation of a constant is not available here",
                );
            }
            Syntax::Term(term) => self.term(locals, term, steps, false)?.0,
            Syntax::Unify(left, right) => {
                let (one, of_one) = self.term(locals, left, steps, false)?;
                let (two, of_two) = self.term(locals, right, steps, false)?;
                super::operators::never_equal(right.place, &of_one, &of_two)?;
                locals.used(&one, &of_two);
                locals.used(&two, &of_one);
                Expression::Compare(Operator::Equal, Box::new(one), Box::new(two))
            }
            Syntax::Assign(left, _) => {
                return refuse(left.place, "`not` cannot assign; compare with `==`");
            }
        };
        let inner = match inner {
            Expression::Compare(Operator::Equal, one, two) => {
                let one = operand(locals, *one, steps);
                let two = operand(locals, *two, steps);
                Expression::Compare(Operator::Equal, Box::new(one), Box::new(two))
            }
            Expression::Compare(operator, one, two) => {
                let one = first(locals, *one, steps);
                let two = first(locals, *two, steps);
                Expression::Compare(operator, Box::new(one), Box::new(two))
            }
            Expression::Member(key, value, collection) => {
                let key = key.map(|key| Box::new(first(locals, *key, steps)));
                let value = Box::new(first(locals, *value, steps));
                let collection = Box::new(first(locals, *collection, steps));
                Expression::Member(key, value, collection)
            }
            Expression::Builtin(builtin, arguments) => {
                Expression::Builtin(builtin, all(locals, arguments, steps))
            }
            Expression::Function(id, arguments) => {
                Expression::Function(id, all(locals, arguments, steps))
            }
            other => operand(locals, other, steps),
        };
        steps.push(Step::Not(vec![Step::Test(inner)]));
        Ok(())
    }
}

fn all(locals: &mut Locals, arguments: Vec<Expression>, steps: &mut Vec<Step>) -> Vec<Expression> {
    let mut firsts = Vec::with_capacity(arguments.len());
    for argument in arguments {
        firsts.push(first(locals, argument, steps));
    }
    firsts
}

/// Computed in front, unless it is a constant or a variable already.
fn first(locals: &mut Locals, value: Expression, steps: &mut Vec<Step>) -> Expression {
    if matches!(value, Expression::Constant(_) | Expression::Slot(_)) {
        return value;
    }
    // Its type was looked at where it was compiled.
    let slot = locals.temporary(Type::Any);
    steps.push(Step::Match(Pattern::Bind(slot), value));
    Expression::Slot(slot)
}

/// A reference stays within; what it starts from and its keys are computed in front.
fn operand(locals: &mut Locals, value: Expression, steps: &mut Vec<Step>) -> Expression {
    match value {
        Expression::At(of, key) => {
            let of = operand(locals, *of, steps);
            let key = first(locals, *key, steps);
            Expression::At(Box::new(of), Box::new(key))
        }
        Expression::Rule(_) | Expression::Input | Expression::Undefined => value,
        other => first(locals, other, steps),
    }
}
