//! Runs a program for one request.
//!
//! Statements hold in all ways in which their variables can have values; each way is followed to
//! the end before the next. The depth of this walk is bounded by the text of the policy alone.

mod expressions;
mod rules;

use super::{
    limits::{Budget, Stop, Why},
    program::{Expression, Pattern, Program, RuleId, Step},
    value::{Object, Value},
};

/// The variables of the definition that is being evaluated.
type Frame = Vec<Option<Value>>;

/// Whether more ways are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Enough,
}

/// What is done once for each way in which a body holds.
type Then<'t> = &'t mut dyn FnMut(&mut Machine<'_>, &mut Frame) -> Result<Flow, Stop>;

pub(super) struct Machine<'p> {
    program: &'p Program,
    input: Value,
    now: i64,
    budget: Budget,
    /// The values of rules that were needed so far, for this input.
    known: Vec<Option<Option<Value>>>,
}

impl<'p> Machine<'p> {
    pub(super) fn new(program: &'p Program, input: Value, now: i64, budget: Budget) -> Self {
        Self {
            known: vec![None; program.rules.len()],
            program,
            input,
            now,
            budget,
        }
    }

    /// The value of a rule; `None` where it is undefined.
    pub(super) fn ask(&mut self, rule: RuleId) -> Result<Option<Value>, Stop> {
        self.rule(rule)
    }

    /// Goes through the steps, and calls `then` for each way in which all hold.
    fn run(&mut self, steps: &[Step], frame: &mut Frame, then: Then<'_>) -> Result<Flow, Stop> {
        for (index, step) in steps.iter().enumerate() {
            self.budget.spend(1)?;
            let rest = steps.get(index + 1..).unwrap_or_default();
            match step {
                Step::Scan { over, key, value } => {
                    let Some(over) = self.value(over, frame)? else {
                        return Ok(Flow::Next);
                    };
                    return self.scan(&over, (key, value), frame, &mut |machine, frame| {
                        machine.run(rest, frame, then)
                    });
                }
                Step::With { changes, steps } => {
                    return self.with(changes, steps, rest, frame, then);
                }
                single => {
                    if !self.holds(single, frame)? {
                        return Ok(Flow::Next);
                    }
                }
            }
        }
        then(self, frame)
    }

    /// Steps that hold in one way at most.
    fn holds(&mut self, step: &Step, frame: &mut Frame) -> Result<bool, Stop> {
        match step {
            Step::Test(value) => {
                let value = self.value(value, frame)?;
                Ok(value.is_some_and(|value| value != Value::Bool(false)))
            }
            Step::Match(pattern, value) => match self.value(value, frame)? {
                Some(value) => self.matches(pattern, &value, frame),
                None => Ok(false),
            },
            Step::Not(steps) => Ok(!self.any(steps, frame)?),
            Step::Every {
                domain,
                key,
                value,
                body,
            } => {
                let Some(domain) = self.value(domain, frame)? else {
                    return Ok(false);
                };
                if domain.len().is_none() {
                    return Ok(false);
                }
                let mut all = true;
                self.scan(&domain, (key, value), frame, &mut |machine, frame| {
                    all = machine.any(body, frame)?;
                    Ok(if all { Flow::Next } else { Flow::Enough })
                })?;
                Ok(all)
            }
            Step::Scan { .. } | Step::With { .. } => Ok(false),
        }
    }

    /// Whether the steps hold in any way.
    fn any(&mut self, steps: &[Step], frame: &mut Frame) -> Result<bool, Stop> {
        let mut found = false;
        self.run(steps, frame, &mut |_, _| {
            found = true;
            Ok(Flow::Enough)
        })?;
        Ok(found)
    }

