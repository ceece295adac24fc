//! From the values of `deny` and `allow` to what they mean.

use regorus::Value;

/// What a person still reads; a longer message is cut.
const MAX_MESSAGE: usize = 300;

/// The values of the two rules; undefined where a rule was not asked or does not exist.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) deny: Value,
    pub(super) allow: Value,
}

/// What a module says of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Denied(String),
    Allowed,
    Undecided,
}

impl Verdict {
    pub(super) fn of(answers: &Answers) -> Self {
        match (denial(&answers.deny), &answers.allow) {
            (Some(message), _) => Self::Denied(message),
            (None, Value::Bool(true)) => Self::Allowed,
            (None, _) => Self::Undecided,
        }
    }
}

/// `deny` is meant to be a set of messages. What else a module may make of it denies too, unless
/// it plainly says that there is nothing to deny.
fn denial(deny: &Value) -> Option<String> {
    let messages: Vec<String> = match deny {
        Value::Undefined | Value::Null | Value::Bool(false) => return None,
        Value::Bool(true) => vec!["denied without a message".to_owned()],
        Value::Set(messages) => messages.iter().map(text).collect(),
        Value::Array(messages) => messages.iter().map(text).collect(),
        Value::Object(messages) => messages.iter().map(|(key, _)| text(key)).collect(),
        other => vec![text(other)],
    };
    (!messages.is_empty()).then(|| clean(&messages.join("; ")))
}

fn text(message: &Value) -> String {
    match message {
        Value::String(text) => text.to_string(),
        other => other.to_string(),
    }
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
