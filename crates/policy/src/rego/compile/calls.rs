//! Calls of functions of the module and of built-in ones.

use super::{Compiler, Fault, State, refuse, scope::Locals, terms::Typed};
use crate::rego::{
    builtins,
    program::{Expression, RuleBody, Step},
    syntax::{Place, Term},
    types::Type,
};

impl Compiler<'_> {
    pub(super) fn call(
        &mut self,
        locals: &mut Locals,
        place: Place,
        name: &str,
        arguments: &[Term],
        steps: &mut Vec<Step>,
        scan: bool,
    ) -> Result<Typed, Fault> {
        let root = name.split('.').next().unwrap_or(name);
        if locals.find(root).is_some() || self.imports.contains_key(root) {
            return refuse(place, format!("{root} is a variable here, not a function"));
        }
        let own = format!("data.{}.", self.package.join("."));
        let name = name.strip_prefix(&own).unwrap_or(name);
        let own = self.ids.get(name).copied();
        if own.is_none() && self.ids.contains_key(root) {
            return refuse(
                place,
                format!("{root} is a rule here, so {name} is no function"),
            );
        }
        if let Some(id) = own {
            let result = self.rule(id, place)?;
            let (arguments, types) = self.terms(locals, arguments, steps, scan)?;
            self.check_arity(id, arguments.len(), place)?;
            self.check_arguments(locals, id, &arguments, &types, place)?;
            return Ok((Expression::Function(id, arguments), result));
        }
        let mut typed = Vec::new();
        for argument in arguments {
            typed.push(self.term(locals, argument, steps, scan)?);
        }
        self.builtin_call(locals, place, name, typed)
    }

    /// Each argument must fit what one of the definitions does with it.
    fn check_arguments(
        &self,
        locals: &mut Locals,
        id: usize,
        arguments: &[Expression],
        types: &[Type],
        place: Place,
    ) -> Result<(), Fault> {
        let Some(definitions) = self.demands.get(&id) else {
            return Ok(());
        };
        for (index, (argument, of)) in arguments.iter().zip(types).enumerate() {
            let demands = definitions
                .iter()
                .filter_map(|definition| definition.get(index));
            let demands: Vec<&Vec<Type>> = demands.collect();
            if !demands
                .iter()
                .any(|all| all.iter().all(|demand| demand.overlaps(of)))
            {
                let message = format!("argument {} is {}, which never fits", index + 1, of.name());
                return refuse(place, message);
            }
            let firsts: Option<Vec<Type>> =
                demands.iter().map(|all| all.first().cloned()).collect();
            locals.used(argument, &firsts.map_or(Type::Any, Type::union));
        }
        Ok(())
    }

    fn check_arity(&self, id: usize, given: usize, place: Place) -> Result<(), Fault> {
        let Some(State::Done(RuleBody::Function { definitions, .. }, _)) = self.states.get(id)
        else {
            return refuse(place, "this rule is no function");
        };
        let arity = definitions
            .first()
            .map_or(0, |definition| definition.arguments.len());
        match arity == given {
            true => Ok(()),
            false => refuse(
                place,
                format!("the function takes {arity} arguments, not {given}"),
            ),
        }
    }

    pub(super) fn builtin_call(
        &mut self,
        locals: &mut Locals,
        place: Place,
        name: &str,
        arguments: Vec<Typed>,
    ) -> Result<Typed, Fault> {
        let Some(builtin) = builtins::find(name) else {
            return refuse(place, builtins::why_not(name));
        };
        if builtin.parameters.len() != arguments.len() {
            let wanted = builtin.parameters.len();
            let message = format!("{name} takes {wanted} arguments, not {}", arguments.len());
            return refuse(place, message);
        }
        for (parameter, (value, of)) in builtin.parameters.iter().zip(&arguments) {
            let wanted = parameter.as_type();
            locals.used(value, &wanted);
            if !wanted.overlaps(of) {
                let message = format!("{name} takes {}, not {}", wanted.name(), of.name());
                return refuse(place, message);
            }
        }
        self.check_special(place, builtin, &arguments)?;
        let values = arguments.into_iter().map(|(value, _)| value).collect();
        Ok((
            Expression::Builtin(builtin, values),
            builtin.result.as_type(),
        ))
    }
}
