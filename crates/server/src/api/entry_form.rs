//! An entry as a caller of the API writes it becomes one of the store, or is refused with the
//! reason. Nothing is taken that would have no effect here.

use std::collections::BTreeSet;

use renkei_api::{
    node::EntryId,
    spire::api::types::{Entry, EntryMask, Spiffeid},
    status::EntryKind,
};
use renkei_site::Placement;
use renkei_spiffe::{SpiffeId, TrustDomain};
use rustls::crypto::SecureRandom;
use tonic::Status;

use super::{convert, selectors};
use crate::{
    entries::MOST,
    nodes::uuid,
    store::{Attributes, Registration},
};

/// Identities under them are the server's to give.
const RESERVED: [&str; 2] = ["/spire", "/renkei"];
/// IDs of entries of the site file begin so.
const OF_FILE: &str = "file.";
const MAX_ID: usize = 255;
/// SPIFFE_Workload_API 5.2.1.
const MAX_HINT: usize = 1_024;
const MAX_NAMES: usize = 64;
const MAX_FEDERATED: usize = 256;

/// What an entry is judged by.
pub(super) struct Form<'a> {
    pub(super) trust_domain: &'a TrustDomain,
    /// The other trust domains whose bundles are known.
    pub(super) known: &'a BTreeSet<TrustDomain>,
}

/// A SPIFFE ID of the own trust domain that a workload may have.
pub(super) fn workload_id(id: Option<Spiffeid>, own: &TrustDomain) -> Result<SpiffeId, String> {
    let id = convert::own_id(id, own)?;
    if id.path().is_empty() {
        return Err("the path is empty".to_owned());
    }
    let is_below = |reserved: &&&str| {
        let rest = id.path().strip_prefix(**reserved);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match RESERVED.iter().find(is_below) {
        None => Ok(id),
        Some(reserved) => Err(format!(
            "{} is below {reserved}, which is reserved for the server and its nodes",
            id.short()
        )),
    }
}

/// A random ID.
pub(super) fn new_id(random: &dyn SecureRandom) -> Result<EntryId, Status> {
    let mut bytes = [0; 16];
    let filled = random.fill(&mut bytes);
    filled.map_err(|_| Status::unavailable("the system gave no random numbers"))?;
    EntryId::parse(uuid(bytes)).map_err(|error| Status::internal(error.to_string()))
}

pub(super) fn too_many() -> Status {
    Status::resource_exhausted(format!(
        "the server has {MOST} entries of the API, and takes no more; delete some"
    ))
}

/// An ID that a caller chooses.
pub(super) fn chosen_id(text: &str) -> Result<EntryId, String> {
    let id = EntryId::parse(text).ok().filter(|_| text.len() <= MAX_ID);
    let id = id.ok_or("invalid entry ID: at most 255 letters, digits, `.`, `-` and `_`")?;
    match text.starts_with(OF_FILE) {
        true => Err("invalid entry ID: those that begin with `file.` are of the site file".into()),
        false => Ok(id),
    }
}

impl Form<'_> {
    /// A new entry.
    pub(super) fn parse(&self, id: EntryId, message: Entry) -> Result<Registration, String> {
        let empty = Registration {
            id,
            spiffe_id: self.trust_domain.id(),
            kind: EntryKind::Workload,
            hint: String::new(),
            is_default: false,
            selectors: Vec::new(),
            on: Placement::Everywhere,
            attributes: Attributes::default(),
        };
        self.change(empty, message, &convert::whole_entry())
    }

    /// What the mask names is taken from the message.
    pub(super) fn change(
        &self,
        mut entry: Registration,
        message: Entry,
        mask: &EntryMask,
    ) -> Result<Registration, String> {
        refuse_without_effect(&message, mask)?;
        if mask.parent_id {
            let parent = convert::own_id(message.parent_id, self.trust_domain);
            let parent = parent.map_err(|fault| format!("invalid parent ID: {fault}"))?;
            entry.attributes.parent = Some(parent);
        }
        if mask.spiffe_id {
            let id = workload_id(message.spiffe_id, self.trust_domain);
            entry.spiffe_id = id.map_err(|fault| format!("invalid spiffe ID: {fault}"))?;
        }
        if mask.selectors {
            entry.selectors = selectors::parse(&message.selectors)?;
            if entry.selectors.is_empty() {
                return Err("selector list is empty".to_owned());
            }
        }
        if mask.hint {
            if message.hint.len() > MAX_HINT {
                return Err(format!("hint is too long, max length is {MAX_HINT} bytes"));
            }
            entry.hint = message.hint;
        }
        let attributes = &mut entry.attributes;
        if mask.x509_svid_ttl {
            attributes.x509_svid_seconds = seconds(message.x509_svid_ttl)?;
        }
        if mask.expires_at {
            attributes.expires_at = match message.expires_at {
                0 => None,
                end if end > 0 => Some(end),
                _ => return Err("expires_at is before 1970".to_owned()),
            };
        }
        if mask.dns_names {
            attributes.dns_names = dns_names(message.dns_names)?;
        }
        if mask.federates_with {
            attributes.federates_with = self.federated(&message.federates_with)?;
        }
        if mask.admin {
            attributes.admin = message.admin;
        }
        if mask.downstream {
            attributes.downstream = message.downstream;
        }
        Ok(entry)
    }

    fn federated(&self, names: &[String]) -> Result<BTreeSet<TrustDomain>, String> {
        if names.len() > MAX_FEDERATED {
            return Err(format!(
                "an entry federates with {MAX_FEDERATED} trust domains at most"
            ));
        }
        let parse = |name: &String| {
            let parsed = convert::trust_domain(name);
            let parsed =
                parsed.map_err(|fault| format!("invalid federated trust domain: {fault}"))?;
            match self.known.contains(&parsed) {
                true => Ok(parsed),
                false => Err(format!(
                    "unable to find federated bundle {parsed}: set its bundle first"
                )),
            }
        };
        names.iter().map(parse).collect()
    }
}

