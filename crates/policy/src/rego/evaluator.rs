//! Compilation, and the pools that run what was compiled.
//!
//! A virtual machine or interpreter serves one evaluation at a time and keeps its buffers for
//! the next, so evaluations on several threads share the program and nothing else.

use std::{
    fmt,
    num::{NonZeroU32, NonZeroUsize},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use regorus::{
    CompiledPolicy, Engine, PolicyLengthConfig, Value,
    languages::rego::compiler::{Compiler, CompilerError, SpannedCompilerError},
    rvm::{Program, RegoVM},
    utils::limits::ExecutionTimerConfig,
};
use thiserror::Error;

use super::{RegoError, refused, rules::Rules, tokens::tokens, verdict::Answers};

const PACKAGE: &str = "data.renkei.authz";
const ALLOW: &str = "data.renkei.authz.allow";
const DENY: &str = "data.renkei.authz.deny";
/// The name under which the engine knows the text; never shown.
const SOURCE: &str = "policy";

/// Instructions of one rule in bytecode: a bound that does not depend on how busy the machine is.
const MAX_INSTRUCTIONS: usize = 200_000;
/// Time of one rule; the only bound of the interpreter.
const MAX_TIME: Duration = Duration::from_millis(250);
/// Steps between looks at the clock: small rules never look.
const STEPS_PER_LOOK: NonZeroU32 = NonZeroU32::MIN.saturating_add(511);
/// The evaluators call themselves for parts of a rule, so its length is bounded.
const LENGTH: PolicyLengthConfig = PolicyLengthConfig {
    max_col: NonZeroU32::MIN.saturating_add(1023),
    max_file_bytes: NonZeroUsize::MIN.saturating_add(256 * 1024 - 1),
    max_lines: NonZeroUsize::MIN.saturating_add(3999),
};
/// Idle evaluators kept for the next evaluation.
const MAX_IDLE: usize = 64;

/// Why a module came to no decision.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum EvaluationError {
    /// It ran into a bound.
    #[error("it took too long")]
    TooLong,
    /// A rule failed.
    #[error("{0}")]
    Failed(String),
    /// The evaluator itself failed.
    #[error("the evaluator failed")]
    Evaluator,
}

/// What was compiled, and evaluators that wait for work.
pub(super) struct Evaluators {
    compiled: Compiled,
    asks_deny: bool,
    asks_allow: bool,
    idle: Mutex<Vec<Evaluator>>,
}

enum Compiled {
    Bytecode(Arc<Program>, CompiledPolicy),
    Interpreter(Box<Engine>),
}

enum Evaluator {
    Bytecode(Box<RegoVM>),
    Interpreter(Box<Engine>),
}

impl fmt::Debug for Evaluators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evaluators")
            .field("engine", &self.engine())
            .finish_non_exhaustive()
    }
}

impl Evaluators {
    pub(super) fn compile(text: &str) -> Result<Self, RegoError> {
        let tokens = tokens(text)?;
        refused::check(&tokens)?;
        let mut engine = engine_with(text)?;
        let starts = definitions(&mut engine);
        let rules = Rules::split(&tokens, &starts);
        rules.check_recursion()?;
        let declares = |rule| {
            let found = engine.has_declared_rule_rooted_at(SOURCE, rule);
            found.map_err(|error| RegoError::from_parser(&error))
        };
        let (asks_deny, asks_allow) = (declares("deny")?, declares("allow")?);
        let entry_points: Vec<&str> = [(DENY, asks_deny), (ALLOW, asks_allow)]
            .into_iter()
            .filter_map(|(rule, declared)| declared.then_some(rule))
            .collect();
        let compiled = compile(engine, &entry_points, rules.have_one_value())?;
        Ok(Self {
            compiled,
            asks_deny,
            asks_allow,
            idle: Mutex::new(Vec::new()),
        })
    }

    pub(super) fn engine(&self) -> &'static str {
        match self.compiled {
            Compiled::Bytecode(..) => "bytecode",
            Compiled::Interpreter(_) => "interpreter",
        }
    }

    /// Asks `deny` and, where it is silent and the caller wants to know, `allow`.
    pub(super) fn run(&self, input: Value, ask_allow: bool) -> Result<Answers, EvaluationError> {
        let idle = self.idle().pop();
        let run = AssertUnwindSafe(|| {
            let mut evaluator = match idle {
                Some(evaluator) => evaluator,
                None => self.evaluator()?,
            };
            evaluator.set_input(input);
            let deny = evaluator.ask(DENY, self.asks_deny)?;
            let allow = evaluator.ask(ALLOW, self.asks_allow && ask_allow)?;
            Ok((evaluator, Answers { deny, allow }))
        });
        // An evaluator that failed in any way is not used again.
        let (evaluator, answers) = catch_unwind(run).unwrap_or(Err(EvaluationError::Evaluator))?;
        let mut idle = self.idle();
        if idle.len() < MAX_IDLE {
            idle.push(evaluator);
        }
        Ok(answers)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Evaluator>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn evaluator(&self) -> Result<Evaluator, EvaluationError> {
        match &self.compiled {
            Compiled::Bytecode(program, policy) => machine(program, policy),
            Compiled::Interpreter(engine) => Ok(Evaluator::Interpreter(engine.clone())),
        }
    }
}

