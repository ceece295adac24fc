//! `renkei bundle show`: trust bundles, of a running site or of its state folder alone.

use std::{process::ExitCode, sync::Arc};

use aws_lc_rs::digest;
use miette::{IntoDiagnostic, WrapErr};
use renkei_runtime::{clock, control::CallError, files, supervise::Supervisor};
use renkei_server::{Server, ServerMetrics, ServerSettings};
use renkei_site::ServerPart;
use renkei_spiffe::{Bundle, TrustDomain};
use tokio::sync::watch;

use crate::{
    arguments::Output,
    cli::BundleShow,
    load::load,
    output, place, provider,
    site_client::{SiteClient, explain},
};

/// Prints the bundle: as a table, or as the document itself.
pub(crate) async fn show(args: &BundleShow, form: Output) -> miette::Result<ExitCode> {
    let state = place::state_of(&args.site)?;
    let document = match SiteClient::new(&state).bundle(args.peer.clone()).await {
        Ok(document) => document,
        Err(CallError::NotRunning { .. }) if args.peer.is_none() => {
            own_at_rest(args, &state).await?
        }
        Err(error) => return Err(explain(error)),
    };
    match form {
        Output::Json => output::print(&format!("{}\n", document.trim_end())),
        Output::Text => {
            let name = match &args.peer {
                Some(peer) => peer.clone(),
                None => load(&args.site.file)?.site.trust_domain.clone(),
            };
            output::print(&text(name, &document)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// From the state folder of a site that does not run; its CA is made when there is none yet.
async fn own_at_rest(args: &BundleShow, state: &std::path::Path) -> miette::Result<String> {
    let site = load(&args.site.file)?.site;
    // Nodes come to a server that runs.
    let part = ServerPart {
        api: None,
        ..site.server_part(0)
    };
    let (_keep, receiver) = watch::channel(Arc::new(part));
    let is_new = !files::exists(&state.join("renkei.db"));
    let server = Server::open(ServerSettings {
        state: state.to_owned(),
        part: receiver,
        provider: provider(),
        metrics: ServerMetrics::default(),
        clock: Arc::new(clock::now),
        system: Some(clock::process().clone()),
        tasks: Supervisor::default(),
        nodes: watch::channel(Arc::default()).1,
    })
    .await
    .into_diagnostic()
    .wrap_err("the site's authority cannot be opened")?;
    let document = server.bundle_document();
    server.close().await;
    if is_new {
        // A wrong `--state` would otherwise hand out a bundle that no site ever uses.
        let trust_domain = &site.trust_domain;
        output::note(&format!(
            "made the CA of {trust_domain} in {}",
            state.display()
        ));
    }
    Ok(document)
}

fn text(name: TrustDomain, document: &str) -> miette::Result<String> {
    let bundle = Bundle::parse_document(name.clone(), document.as_bytes()).into_diagnostic()?;
    let mut table = output::table(&["AUTHORITY (SHA-256)", "EXPIRES"]);
    for der in &bundle.x509_authorities {
        let print = hex::encode(digest::digest(&digest::SHA256, der));
        let end = x509_parser::parse_x509_certificate(der)
            .map(|(_, certificate)| output::until(certificate.validity().not_after.to_datetime()))
            .unwrap_or_default();
        table.add_row([print, end]);
    }
    let sequence = bundle
        .sequence
        .map_or("none".into(), |sequence| sequence.to_string());
    Ok(format!(
        "Bundle of {name}, sequence {sequence}. Give `--output json` to the sites that peer with \
         this one.\n{}",
        output::section("X.509 authorities", &table)
    ))
}
