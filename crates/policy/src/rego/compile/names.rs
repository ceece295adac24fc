//! Which names a part of the tree uses and declares.

use crate::rego::syntax::{Expression, Literal, Place, Statement, Term, TermKind};

pub(super) type Used<'t> = Vec<(&'t str, Place)>;

/// The names of variables that a statement uses. With `closures`, those within comprehensions
/// and `every` too, unless they are declared there. Names that the statement declares itself are
/// left out.
pub(super) fn of_statement<'t>(statement: &'t Statement, closures: bool, used: &mut Used<'t>) {
    match &statement.literal {
        Literal::Some(_) => {}
        Literal::SomeIn(key, value, collection) => {
            let mut inner = Vec::new();
            for term in key.iter().chain([value]) {
                of_term(term, closures, &mut inner);
            }
            let own = declared(statement);
            inner.retain(|(name, _)| own.iter().all(|(declared, _)| declared != name));
            used.append(&mut inner);
            of_term(collection, closures, used);
        }
        Literal::Every {
            key,
            value,
            domain,
            body,
        } => {
            of_term(domain, closures, used);
            if closures {
                let mut inner = of_body(&[], body);
                let bound = |name: &str| {
                    value.1 == name || key.as_ref().is_some_and(|(_, key)| key == name)
                };
                inner.retain(|(name, _)| !bound(name));
                used.append(&mut inner);
            }
        }
        Literal::Not(expression) | Literal::Expression(expression) => match expression {
            Expression::Term(term) => of_term(term, closures, used),
            Expression::Assign(_, right) => of_term(right, closures, used),
            Expression::Unify(left, right) => {
                of_term(left, closures, used);
                of_term(right, closures, used);
            }
        },
    }
    for (_, _, value) in &statement.with {
        of_term(value, closures, used);
    }
}

/// The names that a closure takes from outside.
fn of_body<'t>(heads: &[&'t Term], body: &'t [Statement]) -> Used<'t> {
    let mut used = Vec::new();
    let mut own = Vec::new();
    for statement in body {
        of_statement(statement, true, &mut used);
        own.extend(declared(statement).into_iter().map(|(name, _)| name));
    }
    for head in heads {
        of_term(head, true, &mut used);
    }
    used.retain(|(name, _)| !own.contains(name));
    used
}

pub(super) fn of_term<'t>(term: &'t Term, closures: bool, used: &mut Used<'t>) {
    let mut all = |terms: &mut dyn Iterator<Item = &'t Term>| {
        for term in terms {
            of_term(term, closures, used);
        }
    };
    match &term.kind {
        TermKind::Scalar(_) => {}
        TermKind::Variable(name) => used.push((name, term.place)),
        TermKind::Array(items) | TermKind::Set(items) | TermKind::Call(_, items) => {
            all(&mut items.iter());
        }
        TermKind::Object(fields) => {
            all(&mut fields.iter().flat_map(|(key, value)| [key, value]));
        }
        TermKind::Reference(head, path) => {
            all(&mut std::iter::once(&**head).chain(path));
        }
        TermKind::Binary(_, left, right) => all(&mut [&**left, &**right].into_iter()),
        TermKind::Member(key, value, collection) => {
            all(&mut key.as_deref().into_iter().chain([&**value, &**collection]));
        }
        TermKind::ArrayComprehension(head, body) | TermKind::SetComprehension(head, body) => {
            if closures {
                used.append(&mut of_body(&[head], body));
            }
        }
        TermKind::ObjectComprehension(key, value, body) => {
            if closures {
                used.append(&mut of_body(&[key, value], body));
            }
        }
    }
}

/// The names that a statement declares.
pub(super) fn declared(statement: &Statement) -> Used<'_> {
    let mut names = Vec::new();
    match &statement.literal {
        Literal::Some(own) => {
            names.extend(own.iter().map(|(place, name)| (name.as_str(), *place)));
        }
        Literal::SomeIn(key, value, _) => {
            for term in key.iter().chain([value]) {
                in_pattern(term, &mut names);
            }
        }
        Literal::Expression(Expression::Assign(left, _)) => in_pattern(left, &mut names),
        _ => {}
    }
    names.retain(|(name, _)| *name != "_");
    names
}

/// The variables of a pattern: itself, or in the arrays and values of objects that it is made of.
pub(super) fn in_pattern<'t>(term: &'t Term, names: &mut Used<'t>) {
    match &term.kind {
        TermKind::Variable(name) => names.push((name, term.place)),
        TermKind::Array(items) => items.iter().for_each(|item| in_pattern(item, names)),
        TermKind::Object(fields) => {
            fields
                .iter()
                .for_each(|(_, value)| in_pattern(value, names));
        }
        _ => {}
    }
}