fn refuse_without_effect(message: &Entry, mask: &EntryMask) -> Result<(), String> {
    let more = message.additional_attributes.unwrap_or_default();
    let more = more.disable_x509_svid_prefetch || more.jwt_svid_include_jti;
    for (is_asked, what) in [
        (mask.store_svid && message.store_svid, "store_svid"),
        (
            mask.jwt_svid_ttl && message.jwt_svid_ttl != 0,
            "jwt_svid_ttl",
        ),
        (mask.additional_attributes && more, "additional_attributes"),
    ] {
        if is_asked {
            return Err(format!("this server does not support {what}; leave it out"));
        }
    }
    Ok(())
}

/// 0 is the usual lifetime.
pub(super) fn seconds(ttl: i32) -> Result<Option<u32>, String> {
    match u32::try_from(ttl) {
        Ok(0) => Ok(None),
        Ok(ttl) => Ok(Some(ttl)),
        Err(_) => Err("a TTL cannot be negative".to_owned()),
    }
}

pub(super) fn dns_names(names: Vec<String>) -> Result<Vec<String>, String> {
    if names.len() > MAX_NAMES {
        return Err(format!("an entry has {MAX_NAMES} DNS names at most"));
    }
    match names.iter().find(|name| !is_dns_name(name)) {
        None => Ok(names),
        Some(name) => {
            let name: String = name.chars().take(64).collect();
            Err(format!("invalid DNS name {name:?}"))
        }
    }
}

