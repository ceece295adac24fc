//! Rules and functions of the module.

use super::{Flow, Frame, Machine};
use crate::rego::{
    limits::{Stop, Why},
    program::{Definition, Element, Rule, RuleBody, RuleId},
    value::{Object, Value},
};

impl Machine<'_> {
    /// The value of a rule, computed once for an input.
    pub(super) fn rule(&mut self, id: RuleId) -> Result<Option<Value>, Stop> {
        if let Some(Some(known)) = self.known.get(id) {
            return Ok(known.clone());
        }
        let program = self.program;
        let Some(rule) = program.rules.get(id) else {
            return Ok(None);
        };
        let value = self
            .compute(rule)
            .map_err(|stop| stop.in_rule(&rule.name))?;
        if let Some(known) = self.known.get_mut(id) {
            *known = Some(value.clone());
        }
        Ok(value)
    }

    fn compute(&mut self, rule: &Rule) -> Result<Option<Value>, Stop> {
        match &rule.body {
            RuleBody::Complete {
                default,
                definitions,
                constant,
            } => {
                let value = self.one_value(definitions, *constant, &[])?;
                Ok(value.or_else(|| default.clone()))
            }
            RuleBody::Function { .. } => Ok(None),
            RuleBody::Set(elements) => {
                let mut items = Vec::new();
                self.elements(elements, &mut |key, _| {
                    items.push(key);
                    items.len()
                })?;
                self.budget.items(items.len())?;
                self.budget.sort(&items)?;
                Ok(Some(Value::set(items)))
            }
            RuleBody::Object(elements) => {
                let mut fields = Vec::new();
                self.elements(elements, &mut |key, value| {
                    fields.push((key, value));
                    fields.len()
                })?;
                self.made_object(fields).map(Some)
            }
            RuleBody::ObjectOfSets(elements) => {
                let mut pairs = Vec::new();
                self.elements(elements, &mut |key, value| {
                    pairs.push(Value::array(vec![key, value]));
                    pairs.len()
                })?;
                self.budget.items(pairs.len())?;
                self.budget.sort(&pairs)?;
                Ok(Some(grouped(pairs)))
            }
        }
    }

    fn elements(
        &mut self,
        elements: &[Element],
        add: &mut dyn FnMut(Value, Value) -> usize,
    ) -> Result<(), Stop> {
        for element in elements {
            let mut frame: Frame = vec![None; element.slots];
            self.collect(&element.steps, &mut frame, &mut |machine, frame| match (
                machine.value(&element.key, frame)?,
                machine.value(&element.value, frame)?,
            ) {
                (Some(key), Some(value)) => Ok(add(key, value)),
                _ => Ok(0),
            })?;
        }
        Ok(())
    }

    pub(super) fn function(
        &mut self,
        id: RuleId,
        arguments: &[Value],
    ) -> Result<Option<Value>, Stop> {
        let program = self.program;
        let Some(rule) = program.rules.get(id) else {
            return Ok(None);
        };
        let RuleBody::Function {
            definitions,
            constant,
        } = &rule.body
        else {
            return Ok(None);
        };
        let value = self.one_value(definitions, *constant, arguments);
        value.map_err(|stop| stop.in_rule(&rule.name))
    }

    /// The value on which all definitions agree.
    fn one_value(
        &mut self,
        definitions: &[Definition],
        constant: bool,
        arguments: &[Value],
    ) -> Result<Option<Value>, Stop> {
        let mut found: Option<Value> = None;
        for definition in definitions {
            let Some(value) = self.definition(definition, arguments)? else {
                continue;
            };
            match &found {
                Some(other) => {
                    self.budget.compare(&value)?;
                    if *other != value {
                        return Err(Why::Conflict.into());
                    }
                }
                None => found = Some(value),
            }
            if constant {
                break;
            }
        }
        Ok(found)
    }

    fn definition(
        &mut self,
        definition: &Definition,
        arguments: &[Value],
    ) -> Result<Option<Value>, Stop> {
        self.budget.spend(1 + definition.slots / 8)?;
        let mut frame: Frame = vec![None; definition.slots];
        for (pattern, argument) in definition.arguments.iter().zip(arguments) {
            if !self.matches(pattern, argument, &mut frame)? {
                return Ok(None);
            }
        }
        for branch in &definition.branches {
            let mut found: Option<Value> = None;
            self.run(&branch.steps, &mut frame, &mut |machine, frame| {
                let Some(value) = machine.value(&branch.value, frame)? else {
                    return Ok(Flow::Next);
                };
                if let Some(other) = &found {
                    machine.budget.compare(&value)?;
                    if *other != value {
                        return Err(Why::Conflict.into());
                    }
                }
                found = Some(value);
                Ok(match branch.value.constant() {
                    Some(_) => Flow::Enough,
                    None => Flow::Next,
                })
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

/// Sorted pairs as an object from their first parts to the sets of their second.
fn grouped(mut pairs: Vec<Value>) -> Value {
    pairs.sort_unstable();
    let mut fields: Vec<(Value, Vec<Value>)> = Vec::new();
    for pair in pairs {
        let (Some(key), Some(item)) = (pair.at(&Value::Number(0)), pair.at(&Value::Number(1)))
        else {
            continue;
        };
        match fields.last_mut() {
            Some((own, items)) if *own == key => items.push(item),
            _ => fields.push((key, vec![item])),
        }
    }
    let fields = fields
        .into_iter()
        .map(|(key, items)| (key, Value::set(items)));
    Object::new(fields.collect()).map_or(Value::Null, Value::Object)
}
