//! SVIDs of seconds, their renewal, and authorities that leave bundles.

use std::{sync::Arc, time::Duration};

use renkei_runtime::clock;
use renkei_spiffe::{Bundle, BundleSet, SpiffeId, TrustDomain, X509Svid};
use renkei_testkit::TestAuthority;

use super::{Node, svid};

/// How long brief SVIDs are valid: longer than any machine takes to use them, and so brief that
/// all tests of a process can let several of them end while the others are valid.
pub const BRIEF: Duration = Duration::from_mins(1);

/// An SVID that ends soon. Only [`TimeOfDay`](super::time::TimeOfDay) lets that come.
pub fn brief(authority: &TestAuthority, path: &str) -> Arc<X509Svid> {
    let now = clock::now();
    let from = now - Duration::from_secs(1);
    svid(authority.issue_between(path, from, now + BRIEF))
}

/// Puts an SVID into a node's identities.
pub fn give(node: &Node, svid: &Arc<X509Svid>) {
    node.identities.send_modify(|all| {
        let all = Arc::make_mut(all);
        all.svids.insert(svid.id().clone(), svid.clone());
    });
}

/// Takes an identity from a node, as an agent does whose entry was deleted.
pub fn take(node: &Node, id: &SpiffeId) {
    node.identities.send_modify(|all| {
        Arc::make_mut(all).svids.remove(id);
    });
}

/// From now on a node knows these authorities of a trust domain, and no others.
pub fn trust(node: &Node, trust_domain: &str, authorities: &[&TestAuthority]) {
    node.identities.send_modify(|all| {
        let bundles = &mut Arc::make_mut(all).bundles;
        know(Arc::make_mut(bundles), trust_domain, authorities);
    });
}

/// From now on a node has no bundle of a trust domain.
pub fn forget(node: &Node, trust_domain: &str) {
    let name = TrustDomain::parse(trust_domain).unwrap();
    node.identities.send_modify(|all| {
        let bundles = &mut Arc::make_mut(all).bundles;
        Arc::make_mut(bundles).remove(&name);
    });
}

pub fn know(bundles: &mut BundleSet, trust_domain: &str, authorities: &[&TestAuthority]) {
    let mut bundle = Bundle::empty(TrustDomain::parse(trust_domain).unwrap());
    bundle.x509_authorities = authorities.iter().map(|one| one.certificate()).collect();
    bundles.insert(Arc::new(bundle));
}
