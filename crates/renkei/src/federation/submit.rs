//! Handing statements to the registry, or writing them to files.

use std::{fs, io, path::Path, process::ExitCode};

use miette::{IntoDiagnostic, WrapErr, miette};
use renkei_federation::Envelope;
use renkei_runtime::files;
use renkei_site::FederationFile;
use serde_json::json;

use crate::{arguments::Output, output, provider};

/// Writes a file, or to a device such as `/dev/stdout`.
#[cfg_attr(
    not(test),
    expect(clippy::disallowed_methods, reason = "on a thread that may wait")
)]
fn write(path: &Path, bytes: Vec<u8>) -> io::Result<()> {
    let owned = path.to_owned();
    files::run(path, move || fs::write(owned, bytes))
}

/// Where a statement goes.
pub(super) enum Destination<'a> {
    /// The registry of this federation.
    Registry(&'a FederationFile),
    File(&'a Path),
}

impl<'a> Destination<'a> {
    pub(super) fn of(file: &'a FederationFile, out: Option<&'a Path>) -> Self {
        out.map_or(Self::Registry(file), Self::File)
    }
}

/// Hands a statement in, or writes it to a file, and says so.
pub(super) async fn deliver(
    to: Destination<'_>,
    envelope: &Envelope,
    form: Output,
    says: &str,
) -> miette::Result<ExitCode> {
    let out = match to {
        Destination::File(path) => {
            write(path, envelope.to_bytes())
                .into_diagnostic()
                .wrap_err_with(|| format!("cannot write {}", path.display()))?;
            Some(path)
        }
        Destination::Registry(file) => {
            hand_in(file, envelope).await?;
            None
        }
    };
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
                "{says}\nThe statement is in {}; submit it with: renkei federation submit\n",
                path.display()
            )),
            None => output::print(&format!(
                "{says}\nThe registry has it; it is valid once witnesses have cosigned it.\n"
            )),
        },
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn hand_in(file: &FederationFile, envelope: &Envelope) -> miette::Result<()> {
    let handed = renkei_server::federation::submit(file, envelope, &provider()).await;
    handed.map_err(|error| {
        let kind = envelope.statement().kind();
        miette!(
            help = "is the registry up, and is its URL under `mirrors` in the federation file?",
            "the {kind} statement was not accepted: {error}"
        )
    })
}
