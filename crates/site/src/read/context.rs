//! What is known of a site while the rest of its file is read.

use std::collections::BTreeSet;

use renkei_spiffe::{SpiffeId, TrustDomain};

use super::{
    fields::{Reader, Wrong},
    peers, values,
};
use crate::node::Node;

/// What is known of the site while the rest is read.
pub(super) struct Context<'a> {
    pub(super) own: Option<TrustDomain>,
    pub(super) peers: peers::Known,
    pub(super) services: BTreeSet<&'a str>,
    pub(super) workloads: BTreeSet<&'a str>,
}

impl Context<'_> {
    /// `osaka.example` alone would be the site's own workload of that name; whoever writes it
    /// means everybody at Osaka, and so must not get the one for the other.
    pub(super) fn is_no_trust_domain(&self, text: &str) -> Result<(), Wrong> {
        let linked = |name: &TrustDomain| {
            self.own.as_ref() == Some(name)
                || self.peers.has_gateway.contains_key(name)
                || self.may_be_a_member(name)
        };
        match TrustDomain::parse(text).ok().filter(linked) {
            Some(name) => Err(Wrong::new(
                format!("{name} names a whole trust domain"),
                format!("write {name}/NAME for each identity"),
            )),
            None => Ok(()),
        }
    }

    /// In a federation any DNS name may be a member's, unless something here has that name.
    fn may_be_a_member(&self, name: &TrustDomain) -> bool {
        let name = name.as_str();
        let here = self.services.contains(name) || self.workloads.contains(name);
        self.peers.incomplete && name.contains('.') && !here
    }
}

/// Reads an identity of the site's own trust domain or a peer's.
pub(super) fn linked_identity(
    reader: &mut Reader,
    node: &Node,
    what: &str,
    context: &Context<'_>,
) -> Option<SpiffeId> {
    let own = context.own.as_ref();
    let example = "osaka.example/collector";
    let id = reader.scalar(node, what, example, |text| {
        context.is_no_trust_domain(text)?;
        values::identity(text, own)
    })??;
    let td = id.trust_domain();
    if own.is_some_and(|own| own != td) && !context.peers.contains(td) {
        let near = context.peers.nearest(td);
        let hint = match near {
            Some(near) => format!("did you mean `{near}{}`?", id.path()),
            None => {
                format!("add `{td}: {{bundle: URL or FILE}}` to `peers`, or join its federation")
            }
        };
        let message = format!("{td} is neither this site's trust domain nor a peer's");
        reader.fault(node.place, message, hint);
        return None;
    }
    Some(id)
}
