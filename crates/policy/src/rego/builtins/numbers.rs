//! The functions of Rego on whole numbers.

use super::{Answer, Builtin, Call, Outcome, Parameter as P, function};
use crate::rego::{limits::Budget, value::Value};

pub(super) const TABLE: &[Builtin] = &[
    function("abs", &[P::Number], Answer::Number, abs),
    function("max", &[P::ListOrSet], Answer::Any, |call, v| {
        extreme(call, v, true)
    }),
    function("min", &[P::ListOrSet], Answer::Any, |call, v| {
        extreme(call, v, false)
    }),
    function(
        "minus",
        &[P::NumberOrSet, P::NumberOrSet],
        Answer::NumberOrSet,
        minus,
    ),
    function("mul", &[P::Number, P::Number], Answer::Number, times),
    function("plus", &[P::Number, P::Number], Answer::Number, plus),
    function("product", &[P::Numbers], Answer::Number, product),
    function("rem", &[P::Number, P::Number], Answer::Number, remainder),
    function("sum", &[P::Numbers], Answer::Number, sum),
];

fn two(arguments: &[Value], compute: fn(i128, i128) -> Option<i128>) -> Outcome {
    let [Value::Number(one), Value::Number(two)] = arguments else {
        return Ok(None);
    };
    Ok(Some(Budget::number(compute(*one, *two))?))
}

fn plus(_: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    two(arguments, i128::checked_add)
}

fn times(_: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    two(arguments, i128::checked_mul)
}

fn minus(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    let [Value::Set(one), Value::Set(other)] = arguments else {
        return two(arguments, i128::checked_sub);
    };
    call.budget.items(one.items().len())?;
    call.budget.sort(one.items())?;
    call.budget.sort(other.items())?;
    let left = one.items().iter().filter(|item| !other.contains(item));
    Ok(Some(Value::set(left.cloned().collect())))
}

fn remainder(_: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    match arguments {
        [_, Value::Number(0)] => Ok(None),
        _ => two(arguments, i128::checked_rem),
    }
}

fn abs(_: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    match arguments.first().and_then(Value::as_number) {
        Some(number) => Ok(Some(Budget::number(number.checked_abs())?)),
        None => Ok(None),
    }
}

fn items(arguments: &[Value]) -> Option<&[Value]> {
    match arguments.first() {
        Some(Value::Array(items)) => Some(items),
        Some(Value::Set(set)) => Some(set.items()),
        _ => None,
    }
}

fn extreme(call: &mut Call<'_>, arguments: &[Value], greatest: bool) -> Outcome {
    let Some(items) = items(arguments) else {
        return Ok(None);
    };
    call.budget.sort(items)?;
    Ok(match greatest {
        true => items.iter().max().cloned(),
        false => items.iter().min().cloned(),
    })
}

fn fold(
    call: &mut Call<'_>,
    arguments: &[Value],
    start: i128,
    next: fn(i128, i128) -> Option<i128>,
) -> Outcome {
    let Some(items) = items(arguments) else {
        return Ok(None);
    };
    call.budget.spend(items.len())?;
    let Some(numbers) = items
        .iter()
        .map(Value::as_number)
        .collect::<Option<Vec<_>>>()
    else {
        return Ok(None);
    };
    let total = numbers.into_iter().try_fold(start, next);
    Ok(Some(Budget::number(total)?))
}

fn sum(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    fold(call, arguments, 0, i128::checked_add)
}

fn product(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    fold(call, arguments, 1, i128::checked_mul)
}
