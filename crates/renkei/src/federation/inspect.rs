//! `renkei federation status` and `verify`: who counts, by the running site or by a replay here.

use std::process::ExitCode;

use miette::{IntoDiagnostic, WrapErr, miette};
use renkei_federation::{Local, members};
use renkei_server::federation::{LogStatus, MemberStatus};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{args::Verify, log::replay, show};
use crate::{
    arguments::{Output, SiteArgs},
    load::load_federation,
    output, status,
};

pub(super) async fn status(args: &SiteArgs, form: Output) -> miette::Result<ExitCode> {
    let state = status::state_of(args)?;
    let all = status::ask(&state, "/status").await?;
    let federation = all
        .get("server")
        .and_then(|server| server.get("federation"));
    let Some(federation) = federation.cloned() else {
        return Err(miette!(
            help = "add `federation: FILE` to the site file, and apply it",
            "the running site is in no federation"
        ));
    };
    print(federation, form)?;
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
    let log = LogStatus::of(&view, now);
    let good = log.witnessed_at.is_some() && !log.stale;
    let members = members(view.state(), &Local::default(), now);
    let members: Vec<MemberStatus> = members.values().map(MemberStatus::from).collect();
    let mut found = json!({"name": file.name, "origin": file.origin, "members": members});
    if let (Value::Object(found), Value::Object(log)) = (&mut found, json!(log)) {
        found.extend(log);
    }
    print(found, form)?;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(federation: Value, form: Output) -> miette::Result<()> {
    if form == Output::Json {
        return output::print_json(&federation);
    }
    let seen: show::Seen = serde_json::from_value(federation)
        .into_diagnostic()
        .wrap_err("this version of Renkei cannot read the running site's status")?;
    output::print(&seen.text());
    Ok(())
}