/// RFC 1123 2.1, and a wildcard in the place of the first label (RFC 9525 6.3).
fn is_dns_name(name: &str) -> bool {
    let rest = name.strip_prefix("*.").unwrap_or(name);
    let is_label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && rest.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> TrustDomain {
        TrustDomain::parse("osaka.example").unwrap()
    }

    fn message() -> Entry {
        let id = |path: &str| {
            Some(Spiffeid {
                trust_domain: "osaka.example".to_owned(),
                path: path.to_owned(),
            })
        };
        Entry {
            spiffe_id: id("/robot"),
            parent_id: id("/renkei/nodes"),
            selectors: vec![selectors::message("unix:uid:1000").unwrap()],
            ..Entry::default()
        }
    }

    fn parse(change: impl FnOnce(&mut Entry)) -> Result<Registration, String> {
        let mut message = message();
        change(&mut message);
        let known = BTreeSet::from([TrustDomain::parse("tokyo.example").unwrap()]);
        let own = own();
        let form = Form {
            trust_domain: &own,
            known: &known,
        };
        form.parse(EntryId::parse("one").unwrap(), message)
    }

    #[test]
    fn what_an_entry_says_is_taken() {
        let entry = parse(|message| {
            message.x509_svid_ttl = 60;
            message.federates_with = vec!["spiffe://tokyo.example".to_owned()];
            message.dns_names = vec!["db.osaka.example".to_owned(), "*.db_1.example".to_owned()];
            message.admin = true;
            message.expires_at = 1;
            message.hint = "robot".to_owned();
        });
        let entry = entry.unwrap();
        assert_eq!(entry.spiffe_id.short(), "osaka.example/robot");
        assert_eq!(entry.selectors, ["unix:uid:1000"]);
        assert_eq!(entry.hint, "robot");
        let attributes = entry.attributes;
        assert_eq!(attributes.x509_svid_seconds, Some(60));
        assert_eq!(attributes.federates_with.len(), 1);
        assert_eq!(attributes.expires_at, Some(1));
        assert!(attributes.admin && !attributes.downstream);
        assert_eq!(attributes.dns_names.len(), 2);
    }

    #[test]
    fn what_is_wrong_or_without_effect_is_refused_with_the_reason() {
        let path = |message: &mut Entry, path: &str| {
            message.spiffe_id.as_mut().unwrap().path = path.to_owned();
        };
        type Change<'a> = Box<dyn FnOnce(&mut Entry) + 'a>;
        let cases: Vec<(Change<'_>, &str)> = vec![
            (Box::new(|m| path(m, "/spire/server")), "reserved"),
            (Box::new(|m| path(m, "/renkei/node/a")), "reserved"),
            (Box::new(|m| path(m, "/renkei")), "reserved"),
            (Box::new(|m| path(m, "")), "path is empty"),
            (Box::new(|m| path(m, "/a/../b")), "invalid spiffe ID"),
            (Box::new(|m| m.spiffe_id = None), "invalid spiffe ID"),
            (Box::new(|m| m.parent_id = None), "invalid parent ID"),
            (Box::new(|m| m.selectors.clear()), "selector list is empty"),
            (Box::new(|m| m.jwt_svid_ttl = 1), "jwt_svid_ttl"),
            (Box::new(|m| m.store_svid = true), "store_svid"),
            (Box::new(|m| m.x509_svid_ttl = -1), "negative"),
            (Box::new(|m| m.expires_at = -1), "before 1970"),
            (Box::new(|m| m.hint = "x".repeat(1_025)), "hint"),
            (Box::new(|m| m.dns_names = vec!["a b".into()]), "DNS name"),
            (
                Box::new(|m| m.federates_with = vec!["kyoto.example".into()]),
                "unable to find",
            ),
            (
                Box::new(|m| m.spiffe_id.as_mut().unwrap().trust_domain = "tokyo.example".into()),
                "not of osaka.example",
            ),
        ];
        for (change, reason) in cases {
            let fault = parse(change).unwrap_err();
            assert!(fault.contains(reason), "{fault} lacks {reason}");
        }
        parse(|message| path(message, "/renkeiish")).unwrap();
        chosen_id("file.workload.x").unwrap_err();
        chosen_id("a/b").unwrap_err();
        chosen_id("mine").unwrap();
    }
}
