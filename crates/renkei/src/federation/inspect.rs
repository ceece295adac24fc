//! `renkei federation status` and `verify`: who counts, by the running site or by a replay here.

use std::process::ExitCode;

use miette::{IntoDiagnostic, WrapErr, miette};
use renkei_api::status::FederationStatus;
use renkei_federation::{Local, members};
use renkei_server::federation::{log_status, member_status};
use time::OffsetDateTime;

use super::{args::Verify, log::replay, show};
use crate::{
    arguments::{Output, SiteArgs},
    load::load_federation,
    output, place,
    site_client::{SiteClient, explain},
};

pub(super) async fn status(args: &SiteArgs, form: Output) -> miette::Result<ExitCode> {
    let site = SiteClient::new(&place::state_of(args)?);
    let no_federation = || {
        miette!(
            help = "add `federation: FILE` to the site file, and apply it",
            "the running site is in no federation"
        )
    };
    if form == Output::Json {
        let all = site.status_document().await.map_err(explain)?;
        let federation = all.pointer("/server/federation");
        output::print_json(federation.ok_or_else(no_federation)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let all = site.status().await.map_err(explain)?;
    let server = all.authority();
    let federation = server.and_then(|server| server.federation.as_ref());
    output::print(&show::text(federation.ok_or_else(no_federation)?));
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn verify(args: &Verify, form: Output) -> miette::Result<ExitCode> {
    let file = load_federation(&args.file)?;
    let mirror = args.from.as_ref().or(file.mirrors.first());
    let mirror = mirror.ok_or_else(|| miette!("the federation file names no mirror"))?;
    let view = replay(&file, mirror)
        .await
        .into_diagnostic()
        .wrap_err_with(|| format!("{mirror} does not verify"))?;
    let now = OffsetDateTime::now_utc();
    let log = log_status(&view, now);
    let good = log.witnessed_at.is_some() && !log.stale;
    let members = members(view.state(), &Local::default(), now);
    let found = FederationStatus {
        name: file.name.clone(),
        origin: file.origin.clone(),
        log,
        members: members.values().map(member_status).collect(),
        ..FederationStatus::default()
    };
    match form {
        Output::Json => output::print_json(&found)?,
        Output::Text => output::print(&show::text(&found)),
    }
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
