//! Values of expressions: one, or none where something in them is undefined.

use super::{Flow, Frame, Machine};
use crate::rego::{
    builtins::{Builtin, Call},
    limits::{Stop, Why},
    program::{Comprehension, Expression},
    syntax::Operator,
    value::{Object, Value},
};

impl Machine<'_> {
    pub(super) fn value(
        &mut self,
        expression: &Expression,
        frame: &mut Frame,
    ) -> Result<Option<Value>, Stop> {
        self.budget.spend(1)?;
        match expression {
            Expression::Undefined => Ok(None),
            Expression::Constant(value) => Ok(Some(value.clone())),
            Expression::Slot(slot) => Ok(frame.get(*slot).cloned().flatten()),
            Expression::Input => Ok(Some(self.input.clone())),
            Expression::Rule(id) => self.rule(*id),
            Expression::At(of, key) => {
                let Some((of, key)) = self.pair(of, key, frame)? else {
                    return Ok(None);
                };
                self.budget.compare(&key)?;
                Ok(of.at(&key))
            }
            Expression::Array(items) => {
                self.budget.items(items.len())?;
                Ok(self.values(items, frame)?.map(Value::array))
            }
            Expression::Set(items) => self.set(items, frame),
            Expression::Object(fields) => self.object(fields, frame),
            Expression::Comprehension(comprehension) => {
                self.comprehension(comprehension, frame).map(Some)
            }
            Expression::Compare(operator, one, two) => {
                let Some((one, two)) = self.pair(one, two, frame)? else {
                    return Ok(None);
                };
                self.budget.compare(&one)?;
                Ok(Some(Value::Bool(compare(*operator, &one, &two))))
            }
            Expression::Member(key, value, collection) => {
                self.member(key.as_deref(), value, collection, frame)
            }
            Expression::Builtin(builtin, arguments) => self.builtin(builtin, arguments, frame),
            Expression::Function(id, arguments) => match self.values(arguments, frame)? {
                Some(arguments) => self.function(*id, &arguments),
                None => Ok(None),
            },
        }
    }

    /// Both, in this order; the second is not evaluated where the first is undefined.
    fn pair(
        &mut self,
        one: &Expression,
        two: &Expression,
        frame: &mut Frame,
    ) -> Result<Option<(Value, Value)>, Stop> {
        let Some(one) = self.value(one, frame)? else {
            return Ok(None);
        };
        Ok(self.value(two, frame)?.map(|two| (one, two)))
    }

    fn set(&mut self, items: &[Expression], frame: &mut Frame) -> Result<Option<Value>, Stop> {
        let Some(items) = self.values(items, frame)? else {
            return Ok(None);
        };
        self.budget.items(items.len())?;
        self.budget.sort(&items)?;
        Ok(Some(Value::set(items)))
    }

    fn builtin(
        &mut self,
        builtin: &Builtin,
        arguments: &[Expression],
        frame: &mut Frame,
    ) -> Result<Option<Value>, Stop> {
        let Some(arguments) = self.values(arguments, frame)? else {
            return Ok(None);
        };
        let mut call = Call {
            budget: &mut self.budget,
            patterns: &self.program.patterns,
            now: self.now,
        };
        (builtin.run)(&mut call, &arguments)
    }

    /// All of them, or none.
    fn values(
        &mut self,
        expressions: &[Expression],
        frame: &mut Frame,
    ) -> Result<Option<Vec<Value>>, Stop> {
        self.budget.spend(1 + expressions.len() / 4)?;
        let mut values = Vec::with_capacity(expressions.len());
        for expression in expressions {
            match self.value(expression, frame)? {
                Some(value) => values.push(value),
                None => return Ok(None),
            }
        }
        Ok(Some(values))
    }

    fn object(
        &mut self,
        fields: &[(Expression, Expression)],
        frame: &mut Frame,
    ) -> Result<Option<Value>, Stop> {
        self.budget.items(fields.len())?;
        let mut made = Vec::with_capacity(fields.len());
        for (key, value) in fields {
            let Some(key) = self.value(key, frame)? else {
                return Ok(None);
            };
            let Some(value) = self.value(value, frame)? else {
                return Ok(None);
            };
            made.push((key, value));
        }
        // The compiler lets no key be there twice.
        Ok(Object::new(made).map(Value::Object))
    }

    fn member(
        &mut self,
        key: Option<&Expression>,
        value: &Expression,
        collection: &Expression,
        frame: &mut Frame,
    ) -> Result<Option<Value>, Stop> {
        let key = match key {
            Some(key) => match self.value(key, frame)? {
                Some(key) => Some(key),
                None => return Ok(None),
            },
            None => None,
        };
        let Some(value) = self.value(value, frame)? else {
            return Ok(None);
        };
        let Some(collection) = self.value(collection, frame)? else {
            return Ok(None);
        };
        self.budget.compare(&value)?;
        if let Some(key) = key {
            self.budget.compare(&key)?;
            let found = collection.at(&key);
            return Ok(Some(Value::Bool(found.is_some_and(|found| found == value))));
        }
        let found = match &collection {
            Value::Set(set) => set.contains(&value),
            Value::Array(items) => {
                self.budget.spend(items.len() / 8)?;
                self.budget.sort(std::slice::from_ref(&value))?;
                items.contains(&value)
            }
            Value::Object(object) => {
                self.budget.spend(object.fields().len() / 8)?;
                object.fields().iter().any(|(_, own)| *own == value)
            }
            _ => false,
        };
        Ok(Some(Value::Bool(found)))
    }

    fn comprehension(
        &mut self,
        comprehension: &Comprehension,
        frame: &mut Frame,
    ) -> Result<Value, Stop> {
        match comprehension {
            Comprehension::Array(steps, head) => {
                let mut items = Vec::new();
                self.collect(steps, frame, &mut |machine, frame| {
                    if let Some(item) = machine.value(head, frame)? {
                        items.push(item);
                    }
                    Ok(items.len())
                })?;
                self.budget.items(items.len())?;
                Ok(Value::array(items))
            }
            Comprehension::Set(steps, head) => {
                let mut items = Vec::new();
                self.collect(steps, frame, &mut |machine, frame| {
                    if let Some(item) = machine.value(head, frame)? {
                        items.push(item);
                    }
                    Ok(items.len())
                })?;
                self.budget.items(items.len())?;
                self.budget.sort(&items)?;
                Ok(Value::set(items))
            }
            Comprehension::Object(steps, key, value) => {
                let mut fields = Vec::new();
                self.collect(steps, frame, &mut |machine, frame| {
                    if let Some(key) = machine.value(key, frame)?
                        && let Some(value) = machine.value(value, frame)?
                    {
                        fields.push((key, value));
                    }
                    Ok(fields.len())
                })?;
                self.made_object(fields)
            }
        }
    }

    /// Pays for sorting the fields; a key with two values is an error.
    pub(super) fn made_object(&mut self, fields: Vec<(Value, Value)>) -> Result<Value, Stop> {
        self.budget.items(fields.len())?;
        let (keys, values): (Vec<_>, Vec<_>) = fields.iter().cloned().unzip();
        self.budget.sort(&keys)?;
        self.budget.sort(&values)?;
        match Object::new(fields) {
            Some(object) => Ok(Value::Object(object)),
            None => Err(Why::Conflict.into()),
        }
    }

    /// Calls `add`, which says how many elements there are, for each solution.
    pub(super) fn collect(
        &mut self,
        steps: &[crate::rego::program::Step],
        frame: &mut Frame,
        add: &mut dyn FnMut(&mut Machine<'_>, &mut Frame) -> Result<usize, Stop>,
    ) -> Result<(), Stop> {
        self.run(steps, frame, &mut |machine, frame| {
            let count = add(machine, frame)?;
            machine.budget.element(count)?;
            Ok(Flow::Next)
        })?;
        Ok(())
    }
}

fn compare(operator: Operator, one: &Value, two: &Value) -> bool {
    match operator {
        Operator::Equal => one == two,
        Operator::NotEqual => one != two,
        Operator::Less => one < two,
        Operator::LessOrEqual => one <= two,
        Operator::Greater => one > two,
        Operator::GreaterOrEqual => one >= two,
        _ => false,
    }
}