    fn scan(
        &mut self,
        over: &Value,
        (key_pattern, value_pattern): (&Pattern, &Pattern),
        frame: &mut Frame,
        then: Then<'_>,
    ) -> Result<Flow, Stop> {
        let mut one = |machine: &mut Self, key: &Value, value: &Value| {
            machine.budget.spend(1)?;
            let fits = machine.matches(key_pattern, key, frame)?
                && machine.matches(value_pattern, value, frame)?;
            match fits {
                true => then(machine, frame),
                false => Ok(Flow::Next),
            }
        };
        match over {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if one(self, &index.into(), item)? == Flow::Enough {
                        return Ok(Flow::Enough);
                    }
                }
            }
            Value::Set(set) => {
                for item in set.items() {
                    if one(self, item, item)? == Flow::Enough {
                        return Ok(Flow::Enough);
                    }
                }
            }
            Value::Object(object) => {
                for (key, value) in object.fields() {
                    if one(self, key, value)? == Flow::Enough {
                        return Ok(Flow::Enough);
                    }
                }
            }
            _ => {}
        }
        Ok(Flow::Next)
    }

    fn matches(
        &mut self,
        pattern: &Pattern,
        value: &Value,
        frame: &mut Frame,
    ) -> Result<bool, Stop> {
        match pattern {
            Pattern::Any => Ok(true),
            Pattern::Bind(slot) => {
                if let Some(own) = frame.get_mut(*slot) {
                    *own = Some(value.clone());
                }
                Ok(true)
            }
            Pattern::Equal(expected) => {
                self.budget.compare(value)?;
                Ok(self
                    .value(expected, frame)?
                    .is_some_and(|expected| expected == *value))
            }
            Pattern::Array(patterns) => {
                let Value::Array(items) = value else {
                    return Ok(false);
                };
                if items.len() != patterns.len() {
                    return Ok(false);
                }
                for (pattern, item) in patterns.iter().zip(items.iter()) {
                    if !self.matches(pattern, item, frame)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Pattern::Object(patterns) => {
                let Value::Object(object) = value else {
                    return Ok(false);
                };
                if object.fields().len() != patterns.len() {
                    return Ok(false);
                }
                for (key, pattern) in patterns {
                    match object.get(key) {
                        Some(item) if self.matches(pattern, item, frame)? => {}
                        _ => return Ok(false),
                    }
                }
                Ok(true)
            }
        }
    }

    /// The steps are evaluated with another input, which ends before the rest is evaluated.
    fn with(
        &mut self,
        changes: &[(Vec<Value>, Expression)],
        steps: &[Step],
        rest: &[Step],
        frame: &mut Frame,
        then: Then<'_>,
    ) -> Result<Flow, Stop> {
        let mut input = self.input.clone();
        for (path, value) in changes {
            let Some(value) = self.value(value, frame)? else {
                return Ok(Flow::Next);
            };
            input = self.replaced(&input, path, value)?;
        }
        let outer_input = std::mem::replace(&mut self.input, input);
        let fresh = vec![None; self.program.rules.len()];
        let outer_known = std::mem::replace(&mut self.known, fresh);
        self.budget.spend(self.program.rules.len())?;
        let mut ways: Vec<Frame> = Vec::new();
        let ran = self.run(steps, frame, &mut |machine, frame| {
            machine.budget.items(frame.len())?;
            ways.push(frame.clone());
            Ok(Flow::Next)
        });
        self.input = outer_input;
        self.known = outer_known;
        ran?;
        for way in &mut ways {
            if self.run(rest, way, then)? == Flow::Enough {
                return Ok(Flow::Enough);
            }
        }
        Ok(Flow::Next)
    }

    fn replaced(&mut self, of: &Value, path: &[Value], value: Value) -> Result<Value, Why> {
        let Some((key, rest)) = path.split_first() else {
            return Ok(value);
        };
        let object = match of {
            Value::Object(object) => object.clone(),
            _ => Object::default(),
        };
        self.budget.items(object.fields().len() + 1)?;
        let below = object.get(key).cloned().unwrap_or(Value::Null);
        let value = self.replaced(&below, rest, value)?;
        Ok(Value::Object(object.with(key.clone(), value)))
    }
}
