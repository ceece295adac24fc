//! Regular expressions and globs. All patterns were compiled when the policy was read.

use super::{
    Answer, Builtin, Call, Outcome, Parameter as P, Special, function, special, text, truth,
};
use crate::rego::value::Value;

pub(super) const TABLE: &[Builtin] = &[
    special(
        function(
            "regex.match",
            &[P::Text, P::Text],
            Answer::Bool,
            regex_match,
        ),
        Special::Regex,
    ),
    special(
        function(
            "glob.match",
            &[P::Text, P::Delimiters, P::Text],
            Answer::Bool,
            glob_match,
        ),
        Special::Glob,
    ),
];

fn regex_match(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    let [pattern, own] = arguments else {
        return Ok(None);
    };
    let (Some(pattern), Some(own)) = (text(pattern), text(own)) else {
        return Ok(None);
    };
    match call.patterns.regex(pattern) {
        Some(regex) => {
            call.budget.spend(regex.cost(own.len()))?;
            truth(regex.is_match(own))
        }
        None => Ok(None),
    }
}

fn glob_match(call: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    let [pattern, delimiters, own] = arguments else {
        return Ok(None);
    };
    let (Some(pattern), Some(own)) = (text(pattern), text(own)) else {
        return Ok(None);
    };
    match call.patterns.glob(pattern, delimiters) {
        Some(glob) => {
            call.budget.spend(glob.cost(own.len()))?;
            truth(glob.is_match(own))
        }
        None => Ok(None),
    }
}
