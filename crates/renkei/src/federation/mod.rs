//! `renkei federation` and `renkei registry`: founding, joining, admitting, looking.

mod args;
mod found;
mod look;
mod registry;
mod show;
mod site;
mod speak;

use std::{fs, io, path::Path, process::ExitCode};

use miette::{IntoDiagnostic, WrapErr, miette};
use renkei_federation::{Digest, Envelope, TrustDomain};
use renkei_runtime::files;
use renkei_server::federation::{MirrorError, Source, anchors};
use renkei_site::{FederationFile, Mirror};
use serde_json::json;
use time::OffsetDateTime;

pub(crate) use args::{Federation, Registry};
pub(crate) use registry::run as run_registry;
pub(crate) use show::Seen;

use crate::{cli::Output, output, provider};

pub(crate) async fn run(command: Federation, form: Output) -> miette::Result<ExitCode> {
    match command {
        Federation::Init(args) => found::init(&args, form),
        Federation::Join(args) => site::join(&args, form),
        Federation::Root(args::Root::Renew(args)) => site::renew(&args, form),
        Federation::Admit(args) => speak::admit(&args, form).await,
        Federation::Suspend(args) => speak::take_out(&args, speak::SUSPEND, form).await,
        Federation::Remove(args) => speak::take_out(&args, speak::REMOVE, form).await,
        Federation::Endorse(args) => speak::endorse(&args, form).await,
        Federation::Withdraw(args) => speak::withdraw(&args, form).await,
        Federation::Submit(args) => speak::submit(&args, form).await,
        Federation::Heed(args) => site::heed(&args, form),
        Federation::Status(args) => look::status(&args, form).await,
        Federation::Verify(args) => look::verify(&args, form).await,
    }
}

/// What a mirror has, replayed from the beginning.
async fn replay(
    file: &FederationFile,
    mirror: &Mirror,
) -> Result<renkei_federation::View, MirrorError> {
    let nothing = renkei_federation::View::new(anchors(file));
    let source = Source::new(mirror.clone(), &provider()).await?;
    let now = OffsetDateTime::now_utc();
    source
        .extend(&nothing, false, now, None)
        .await
        .map(|(view, _)| view)
}

/// Writes a file, or to a device such as `/dev/stdout`.
#[cfg_attr(
    not(test),
    expect(clippy::disallowed_methods, reason = "on a thread that may wait")
)]
fn write(path: &Path, bytes: Vec<u8>) -> io::Result<()> {
    let owned = path.to_owned();
    files::run(path, move || fs::write(owned, bytes))
}

/// Hands a statement in, or writes it to a file, and says so.
async fn deliver(
    file: &FederationFile,
    envelope: &Envelope,
    out: Option<&Path>,
    form: Output,
    says: &str,
) -> miette::Result<ExitCode> {
    match out {
        Some(path) => write(path, envelope.to_bytes())
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot write {}", path.display()))?,
        None => hand_in(file, envelope).await?,
    }
    let statement = envelope.statement();
    match form {
        Output::Json => output::print_json(&json!({
            "kind": statement.kind(),
            "trust_domain": statement.trust_domain(),
            "digest": envelope.digest(),
            "written": out,
        }))?,
        Output::Text => match out {
            Some(path) => output::print(&format!(
                "{says}\nThe statement is in {}; hand it in with: renkei federation submit\n",
                path.display()
            )),
            None => output::print(&format!(
                "{says}\nThe registry has it; it counts once witnesses have seen it.\n"
            )),
        },
    }
    Ok(ExitCode::SUCCESS)
}

async fn hand_in(file: &FederationFile, envelope: &Envelope) -> miette::Result<()> {
    let handed = renkei_server::federation::submit(file, envelope, &provider()).await;
    handed.map_err(|error| {
        let kind = envelope.statement().kind();
        miette!(
            help = "is the registry up, and is its URL under `mirrors` in the federation file?",
            "the {kind} statement was not taken: {error}"
        )
    })
}

/// The identity that is admitted under a name, by the first mirror that can be read.
async fn admitted(file: &FederationFile, name: &TrustDomain) -> miette::Result<Digest> {
    let mut faults = Vec::new();
    for mirror in &file.mirrors {
        match replay(file, mirror).await {
            Ok(view) => {
                let word = view.state().admissions().get(name);
                return word
                    .map(|word| word.genesis)
                    .ok_or_else(|| miette!("{name} was never admitted"));
            }
            Err(error) => faults.push(format!("{mirror}: {error}")),
        }
    }
    Err(miette!(
        help = "give the site's identity after its trust domain",
        "no mirror can be read: {}",
        faults.join("; ")
    ))
}
