//! `renkei render nftables`: rules that keep other users of the machine off the backends' ports,
//! which they could else dial past the mesh.

use std::{collections::BTreeSet, fmt::Write as _, process::ExitCode};

use miette::miette;
use renkei_runtime::{files, process::user_id};
use renkei_site::{Service, Site};
use serde_json::json;

use crate::{
    arguments::Output,
    cli::RenderNftables,
    load::load,
    open_ports::{loopback_port, open_port},
    output, place,
};

/// Prints rules for `nft -f -`.
pub(crate) fn run(args: &RenderNftables, form: Output) -> miette::Result<ExitCode> {
    let site = load(&args.site.file)?.site;
    let users = users(args, &site)?;
    let node = args.node.as_deref();
    let services = site.services_held(node).ok_or_else(|| {
        let name = node.unwrap_or_default();
        miette!(
            help = "name a node as under `nodes` of the site file",
            "the site file has no node `{name}`"
        )
    })?;
    // The rules of a node may be made on another machine.
    let port = match node {
        None => open_port,
        Some(_) => loopback_port,
    };
    let ports: Vec<(&Service, BTreeSet<u16>)> = services
        .into_iter()
        .map(|service| (service, service.backends.iter().filter_map(port).collect()))
        .filter(|(_, ports): &(_, BTreeSet<u16>)| !ports.is_empty())
        .collect();
    if ports.is_empty() {
        output::note(
            "no service of this process has a backend on its machine: nothing is to be closed",
        );
    }
    let text = rules(&site, &users, &ports);
    match form {
        Output::Text => output::print(&text),
        Output::Json => output::print_json(&json!({
            "table": table(&site),
            "users": users,
            "ports": ports.iter().map(|(service, ports)| json!({"service": service.name, "ports": ports})).collect::<Vec<_>>(),
            "rules": text,
        }))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Who may connect: the owner of the site's state, whom `renkei up` runs as, or those that are
/// named.
fn users(args: &RenderNftables, site: &Site) -> miette::Result<BTreeSet<u32>> {
    if args.user.is_empty() {
        let state = place::state_folder(args.site.state.folder.as_deref(), &site.name);
        let folder = state.clone();
        let owner = files::run(&state, move || Ok(rustix::fs::stat(&folder)?.st_uid));
        let owner = owner.map_err(|error| {
            miette!(
                help = "name the user that `renkei up` runs as: --user renkei",
                "it is not known as which user the site runs: {}: {error}",
                state.display()
            )
        })?;
        return Ok(BTreeSet::from([owner]));
    }
    args.user.iter().map(|name| user(name)).collect()
}

/// The ID of a user, by name or number.
fn user(name: &str) -> miette::Result<u32> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let found = user_id(name).map_err(|error| miette!("the user {name:?}: {error}"))?;
    found.ok_or_else(|| {
        miette!(
            help = "write a user's name or number",
            "this machine has no user {name:?}"
        )
    })
}

/// Names of tables have letters, digits and underscores.
fn table(site: &Site) -> String {
    let named = |letter: char| {
        if letter.is_ascii_alphanumeric() {
            letter
        } else {
            '_'
        }
    };
    format!(
        "renkei_{}",
        site.name.chars().map(named).collect::<String>()
    )
}

fn rules(site: &Site, users: &BTreeSet<u32>, ports: &[(&Service, BTreeSet<u16>)]) -> String {
    let (table, users) = (table(site), set(users));
    let mut text = format!(
        "# Only these users of this machine connect to the backends of site {site}: {users}.\n\
         # Load: nft -f FILE. Take away: nft delete table inet {table}\n\
         table inet {table}\n\
         delete table inet {table}\n\
         table inet {table} {{\n\
         \tchain output {{\n\
         \t\ttype filter hook output priority filter; policy accept;\n",
        site = site.name,
    );
    for (service, ports) in ports {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "\t\t# {}\n\t\toifname \"lo\" tcp dport {} meta skuid != {users} reject with tcp reset",
            service.name,
            set(ports),
        );
    }
    text.push_str("\t}\n}\n");
    text
}

fn set<T: ToString>(values: &BTreeSet<T>) -> String {
    let values: Vec<String> = values.iter().map(T::to_string).collect();
    format!("{{ {} }}", values.join(", "))
}
