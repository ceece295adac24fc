//! The syntax tree: exactly the constructs that are known to mean here what they mean in OPA.
//!
//! The parser makes no other nodes, so what is not listed here is refused with its place.

use super::value::Value;

/// Where something is in the text, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: u32,
    pub(super) column: u32,
}

#[derive(Debug)]
pub(super) struct Module {
    pub(super) package: (Place, Vec<String>),
    pub(super) imports: Vec<Import>,
    pub(super) rules: Vec<Rule>,
}

/// `import input.a.b as name`; imports of keywords leave no node.
#[derive(Debug)]
pub(super) struct Import {
    pub(super) place: Place,
    pub(super) path: Vec<String>,
    pub(super) name: String,
}

/// One definition of a rule; several of the same name make the rule.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) place: Place,
    pub(super) name: String,
    pub(super) head: Head,
    pub(super) body: Vec<Statement>,
    pub(super) otherwise: Vec<Otherwise>,
}

#[derive(Debug)]
pub(super) enum Head {
    /// `default name := value`
    Default(Term),
    /// `name := value`, or without a value, which is true
    Complete(Option<Term>),
    /// `name contains key`
    Set(Term),
    /// `name[key] := value`
    Object(Term, Term),
    /// `name[outer] contains key`
    ObjectOfSets(Term, Term),
    /// `name(arguments) := value`
    Function(Vec<Term>, Option<Term>),
}

/// `else := value if { body }`
#[derive(Debug)]
pub(super) struct Otherwise {
    pub(super) value: Option<Term>,
    pub(super) body: Vec<Statement>,
}

#[derive(Debug)]
pub(super) struct Statement {
    pub(super) place: Place,
    pub(super) literal: Literal,
    /// `with input.a.b as value`: the path below `input`, and the value
    pub(super) with: Vec<(Place, Vec<String>, Term)>,
}

#[derive(Debug)]
pub(super) enum Literal {
    /// `some x, y`
    Some(Vec<(Place, String)>),
    /// `some key, value in collection`
    SomeIn(Option<Term>, Term, Term),
    Every {
        key: Option<(Place, String)>,
        value: (Place, String),
        domain: Term,
        body: Vec<Statement>,
    },
    Not(Expression),
    Expression(Expression),
}

#[derive(Debug)]
pub(super) enum Expression {
    Term(Term),
    /// `pattern := term`
    Assign(Term, Term),
    /// `term = term`
    Unify(Term, Term),
}

#[derive(Debug)]
pub(super) struct Term {
    pub(super) place: Place,
    pub(super) kind: TermKind,
}

#[derive(Debug)]
pub(super) enum TermKind {
    Scalar(Value),
    /// `_` is a variable of that name.
    Variable(String),
    Array(Vec<Term>),
    Set(Vec<Term>),
    Object(Vec<(Term, Term)>),
    ArrayComprehension(Box<Term>, Vec<Statement>),
    SetComprehension(Box<Term>, Vec<Statement>),
    ObjectComprehension(Box<Term>, Box<Term>, Vec<Statement>),
    /// `head.a[b]`
    Reference(Box<Term>, Vec<Term>),
    /// `a.b(arguments)`
    Call(String, Vec<Term>),
    Binary(Operator, Box<Term>, Box<Term>),
    /// `key, value in collection`
    Member(Option<Box<Term>>, Box<Term>, Box<Term>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Plus,
    Minus,
    Times,
    Remainder,
    And,
    Or,
}
