//! `renkei node token|ban|remove`, and the nodes in `renkei status`.

use std::process::ExitCode;

use miette::miette;
use renkei_api::status::{NodeStatus, SiteStatus};

use crate::{
    arguments::Output,
    node_args::{NodeName, NodeTokenArgs},
    output, place,
    site_client::{SiteClient, explain},
};

/// Bans a node at the server.
pub(crate) async fn ban(args: &NodeName, form: Output) -> miette::Result<ExitCode> {
    client(args)?.ban_node(&args.name).await.map_err(explain)?;
    done(form, &format!("{} is banned.\n", args.name))
}

/// Removes a node at the server.
pub(crate) async fn remove(args: &NodeName, form: Output) -> miette::Result<ExitCode> {
    let was_known = client(args)?
        .remove_node(&args.name)
        .await
        .map_err(explain)?;
    match was_known {
        true => done(form, &format!("{} is removed.\n", args.name)),
        false => Err(miette!(
            help = "`renkei status` shows the nodes",
            "no node `{}` has joined",
            args.name
        )),
    }
}

fn client(args: &NodeName) -> miette::Result<SiteClient> {
    Ok(SiteClient::new(&place::state_of(&args.site)?))
}

fn done(form: Output, text: &str) -> miette::Result<ExitCode> {
    match form {
        Output::Json => output::print_json(&serde_json::json!({"ok": true}))?,
        Output::Text => output::print(text),
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes a token. The line is alone on standard output, so that a script can take it.
pub(crate) async fn token(args: &NodeTokenArgs, form: Output) -> miette::Result<ExitCode> {
    let site = SiteClient::new(&place::state_of(&args.site)?);
    let seconds = args.ttl.as_secs();
    let made = match &args.name {
        Some(name) => site.node_token(name, seconds).await,
        None => site.agent_token(seconds).await,
    };
    let made = made.map_err(explain)?;
    match form {
        Output::Json => output::print_json(&made)?,
        Output::Text => output::print(&format!("{}\n", made.token)),
    }
    Ok(ExitCode::SUCCESS)
}

/// The section of `renkei status`.
pub(crate) fn section(status: &SiteStatus) -> String {
    let head = [
        "NODE",
        "STATE",
        "FROM",
        "RELEASE",
        "SVID EXPIRES",
        "NOT TAKEN",
    ];
    let mut table = output::table(&head);
    let nodes = status.authority().into_iter();
    for node in nodes.flat_map(|server| &server.nodes) {
        let link = node.link.as_ref();
        let faults = link.map(|link| {
            let faults = link.faults.iter();
            let faults = faults.map(|fault| format!("{}: {}", fault.item, fault.reason));
            faults.collect::<Vec<_>>().join("; ")
        });
        table.add_row([
            node.name.clone(),
            state(node),
            link.map(|link| link.address.to_string())
                .unwrap_or_default(),
            link.map(|link| link.release.clone()).unwrap_or_default(),
            node.not_after.map(output::until).unwrap_or_default(),
            faults.unwrap_or_default(),
        ]);
    }
    output::section("Nodes", &table)
}

fn state(node: &NodeStatus) -> String {
    match (&node.link, node.attested_at) {
        _ if node.banned => "banned".to_owned(),
        (Some(link), _) if link.taken < link.sent => {
            format!(
                "connected {}, an update is under way",
                output::since(link.since)
            )
        }
        (Some(link), _) => format!("connected {}", output::since(link.since)),
        (None, Some(at)) => format!("not connected, joined {}", output::since(at)),
        (None, None) => "has not joined".to_owned(),
    }
}
