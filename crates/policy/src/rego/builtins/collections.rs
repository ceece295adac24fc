//! Arrays, objects and sets, and the types of values.

use super::{Answer, Builtin, Call, Outcome, Parameter as P, function, truth};
use crate::rego::value::Value;

pub(super) const TABLE: &[Builtin] = &[
    function("and", &[P::Set, P::Set], Answer::Set, and),
    function(
        "array.concat",
        &[P::Array, P::Array],
        Answer::List,
        array_concat,
    ),
    function("array.reverse", &[P::Array], Answer::List, array_reverse),
    function(
        "array.slice",
        &[P::Array, P::Number, P::Number],
        Answer::List,
        array_slice,
    ),
    function("count", &[P::Countable], Answer::Number, count),
    function("intersection", &[P::SetOfSets], Answer::Set, intersection),
    function("is_array", &[P::Any], Answer::Bool, |_, v| {
        is(v, |v| matches!(v, Value::Array(_)))
    }),
    function("is_boolean", &[P::Any], Answer::Bool, |_, v| {
        is(v, |v| matches!(v, Value::Bool(_)))
    }),
    function("is_null", &[P::Any], Answer::Bool, |_, v| {
        is(v, |v| matches!(v, Value::Null))
    }),
    function("is_number", &[P::Any], Answer::Bool, |_, v| {
        is(v, |v| matches!(v, Value::Number(_)))
    }),
    function("is_object", &[P::Any], Answer::Bool, |_, v| {
        is(v, |v| matches!(v, Value::Object(_)))
    }),
    function("is_set", &[P::Any], Answer::Bool, |_, v| {
        is(v, |v| matches!(v, Value::Set(_)))
    }),
    function("is_string", &[P::Any], Answer::Bool, |_, v| {
        is(v, |v| matches!(v, Value::String(_)))
    }),
    function(
        "object.get",
        &[P::Object, P::Any, P::Any],
        Answer::Any,
        object_get,
    ),
    function("object.keys", &[P::Object], Answer::Set, object_keys),
    function("or", &[P::Set, P::Set], Answer::Set, or),
    function("sort", &[P::ListOrSet], Answer::List, sort),
    function("type_name", &[P::Any], Answer::Text, type_name),
    function("union", &[P::SetOfSets], Answer::Set, union),
];

fn is(arguments: &[Value], test: fn(&Value) -> bool) -> Outcome {
    truth(arguments.first().is_some_and(test))
}

fn type_name(_: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    let name = match arguments.first() {
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "boolean",
        Some(Value::Number(_)) => "number",
        Some(Value::String(_)) => "string",
        Some(Value::Array(_)) => "array",
        Some(Value::Object(_)) => "object",
        Some(Value::Set(_)) => "set",
        None => return Ok(None),
    };
    Ok(Some(name.into()))
}

fn count(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    Ok(match arguments.first() {
        Some(Value::String(text)) => {
            call.budget.read(text.len())?;
            Some(text.chars().count().into())
        }
        Some(value) => value.len().map(Value::from),
        None => None,
    })
}

fn array_concat(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    let [Value::Array(one), Value::Array(two)] = arguments else {
        return Ok(None);
    };
    call.budget.items(one.len() + two.len())?;
    Ok(Some(Value::array(
        one.iter().chain(two.iter()).cloned().collect(),
    )))
}

fn array_reverse(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    let [Value::Array(items)] = arguments else {
        return Ok(None);
    };
    call.budget.items(items.len())?;
    Ok(Some(Value::array(items.iter().rev().cloned().collect())))
}

fn array_slice(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    let [
        Value::Array(items),
        Value::Number(start),
        Value::Number(end),
    ] = arguments
    else {
        return Ok(None);
    };
    if i64::try_from(*start).is_err() || i64::try_from(*end).is_err() {
        return Ok(None);
    }
    let clamp =
        |number: i128, most: usize| usize::try_from(number.max(0)).map_or(most, |n| n.min(most));
    let end = clamp(*end, items.len());
    let start = clamp(*start, end);
    let part = items.get(start..end).unwrap_or_default();
    call.budget.items(part.len())?;
    Ok(Some(Value::array(part.to_vec())))
}

fn object_get(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    let [object @ Value::Object(_), path, otherwise] = arguments else {
        return Ok(None);
    };
    let Value::Array(path) = path else {
        call.budget.compare(path)?;
        return Ok(Some(object.at(path).unwrap_or_else(|| otherwise.clone())));
    };
    let mut found = object.clone();
    for key in path.iter() {
        call.budget.compare(key)?;
        match found.at(key) {
            Some(next) => found = next,
            None => return Ok(Some(otherwise.clone())),
        }
    }
    Ok(Some(found))
}

fn object_keys(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    let [Value::Object(object)] = arguments else {
        return Ok(None);
    };
    call.budget.items(object.fields().len())?;
    let keys: Vec<_> = object.fields().iter().map(|(key, _)| key.clone()).collect();
    call.budget.sort(&keys)?;
    Ok(Some(Value::set(keys)))
}

fn sort(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    let items = match arguments.first() {
        Some(Value::Array(items)) => items,
        Some(Value::Set(set)) => set.items(),
        _ => return Ok(None),
    };
    call.budget.items(items.len())?;
    call.budget.sort(items)?;
    let mut items = items.to_vec();
    items.sort_unstable();
    Ok(Some(Value::array(items)))
}

fn and(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    let [Value::Set(one), Value::Set(two)] = arguments else {
        return Ok(None);
    };
    call.budget.items(one.items().len())?;
    call.budget.sort(one.items())?;
    call.budget.sort(two.items())?;
    let both = one.items().iter().filter(|item| two.contains(item));
    Ok(Some(Value::set(both.cloned().collect())))
}

fn or(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    let [Value::Set(one), Value::Set(two)] = arguments else {
        return Ok(None);
    };
    joined(call, &[one.items(), two.items()])
}

fn joined(call: &mut Call<'_>, sets: &[&[Value]]) -> Outcome {
    call.budget.items(sets.iter().map(|set| set.len()).sum())?;
    let all: Vec<Value> = sets.iter().flat_map(|set| set.iter()).cloned().collect();
    call.budget.sort(&all)?;
    Ok(Some(Value::set(all)))
}

/// The sets in a set; nothing where another value is among them.
fn sets(arguments: &[Value]) -> Option<Vec<&[Value]>> {
    let [Value::Set(outer)] = arguments else {
        return None;
    };
    let inner = outer.items().iter().map(|set| match set {
        Value::Set(set) => Some(set.items()),
        _ => None,
    });
    inner.collect()
}

fn union(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    match sets(arguments) {
        Some(sets) => joined(call, &sets),
        None => Ok(None),
    }
}

fn intersection(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    let Some(sets) = sets(arguments) else {
        return Ok(None);
    };
    let (first, others) = match sets.split_first() {
        Some(split) => split,
        None => return Ok(Some(Value::set(Vec::new()))),
    };
    for set in &sets {
        call.budget.sort(set)?;
        call.budget.items(first.len())?;
    }
    let everywhere = |item: &&Value| others.iter().all(|set| set.binary_search(item).is_ok());
    Ok(Some(Value::set(
        first.iter().filter(everywhere).cloned().collect(),
    )))
}
