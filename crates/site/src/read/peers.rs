//! The sites that this one is linked with.

use std::{collections::BTreeMap, path::PathBuf};

use renkei_spiffe::{SpiffeId, TrustDomain};
use url::Url;

use super::{
    fields::{Entry, Fields, Reader, Wrong, no_later_keys},
    values,
};
use crate::{
    BundleSource, HostPort, Item, Peer, node::Value, schema::keys, site::SERVER_PATH, suggest,
};

/// Which trust domains are linked, and which of them can be called; faulty peers included, so
/// that a fault in a peer is not reported again wherever the peer is named.
#[derive(Default)]
pub(super) struct Known {
    pub(super) has_gateway: BTreeMap<TrustDomain, bool>,
    /// Peers are named where they cannot be read, so no trust domain is unknown.
    pub(super) incomplete: bool,
}

impl Known {
    pub(super) fn contains(&self, name: &TrustDomain) -> bool {
        self.incomplete || self.has_gateway.contains_key(name)
    }

    pub(super) fn lacks_gateway(&self, name: &TrustDomain) -> bool {
        self.has_gateway.get(name) == Some(&false)
    }

    pub(super) fn nearest(&self, name: &TrustDomain) -> Option<&str> {
        suggest::nearest(
            name.as_str(),
            self.has_gateway.keys().map(TrustDomain::as_str),
        )
    }
}

pub(super) fn read(
    reader: &mut Reader,
    of: Option<Entry<'_>>,
    own: Option<&TrustDomain>,
) -> (BTreeMap<TrustDomain, Peer>, Known) {
    let (mut peers, mut known) = (BTreeMap::new(), Known::default());
    let Some(of) = of else { return (peers, known) };
    known.incomplete = !matches!(of.value.value, Value::Null | Value::Map(_));
    let example = "{osaka.example: {gateway: HOST:PORT, identity: IDENTITY}}";
    for entry in reader.entries(of, example) {
        let name = match values::trust_domain(entry.key) {
            Ok(name) if own == Some(&name) => {
                let message = format!("{name} is this site's own trust domain, not a peer");
                reader.fault(entry.place, message, "remove it from `peers`");
                continue;
            }
            Ok(name) => name,
            Err(wrong) => {
                reader.wrong(entry.place, wrong);
                continue;
            }
        };
        reader.remember(Item::Peer(name.clone()), entry.place);
        let example = "{gateway: gw.osaka.example:8443, identity: IDENTITY}";
        let fields = reader.fields(entry, keys::PEER, example, no_later_keys);
        known
            .has_gateway
            .insert(name.clone(), fields.get("gateway").is_some());
        let peer = peer(reader, &fields, &name);
        peers.extend(peer.map(|peer| (name, peer)));
    }
    (peers, known)
}

fn peer(reader: &mut Reader, fields: &Fields<'_>, name: &TrustDomain) -> Option<Peer> {
    let bundle = match fields.get("identity") {
        Some(entry) => by_identity(reader, fields, entry),
        None => bundle_source(reader, fields, name),
    };
    let gateway: Option<Option<HostPort>> = match fields.get("gateway") {
        None => Some(None),
        Some(entry) => reader
            .field(entry, "gw.osaka.example:8443", values::dial)
            .map(Some),
    };
    Some(Peer {
        trust_domain: name.clone(),
        bundle: bundle?,
        gateway: gateway?,
    })
}

/// A peer that is known by its identity needs nothing else: all other keys say how trust starts
/// or is renewed, which would be a second way.
fn by_identity(reader: &mut Reader, fields: &Fields<'_>, entry: Entry<'_>) -> Option<BundleSource> {
    let others = ["bundle", "bootstrap", "endpoint_id", "web_roots"];
    for other in others.iter().filter_map(|key| fields.get(key)) {
        let message = format!("`{}` cannot be used with `identity`", other.key);
        let hint = format!(
            "remove `{}`: the bundle of a peer with `identity` comes from its gateway",
            other.key
        );
        reader.fault(other.place, message, hint);
    }
    if fields.get("gateway").is_none() {
        let message = "a peer with `identity` needs a `gateway`, where its bundle is read";
        let hint = "add `gateway: HOST:PORT`; a peer that only calls, or whose hub this site is, needs `bundle` instead";
        reader.fault(entry.place, message, hint);
    }
    let pinned = reader.field(entry, "6d0c...", values::pinned_identity)?;
    Some(BundleSource::Identity(pinned))
}

