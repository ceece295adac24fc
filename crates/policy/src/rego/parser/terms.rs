//! Terms. Infix operators bind as in OPA, loosest first: `in`, comparisons, `|`, `&`, `+ -`,
//! `* %`.

use super::{KEYWORDS, Parsed, Parser};
use crate::rego::{
    RegoError,
    lexer::Kind,
    syntax::{Operator, Place, Term, TermKind},
    value::Value,
};

/// Digits of the greatest number in a text: products of a few of them still fit.
const MAX_DIGITS: usize = 19;

const COMPARISONS: [(&str, Operator); 6] = [
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
];
/// The operators, those that bind loosest first.
const LEVELS: [&[(&str, Operator)]; 4] = [
    &[("|", Operator::Or)],
    &[("&", Operator::And)],
    &[("+", Operator::Plus), ("-", Operator::Minus)],
    &[("*", Operator::Times), ("%", Operator::Remainder)],
];

fn term(place: Place, kind: TermKind) -> Term {
    Term { place, kind }
}

impl Parser {
    /// A whole term, of which the first part may have been read already. With `pairs`,
    /// `key, value in collection` is one too; within lists it is not.
    pub(super) fn infix(&mut self, left: Option<Term>, pairs: bool) -> Parsed<Term> {
        self.deeper(|parser| parser.membership(left, pairs))
    }

    fn membership(&mut self, left: Option<Term>, pairs: bool) -> Parsed<Term> {
        let place = self.place();
        let mut left = self.relation(left)?;
        let mut key = None;
        if pairs && self.token().is(",") {
            self.at += 1;
            let value = self.relation(None)?;
            if !self.token().is_name("in") {
                return self.unexpected("`in`");
            }
            key = Some(Box::new(std::mem::replace(&mut left, value)));
        }
        while self.eat_name("in") {
            let collection = Box::new(self.relation(None)?);
            let kind = TermKind::Member(key.take(), Box::new(left), collection);
            left = term(place, kind);
        }
        Ok(left)
    }

    /// A comparison; one of a comparison needs parentheses.
    pub(super) fn relation(&mut self, left: Option<Term>) -> Parsed<Term> {
        let place = self.place();
        let left = self.level(0, left)?;
        let Some(operator) = self.operator(&COMPARISONS) else {
            return Ok(left);
        };
        let right = self.level(0, None)?;
        let kind = TermKind::Binary(operator, Box::new(left), Box::new(right));
        if COMPARISONS
            .iter()
            .any(|(symbol, _)| self.token().is(symbol))
        {
            return self.fault("a comparison of a comparison needs parentheses");
        }
        Ok(term(place, kind))
    }

    fn level(&mut self, level: usize, left: Option<Term>) -> Parsed<Term> {
        let Some(operators) = LEVELS.get(level) else {
            return match left {
                Some(left) => Ok(left),
                None => self.term(),
            };
        };
        let place = left.as_ref().map_or(self.place(), |left| left.place);
        let mut left = self.level(level + 1, left)?;
        loop {
            if self.token().is("/") {
                return self.fault(
                    "division is not available here, since OPA computes fractions otherwise; \
                     compare products instead",
                );
            }
            let Some(operator) = self.operator(operators) else {
                return Ok(left);
            };
            let right = self.level(level + 1, None)?;
            let kind = TermKind::Binary(operator, Box::new(left), Box::new(right));
            left = term(place, kind);
        }
    }

    fn operator(&mut self, operators: &[(&str, Operator)]) -> Option<Operator> {
        let found = operators.iter().find(|(symbol, _)| self.token().is(symbol));
        let (_, operator) = found?;
        self.at += 1;
        Some(*operator)
    }

    /// One term without infix operators outside of parentheses.
    pub(super) fn term(&mut self) -> Parsed<Term> {
        self.deeper(Self::simple_term)
    }

    fn simple_term(&mut self) -> Parsed<Term> {
        let place = self.place();
        let head = match self.token().kind.clone() {
            Kind::Name(name) => return self.named(place, &name),
            Kind::Text(text) => {
                self.at += 1;
                term(place, TermKind::Scalar(text.into()))
            }
            Kind::Number(_) => self.number(place, "")?,
            Kind::Symbol("-") => {
                self.at += 1;
                match (&self.token().kind, self.token().spaced) {
                    (Kind::Number(_), false) => self.number(place, "-")?,
                    _ => {
                        return Err(RegoError::at(
                            place,
                            "`-` before a term is not available here; write `0 - term`",
                        ));
                    }
                }
            }
            Kind::Symbol("(") => {
                self.at += 1;
                let inner = self.infix(None, true)?;
                self.expect(")")?;
                inner
            }
            Kind::Symbol("[") => {
                self.at += 1;
                let array = self.array(place)?;
                return self.reference(array);
            }
            Kind::Symbol("{") => {
                self.at += 1;
                let braces = self.braces(place)?;
                return self.reference(braces);
            }
            _ => return self.unexpected("a term"),
        };
        if self.joined(".") || self.joined("[") || self.joined("(") {
            return self.unexpected("an operator after this term");
        }
        Ok(head)
    }

