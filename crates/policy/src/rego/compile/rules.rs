//! Rules: all definitions of one name.

use super::MAX_CHAIN;
use super::{Compiler, Fault, State, names, refuse, scope::Locals};
use crate::rego::{
    program::{Branch, Definition, Element, Expression, Pattern, RuleBody, RuleId, Step},
    syntax::{Head, Place, Rule, Statement, Term, TermKind},
    types::{Kind, Type},
    value::Value,
};

impl<'m> Compiler<'m> {
    /// A rule as a term. Functions have no value.
    pub(super) fn rule_value(
        &mut self,
        id: RuleId,
        place: Place,
    ) -> Result<(Expression, Type), Fault> {
        let of = self.rule(id, place)?;
        let function = matches!(
            self.states.get(id),
            Some(State::Done(RuleBody::Function { .. }, _))
        );
        match function {
            true => refuse(
                place,
                "a function is called with its arguments in parentheses",
            ),
            false => Ok((Expression::Rule(id), of)),
        }
    }

    /// Compiles a rule when it is first needed. The type is of its value, or of its result.
    pub(super) fn rule(&mut self, id: RuleId, place: Place) -> Result<Type, Fault> {
        match self.states.get(id) {
            Some(State::Done(_, of)) => {
                let of = of.clone();
                let height = self.heights.get(&id).copied().unwrap_or(0);
                return self.deeper(height, place, |_| Ok(of));
            }
            Some(State::Begun) => {
                let name = self.groups.get(id).map_or("", |group| group.name);
                return refuse(place, format!("recursion: {name} depends on itself"));
            }
            _ => {}
        }
        if self.chain == MAX_CHAIN {
            return refuse(
                place,
                format!("more than {MAX_CHAIN} rules in a row depend on one another"),
            );
        }
        self.set(id, State::Begun);
        self.chain += 1;
        let rules = self
            .groups
            .get(id)
            .map_or_else(Vec::new, |group| group.rules.clone());
        let around = (
            std::mem::take(&mut self.depth),
            std::mem::take(&mut self.height),
        );
        let compiled = self.group(id, &rules);
        let height = self.height + 2;
        self.heights.insert(id, height);
        (self.depth, self.height) = around;
        let (body, of) = compiled?;
        self.deeper(height, place, |_| Ok(()))?;
        self.chain -= 1;
        self.set(id, State::Done(body, of.clone()));
        Ok(of)
    }

    fn set(&mut self, id: RuleId, state: State) {
        if let Some(own) = self.states.get_mut(id) {
            *own = state;
        }
    }

