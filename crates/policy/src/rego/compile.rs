//! From the syntax tree to a program, or to the place of what cannot be had.
//!
//! What OPA does in its compiler is done here: names become variables, rules or input;
//! statements are put into an order in which each variable has its value before it is used;
//! types are compared; a rule that depends on itself is refused.

mod bodies;
mod calls;
mod destructuring;
mod names;
mod negation;
mod operators;
mod patterns;
mod references;
mod rules;
mod scope;
mod terms;

use std::collections::BTreeMap;

use super::{
    RegoError, no_thread, on_large_stack,
    program::{Program, RuleId},
    syntax::{Import, Module, Place, Rule},
    types::Type,
    value::Value,
};

/// Rules that refer to one another in a row: the evaluation follows them on the stack.
const MAX_CHAIN: usize = 32;
/// Terms, bodies, loops and rules within one another, all of which the evaluation follows on the
/// stack. What is deeper is refused, so that no request can end the stack.
const MAX_HEIGHT: usize = 200;
/// Statements tried while looking for an order, in a whole module.
const MAX_ATTEMPTS: usize = 200_000;

/// Compiles the rules called `roots` and all that they refer to; then the rest, so that every
/// fault of the text is found.
pub(super) fn compile(module: &Module, base: &Value) -> Result<(Program, Names), RegoError> {
    on_large_stack(|| compile_here(module, base)).ok_or_else(no_thread)?
}

fn compile_here(module: &Module, base: &Value) -> Result<(Program, Names), RegoError> {
    let mut compiler = Compiler::new(module, base)?;
    for id in 0..compiler.groups.len() {
        let place = compiler.place_of(id);
        compiler.rule(id, place).map_err(RegoError::from)?;
    }
    let mut program = Program {
        height: compiler.heights.values().copied().max().unwrap_or(0),
        rules: Vec::new(),
        patterns: compiler.patterns,
    };
    let mut names = Names::new();
    for (group, state) in compiler.groups.into_iter().zip(compiler.states) {
        if let State::Done(body, _) = state {
            names.insert(group.name.to_owned(), program.rules.len());
            let name = group.name.to_owned();
            program.rules.push(super::program::Rule { name, body });
        }
    }
    Ok((program, names))
}

/// Where the rules of a module are in its program.
pub(super) type Names = BTreeMap<String, RuleId>;

/// Why a part of a module has no program.
#[derive(Debug)]
enum Fault {
    /// A variable has no value yet; another order of the statements may help.
    Unbound(Place, String),
    Refused(RegoError),
}

impl From<RegoError> for Fault {
    fn from(error: RegoError) -> Self {
        Self::Refused(error)
    }
}

impl From<Fault> for RegoError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(error) => error,
            Fault::Unbound(place, name) if name == "_" => Self::at(
                place,
                "`_` has no value here; name the variable and give it one with `some ... in`",
            ),
            Fault::Unbound(place, name) => Self::at(
                place,
                format!("{name} has no value here: no rule has this name, and nothing assigns it"),
            ),
        }
    }
}

fn refuse<T>(place: Place, message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Refused(RegoError::at(place, message)))
}

/// All definitions of one name.
struct Group<'m> {
    name: &'m str,
    rules: Vec<&'m Rule>,
}

enum State {
    Waiting,
    /// Its compilation has begun: a rule that needs it now is a part of it.
    Begun,
    Done(super::program::RuleBody, Type),
}

struct Compiler<'m> {
    package: &'m [String],
    imports: BTreeMap<&'m str, &'m Import>,
    groups: Vec<Group<'m>>,
    ids: BTreeMap<&'m str, RuleId>,
    states: Vec<State>,
    patterns: super::patterns::Patterns,
    /// Of functions: what each argument must be, for each definition.
    demands: BTreeMap<RuleId, Vec<Vec<Vec<Type>>>>,
    /// What `data` has in addition to the module.
    base: &'m Value,
    chain: usize,
    attempts: usize,
    /// How deep this part of a rule is in it, and the deepest part so far.
    depth: usize,
    height: usize,
    /// The same through all rules whose compilation has begun: the compiler's own depth.
    live: usize,
    heights: BTreeMap<RuleId, usize>,
}

impl<'m> Compiler<'m> {
    fn new(module: &'m Module, base: &'m Value) -> Result<Self, RegoError> {
        let mut imports = BTreeMap::new();
        for import in &module.imports {
            if imports.insert(import.name.as_str(), import).is_some() {
                let message = format!("{} is imported twice", import.name);
                return Err(RegoError::at(import.place, message));
            }
        }
        let mut groups: Vec<Group<'m>> = Vec::new();
        let mut ids = BTreeMap::new();
        for rule in &module.rules {
            if imports.contains_key(rule.name.as_str()) {
                let message = format!("{} is the name of an import already", rule.name);
                return Err(RegoError::at(rule.place, message));
            }
            let id = *ids.entry(rule.name.as_str()).or_insert_with(|| {
                groups.push(Group {
                    name: &rule.name,
                    rules: Vec::new(),
                });
                groups.len() - 1
            });
            if let Some(group) = groups.get_mut(id) {
                group.rules.push(rule);
            }
        }
        Ok(Self {
            package: &module.package.1,
            imports,
            states: groups.iter().map(|_| State::Waiting).collect(),
            groups,
            ids,
            patterns: super::patterns::Patterns::default(),
            demands: BTreeMap::new(),
            base,
            chain: 0,
            attempts: 0,
            depth: 0,
            height: 0,
            live: 0,
            heights: BTreeMap::new(),
        })
    }

    /// Compiles a part that the evaluation follows `by` levels deeper.
    fn deeper<T>(
        &mut self,
        by: usize,
        place: Place,
        compile: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let before = (self.depth, self.live);
        self.depth += by;
        self.live += by;
        self.height = self.height.max(self.depth);
        if self.height.max(self.live) > MAX_HEIGHT {
            return refuse(
                place,
                "rules, bodies and terms are too deep within one another",
            );
        }
        let compiled = compile(self);
        (self.depth, self.live) = before;
        compiled
    }

    fn place_of(&self, id: RuleId) -> Place {
        let first = self.groups.get(id).and_then(|group| group.rules.first());
        first.map_or(Place { line: 1, column: 1 }, |rule| rule.place)
    }
}
