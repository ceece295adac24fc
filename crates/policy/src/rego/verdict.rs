//! From the values of `deny` and `allow` to what they mean.

use super::{
    builtins,
    limits::{Budget, Effort, Stop},
    value::Value,
};

/// What a person still reads; a longer message is cut.
const MAX_MESSAGE: usize = 300;

/// What a module says of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Denied(String),
    Allowed,
    Undecided,
}

/// `deny` is meant to be a set of messages. What else a module may make of it denies too, unless
/// it plainly says that there is nothing to deny.
pub(super) fn denial(deny: Option<&Value>) -> Result<Option<String>, Stop> {
    let mut message = String::new();
    let mut budget = Budget::new(Effort::Full);
    let mut add = |value: &Value| -> Result<(), Stop> {
        if !message.is_empty() {
            message.push_str("; ");
        }
        match value {
            Value::String(text) => message.push_str(text),
            other => builtins::print(&mut budget, other, &mut message)?,
        }
        Ok(())
    };
    let denied = match deny {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Bool(true)) => {
            add(&"denied without a message".into())?;
            true
        }
        Some(Value::Set(messages)) => {
            messages.items().iter().try_for_each(&mut add)?;
            !messages.items().is_empty()
        }
        Some(Value::Array(messages)) => {
            messages.iter().try_for_each(&mut add)?;
            !messages.is_empty()
        }
        Some(Value::Object(messages)) => {
            messages.fields().iter().try_for_each(|(key, _)| add(key))?;
            !messages.fields().is_empty()
        }
        Some(other) => {
            add(other)?;
            true
        }
    };
    Ok(denied.then(|| clean(&message)))
}

/// One line of bounded length.
fn clean(message: &str) -> String {
    let mut line: String = message
        .chars()
        .take(MAX_MESSAGE)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if message.chars().nth(MAX_MESSAGE).is_some() {
        line.push('…');
    }
    line
}
