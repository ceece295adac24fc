//! `renkei svid show`: the SVIDs that a Workload API gives to this process.

#![cfg_attr(
    not(test),
    expect(
        clippy::disallowed_methods,
        reason = "on threads that may wait for a file"
    )
)]

use std::{fs, path::Path, process::ExitCode};

use miette::{IntoDiagnostic, WrapErr, miette};
use pem::{EncodeConfig, LineEnding, Pem};
use renkei_agent::client::{self, Update};
use renkei_runtime::{files, state_folder::write_private};
use renkei_spiffe::X509Svid;
use serde_json::json;
use time::format_description::well_known::Rfc3339;

use crate::{arguments::Output, cli, output, provider};

/// Fetches once and prints; with `--write` also puts PEM files into a folder.
pub(crate) async fn show(args: &cli::SvidShow, form: Output) -> miette::Result<ExitCode> {
    let socket = args.socket.as_deref().ok_or_else(|| {
        miette!(
            help = "name it with --socket or in SPIFFE_ENDPOINT_SOCKET; `renkei status` shows a \
                site's",
            "no Workload API is named"
        )
    })?;
    let update = client::fetch(socket, &provider())
        .await
        .map_err(|error| miette!(help = error.hint(), "no X.509-SVID from {socket}: {error}"))?;
    if let Some(folder) = &args.write {
        write(&update, folder)?;
    }
    match form {
        Output::Text => output::print(&table(&update)),
        Output::Json => output::print_json(&document(&update))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn table(update: &Update) -> String {
    let mut svids = output::table(&["SPIFFE ID", "HINT", "EXPIRES", "SERIAL"]);
    for (hint, svid) in &update.svids {
        svids.add_row([
            svid.id().to_string(),
            hint.clone(),
            output::until(svid.not_after()),
            svid.serial().to_owned(),
        ]);
    }
    let mut bundles = output::table(&["TRUST DOMAIN", "AUTHORITIES"]);
    for bundle in update.bundles.iter() {
        bundles.add_row([
            bundle.trust_domain.to_string(),
            bundle.x509_authorities.len().to_string(),
        ]);
    }
    output::section("X.509-SVIDs", &svids) + &output::section("Bundles", &bundles)
}

fn document(update: &Update) -> serde_json::Value {
    let svid = |(hint, svid): &(String, std::sync::Arc<X509Svid>)| {
        json!({
            "id": svid.id(),
            "hint": hint,
            "serial": svid.serial(),
            "not_before": svid.not_before().format(&Rfc3339).unwrap_or_default(),
            "not_after": svid.not_after().format(&Rfc3339).unwrap_or_default(),
        })
    };
    json!({
        "svids": update.svids.iter().map(svid).collect::<Vec<_>>(),
        "trust_domains": update.bundles.iter().map(|b| b.trust_domain.clone()).collect::<Vec<_>>(),
    })
}

/// The default SVID as PEM files for programs that read files.
fn write(update: &Update, folder: &Path) -> miette::Result<()> {
    let Some((_, svid)) = update.svids.first() else {
        return Err(miette!("the Workload API gave no SVID"));
    };
    let chain: String = svid
        .chain()
        .iter()
        .map(|der| pem("CERTIFICATE", der))
        .collect();
    let bundle = update.bundles.get(svid.id().trust_domain());
    let roots: String = bundle
        .iter()
        .flat_map(|bundle| &bundle.x509_authorities)
        .map(|der| pem("CERTIFICATE", der))
        .collect();
    let owned = folder.to_owned();
    files::run(folder, move || fs::create_dir_all(owned))
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot make the folder {}", folder.display()))?;
    for (name, text) in [
        ("svid.pem", chain),
        ("key.pem", pem("PRIVATE KEY", svid.key().pkcs8())),
        ("bundle.pem", roots),
    ] {
        let file = folder.join(name);
        write_private(&file, text.as_bytes())
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

fn pem(label: &str, der: &[u8]) -> String {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new(label, der), config)
}
