//! The federation that the site is a member of, and what the site decides about it alone.

use std::collections::{BTreeMap, BTreeSet};

use renkei_spiffe::TrustDomain;

use super::{
    fields::{Fields, Reader, Wrong},
    values,
};
use crate::{Federated, Item, Peer};

pub(super) fn read(
    reader: &mut Reader,
    fields: &Fields<'_>,
    own: Option<&TrustDomain>,
    peers: &BTreeMap<TrustDomain, Peer>,
) -> Option<Federated> {
    let deny = deny(reader, fields, own, peers);
    let admit = admit(reader, fields, own);
    let Some(entry) = fields.get("federation") else {
        for entry in ["deny", "admit"].iter().filter_map(|key| fields.get(key)) {
            let message = format!("`{}` needs `federation`", entry.key);
            let hint = format!("remove `{}`, or add `federation: FILE`", entry.key);
            reader.fault(entry.place, message, hint);
        }
        return None;
    };
    reader.remember(Item::Federation, entry.value.place);
    let path = reader.field(entry, "intercloud.yaml", values::path)?;
    Some(Federated {
        path,
        deny,
        admit,
        file: None,
    })
}

fn deny(
    reader: &mut Reader,
    fields: &Fields<'_>,
    own: Option<&TrustDomain>,
    peers: &BTreeMap<TrustDomain, Peer>,
) -> BTreeSet<TrustDomain> {
    let mut denied = BTreeSet::new();
    let Some(entry) = fields.get("deny") else {
        return denied;
    };
    for node in reader.items(entry, "osaka.example") {
        let read = |text: &str| {
            let name = values::trust_domain(text)?;
            match peers.contains_key(&name) {
                true => Err(Wrong::new(
                    format!("{name} is denied and under `peers`"),
                    "remove it from one of the two",
                )),
                false => another(name, own),
            }
        };
        denied.extend(reader.scalar(node, "a trust domain", "osaka.example", read));
    }
    denied
}

fn admit(
    reader: &mut Reader,
    fields: &Fields<'_>,
    own: Option<&TrustDomain>,
) -> Option<BTreeMap<TrustDomain, String>> {
    let mut admitted = BTreeMap::new();
    let entry = fields.get("admit")?;
    for site in reader.entries(entry, "{osaka.example: IDENTITY}") {
        let name = values::trust_domain(site.key).and_then(|name| another(name, own));
        let name = name.map_err(|wrong| reader.wrong(site.place, wrong)).ok();
        let identity = reader.field(site, "IDENTITY", values::digest);
        admitted.extend(name.zip(identity));
    }
    Some(admitted)
}

fn another(name: TrustDomain, own: Option<&TrustDomain>) -> Result<TrustDomain, Wrong> {
    match own {
        Some(own) if *own == name => Err(Wrong::new(
            format!("{name} is this site's own trust domain"),
            "remove it",
        )),
        _ => Ok(name),
    }
}
