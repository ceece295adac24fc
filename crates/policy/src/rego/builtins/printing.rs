//! `sprintf`, with the directives `%s`, `%d`, `%v` and `%%` alone: no widths, no precisions.

use super::{Answer, Builtin, Call, Outcome, Parameter as P, Special, function, special, text};
use crate::rego::{limits::Why, value::Value};

pub(super) const TABLE: &[Builtin] = &[special(
    function("sprintf", &[P::Text, P::Array], Answer::Text, sprintf),
    Special::Format,
)];

/// The directives of a format that take an argument, or what is wrong with it.
pub(in crate::rego) fn directives(format: &str) -> Result<usize, String> {
    let mut count = 0;
    let mut chars = format.chars();
    while let Some(next) = chars.next() {
        if next != '%' {
            continue;
        }
        match chars.next() {
            Some('%') => {}
            Some('s' | 'd' | 'v') => count += 1,
            other => {
                let other = other.map_or(String::new(), |c| c.to_string());
                return Err(format!(
                    "sprintf knows %s, %d, %v and %% here, without widths, not %{other}"
                ));
            }
        }
    }
    Ok(count)
}

fn sprintf(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    let [format, Value::Array(values)] = arguments else {
        return Ok(None);
    };
    let Some(format) = text(format) else {
        return Ok(None);
    };
    call.budget.read(format.len())?;
    let mut out = String::new();
    let mut values = values.iter();
    let mut chars = format.chars();
    while let Some(next) = chars.next() {
        let directive = match next {
            '%' => chars.next().unwrap_or('%'),
            other => {
                out.push(other);
                continue;
            }
        };
        match (directive, values.as_slice().first()) {
            ('%', _) | (_, None) => out.push('%'),
            (directive, Some(value)) => {
                values.next();
                argument(call, &mut out, directive, value)?;
            }
        }
    }
    call.budget.text(out.len())?;
    Ok(Some(out.into()))
}

/// As Go prints it: what does not fit the directive is marked.
fn argument(
    call: &mut Call<'_>,
    out: &mut String,
    directive: char,
    value: &Value,
) -> Result<(), Why> {
    let (kind, printed) = match value {
        Value::Number(number) if directive == 's' && i64::try_from(*number).is_err() => {
            return Err(Why::Number);
        }
        Value::Number(number) => ("int64", number.to_string()),
        Value::String(text) => {
            call.budget.text(text.len())?;
            ("string", text.to_string())
        }
        other => {
            let mut printed = String::new();
            print(call.budget, other, &mut printed)?;
            ("string", printed)
        }
    };
    match (directive, kind) {
        ('d', "string") => out.push_str(&format!("%!d(string={printed})")),
        ('s', "int64") => out.push_str(&format!("%!s(int64={printed})")),
        _ => out.push_str(&printed),
    }
    call.budget.text(out.len())
}

/// A value in the syntax of the language, as OPA prints it.
pub(in crate::rego) fn print(
    budget: &mut crate::rego::limits::Budget,
    value: &Value,
    out: &mut String,
) -> Result<(), Why> {
    budget.growing(out.len())?;
    let mut list = |items: &[Value], out: &mut String| -> Result<(), Why> {
        for (index, item) in items.iter().enumerate() {
            out.push_str(if index == 0 { "" } else { ", " });
            print(budget, item, out)?;
        }
        Ok(())
    };
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => {
            budget.text(text.len())?;
            quote(text, out);
        }
        Value::Array(items) => {
            out.push('[');
            list(items, out)?;
            out.push(']');
        }
        Value::Set(set) if set.items().is_empty() => out.push_str("set()"),
        Value::Set(set) => {
            out.push('{');
            list(set.items(), out)?;
            out.push('}');
        }
        Value::Object(object) => {
            out.push('{');
            for (index, (key, value)) in object.fields().iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                print(budget, key, out)?;
                out.push_str(": ");
                print(budget, value, out)?;
            }
            out.push('}');
        }
    }
    budget.growing(out.len())
}

/// In double quotes, as Go quotes.
fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}
