//! Rules: heads, bodies and `else`.

use super::{Parsed, Parser};
use crate::rego::{
    RegoError,
    syntax::{Head, Otherwise, Rule, Statement, Term, TermKind},
};

impl Parser {
    pub(super) fn rule(&mut self) -> Parsed<Rule> {
        let place = self.place();
        if self.eat_name("default") {
            return self.default_rule();
        }
        let name = self.rule_name()?;
        let head = self.head(&name)?;
        let conditional = self.eat_name("if");
        let body = match conditional {
            true => self.rule_body()?,
            false => Vec::new(),
        };
        let bare = matches!(&head, Head::Complete(None) | Head::Function(_, None));
        if bare && !conditional {
            return self.unexpected("`:=` and a value, or `if`");
        }
        let mut otherwise = Vec::new();
        while self.token().is_name("else") {
            if !conditional || !matches!(&head, Head::Complete(_) | Head::Function(..)) {
                return self.fault("`else` follows a rule with a body and one value");
            }
            self.at += 1;
            otherwise.push(self.otherwise()?);
        }
        if self.token().is("{") {
            return self.fault("a rule has one body here; write a rule for each");
        }
        Ok(Rule {
            place,
            name,
            head,
            body,
            otherwise,
        })
    }

    fn default_rule(&mut self) -> Parsed<Rule> {
        let place = self.place();
        let name = self.rule_name()?;
        if self.joined("(") {
            return self.fault(
                "a default for a function is not available here; use `else := value` instead",
            );
        }
        if self.joined("[") || self.joined(".") {
            return self.fault("a default is for a rule with a plain name");
        }
        if !self.eat(":=") && !self.eat("=") {
            return self.unexpected("`:=`");
        }
        let value = self.infix(None, true)?;
        Ok(Rule {
            place,
            name,
            head: Head::Default(value),
            body: Vec::new(),
            otherwise: Vec::new(),
        })
    }

    fn rule_name(&mut self) -> Parsed<String> {
        let place = self.place();
        let name = self.name()?;
        match name.as_str() {
            "input" | "data" | "_" => Err(RegoError::at(
                place,
                format!("a rule cannot be called {name}"),
            )),
            _ => Ok(name),
        }
    }

    fn head(&mut self, name: &str) -> Parsed<Head> {
        if self.joined(".") {
            return self.fault(format!(
                "a rule with a path as its name is not available here; make {name} an object"
            ));
        }
        if self.joined("(") {
            self.at += 1;
            let arguments = self.list(")")?;
            return Ok(Head::Function(arguments, self.assigned()?));
        }
        let key = match self.joined("[") {
            true => {
                self.at += 1;
                let key = self.infix(None, true)?;
                self.expect("]")?;
                Some(key)
            }
            false => None,
        };
        if self.joined("[") || self.joined(".") {
            return self.fault("a rule has at most one key in its name here");
        }
        if self.eat_name("contains") {
            let element = self.infix(None, true)?;
            return Ok(match key {
                Some(key) => Head::ObjectOfSets(key, element),
                None => Head::Set(element),
            });
        }
        let value = self.assigned()?;
        let Some(key) = key else {
            return Ok(Head::Complete(value));
        };
        let place = key.place;
        match value {
            Some(value) => Ok(Head::Object(key, value)),
            None if self.token().is_name("if") => {
                let kind = TermKind::Scalar(crate::rego::value::Value::Bool(true));
                Ok(Head::Object(key, Term { place, kind }))
            }
            None => self.unexpected("`:=`, `contains` or `if`"),
        }
    }

    fn assigned(&mut self) -> Parsed<Option<Term>> {
        match self.eat(":=") || self.eat("=") {
            true => self.infix(None, true).map(Some),
            false => Ok(None),
        }
    }

    fn otherwise(&mut self) -> Parsed<Otherwise> {
        let value = self.assigned()?;
        let body = match self.eat_name("if") {
            true => self.rule_body()?,
            false if value.is_none() => return self.unexpected("`:=` and a value, or `if`"),
            false => Vec::new(),
        };
        Ok(Otherwise { value, body })
    }

    /// What follows `if`: statements in braces, or one statement.
    fn rule_body(&mut self) -> Parsed<Vec<Statement>> {
        if !self.token().is("{") {
            return Ok(vec![self.statement()?]);
        }
        self.at += 1;
        let start = self.at;
        let body = self.deeper(|parser| parser.statements("}"))?;
        self.not_a_comprehension(start)?;
        Ok(body)
    }

    /// OPA reads `if { a | b }` as a comprehension, which is always true.
    fn not_a_comprehension(&mut self, start: usize) -> Parsed<()> {
        let end = std::mem::replace(&mut self.at, start);
        let bar = match self.token().is_name("some") || self.token().is_name("every") {
            true => false,
            false => self.term().is_ok() && self.token().is("|"),
        };
        if bar {
            return self.fault(
                "OPA reads these braces as a set comprehension; put the union in parentheses",
            );
        }
        self.at = end;
        Ok(())
    }
}
