//! Rules in Rego, the language of the Open Policy Agent.

mod evaluator;
mod fault;
mod input;
mod refused;
mod rules;
mod tokens;
mod verdict;

pub use fault::RegoError;

pub(crate) use evaluator::EvaluationError;
pub(crate) use verdict::Verdict;

use crate::decision::Request;
use evaluator::Evaluators;

/// A module of package `renkei.authz`, compiled once and evaluated by any number of threads.
///
/// The module declares `allow` (a boolean that lets a caller in), `deny` (a set of messages, any
/// of which keeps it out), or both, in the syntax of Rego v1:
///
/// ```rego
/// package renkei.authz
///
/// allow if input.peer.trust_domain == "osaka.example"
///
/// deny contains "only from the site's network" if {
///     not net.cidr_contains("192.0.2.0/24", input.source.ip)
/// }
/// ```
///
/// The input document:
///
/// ```json
/// {
///   "peer": {"id": "spiffe://osaka.example/collector", "trust_domain": "osaka.example",
///            "path": "/collector"},
///   "service": {"id": "spiffe://hokkaido.example/broker", "name": "broker"},
///   "operation": {"kind": "connect"},
///   "source": {"ip": "192.0.2.7"}
/// }
/// ```
///
/// On a connection of HTTP the module is asked again for every request, with the operation
/// `{"kind": "http", "method": "GET", "path": "/v1/records"}`.
///
/// `source` is absent where the address is not known. `data` holds nothing but the module.
///
/// The same module runs in OPA with the same result. Where it would not, it is a compile error
/// or denies: there is no `data` to import, functions that reach outside or allocate without
/// bound are refused, and an evaluation has an end (a count of instructions and a time).
///
/// A module is compiled to bytecode and run by a pool of virtual machines over one program. Two
/// kinds of module run in a pool of interpreters instead, about five times slower
/// ([`RegoModule::engine`] tells which): those with what the bytecode compiler does not know
/// (`with` above all), and those with a rule that could have two values at once (one whose head
/// gives a value that is not a constant). The latter is an error, which must deny, and the
/// bytecode would pass over it.
#[derive(Debug)]
pub struct RegoModule {
    name: String,
    evaluators: Evaluators,
}

impl RegoModule {
    /// Compiles a module; `name` (of its file, say) appears in decisions.
    ///
    /// # Errors
    /// When the text is not Rego, is of another package, declares neither `allow` nor `deny`, or
    /// calls a function that is not available here.
    pub fn compile(name: &str, text: &str) -> Result<Self, RegoError> {
        let evaluators = Evaluators::compile(text)?;
        Ok(Self {
            name: name.to_owned(),
            evaluators,
        })
    }

    /// The name given at compilation.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What runs the module: `bytecode` or `interpreter`.
    pub fn engine(&self) -> &'static str {
        self.evaluators.engine()
    }

    /// Asks `deny`, then, if the answer matters, `allow`.
    pub(crate) fn evaluate(
        &self,
        request: &Request<'_>,
        ask_allow: bool,
    ) -> Result<Verdict, EvaluationError> {
        let document = input::document(request);
        let answers = self.evaluators.run(document, ask_allow)?;
        Ok(Verdict::of(&answers))
    }
}

#[cfg(test)]
mod tests;