    fn number(&mut self, place: Place, sign: &str) -> Parsed<Term> {
        let Kind::Number(digits) = self.take() else {
            return self.unexpected("a number");
        };
        if digits.len() > MAX_DIGITS {
            let message = format!("a number has at most {MAX_DIGITS} digits here");
            return Err(RegoError::at(place, message));
        }
        match format!("{sign}{digits}").parse() {
            Ok(number) => Ok(term(place, TermKind::Scalar(Value::Number(number)))),
            Err(_) => Err(RegoError::at(place, "this is no number")),
        }
    }

    fn named(&mut self, place: Place, name: &str) -> Parsed<Term> {
        let constant = match name {
            "null" => Some(Value::Null),
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            _ => None,
        };
        if let Some(constant) = constant {
            self.at += 1;
            if self.joined(".") || self.joined("[") || self.joined("(") {
                return self.unexpected("an operator after this term");
            }
            return Ok(term(place, TermKind::Scalar(constant)));
        }
        let callable = matches!(name, "contains" | "set");
        if KEYWORDS.contains(&name) && !callable {
            return self.unexpected("a term");
        }
        self.at += 1;
        if callable && !self.joined("(") {
            return Err(RegoError::at(
                place,
                format!("{name} is not a name of a variable here"),
            ));
        }
        self.reference(term(place, TermKind::Variable(name.to_owned())))
    }

    /// What is joined to a head: fields, indexes, arguments.
    fn reference(&mut self, mut head: Term) -> Parsed<Term> {
        let place = head.place;
        let mut path: Vec<Term> = Vec::new();
        let mut dotted = match &head.kind {
            TermKind::Variable(name) => Some(name.clone()),
            _ => None,
        };
        loop {
            let at = self.place();
            if self.joined(".") {
                self.at += 1;
                let Kind::Name(field) = self.token().kind.clone() else {
                    return self.unexpected("a name");
                };
                if self.token().spaced {
                    return self.unexpected("a name right after the dot");
                }
                self.at += 1;
                if let Some(dotted) = &mut dotted {
                    dotted.push('.');
                    dotted.push_str(&field);
                }
                path.push(term(at, TermKind::Scalar(field.into())));
            } else if self.joined("[") {
                self.at += 1;
                dotted = None;
                path.push(self.infix(None, true)?);
                self.expect("]")?;
            } else if self.joined("(") {
                let Some(name) = dotted.take() else {
                    return self.unexpected("no second call");
                };
                self.at += 1;
                let arguments = self.list(")")?;
                path.clear();
                head = match name.as_str() {
                    "set" if arguments.is_empty() => term(place, TermKind::Set(Vec::new())),
                    _ => term(place, TermKind::Call(name, arguments)),
                };
            } else {
                break;
            }
        }
        Ok(match path.is_empty() {
            true => head,
            false => term(place, TermKind::Reference(Box::new(head), path)),
        })
    }

    /// Terms between commas up to `end`, which is read too.
    pub(super) fn list(&mut self, end: &str) -> Parsed<Vec<Term>> {
        self.rest_of_list(end, Vec::new())
    }

    fn rest_of_list(&mut self, end: &str, mut items: Vec<Term>) -> Parsed<Vec<Term>> {
        while !self.eat(end) {
            items.push(self.infix(None, false)?);
            if !self.token().is(end) {
                self.expect(",")?;
            }
        }
        Ok(items)
    }

    fn array(&mut self, place: Place) -> Parsed<Term> {
        if self.eat("]") {
            return Ok(term(place, TermKind::Array(Vec::new())));
        }
        let first = self.term()?;
        if self.eat("|") {
            let body = self.deeper(|parser| parser.statements("]"))?;
            return Ok(term(
                place,
                TermKind::ArrayComprehension(Box::new(first), body),
            ));
        }
        let first = self.infix(Some(first), false)?;
        if !self.token().is("]") {
            self.expect(",")?;
        }
        let items = self.rest_of_list("]", vec![first])?;
        Ok(term(place, TermKind::Array(items)))
    }

    /// A set, an object, or a comprehension of either.
    fn braces(&mut self, place: Place) -> Parsed<Term> {
        if self.eat("}") {
            return Ok(term(place, TermKind::Object(Vec::new())));
        }
        let first = self.term()?;
        if self.eat("|") {
            let body = self.deeper(|parser| parser.statements("}"))?;
            return Ok(term(
                place,
                TermKind::SetComprehension(Box::new(first), body),
            ));
        }
        let first = self.infix(Some(first), false)?;
        if self.eat(":") {
            return self.object(place, first);
        }
        if !self.token().is("}") {
            self.expect(",")?;
        }
        let items = self.rest_of_list("}", vec![first])?;
        Ok(term(place, TermKind::Set(items)))
    }

    fn object(&mut self, place: Place, key: Term) -> Parsed<Term> {
        let value = self.term()?;
        if self.eat("|") {
            let body = self.deeper(|parser| parser.statements("}"))?;
            let kind = TermKind::ObjectComprehension(Box::new(key), Box::new(value), body);
            return Ok(term(place, kind));
        }
        let mut fields = vec![(key, self.infix(Some(value), false)?)];
        while !self.eat("}") {
            self.expect(",")?;
            if self.eat("}") {
                break;
            }
            let key = self.infix(None, false)?;
            self.expect(":")?;
            fields.push((key, self.infix(None, false)?));
        }
        Ok(term(place, TermKind::Object(fields)))
    }
}