fn compile(
    mut engine: Engine,
    entry_points: &[&str],
    one_value: bool,
) -> Result<Compiled, RegoError> {
    let Some(first) = entry_points.first() else {
        let message = "the module declares neither `allow` nor `deny`";
        return Err(RegoError::new(1, 1, message));
    };
    let policy = engine
        .compile_with_entrypoint(&(*first).into())
        .map_err(|error| RegoError::from_parser(&error))?;
    match Compiler::compile_from_policy(&policy, entry_points) {
        Err(error) if is_fault(&error) => Err(RegoError::from_compiler(&error)),
        Ok(program) if one_value => Ok(Compiled::Bytecode(program, policy)),
        _ => Ok(Compiled::Interpreter(Box::new(engine))),
    }
}

/// Where the definitions of the only module start in its text.
fn definitions(engine: &mut Engine) -> Vec<u32> {
    let modules = engine.get_modules().iter();
    modules
        .flat_map(|module| module.policy.iter().map(|rule| rule.span().start))
        .collect()
}

/// The text as the only module of an engine, its package checked.
fn engine_with(text: &str) -> Result<Engine, RegoError> {
    let mut engine = Engine::new();
    // As in OPA, an error in a built-in function leaves its expression undefined.
    engine.set_strict_builtin_errors(false);
    engine.set_policy_length_config(LENGTH);
    // `print` must not write to the output of the process.
    engine.set_gather_prints(true);
    engine.set_execution_timer_config(timer());
    let package = engine
        .add_policy(SOURCE.to_owned(), text.to_owned())
        .map_err(|error| RegoError::from_parser(&error))?;
    if package == PACKAGE {
        return Ok(engine);
    }
    let (line, column) = match engine.get_modules().first() {
        Some(module) => (module.package.span.line, module.package.span.col),
        None => (1, 1),
    };
    let found = package.trim_start_matches("data.");
    let message = format!("the package is `{found}`; a policy is of package `renkei.authz`");
    Err(RegoError::new(line, column, message))
}

fn machine(program: &Arc<Program>, policy: &CompiledPolicy) -> Result<Evaluator, EvaluationError> {
    let mut machine = RegoVM::new_with_policy(policy.clone());
    machine.load_program(Arc::clone(program));
    machine.set_strict_builtin_errors(false);
    machine.set_max_instructions(MAX_INSTRUCTIONS);
    machine.set_execution_timer_config(Some(timer()));
    machine
        .set_data(Value::new_object())
        .map_err(|error| failed(&error))?;
    Ok(Evaluator::Bytecode(Box::new(machine)))
}

fn timer() -> ExecutionTimerConfig {
    ExecutionTimerConfig {
        limit: MAX_TIME,
        check_interval: STEPS_PER_LOOK,
    }
}

/// Faults of the module, as opposed to what only the interpreter can run.
fn is_fault(error: &SpannedCompilerError) -> bool {
    matches!(
        error.error,
        CompilerError::UnknownFunction { .. }
            | CompilerError::UnknownBuiltinFunction { .. }
            | CompilerError::NotBuiltinFunction { .. }
            | CompilerError::UndefinedVariable { .. }
    )
}

impl Evaluator {
    fn set_input(&mut self, input: Value) {
        match self {
            Self::Bytecode(machine) => machine.set_input(input),
            Self::Interpreter(engine) => engine.set_input(input),
        }
    }

    fn ask(&mut self, rule: &str, wanted: bool) -> Result<Value, EvaluationError> {
        if !wanted {
            return Ok(Value::Undefined);
        }
        match self {
            Self::Bytecode(machine) => machine
                .execute_entry_point_by_name(rule)
                .map_err(|error| failed(&error)),
            Self::Interpreter(engine) => {
                let value = engine.eval_rule(rule.to_owned());
                // Gathered so that they are not printed; nobody asked for them.
                let _ = engine.take_prints();
                value.map_err(|error| failed(&error))
            }
        }
    }
}

fn failed(error: &dyn fmt::Display) -> EvaluationError {
    let text = error.to_string();
    if text.contains("time limit") || text.contains("maximum instruction limit") {
        return EvaluationError::TooLong;
    }
    let message = RegoError::from_parser(&text).message;
    EvaluationError::Failed(message.lines().next().unwrap_or_default().to_owned())
}
