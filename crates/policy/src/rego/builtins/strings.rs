//! Strings. Positions are counted in characters, as in OPA.

use super::{Answer, Builtin, Call, Outcome, Parameter as P, function, text, truth};
use crate::rego::value::Value;

pub(super) const TABLE: &[Builtin] = &[
    function("concat", &[P::Text, P::Texts], Answer::Text, concat),
    function("contains", &[P::Text, P::Text], Answer::Bool, contains),
    function("endswith", &[P::Text, P::Text], Answer::Bool, ends_with),
    function("indexof", &[P::Text, P::Text], Answer::Number, index_of),
    function("lower", &[P::Text], Answer::Text, lower),
    function(
        "replace",
        &[P::Text, P::Text, P::Text],
        Answer::Text,
        replace,
    ),
    function("split", &[P::Text, P::Text], Answer::Texts, split),
    function("startswith", &[P::Text, P::Text], Answer::Bool, starts_with),
    function(
        "strings.any_prefix_match",
        &[P::TextOrTexts, P::TextOrTexts],
        Answer::Bool,
        any_prefix,
    ),
    function(
        "strings.any_suffix_match",
        &[P::TextOrTexts, P::TextOrTexts],
        Answer::Bool,
        any_suffix,
    ),
    function("strings.count", &[P::Text, P::Text], Answer::Number, count),
    function("strings.reverse", &[P::Text], Answer::Text, reverse),
    function(
        "substring",
        &[P::Text, P::Number, P::Number],
        Answer::Text,
        substring,
    ),
    function("trim", &[P::Text, P::Text], Answer::Text, trim),
    function("trim_left", &[P::Text, P::Text], Answer::Text, trim_left),
    function(
        "trim_prefix",
        &[P::Text, P::Text],
        Answer::Text,
        trim_prefix,
    ),
    function("trim_right", &[P::Text, P::Text], Answer::Text, trim_right),
    function("trim_space", &[P::Text], Answer::Text, trim_space),
    function(
        "trim_suffix",
        &[P::Text, P::Text],
        Answer::Text,
        trim_suffix,
    ),
    function("upper", &[P::Text], Answer::Text, upper),
];

fn pair<'v>(
    call: &mut Call<'_>,
    arguments: &'v [Value],
) -> Result<Option<(&'v str, &'v str)>, crate::rego::limits::Stop> {
    let [one, two] = arguments else {
        return Ok(None);
    };
    let (Some(one), Some(two)) = (text(one), text(two)) else {
        return Ok(None);
    };
    call.budget.read(one.len() + two.len())?;
    Ok(Some((one, two)))
}

fn part(call: &mut Call<'_>, part: &str) -> Outcome {
    call.budget.text(part.len())?;
    Ok(Some(part.into()))
}

fn concat(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    let [between, parts] = arguments else {
        return Ok(None);
    };
    let (Some(between), Some(parts)) = (text(between), texts(parts, false)) else {
        return Ok(None);
    };
    call.budget.spend(parts.len())?;
    let own: usize = parts.iter().map(|part| part.len()).sum();
    call.budget
        .text(own + between.len().saturating_mul(parts.len().saturating_sub(1)))?;
    Ok(Some(parts.join(between).into()))
}

/// The strings of an array or set, or a string alone; nothing where another value is among them.
fn texts(value: &Value, alone: bool) -> Option<Vec<&str>> {
    let items = match value {
        Value::Array(items) => items,
        Value::Set(set) => set.items(),
        Value::String(text) if alone => return Some(vec![text]),
        _ => return None,
    };
    items.iter().map(text).collect()
}

fn any_match(call: &mut Call<'_>, arguments: &[Value], fits: fn(&str, &str) -> bool) -> Outcome {
    let [one, two] = arguments else {
        return Ok(None);
    };
    let (Some(own), Some(parts)) = (texts(one, true), texts(two, true)) else {
        return Ok(None);
    };
    let longest = parts.iter().map(|part| part.len()).max().unwrap_or(0);
    let pairs = own.len().saturating_mul(parts.len());
    call.budget.spend(own.len() + parts.len())?;
    call.budget.spend(pairs.saturating_mul(1 + longest / 64))?;
    truth(
        own.iter()
            .any(|own| parts.iter().any(|part| fits(own, part))),
    )
}

fn any_prefix(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    any_match(call, arguments, |own, part| own.starts_with(part))
}

fn any_suffix(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    any_match(call, arguments, |own, part| own.ends_with(part))
}

fn contains(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    match pair(call, arguments)? {
        Some((own, part)) => truth(own.contains(part)),
        None => Ok(None),
    }
}

fn starts_with(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    match pair(call, arguments)? {
        Some((own, part)) => truth(own.starts_with(part)),
        None => Ok(None),
    }
}

fn ends_with(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    match pair(call, arguments)? {
        Some((own, part)) => truth(own.ends_with(part)),
        None => Ok(None),
    }
}