/// The `bundle` of a peer as written.
enum Written {
    File(PathBuf),
    Endpoint(Url),
}

fn bundle_source(
    reader: &mut Reader,
    fields: &Fields<'_>,
    name: &TrustDomain,
) -> Option<BundleSource> {
    let bootstrap = file(
        reader,
        fields,
        "bootstrap",
        Item::PeerBootstrap(name.clone()),
    );
    let roots = file(
        reader,
        fields,
        "web_roots",
        Item::PeerWebRoots(name.clone()),
    );
    let endpoint_id = match fields.get("endpoint_id") {
        Some(entry) => reader.field(entry, "spiffe://osaka.example/renkei/server", |text| {
            endpoint_id(text, name)
        }),
        None => SpiffeId::with_path(name.clone(), SERVER_PATH).ok(),
    };
    let Some(entry) = fields.get("bundle") else {
        if fields.is_mapping {
            let hint = "add `identity: IDENTITY`, which `renkei identity` prints there; for a peer of another make add `bundle: URL or FILE`";
            reader.fault(fields.place, "`identity` is missing", hint);
        }
        return None;
    };
    reader.remember(Item::PeerBundle(name.clone()), entry.value.place);
    match reader.field(entry, "URL or FILE", bundle)? {
        Written::File(path) => {
            let reason = "needs a `bundle` that is a URL";
            refuse(
                reader,
                fields,
                &["bootstrap", "endpoint_id", "web_roots"],
                reason,
            );
            Some(BundleSource::File(path))
        }
        Written::Endpoint(url) if fields.get("bootstrap").is_some() => {
            let reason = "cannot be used with `bootstrap`: the endpoint authenticates with an SVID";
            refuse(reader, fields, &["web_roots"], reason);
            let (endpoint_id, bootstrap) = (endpoint_id?, bootstrap?);
            Some(BundleSource::HttpsSpiffe {
                url,
                endpoint_id,
                bootstrap,
            })
        }
        Written::Endpoint(url) => {
            let reason = "needs `bootstrap` too: the bundle to trust until the first fetch";
            refuse(reader, fields, &["endpoint_id"], reason);
            Some(BundleSource::HttpsWeb { url, roots })
        }
    }
}

fn file(reader: &mut Reader, fields: &Fields<'_>, key: &str, item: Item) -> Option<PathBuf> {
    let entry = fields.get(key)?;
    reader.remember(item, entry.value.place);
    reader.field(entry, "osaka.json", values::path)
}

/// Fields that would have no effect.
fn refuse(reader: &mut Reader, fields: &Fields<'_>, keys: &[&str], reason: &str) {
    for entry in keys.iter().filter_map(|key| fields.get(key)) {
        let message = format!("`{}` {reason}", entry.key);
        reader.fault(
            entry.place,
            message,
            format!("remove `{}`, or see `bundle`", entry.key),
        );
    }
}

fn bundle(text: &str) -> Result<Written, Wrong> {
    if !text.contains("://") {
        return values::path(text).map(Written::File);
    }
    // The text is not repeated here: it may hold a password, and faults are logged.
    let bad = |why: String| {
        let hint = "write https://HOST:PORT/PATH, or the name of a bundle file";
        Err(Wrong::new(
            format!("this is not the URL of a bundle endpoint: {why}"),
            hint,
        ))
    };
    match Url::parse(text) {
        Err(error) => bad(error.to_string()),
        Ok(url) if url.scheme() != "https" => bad("its scheme is not https".to_owned()),
        // SPIFFE_Federation 5.2: the URL has no user information.
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            bad("it has user information".to_owned())
        }
        Ok(url) if url.fragment().is_some() => bad("it has a fragment".to_owned()),
        Ok(url) => Ok(Written::Endpoint(url)),
    }
}

fn endpoint_id(text: &str, peer: &TrustDomain) -> Result<SpiffeId, Wrong> {
    let hint = format!("write an identity of {peer}, such as spiffe://{peer}/renkei/server");
    match values::identity(text, Some(peer))? {
        Some(id) if id.trust_domain() == peer => Ok(id),
        // The bootstrap bundle could not vouch for it, and the fetched one must not.
        _ => Err(Wrong::new(
            format!("{text:?} is not an identity of {peer}"),
            hint,
        )),
    }
}
