//! `renkei federation init`: a federation file, and the keys of the two who serve it.

#![cfg_attr(
    not(test),
    expect(
        clippy::disallowed_methods,
        reason = "on threads that may wait for a file"
    )
)]

use std::{
    fmt::Write,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use miette::{IntoDiagnostic, WrapErr, miette};
use renkei_federation::{SigningKey, Witnesses};
use renkei_runtime::files;
use renkei_server::federation::{new_key, write_key};
use serde_json::json;

use super::args::Init;
use crate::{arguments::Output, load::LoadError, output, provider};

pub(super) fn init(args: &Init, form: Output) -> miette::Result<ExitCode> {
    let (log, registrar) = (new_key(&provider()), new_key(&provider()));
    let (log, registrar) = (log.into_diagnostic()?, registrar.into_diagnostic()?);
    let count = args.witness.len();
    let quorum = args.quorum.unwrap_or_else(|| Witnesses::safe_quorum(count));
    let text = federation_file(args, quorum, (&log, &registrar));
    let name = args.file.display().to_string();
    renkei_site::parse_federation(&name, &text).map_err(LoadError::Faulty)?;
    let paths = [args.keys.join("log.pem"), args.keys.join("registrar.pem")];
    if let Some(there) = paths
        .iter()
        .chain([&args.file])
        .find(|path| files::exists(path))
    {
        return Err(miette!(
            "{} exists already and is not changed",
            there.display()
        ));
    }
    let owned = args.keys.clone();
    files::run(&args.keys, move || fs::create_dir_all(owned))
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot make {}", args.keys.display()))?;
    for (path, key) in paths.iter().zip([&log, &registrar]) {
        write_key(path, key).into_diagnostic()?;
    }
    write_new(&args.file, text)
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot write {name}"))?;
    let [log_file, registrar_file] = paths;
    match form {
        Output::Json => output::print_json(&json!({
            "file": args.file, "log_key": log_file, "registrar_key": registrar_file,
            "witnesses": count, "quorum": quorum,
        }))?,
        Output::Text => output::print(&format!(
            "{name}: the federation file. Give it to every member over a channel that they trust.\n\
             {}: for the operator of the registry.\n{}: for the registrar; keep it offline.\n\
             {quorum} of {count} witnesses make a quorum.\n",
            log_file.display(),
            registrar_file.display(),
        )),
    }
    Ok(ExitCode::SUCCESS)
}

fn federation_file(
    args: &Init,
    quorum: usize,
    (log, registrar): (&SigningKey, &SigningKey),
) -> String {
    let mut text = format!(
        "federation: {}\norigin: {}\nlog_key: {}\nregistrar: {{keys: [{}], threshold: 1}}\n\
         witnesses:\n  quorum: {quorum}\n  keys:\n",
        args.name,
        args.origin,
        log.public(),
        registrar.public(),
    );
    for (name, key) in &args.witness {
        let _ = writeln!(text, "    {name}: {key}");
    }
    text.push_str("mirrors:\n");
    for mirror in &args.mirror {
        // A quoted text of YAML is one of JSON.
        let _ = writeln!(text, "  - {}", json!(mirror.to_string()));
    }
    text
}

/// Fails where there is a file already.
fn write_new(path: &Path, text: String) -> io::Result<()> {
    let owned = path.to_owned();
    files::run(path, move || {
        let mut file = OpenOptions::new();
        let mut file = file.write(true).create_new(true).open(owned)?;
        file.write_all(text.as_bytes())
    })
}
