//! What one evaluation may take.
//!
//! Work is counted in steps, not in time: the same request has the same answer however busy the
//! machine is. Each operation pays for its work, in proportion to the size of its operands,
//! before it begins. So no operation can run long or grow without end, and a decision has an
//! end: all steps together take some milliseconds of a core.

use std::sync::Arc;

use thiserror::Error;

use super::value::Value;

/// Steps of one evaluation.
const MAX_STEPS: usize = 400_000;
/// Steps of an evaluation in place, a fraction of a millisecond.
const BRIEF_STEPS: usize = 4_000;
/// Bytes of all values that one evaluation makes, those that it drops again included.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of one string that is made.
const MAX_TEXT: usize = 32 * 1024;
/// Elements of one collection that is made.
const MAX_ITEMS: usize = 10_000;
/// Numbers beyond this are not computed with.
const MAX_NUMBER: i128 = 100_000_000_000_000_000_000_000_000_000_000_000_000;

/// Why an evaluation ended without an answer. It denies.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{why}", rule.as_ref().map(|rule| format!("in the rule {rule}: ")).unwrap_or_default())]
pub(crate) struct Stop {
    /// The rule that was being evaluated.
    rule: Option<Arc<str>>,
    why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Why {
    /// It ran into the bound on its work.
    #[error("it took too long, more than {MAX_STEPS} steps")]
    Steps,
    /// It made too many or too large values.
    #[error("it made values of more than {MAX_BYTES} bytes")]
    Bytes,
    /// A string grew too long.
    #[error("a string had more than {MAX_TEXT} bytes")]
    Text,
    /// A collection grew too large.
    #[error("a collection had more than {MAX_ITEMS} elements")]
    Items,
    /// A number grew too large.
    #[error("a number was beyond {MAX_NUMBER}")]
    Number,
    /// The rules are too deep for the stack of any thread, and there was no other.
    #[error("the system had no thread left")]
    Thread,
    /// As in OPA, two values at once are an error.
    #[error("it had two values at once")]
    Conflict,
}

impl From<Why> for Stop {
    fn from(why: Why) -> Self {
        Self { rule: None, why }
    }
}

impl Stop {
    /// Names the rule, unless one within it has been named.
    pub(super) fn in_rule(mut self, rule: &str) -> Self {
        self.rule.get_or_insert_with(|| rule.into());
        self
    }

    pub(crate) fn why(&self) -> Why {
        self.why
    }
}

/// What is left of the bounds.
#[derive(Debug)]
pub(super) struct Budget {
    steps: usize,
    bytes: usize,
}

/// How much work a decision may take before it ends without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// So little that it stops nothing else.
    Brief,
    Full,
}

impl Budget {
    pub(super) fn new(effort: Effort) -> Self {
        Self {
            steps: match effort {
                Effort::Brief => BRIEF_STEPS,
                Effort::Full => MAX_STEPS,
            },
            bytes: MAX_BYTES,
        }
    }

    pub(super) fn spend(&mut self, steps: usize) -> Result<(), Why> {
        self.steps = self.steps.checked_sub(steps).ok_or(Why::Steps)?;
        Ok(())
    }

    /// Pays for reading texts of so many bytes.
    pub(super) fn read(&mut self, bytes: usize) -> Result<(), Why> {
        self.spend(1 + bytes / 32)
    }

    fn hold(&mut self, bytes: usize) -> Result<(), Why> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(Why::Bytes)?;
        Ok(())
    }

    /// Pays for a string of so many bytes that is about to be made.
    pub(super) fn text(&mut self, bytes: usize) -> Result<(), Why> {
        if bytes > MAX_TEXT {
            return Err(Why::Text);
        }
        self.hold(bytes + 16)?;
        self.read(bytes)
    }

    /// Pays for a collection of so many elements that is about to be made.
    pub(super) fn items(&mut self, count: usize) -> Result<(), Why> {
        if count > MAX_ITEMS {
            return Err(Why::Items);
        }
        self.hold(count * size_of::<Value>() * 2 + 32)?;
        self.spend(1 + count / 4)
    }

    /// Pays for one more element of a collection that is being made, of which there are so many.
    pub(super) fn element(&mut self, count: usize) -> Result<(), Why> {
        if count > MAX_ITEMS {
            return Err(Why::Items);
        }
        self.hold(size_of::<Value>() * 2)?;
        self.spend(1)
    }

    /// Pays for sorting the elements of a collection.
    pub(super) fn sort(&mut self, items: &[Value]) -> Result<(), Why> {
        let mut left = self.most_weight();
        let mut widest = 0;
        for item in items {
            let before = left;
            weigh(item, &mut left)?;
            widest = widest.max(before - left);
        }
        let rounds = usize::try_from(items.len().max(1).ilog2()).unwrap_or(0) + 1;
        let compared = items.len().saturating_mul(rounds);
        self.spend(compared.saturating_mul(1 + widest / 8))
    }

    /// Pays for a comparison with this value.
    pub(super) fn compare(&mut self, value: &Value) -> Result<(), Why> {
        let most = self.most_weight();
        let mut left = most;
        weigh(value, &mut left)?;
        self.spend(1 + (most - left) / 8)
    }

    /// More than this cannot be paid for.
    fn most_weight(&self) -> usize {
        self.steps.saturating_add(1).saturating_mul(8)
    }

    /// Ends a text that is being made, once it is too long.
    pub(super) fn growing(&mut self, bytes: usize) -> Result<(), Why> {
        match bytes > MAX_TEXT {
            true => Err(Why::Text),
            false => self.spend(1),
        }
    }

    pub(super) fn number(number: Option<i128>) -> Result<Value, Why> {
        match number {
            Some(number) if number.abs() <= MAX_NUMBER => Ok(Value::Number(number)),
            _ => Err(Why::Number),
        }
    }
}

/// Takes from `left` what a comparison has to look at, about one for each 8 bytes. Parts that are
/// in a value many times count each time.
fn weigh(value: &Value, left: &mut usize) -> Result<(), Why> {
    let own = match value {
        Value::String(text) => 1 + text.len() / 8,
        _ => 1,
    };
    *left = left.checked_sub(own).ok_or(Why::Steps)?;
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| weigh(item, left)),
        Value::Set(set) => set.items().iter().try_for_each(|item| weigh(item, left)),
        Value::Object(object) => object.fields().iter().try_for_each(|(key, value)| {
            weigh(key, left)?;
            weigh(value, left)
        }),
        _ => Ok(()),
    }
}
