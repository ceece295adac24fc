//! Statements that people make by hand: the registrar's, a member's word on another, a withdrawal.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
};

use miette::{IntoDiagnostic, WrapErr, miette};
use renkei_federation::{
    Admission, AdmissionStatus, Digest, Endorsement, Envelope, MAX_ENVELOPE_BYTES, SigningKey,
    Statement, Withdrawal,
};
use renkei_runtime::files;
use renkei_server::federation::{SiteKeys, read_key};
use renkei_site::FederationFile;
use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::{
    args::{Admit, Endorse, Registrar, Sign, Submit, TakeOut, Withdraw},
    log::admitted,
    submit::{Destination, deliver, hand_in},
};
use crate::{
    arguments::Output,
    load::{load, load_federation},
    output, place,
};

pub(super) const SUSPEND: AdmissionStatus = AdmissionStatus::Suspended;
pub(super) const REMOVE: AdmissionStatus = AdmissionStatus::Removed;

/// How long the end of an admission is remembered; the log remembers it anyway.
const TAKEN_OUT_DAYS: i64 = 4_000;

pub(super) async fn admit(args: &Admit, form: Output) -> miette::Result<ExitCode> {
    let file = load_federation(&args.sign.file)?;
    let status = AdmissionStatus::Admitted;
    let days = args.days.into();
    let word = (args.identity, status, days);
    let says = format!(
        "{} is admitted with the identity {}.",
        args.sign.trust_domain, args.identity
    );
    admission(&file, &args.sign, word, &args.registrar, form, &says).await
}

pub(super) async fn take_out(
    args: &TakeOut,
    status: AdmissionStatus,
    form: Output,
) -> miette::Result<ExitCode> {
    let file = load_federation(&args.sign.file)?;
    let name = &args.sign.trust_domain;
    let identity = match args.identity {
        Some(identity) => identity,
        None => admitted(&file, name).await?,
    };
    let done = match status {
        AdmissionStatus::Suspended => "suspended",
        _ => "removed",
    };
    let says = format!("{name} is {done}.");
    let word = (identity, status, TAKEN_OUT_DAYS);
    admission(&file, &args.sign, word, &args.registrar, form, &says).await
}

async fn admission(
    file: &FederationFile,
    sign: &Sign,
    (genesis, status, days): (Digest, AdmissionStatus, i64),
    registrar: &Registrar,
    form: Output,
    says: &str,
) -> miette::Result<ExitCode> {
    let now = OffsetDateTime::now_utc();
    let admission = Admission {
        trust_domain: sign.trust_domain.clone(),
        genesis,
        status,
        scope: Vec::new(),
        issued: now,
        expires: now + Duration::days(days),
    };
    let keys = registrar_keys(file, &sign.file, &registrar.key)?;
    let envelope = sign_with(Statement::Admission(admission), &keys)?;
    let to = Destination::of(file, registrar.out.as_deref());
    deliver(to, &envelope, form, says).await
}

pub(super) async fn withdraw(args: &Withdraw, form: Output) -> miette::Result<ExitCode> {
    let name = &args.sign.trust_domain;
    let withdrawal = Withdrawal {
        trust_domain: name.clone(),
        genesis: args.identity,
        reason: args.reason.clone(),
    };
    let keys = read_keys(&args.key)?;
    let envelope = sign_with(Statement::Withdrawal(withdrawal), &keys)?;
    let says = format!(
        "{name} withdraws the identity {} permanently.",
        args.identity
    );
    // A site that is in no federation has no such file.
    if let Some(path) = &args.out {
        return deliver(Destination::File(path), &envelope, form, &says).await;
    }
    let file = load_federation(&args.sign.file)?;
    deliver(Destination::Registry(&file), &envelope, form, &says).await
}

pub(super) async fn endorse(args: &Endorse, form: Output) -> miette::Result<ExitCode> {
    let loaded = load(&args.file)?;
    let site = &loaded.site;
    let state = place::state_folder(args.state.folder.as_deref(), &site.name);
    let federation = site.federation.as_ref().and_then(|it| it.file.clone());
    let file = federation.ok_or_else(|| miette!("{} names no `federation`", site.file()))?;
    let own = SiteKeys::open(&state, &site.trust_domain).into_diagnostic()?;
    let own = own.ok_or_else(|| {
        miette!(
            "this site has not joined: renkei federation join {}",
            site.file()
        )
    })?;
    let endorsement = Endorsement {
        by: own.genesis(),
        trust_domain: args.trust_domain.clone(),
        genesis: args.identity,
    };
    let envelope = own
        .sign(Statement::Endorsement(endorsement))
        .into_diagnostic()?;
    let says = format!("{} endorses {}.", site.trust_domain, args.trust_domain);
    deliver(Destination::Registry(&file), &envelope, form, &says).await
}

pub(super) async fn submit(args: &Submit, form: Output) -> miette::Result<ExitCode> {
    let file = load_federation(&args.file)?;
    for path in &args.statements {
        let named = || path.display().to_string();
        let bytes = files::read(path, MAX_ENVELOPE_BYTES)
            .into_diagnostic()
            .wrap_err_with(named)?;
        let envelope = Envelope::parse(&bytes)
            .into_diagnostic()
            .wrap_err_with(named)?;
        hand_in(&file, &envelope).await.wrap_err_with(named)?;
    }
    let count = args.statements.len();
    match form {
        Output::Json => output::print_json(&json!({"submitted": count}))?,
        Output::Text => output::print(&format!("The registry has {count} of {count}.\n")),
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the registrar's keys. No key of another role signs, and as many must as the file says.
fn registrar_keys(
    file: &FederationFile,
    name: &Path,
    paths: &[PathBuf],
) -> miette::Result<Vec<SigningKey>> {
    let keys = read_keys(paths)?;
    let is_known = |key: &SigningKey| file.registrar.contains(key.public().as_bytes());
    if let Some((_, path)) = keys.iter().zip(paths).find(|(key, _)| !is_known(key)) {
        return Err(miette!(
            help = "use registrar.pem, which `renkei federation init` wrote",
            "{} is not a registrar key of {}",
            path.display(),
            name.display()
        ));
    }
    let different: BTreeSet<_> = keys.iter().map(|key| *key.public().as_bytes()).collect();
    if different.len() < file.registrar_threshold {
        return Err(miette!(
            help = "repeat --key for each of them",
            "{} needs {} different registrar keys; {} given",
            name.display(),
            file.registrar_threshold,
            different.len()
        ));
    }
    Ok(keys)
}

fn read_keys(paths: &[PathBuf]) -> miette::Result<Vec<SigningKey>> {
    let keys = paths.iter().map(|path| read_key(path).into_diagnostic());
    keys.collect()
}

fn sign_with(statement: Statement, keys: &[SigningKey]) -> miette::Result<Envelope> {
    let keys: Vec<&SigningKey> = keys.iter().collect();
    Envelope::sign(statement, &keys).into_diagnostic()
}