    fn group(&mut self, id: RuleId, rules: &[&'m Rule]) -> Result<(RuleBody, Type), Fault> {
        let Some(first) = rules
            .iter()
            .find(|rule| !matches!(rule.head, Head::Default(_)))
        else {
            return self.only_defaults(rules);
        };
        let kind = kind(&first.head);
        if let Some(other) = rules.iter().find(|rule| self::kind(&rule.head) != kind) {
            let message = format!(
                "{} is {} here and {} in line {}",
                other.name,
                self::kind(&other.head),
                kind,
                first.place.line
            );
            return refuse(other.place, message);
        }
        match &first.head {
            Head::Complete(_) | Head::Default(_) => self.complete(rules),
            Head::Function(arguments, _) => self.function(id, rules, arguments.len()),
            _ => self.elements(rules, &first.head),
        }
    }

    fn only_defaults(&mut self, rules: &[&'m Rule]) -> Result<(RuleBody, Type), Fault> {
        self.complete(rules)
    }

    fn complete(&mut self, rules: &[&'m Rule]) -> Result<(RuleBody, Type), Fault> {
        let mut default = None;
        let (mut definitions, mut types) = (Vec::new(), Vec::new());
        for rule in rules {
            match &rule.head {
                Head::Default(value) => {
                    let value = constant(value)?;
                    types.push(Type::of(&value));
                    if default.replace(value).is_some() {
                        return refuse(rule.place, format!("{} has two defaults", rule.name));
                    }
                }
                Head::Complete(value) => {
                    definitions.push(self.definition(rule, &[], value.as_ref(), &mut types)?.0);
                }
                _ => {}
            }
        }
        let body = RuleBody::Complete {
            default,
            constant: one_constant(&definitions),
            definitions,
        };
        Ok((body, Type::union(types)))
    }

    fn function(
        &mut self,
        id: RuleId,
        rules: &[&'m Rule],
        arity: usize,
    ) -> Result<(RuleBody, Type), Fault> {
        let mut demands = Vec::new();
        let (mut definitions, mut types) = (Vec::new(), Vec::new());
        for rule in rules {
            if let Head::Function(arguments, value) = &rule.head {
                if arguments.len() != arity {
                    let message = format!("{} takes {arity} arguments elsewhere", rule.name);
                    return refuse(rule.place, message);
                }
                let (definition, demanded) =
                    self.definition(rule, arguments, value.as_ref(), &mut types)?;
                definitions.push(definition);
                demands.push(demanded);
            }
        }
        self.demands.insert(id, demands);
        let body = RuleBody::Function {
            constant: one_constant(&definitions),
            definitions,
        };
        Ok((body, Type::union(types)))
    }

    /// A definition of one value with its `else` branches, each a body with the arguments alone
    /// in common.
    fn definition(
        &mut self,
        rule: &'m Rule,
        arguments: &'m [Term],
        value: Option<&'m Term>,
        types: &mut Vec<Type>,
    ) -> Result<(Definition, Vec<Vec<Type>>), Fault> {
        let mut locals = Locals::default();
        locals.push_scope();
        let arguments = self.arguments(&mut locals, arguments)?;
        let mut branches = Vec::new();
        let first = (value, rule.body.as_slice());
        let others = rule
            .otherwise
            .iter()
            .map(|other| (other.value.as_ref(), other.body.as_slice()));
        for (value, body) in std::iter::once(first).chain(others) {
            let (branch, of) = self.branch(&mut locals, body, value)?;
            branches.push(branch);
            types.push(of);
        }
        let demands = arguments
            .iter()
            .map(|argument| locals.demands(argument))
            .collect();
        let definition = Definition {
            slots: locals.slots(),
            arguments,
            branches,
        };
        Ok((definition, demands))
    }

    fn branch(
        &mut self,
        locals: &mut Locals,
        body: &[Statement],
        value: Option<&Term>,
    ) -> Result<(Branch, Type), Fault> {
        let heads: Vec<&Term> = value.into_iter().collect();
        let (steps, (value, of)) =
            self.body(locals, body, &heads, |own, locals, steps| match value {
                Some(value) => own.term(locals, value, steps, true),
                None => Ok((Expression::Constant(Value::Bool(true)), Type::boolean())),
            })?;
        Ok((Branch { steps, value }, of))
    }

    /// Names and constants, also within arrays and objects.
    fn arguments(
        &mut self,
        locals: &mut Locals,
        arguments: &[Term],
    ) -> Result<Vec<Pattern>, Fault> {
        let mut patterns = Vec::new();
        for argument in arguments {
            plain(argument)?;
            let mut names = Vec::new();
            names::in_pattern(argument, &mut names);
            for (name, place) in names {
                if matches!(name, "input" | "data") || locals.has_here(name) {
                    return refuse(place, format!("{name} cannot be declared here"));
                }
                if name != "_" {
                    locals.declare(name);
                }
            }
            let mut steps: Vec<Step> = Vec::new();
            patterns.push(self.pattern(locals, argument, &Type::Any, &mut steps)?);
        }
        Ok(patterns)
    }

    fn elements(&mut self, rules: &[&'m Rule], kind: &Head) -> Result<(RuleBody, Type), Fault> {
        let mut elements = Vec::new();
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for rule in rules {
            let (key, value) = match &rule.head {
                Head::Set(key) => (key, None),
                Head::Object(key, value) | Head::ObjectOfSets(key, value) => {
                    if matches!(key.kind, TermKind::Scalar(_)) {
                        return refuse(
                            key.place,
                            "a constant key in the name of a rule is not available here; make an \
                             object of the keys",
                        );
                    }
                    (key, Some(value))
                }
                _ => continue,
            };
            let mut locals = Locals::default();
            locals.push_scope();
            let heads: Vec<&Term> = [key].into_iter().chain(value).collect();
            let (steps, (key, value)) =
                self.body(&mut locals, &rule.body, &heads, |own, locals, steps| {
                    let key = own.term(locals, key, steps, true)?;
                    let value = match value {
                        Some(value) => own.term(locals, value, steps, true)?,
                        None => (Expression::Constant(Value::Null), Type::NEVER),
                    };
                    Ok((key, value))
                })?;
            keys.push(key.1);
            values.push(value.1);
            elements.push(Element {
                slots: locals.slots(),
                steps,
                key: key.0,
                value: value.0,
            });
        }
        let (keys, values) = (Type::union(keys), Type::union(values));
        Ok(match kind {
            Head::Set(_) => (RuleBody::Set(elements), Kind::set_of(keys).alone()),
            Head::ObjectOfSets(..) => {
                let sets = Kind::set_of(values).alone();
                (
                    RuleBody::ObjectOfSets(elements),
                    Kind::map_of(keys, sets).alone(),
                )
            }
            _ => (
                RuleBody::Object(elements),
                Kind::map_of(keys, values).alone(),
            ),
        })
    }
}

/// In words, for rules of one name that do not fit together.
fn kind(head: &Head) -> &'static str {
    match head {
        Head::Default(_) | Head::Complete(_) => "one value",
        Head::Set(_) => "a set",
        Head::Object(..) => "an object",
        Head::ObjectOfSets(..) => "an object of sets",
        Head::Function(..) => "a function",
    }
}

fn one_constant(definitions: &[Definition]) -> bool {
    let mut values = definitions
        .iter()
        .flat_map(|d| &d.branches)
        .map(|b| b.value.constant());
    match values.next() {
        Some(Some(first)) => values.all(|value| value == Some(first)),
        _ => false,
    }
}

fn plain(argument: &Term) -> Result<(), Fault> {
    match &argument.kind {
        TermKind::Variable(_) | TermKind::Scalar(_) => Ok(()),
        TermKind::Array(items) => items.iter().try_for_each(plain),
        TermKind::Object(fields) => fields.iter().try_for_each(|(_, value)| plain(value)),
        _ => refuse(argument.place, "an argument is a name or a constant here"),
    }
}

/// The value of a default.
fn constant(term: &Term) -> Result<Value, Fault> {
    let all = |items: &[Term]| items.iter().map(constant).collect::<Result<Vec<_>, _>>();
    Ok(match &term.kind {
        TermKind::Scalar(value) => value.clone(),
        TermKind::Array(items) => Value::array(all(items)?),
        TermKind::Set(items) => Value::set(all(items)?),
        TermKind::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(key, value)| Ok((constant(key)?, constant(value)?)));
            match crate::rego::value::Object::new(fields.collect::<Result<Vec<_>, Fault>>()?) {
                Some(object) => Value::Object(object),
                None => return refuse(term.place, "a key is written twice"),
            }
        }
        _ => {
            return refuse(
                term.place,
                "a default is a constant here; use `else` for others",
            );
        }
    })
}
