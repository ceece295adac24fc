//! `renkei identity`: who this site is for as long as it exists, and the line that its peers write.

use std::{path::Path, process::ExitCode};

use renkei_runtime::files;
use renkei_server::federation::SiteKeys;
use renkei_site::{Announcement, PinnedIdentity};
use serde_json::json;

use super::{
    args::Identity,
    site::{open_or_begin, root_keys_folder, site_and_state},
};
use crate::{arguments::Output, output};

/// Prints the identity; makes it at the first call.
pub(crate) fn run(args: &Identity, form: Output) -> miette::Result<ExitCode> {
    let (site, state) = site_and_state(&args.site)?;
    let (own, made) = open_or_begin(&args.keys, &site, &state)?;
    let announced = site.announcement();
    let head = own.head();
    let pinned = PinnedIdentity {
        digest: own.genesis().to_string(),
        at_least: head.version,
    };
    let at_hand = root_keys_folder(&state);
    let keys = made
        .clone()
        .or_else(|| is_there(&at_hand).then_some(at_hand));
    if form == Output::Json {
        let expires = head.expires.unix_timestamp();
        output::print_json(&json!({
            "trust_domain": site.trust_domain,
            "identity": own.genesis(),
            "root_version": head.version,
            "pin": pinned.to_string(),
            "gateway": announced.gateway.as_ref().map(ToString::to_string),
            "behind_hub": announced.behind_hub,
            "root_expires_unix": expires,
            "root_keys": keys,
            "created": made.is_some(),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(&text(&own, &pinned, &announced));
    if let Some(folder) = keys {
        output::print(&format!(
            "\nThe root keys and the recovery key are in {}. Move them off this host, not to one \
             place.\nThe next version of the site root needs the root keys: renkei federation root \
             renew --root-keys FOLDER\n",
            folder.display()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn is_there(folder: &Path) -> bool {
    files::exists(&folder.join("root-1.pem"))
}

fn text(own: &SiteKeys, pinned: &PinnedIdentity, announced: &Announcement) -> String {
    let (head, name) = (own.head(), &own.head().trust_domain);
    let gateway = match &announced.gateway {
        Some(gateway) => gateway.to_string(),
        None => "HOST:PORT".to_owned(),
    };
    let end = match output::until(head.expires).as_str() {
        "ended" => "expired".to_owned(),
        left => format!("expires {left}"),
    };
    let mut text = format!(
        "{name}\n  identity   {}\n  site root  version {}, {end}\n\nSites that link with this \
         one write under `peers`:\n\n  {name}: {{gateway: {gateway}, identity: {pinned}}}\n",
        own.genesis(),
        head.version,
    );
    if announced.behind_hub {
        text.push_str(
            "\nThis line is for all sites but its hub, which needs a bundle file as `bootstrap` \
             (renkei bundle show).\n",
        );
    }
    if announced.gateway.is_none() {
        text.push_str(
            "\nThis site has no `gateway`, so others cannot read who it is. Add one, or a hub \
             (`gateway: {via: TRUST-DOMAIN}`), or give them a bundle file.\n",
        );
    }
    text
}
