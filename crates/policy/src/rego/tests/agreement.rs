//! Policies asked of this evaluator and of the real OPA: the same answer, or refused here.

use renkei_access::{HttpHost, RequestPath};
use serde_json::{Map, Value as Json};

use super::{
    super::{
        compile::compile,
        input,
        limits::{Budget, Effort, Why},
        machine::Machine,
        parser::parse,
        value::Value,
    },
    conformance::shown,
    id,
    opa::{Answer, Opa},
};
use crate::{Operation, Request};

/// Requests of different kinds.
pub(super) fn inputs() -> Vec<Value> {
    let path = RequestPath::new("/v1/records/7");
    let host = HttpHost::parse(b"records.example").unwrap();
    let http = Operation::Http {
        method: "GET",
        host: &host,
        path: &path,
    };
    [
        ("osaka.example/app", Operation::Connect, Some("192.0.2.7")),
        ("osaka.example/trusted", http, Some("10.1.2.3")),
        (
            "x.example/admin/app",
            Operation::Connect,
            Some("2001:db8::1"),
        ),
        ("kyushu.example/", Operation::Connect, None),
    ]
    .into_iter()
    .map(|(peer, operation, source)| {
        input::document(&Request {
            peer: &id(peer.trim_end_matches('/')),
            service: &id("tokyo.example/broker"),
            operation,
            source: source.map(|ip| ip.parse().unwrap()),
        })
    })
    .collect()
}

/// What became of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Same,
    Refused,
    /// Two values at once, which denies, where OPA does not look.
    Stricter,
    /// OPA itself failed.
    Unknown,
}

/// Compares all rules of a policy for all inputs.
pub(super) fn compare(opa: &Opa, text: &str, inputs: &[Value]) -> Result<Fate, String> {
    let module = match parse(text) {
        Ok(module) => module,
        Err(_) => return Ok(Fate::Refused),
    };
    let nothing = Value::Object(Default::default());
    let Ok((program, names)) = compile(&module, &nothing) else {
        return Ok(Fate::Refused);
    };
    let questions: Vec<Json> = inputs.iter().map(shown).collect();
    let answers = opa.ask(text, &questions);
    let mut stricter = false;
    for (input, answer) in inputs.iter().zip(answers) {
        let mut machine = Machine::new(&program, input.clone(), 0, Budget::new(Effort::Full));
        let mut own = Some(Map::new());
        for (name, id) in &names {
            if !program.has_value(*id) {
                continue;
            }
            match machine.ask(*id) {
                Err(stop) if stop.why() == Why::Conflict => own = None,
                Err(stop) => return Err(format!("{stop}\n{text}")),
                Ok(Some(value)) => {
                    if let Some(own) = &mut own {
                        own.insert(name.clone(), shown(&value));
                    }
                }
                Ok(None) => {}
            }
        }
        match (&answer, &own) {
            (Answer::Refused(why), _) => {
                return Err(format!("OPA does not load it: {why}\n{text}"));
            }
            (Answer::Fault, _) => return Ok(Fate::Unknown),
            // Who gets an error is denied by both.
            (Answer::Rules(None), None) => {}
            // OPA's index of rules passes over some that would have two values.
            (Answer::Rules(Some(_)), None) => stricter = true,
            (Answer::Rules(Some(theirs)), Some(own)) if *theirs == Json::Object(own.clone()) => {}
            _ => {
                let own = own.map(Json::Object);
                return Err(format!(
                    "OPA: {answer:?}\nhere: {own:?}\ninput: {input}\n{text}"
                ));
            }
        }
    }
    Ok(if stricter { Fate::Stricter } else { Fate::Same })
}

#[test]
fn policies_of_every_kind_have_opas_answer() {
    let opa = Opa::start();
    let inputs = inputs();
    let (mut faults, mut refused) = (Vec::new(), Vec::new());
    for rules in super::corpus::ACCEPTED {
        let text = format!("package renkei.authz\n\nimport rego.v1\n\n{rules}\n");
        match compare(&opa, &text, &inputs) {
            Ok(Fate::Same) => {}
            Ok(other @ (Fate::Unknown | Fate::Stricter)) => {
                faults.push(format!("{other:?}: {text}"))
            }
            Ok(Fate::Refused) => refused.push(format!(
                "{rules}\n{:?}",
                super::RegoModule::compile("p", &text)
            )),
            Err(fault) => faults.push(fault),
        }
    }
    for rules in super::corpus::EITHER {
        let text = format!("package renkei.authz\n\n{rules}\n");
        if let Err(fault) = compare(&opa, &text, &inputs) {
            faults.push(fault);
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n----\n"));
    assert!(refused.is_empty(), "refused: {}", refused.join("\n----\n"));
}
