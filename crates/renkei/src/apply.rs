//! `renkei apply`: the running site reads its file again.

use std::process::ExitCode;

use renkei_runtime::control::Client;
use serde_json::Value;

use crate::{
    arguments::{Output, SiteArgs},
    load::load,
    output, place, status,
};

/// Exit status 2 with every fault when the file is faulty; nothing has changed then.
pub(crate) async fn run(args: &SiteArgs, form: Output) -> miette::Result<ExitCode> {
    // Read here first: faults are shown with the text around them, and the running site is left
    // in peace.
    load(&args.file)?;
    let state = status::state_of(args)?;
    let answer = Client::new(place::control_socket(&state))
        .post("/apply", &Value::Null)
        .await
        .map_err(status::explain)?;
    match form {
        Output::Json => output::print_json(&answer)?,
        Output::Text => {
            let text = answer
                .get("text")
                .and_then(Value::as_str)
                .unwrap_or_default();
            output::print(match text.trim_end() {
                "" => "Nothing has changed.\n",
                _ => text,
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}
