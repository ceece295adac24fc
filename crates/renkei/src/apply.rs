//! `renkei apply`: the running site reads its file again.

use std::process::ExitCode;

use crate::{
    arguments::{Output, SiteArgs},
    load::load,
    output, place,
    site_client::{SiteClient, explain},
};

/// Exit status 2 with every fault when the file is faulty; nothing has changed then.
pub(crate) async fn run(args: &SiteArgs, form: Output) -> miette::Result<ExitCode> {
    // Read here first: faults are shown with the text around them, and the running site is left
    // in peace.
    load(&args.file)?;
    let site = SiteClient::new(&place::state_of(args)?);
    let applied = site.apply().await.map_err(explain)?;
    if form == Output::Text {
        for warning in &applied.warnings {
            output::note(&format!("warning: {warning}"));
        }
    }
    match form {
        Output::Json => output::print_json(&applied)?,
        Output::Text => output::print(match applied.text.trim_end() {
            "" => "Nothing has changed.\n",
            _ => &applied.text,
        }),
    }
    Ok(ExitCode::SUCCESS)
}
