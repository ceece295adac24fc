//! The statements of a body.

use super::{Parsed, Parser};
use crate::rego::{
    RegoError,
    syntax::{Expression, Literal, Place, Statement, Term, TermKind},
};

impl Parser {
    /// Statements up to `end`, which is read too.
    pub(super) fn statements(&mut self, end: &str) -> Parsed<Vec<Statement>> {
        let mut statements = Vec::new();
        loop {
            statements.push(self.statement()?);
            if self.eat(";") {
                continue;
            }
            if self.eat(end) {
                return Ok(statements);
            }
            if !self.token().first {
                return self.unexpected(&format!("a new line, `;` or `{end}`"));
            }
        }
    }

    pub(super) fn statement(&mut self) -> Parsed<Statement> {
        let place = self.place();
        let literal = self.literal()?;
        let mut with = Vec::new();
        while self.token().is_name("with") {
            with.push(self.with()?);
        }
        if !with.is_empty() && matches!(literal, Literal::Some(_)) {
            return Err(RegoError::at(place, "`with` has no meaning for `some`"));
        }
        Ok(Statement {
            place,
            literal,
            with,
        })
    }

    fn with(&mut self) -> Parsed<(Place, Vec<String>, Term)> {
        self.at += 1;
        let place = self.place();
        let mut path = self.path()?;
        if path.first().is_none_or(|root| root != "input") {
            let message = format!(
                "`with` replaces `input` alone here, not {}: functions and data stay",
                path.join(".")
            );
            return Err(RegoError::at(place, message));
        }
        path.remove(0);
        if !self.eat_name("as") {
            return self.unexpected("`as`");
        }
        Ok((place, path, self.infix(None, true)?))
    }

    fn literal(&mut self) -> Parsed<Literal> {
        if self.eat_name("some") {
            return self.some();
        }
        if self.eat_name("every") {
            return self.every();
        }
        if self.token().is_name("not") {
            self.at += 1;
            // Without `import future.keywords.not`, which is refused, braces are a set or object.
            return Ok(Literal::Not(self.expression()?));
        }
        self.expression().map(Literal::Expression)
    }

    fn expression(&mut self) -> Parsed<Expression> {
        let left = self.infix(None, true)?;
        if self.eat(":=") {
            return Ok(Expression::Assign(left, self.infix(None, true)?));
        }
        if self.eat("=") {
            return Ok(Expression::Unify(left, self.infix(None, true)?));
        }
        Ok(Expression::Term(left))
    }

    fn some(&mut self) -> Parsed<Literal> {
        let mut terms = vec![self.relation(None)?];
        while self.eat(",") {
            terms.push(self.relation(None)?);
        }
        if self.eat_name("in") {
            let collection = self.relation(None)?;
            if self.token().is_name("in") {
                return self.unexpected("one `in`");
            }
            let place = self.place();
            return match (terms.pop(), terms.pop(), terms.pop()) {
                (Some(value), key, None) => Ok(Literal::SomeIn(key, value, collection)),
                _ => Err(RegoError::at(
                    place,
                    "`some` takes a key and a value before `in`",
                )),
            };
        }
        let names = terms.into_iter().map(|term| match term.kind {
            TermKind::Variable(name) if name != "_" => Ok((term.place, name)),
            _ => Err(RegoError::at(term.place, "`some` declares names")),
        });
        names.collect::<Parsed<_>>().map(Literal::Some)
    }

    fn every(&mut self) -> Parsed<Literal> {
        let name =
            |parser: &mut Self| -> Parsed<(Place, String)> { Ok((parser.place(), parser.name()?)) };
        let mut key = None;
        let mut value = name(self)?;
        if self.eat(",") {
            key = Some(std::mem::replace(&mut value, name(self)?));
        }
        if !self.eat_name("in") {
            return self.unexpected("`in`");
        }
        let domain = self.relation(None)?;
        self.expect("{")?;
        let body = self.deeper(|parser| parser.statements("}"))?;
        Ok(Literal::Every {
            key,
            value,
            domain,
            body,
        })
    }
}
