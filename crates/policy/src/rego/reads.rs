//! What of its input a program may read. The answer is on the safe side: whatever is not seen to
//! be a constant key counts as every key.

use super::program::{
    Branch, Comprehension, Definition, Element, Expression, Pattern, Program, RuleBody, Step,
};

/// Whether any rule may read the part of the input at `path`, or something that holds it.
pub(super) fn reads(program: &Program, path: &[&str]) -> bool {
    let reader = Reader { path };
    program.rules.iter().any(|rule| match &rule.body {
        RuleBody::Complete { definitions, .. } | RuleBody::Function { definitions, .. } => {
            definitions.iter().any(|one| reader.definition(one))
        }
        RuleBody::Set(elements) | RuleBody::Object(elements) | RuleBody::ObjectOfSets(elements) => {
            elements.iter().any(|element| reader.element(element))
        }
    })
}

struct Reader<'p> {
    path: &'p [&'p str],
}

impl Reader<'_> {
    fn definition(&self, definition: &Definition) -> bool {
        let branch = |branch: &Branch| self.steps(&branch.steps) || self.value(&branch.value);
        self.patterns(&definition.arguments) || definition.branches.iter().any(branch)
    }

    fn element(&self, element: &Element) -> bool {
        self.steps(&element.steps) || self.value(&element.key) || self.value(&element.value)
    }

    fn steps(&self, steps: &[Step]) -> bool {
        steps.iter().any(|step| self.step(step))
    }

    fn step(&self, step: &Step) -> bool {
        match step {
            Step::Test(value) => self.value(value),
            Step::Match(pattern, value) => self.pattern(pattern) || self.value(value),
            Step::Scan { over, key, value } => {
                self.value(over) || self.pattern(key) || self.pattern(value)
            }
            Step::Not(steps) => self.steps(steps),
            Step::Every {
                domain,
                key,
                value,
                body,
            } => self.value(domain) || self.pattern(key) || self.pattern(value) || self.steps(body),
            Step::With { changes, steps } => {
                changes.iter().any(|(_, value)| self.value(value)) || self.steps(steps)
            }
        }
    }

    fn patterns(&self, patterns: &[Pattern]) -> bool {
        patterns.iter().any(|pattern| self.pattern(pattern))
    }

    fn pattern(&self, pattern: &Pattern) -> bool {
        match pattern {
            Pattern::Any | Pattern::Bind(_) => false,
            Pattern::Equal(value) => self.value(value),
            Pattern::Array(items) => self.patterns(items),
            Pattern::Object(fields) => fields.iter().any(|(_, field)| self.pattern(field)),
        }
    }

    fn values(&self, values: &[Expression]) -> bool {
        values.iter().any(|value| self.value(value))
    }

    fn value(&self, value: &Expression) -> bool {
        match value {
            Expression::Undefined
            | Expression::Constant(_)
            | Expression::Slot(_)
            | Expression::Rule(_) => false,
            Expression::Input => true,
            Expression::At(of, key) => self.part(of, key),
            Expression::Array(items) | Expression::Set(items) => self.values(items),
            Expression::Object(fields) => fields
                .iter()
                .any(|(key, value)| self.value(key) || self.value(value)),
            Expression::Comprehension(made) => match &**made {
                Comprehension::Array(steps, head) | Comprehension::Set(steps, head) => {
                    self.steps(steps) || self.value(head)
                }
                Comprehension::Object(steps, key, value) => {
                    self.steps(steps) || self.value(key) || self.value(value)
                }
            },
            Expression::Compare(_, one, two) => self.value(one) || self.value(two),
            Expression::Member(key, value, collection) => {
                key.as_ref().is_some_and(|key| self.value(key))
                    || self.value(value)
                    || self.value(collection)
            }
            Expression::Builtin(_, arguments) | Expression::Function(_, arguments) => {
                self.values(arguments)
            }
        }
    }

    /// `of[key]`
    fn part(&self, of: &Expression, key: &Expression) -> bool {
        let mut keys = vec![key];
        let mut base = of;
        while let Expression::At(of, key) = base {
            keys.push(key);
            base = of;
        }
        if keys.iter().any(|key| self.value(key)) {
            return true;
        }
        if !matches!(base, Expression::Input) {
            return self.value(base);
        }
        let same = |(key, name): (&&Expression, &&str)| match key.constant() {
            Some(key) => *key == (*name).into(),
            None => true,
        };
        keys.iter().rev().zip(self.path).all(same)
    }
}
