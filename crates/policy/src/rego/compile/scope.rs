//! Variables of one definition.

use std::collections::BTreeMap;

use super::Fault;
use crate::rego::{
    program::{Expression, Pattern, Slot},
    syntax::Place,
    types::{Kind, Type},
};

/// The variables of a definition, in scopes: its arguments, its body, and the bodies of
/// comprehensions and `every` within.
#[derive(Default)]
pub(super) struct Locals {
    scopes: Vec<Scope>,
    variables: Vec<Variable>,
    /// What is done with the arguments of a function, and so what they must be.
    uses: Vec<(Slot, Type)>,
}

#[derive(Default)]
struct Scope {
    names: Vec<(String, Slot)>,
    /// It continues the scope around it, as a body does with the arguments of its function.
    joined: bool,
}

#[derive(Clone)]
struct Variable {
    /// Its type, once a statement in front has given it a value.
    bound: Option<Type>,
    scope: usize,
}

/// What a failed attempt to compile a statement must not leave behind.
pub(super) struct Mark {
    variables: Vec<Variable>,
    scopes: usize,
}

impl Locals {
    pub(super) fn push_scope(&mut self) {
        self.scopes.push(Scope::default());
    }

    /// A scope in which the names of the one around it cannot be declared again.
    pub(super) fn push_joined_scope(&mut self) {
        self.scopes.push(Scope {
            names: Vec::new(),
            joined: true,
        });
    }

    pub(super) fn pop_scope(&mut self) {
        self.scopes.pop();
    }

    /// The frame that the definition needs.
    pub(super) fn slots(&self) -> usize {
        self.variables.len()
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            variables: self.variables.clone(),
            scopes: self.scopes.len(),
        }
    }

    /// Slots made since are not used again; the frame only grows.
    pub(super) fn back_to(&mut self, mark: &Mark) {
        for (variable, before) in self.variables.iter_mut().zip(&mark.variables) {
            variable.bound = before.bound.clone();
        }
        self.scopes.truncate(mark.scopes);
    }

    /// A variable without a name.
    pub(super) fn temporary(&mut self, of: Type) -> Slot {
        let slot = self.new_slot();
        self.bind(slot, of);
        slot
    }

    fn new_slot(&mut self) -> Slot {
        let scope = self.scopes.len();
        self.variables.push(Variable { bound: None, scope });
        self.variables.len() - 1
    }

    /// A variable of the innermost scope.
    pub(super) fn declare(&mut self, name: &str) -> Slot {
        let slot = self.new_slot();
        if let Some(scope) = self.scopes.last_mut() {
            scope.names.push((name.to_owned(), slot));
        }
        slot
    }

    pub(super) fn find(&self, name: &str) -> Option<Slot> {
        let named = |scope: &Scope| {
            let found = scope.names.iter().find(|(own, _)| own == name);
            found.map(|(_, slot)| *slot)
        };
        self.scopes.iter().rev().find_map(named)
    }

    /// Whether the innermost scope, or one that it continues, has the name.
    pub(super) fn has_here(&self, name: &str) -> bool {
        for scope in self.scopes.iter().rev() {
            if scope.names.iter().any(|(own, _)| own == name) {
                return true;
            }
            if !scope.joined {
                return false;
            }
        }
        false
    }

    pub(super) fn bind(&mut self, slot: Slot, of: Type) {
        if let Some(variable) = self.variables.get_mut(slot) {
            variable.bound = Some(of);
        }
    }

    pub(super) fn type_of(&self, slot: Slot) -> Option<&Type> {
        self.variables.get(slot)?.bound.as_ref()
    }

    /// Whether a statement of the innermost scope may give it a value.
    pub(super) fn is_open(&self, slot: Slot) -> bool {
        let variable = self.variables.get(slot);
        variable.is_some_and(|own| own.bound.is_none() && own.scope == self.scopes.len())
    }

    /// OPA infers the types of arguments from their uses.
    pub(super) fn used(&mut self, value: &Expression, as_type: &Type) {
        match value {
            Expression::Slot(slot) => {
                let argument = self.variables.get(*slot).is_some_and(|own| own.scope == 1);
                if argument && *as_type != Type::Any {
                    self.uses.push((*slot, as_type.clone()));
                }
            }
            Expression::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let Some(part) = as_type.at(&index.into()) {
                        self.used(item, &part);
                    }
                }
            }
            Expression::Object(fields) => {
                for (key, item) in fields {
                    if let Some(part) = key.constant().and_then(|key| as_type.at(key)) {
                        self.used(item, &part);
                    }
                }
            }
            _ => {}
        }
    }

    /// OPA knows no type of a comprehension of arguments, which then has no elements for it.
    pub(super) fn of_elements(&self, head: &Expression, of: Type) -> Type {
        match self.has_argument(head) {
            true => Type::NEVER,
            false => of,
        }
    }

    fn has_argument(&self, value: &Expression) -> bool {
        match value {
            Expression::Slot(slot) => self.variables.get(*slot).is_some_and(|own| own.scope == 1),
            Expression::Array(items) | Expression::Set(items) => {
                items.iter().any(|item| self.has_argument(item))
            }
            Expression::Object(fields) => fields
                .iter()
                .any(|(key, item)| self.has_argument(key) || self.has_argument(item)),
            _ => false,
        }
    }

    /// What an argument of this form must be, all of it.
    pub(super) fn demands(&self, pattern: &Pattern) -> Vec<Type> {
        match pattern {
            Pattern::Any => Vec::new(),
            Pattern::Bind(slot) => {
                let own = self.uses.iter().filter(|(used, _)| used == slot);
                own.map(|(_, of)| of.clone()).collect()
            }
            Pattern::Equal(value) => value.constant().map(Type::of).into_iter().collect(),
            Pattern::Array(parts) => {
                let any = vec![Type::Any; parts.len()];
                let mut demands = vec![Kind::Array(any.clone(), None).alone()];
                for (index, part) in parts.iter().enumerate() {
                    for demand in self.demands(part) {
                        let mut whole = any.clone();
                        if let Some(own) = whole.get_mut(index) {
                            *own = demand;
                        }
                        demands.push(Kind::Array(whole, None).alone());
                    }
                }
                demands
            }
            Pattern::Object(parts) => {
                let any: BTreeMap<_, _> = parts
                    .iter()
                    .map(|(key, _)| (key.clone(), Type::Any))
                    .collect();
                let mut demands = vec![Kind::Object(any.clone(), None).alone()];
                for (key, part) in parts {
                    for demand in self.demands(part) {
                        let mut whole = any.clone();
                        whole.insert(key.clone(), demand);
                        demands.push(Kind::Object(whole, None).alone());
                    }
                }
                demands
            }
        }
    }

    pub(super) fn unbound(place: Place, name: &str) -> Fault {
        Fault::Unbound(place, name.to_owned())
    }
}
