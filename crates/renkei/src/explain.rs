//! `renkei explain A B`: why A may or may not reach B, step by step, ending in one sentence.
//!
//! Each site knows its own half: the caller's site knows the listener, the gateway and the
//! bundle; the callee's site knows the rule. Steps that need the running site are added when it
//! runs.

mod other_site;
mod steps;

use std::process::ExitCode;

use miette::{IntoDiagnostic, WrapErr, miette};
use renkei_api::status::SiteStatus;
use renkei_spiffe::SpiffeId;
use serde::Serialize;

use self::steps::{Step, Steps};
use crate::{
    arguments::Output,
    cli,
    load::{Loaded, load},
    output, place,
    site_client::SiteClient,
};

#[derive(Debug, Serialize)]
struct Explanation {
    caller: SpiffeId,
    service: SpiffeId,
    /// Whether nothing that this site knows prevents it.
    allowed: bool,
    sentence: String,
    steps: Vec<Step>,
}

/// Exit status 0 when nothing prevents it, 1 when something does.
pub(crate) async fn run(args: &cli::Explain, form: Output) -> miette::Result<ExitCode> {
    let loaded = load(&args.file)?;
    let state = place::state_folder(args.state.folder.as_deref(), &loaded.site.name);
    let status = SiteClient::new(&state).status().await.ok();
    let own = &loaded.site.trust_domain;
    let parse = |text: &str| {
        let read = loaded.site.identity(text);
        read.into_diagnostic().wrap_err_with(|| {
            format!("{text:?} is not an identity such as osaka.example/collector")
        })
    };
    let (caller, service) = (parse(&args.caller)?, parse(&args.service)?);
    if caller.trust_domain() != own && service.trust_domain() != own {
        return Err(miette!(
            help = "ask with the site file of either side",
            "neither {} nor {} belongs to {own}, so this site does not decide about them",
            caller.short(),
            service.short()
        ));
    }
    let explanation = explain(&loaded, status.as_ref(), caller, service);
    match form {
        Output::Json => output::print_json(&explanation)?,
        Output::Text => output::print(&text(&explanation)),
    }
    Ok(if explanation.allowed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn explain(
    loaded: &Loaded,
    status: Option<&SiteStatus>,
    caller: SpiffeId,
    service: SpiffeId,
) -> Explanation {
    let mut steps = Steps::new(loaded, status);
    let own = &loaded.site.trust_domain;
    if caller.trust_domain() == own {
        steps.of_caller(&caller, &service);
    }
    if service.trust_domain() == own {
        steps.of_service(&caller, &service);
    } else {
        steps.of_remote(&caller, &service);
    }
    let steps = steps.found;
    let against = steps.iter().find(|step| step.holds == Some(false));
    let sentence = match against {
        Some(step) => format!(
            "{} may not reach {}: {}",
            caller.short(),
            service.short(),
            step.says
        ),
        None if service.trust_domain() == own => {
            format!("{} may reach {}", caller.short(), service.short())
        }
        None => format!(
            "this site allows {} to reach {}. {} also decides; its rules are not visible here",
            caller.short(),
            service.short(),
            service.trust_domain()
        ),
    };
    Explanation {
        caller,
        service,
        allowed: against.is_none(),
        sentence,
        steps,
    }
}

fn text(explanation: &Explanation) -> String {
    let mut text = String::new();
    for step in &explanation.steps {
        let mark = match step.holds {
            Some(true) => "✓",
            Some(false) => "✗",
            None => "·",
        };
        text.push_str(&format!("  {mark} {}\n", step.says));
    }
    format!("{text}\n{}.\n", explanation.sentence)
}
