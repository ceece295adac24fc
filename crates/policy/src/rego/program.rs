//! What a module is compiled to: rules with their variables in numbered slots, and statements in
//! an order in which every variable has its value before it is used.

use super::{builtins::Builtin, syntax::Operator, value::Value};

/// A rule's place in the program.
pub(super) type RuleId = usize;
/// A variable's place in the frame of its definition.
pub(super) type Slot = usize;

#[derive(Debug, Default)]
pub(super) struct Program {
    /// How deep the evaluation may go, in terms, bodies, loops and rules.
    pub(super) height: usize,
    pub(super) rules: Vec<Rule>,
    pub(super) patterns: super::patterns::Patterns,
}

impl Program {
    /// Whether this is a rule with a value, not a function.
    pub(super) fn has_value(&self, id: RuleId) -> bool {
        let rule = self.rules.get(id);
        rule.is_some_and(|rule| !matches!(rule.body, RuleBody::Function { .. }))
    }
}

#[derive(Debug)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) body: RuleBody,
}

#[derive(Debug)]
pub(super) enum RuleBody {
    /// One value. `constant`: all definitions that have one have the same.
    Complete {
        default: Option<Value>,
        definitions: Vec<Definition>,
        constant: bool,
    },
    Function {
        definitions: Vec<Definition>,
        constant: bool,
    },
    /// A set, an object, or an object of sets, of what all definitions give.
    Set(Vec<Element>),
    Object(Vec<Element>),
    ObjectOfSets(Vec<Element>),
}

/// A rule of one value with its `else` branches.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) slots: usize,
    /// What the arguments must match.
    pub(super) arguments: Vec<Pattern>,
    pub(super) branches: Vec<Branch>,
}

#[derive(Debug)]
pub(super) struct Branch {
    pub(super) steps: Vec<Step>,
    pub(super) value: Expression,
}

/// A rule that gives elements: a key alone for sets.
#[derive(Debug)]
pub(super) struct Element {
    pub(super) slots: usize,
    pub(super) steps: Vec<Step>,
    pub(super) key: Expression,
    pub(super) value: Expression,
}

#[derive(Debug)]
pub(super) enum Step {
    /// Holds if the value is there and is not false.
    Test(Expression),
    Match(Pattern, Expression),
    /// Holds once for each part of a collection that matches.
    Scan {
        over: Expression,
        key: Pattern,
        value: Pattern,
    },
    /// Holds if the steps do not.
    Not(Vec<Step>),
    Every {
        domain: Expression,
        key: Pattern,
        value: Pattern,
        body: Vec<Step>,
    },
    /// The steps with another input: values at paths below it.
    With {
        changes: Vec<(Vec<Value>, Expression)>,
        steps: Vec<Step>,
    },
}

#[derive(Debug)]
pub(super) enum Pattern {
    Any,
    Bind(Slot),
    Equal(Expression),
    Array(Vec<Pattern>),
    /// An object with these keys and no others.
    Object(Vec<(Value, Pattern)>),
}

#[derive(Debug)]
pub(super) enum Expression {
    Undefined,
    Constant(Value),
    Slot(Slot),
    Input,
    Rule(RuleId),
    At(Box<Expression>, Box<Expression>),
    Array(Vec<Expression>),
    Set(Vec<Expression>),
    Object(Vec<(Expression, Expression)>),
    Comprehension(Box<Comprehension>),
    Compare(Operator, Box<Expression>, Box<Expression>),
    /// `key, value in collection`
    Member(Option<Box<Expression>>, Box<Expression>, Box<Expression>),
    Builtin(&'static Builtin, Vec<Expression>),
    Function(RuleId, Vec<Expression>),
}

#[derive(Debug)]
pub(super) enum Comprehension {
    Array(Vec<Step>, Expression),
    Set(Vec<Step>, Expression),
    Object(Vec<Step>, Expression, Expression),
}

impl Expression {
    pub(super) fn constant(&self) -> Option<&Value> {
        match self {
            Self::Constant(value) => Some(value),
            _ => None,
        }
    }
}