fn index_of(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    let Some((own, part)) = pair(call, arguments)?.filter(|(_, part)| !part.is_empty()) else {
        return Ok(None);
    };
    let at = own.find(part).and_then(|at| own.get(..at));
    Ok(Some(match at {
        Some(before) => before.chars().count().into(),
        None => Value::Number(-1),
    }))
}

fn count(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    match pair(call, arguments)? {
        Some((own, "")) => Ok(Some((own.chars().count() + 1).into())),
        Some((own, part)) => Ok(Some(own.matches(part).count().into())),
        None => Ok(None),
    }
}

fn split(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    let Some((own, at)) = pair(call, arguments)? else {
        return Ok(None);
    };
    let count = match at {
        "" => own.chars().count(),
        _ => own.matches(at).count() + 1,
    };
    call.budget.items(count)?;
    call.budget.text(own.len())?;
    call.budget.spend(count)?;
    let parts = match at {
        "" => own.chars().map(|c| c.to_string().into()).collect(),
        _ => own.split(at).map(Value::from).collect(),
    };
    Ok(Some(Value::array(parts)))
}

fn replace(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    let [own, old, new] = arguments else {
        return Ok(None);
    };
    let (Some(own), Some(old), Some(new)) = (text(own), text(old), text(new)) else {
        return Ok(None);
    };
    call.budget.read(own.len() + old.len())?;
    let count = match old {
        "" => own.chars().count() + 1,
        _ => own.matches(old).count(),
    };
    let removed = count.saturating_mul(old.len());
    let length = own
        .len()
        .saturating_sub(removed)
        .saturating_add(count.saturating_mul(new.len()));
    call.budget.text(length)?;
    Ok(Some(own.replace(old, new).into()))
}

fn reverse(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    let Some(own) = arguments.first().and_then(text) else {
        return Ok(None);
    };
    call.budget.text(own.len())?;
    Ok(Some(own.chars().rev().collect::<String>().into()))
}

fn substring(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    let [own, start, length] = arguments else {
        return Ok(None);
    };
    let (Some(own), Some(start), Some(length)) = (text(own), whole(start), whole(length)) else {
        return Ok(None);
    };
    call.budget.text(own.len())?;
    let Ok(start) = usize::try_from(start) else {
        return Ok(None);
    };
    let rest = own.chars().skip(start);
    let part: String = match usize::try_from(length) {
        Ok(length) => rest.take(length).collect(),
        Err(_) => rest.collect(),
    };
    Ok(Some(part.into()))
}

/// A number that fits into the integers that OPA takes as an index.
fn whole(value: &Value) -> Option<i64> {
    i64::try_from(value.as_number()?).ok()
}

fn cut<'v>(
    call: &mut Call<'_>,
    arguments: &'v [Value],
    cut: fn(&'v str, &'v str) -> &'v str,
) -> Outcome {
    let Some((own, what)) = pair(call, arguments)? else {
        return Ok(None);
    };
    // Each character at an end is looked for among those to be cut.
    call.budget
        .spend(own.len().saturating_mul(what.len()) / 64)?;
    part(call, cut(own, what))
}

fn trim(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    cut(call, arguments, |own, set| {
        own.trim_matches(|c| set.contains(c))
    })
}

fn trim_left(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    cut(call, arguments, |own, set| {
        own.trim_start_matches(|c| set.contains(c))
    })
}

fn trim_right(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    cut(call, arguments, |own, set| {
        own.trim_end_matches(|c| set.contains(c))
    })
}

fn trim_prefix(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    cut(call, arguments, |own, prefix| {
        own.strip_prefix(prefix).unwrap_or(own)
    })
}

fn trim_suffix(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    cut(call, arguments, |own, suffix| {
        own.strip_suffix(suffix).unwrap_or(own)
    })
}

fn trim_space(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    match arguments.first().and_then(text) {
        Some(own) => part(call, own.trim()),
        None => Ok(None),
    }
}

fn lower(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    mapped(call, arguments, |c| match c {
        // The only character with a longer lower case; Unicode's simple one is this.
        '\u{130}' => 'i',
        c => c.to_lowercase().next().unwrap_or(c),
    })
}

fn upper(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    mapped(call, arguments, |c| {
        let mut upper = c.to_uppercase();
        match (upper.next(), upper.next()) {
            (Some(upper), None) => upper,
            _ => simple_upper(c),
        }
    })
}

/// Unicode's simple upper case of characters that have a longer one.
fn simple_upper(c: char) -> char {
    let further = |by: u32| char::from_u32(u32::from(c) + by).unwrap_or(c);
    match c {
        '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}' => further(8),
        '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}' => further(9),
        c => c,
    }
}

fn mapped(call: &mut Call<'_>, arguments: &[Value], map: fn(char) -> char) -> Outcome {
    let Some(own) = arguments.first().and_then(text) else {
        return Ok(None);
    };
    // A character may take one byte more.
    call.budget.text(own.len() * 2)?;
    Ok(Some(own.chars().map(map).collect::<String>().into()))
}
