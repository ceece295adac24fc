//! Rules in Rego, the language of the Open Policy Agent.

mod builtins;
mod compile;
mod fault;
mod input;
mod lexer;
mod limits;
mod machine;
mod parser;
mod patterns;
mod program;
mod reads;
mod syntax;
mod types;
mod value;
mod verdict;

pub use fault::RegoError;

pub(crate) use limits::{Effort, Stop, Why};
pub(crate) use verdict::Verdict;

use std::time::{SystemTime, UNIX_EPOCH};

use self::{
    limits::Budget,
    machine::Machine,
    program::{Program, RuleId},
    value::{Object, Value},
};
use crate::decision::Request;

/// The deepest program that runs on the stack of any thread.
const ANY_STACK: usize = 60;
/// A stack for the deepest that is compiled.
const LARGE_STACK: usize = 64 * 1024 * 1024;
/// The package of a policy.
const PACKAGE: [&str; 2] = ["renkei", "authz"];

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
/// `{"kind": "http", "method": "GET", "path": "/v1/records"}` and one field more:
/// `"request": {"host": "records.example"}`. Path and host are in their canonical forms
/// ([`HttpPath`](renkei_access::HttpPath), [`HttpHost`](renkei_access::HttpHost)).
///
/// `source` is absent where the address is not known. `data` holds nothing but the module.
///
/// The same module runs in OPA with the same result. This is an evaluator of our own, of the part
/// of the language that is known to mean the same: the syntax tree has no other nodes, the table
/// of built-in functions no other entries, and the rest is refused with its place when the module
/// is compiled. Each evaluation has an end, a bound on its memory, and one on each value.
#[derive(Debug)]
pub struct RegoModule {
    name: String,
    program: Program,
    deny: Option<RuleId>,
    allow: Option<RuleId>,
    reads_path: bool,
    reads_host: bool,
    clock: fn() -> i64,
}

impl RegoModule {
    /// Compiles a module; `name` (of its file, say) appears in decisions.
    ///
    /// # Errors
    /// When the text is not Rego, is of another package, declares neither `allow` nor `deny`, or
    /// has something in it that is not available here.
    pub fn compile(name: &str, text: &str) -> Result<Self, RegoError> {
        let module = on_large_stack(|| parser::parse(text)).ok_or_else(no_thread)??;
        let (place, package) = &module.package;
        if *package != PACKAGE {
            let found = package.join(".");
            let message =
                format!("the package is `{found}`; a policy is of package `renkei.authz`");
            return Err(RegoError::at(*place, message));
        }
        let nothing = Value::Object(Object::default());
        let (program, names) = compile::compile(&module, &nothing)?;
        let value = |name| names.get(name).copied().filter(|id| program.has_value(*id));
        let (deny, allow) = (value("deny"), value("allow"));
        if deny.is_none() && allow.is_none() {
            let message = "the module declares neither `allow` nor `deny`";
            return Err(RegoError::new(1, 1, message));
        }
        Ok(Self {
            name: name.to_owned(),
            reads_path: reads::reads(&program, &input::PATH),
            reads_host: reads::reads(&program, &input::HOST),
            program,
            deny,
            allow,
            clock: system_clock,
        })
    }

    /// The same rules with another clock for `time.now_ns`: nanoseconds since 1970.
    #[must_use]
    pub fn with_clock(self, clock: fn() -> i64) -> Self {
        Self { clock, ..self }
    }

    /// The name given at compilation.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the path of a request may matter to its answers.
    pub(crate) fn reads_path(&self) -> bool {
        self.reads_path
    }

    /// Whether the host of a request may matter to its answers.
    pub(crate) fn reads_host(&self) -> bool {
        self.reads_host
    }

    /// Asks `deny`, then, if the answer matters, `allow`.
    pub(crate) fn evaluate(
        &self,
        request: &Request<'_>,
        ask_allow: bool,
        effort: Effort,
    ) -> Result<Verdict, Stop> {
        let document = input::document(request);
        let (now, budget) = ((self.clock)(), Budget::new(effort));
        if self.program.height <= ANY_STACK {
            return self.verdict(
                Machine::new(&self.program, document, now, budget),
                ask_allow,
            );
        }
        match effort {
            Effort::Brief => Err(Why::Steps.into()),
            Effort::Full => {
                let machine = Machine::new(&self.program, document, now, budget);
                let done = on_large_stack(|| self.verdict(machine, ask_allow));
                done.unwrap_or_else(|| Err(Why::Thread.into()))
            }
        }
    }

    fn verdict(&self, mut machine: Machine<'_>, ask_allow: bool) -> Result<Verdict, Stop> {
        if let Some(deny) = self.deny
            && let Some(message) = verdict::denial(machine.ask(deny)?.as_ref())?
        {
            return Ok(Verdict::Denied(message));
        }
        let allowed = match self.allow.filter(|_| ask_allow) {
            Some(allow) => machine.ask(allow)? == Some(Value::Bool(true)),
            None => false,
        };
        Ok(match allowed {
            true => Verdict::Allowed,
            false => Verdict::Undecided,
        })
    }
}

/// Runs deep work where there is room for it; nothing if the system has no thread left.
fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("policy".to_owned());
        let thread = builder
            .stack_size(LARGE_STACK)
            .spawn_scoped(scope, work)
            .ok()?;
        match thread.join() {
            Ok(done) => Some(done),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn no_thread() -> RegoError {
    RegoError::new(1, 1, "the system has no thread left to read this with")
}

fn system_clock() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
