//! SVIDs of seconds, their renewal, and authorities that leave bundles.

use std::{sync::Arc, time::Duration};

use renkei_spiffe::{Bundle, BundleSet, SpiffeId, TrustDomain, X509Svid};
use renkei_testkit::TestAuthority;
use time::OffsetDateTime;

use super::{Node, svid};

/// An SVID that ends in so many seconds.
pub fn brief(authority: &TestAuthority, path: &str, seconds: i64) -> Arc<X509Svid> {
    let now = OffsetDateTime::now_utc();
    let (from, until) = (
        now - time::Duration::seconds(1),
        now + time::Duration::seconds(seconds),
    );
    svid(authority.issue_between(path, from, until))
}

/// Sleeps until the certificate has ended, by the wall clock.
pub async fn ended(svid: &X509Svid) {
    loop {
        let left = svid.not_after() - OffsetDateTime::now_utc();
        let Ok(left) = Duration::try_from(left) else {
            return;
        };
        tokio::time::sleep(left + Duration::from_millis(1)).await;
    }
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

pub fn know(bundles: &mut BundleSet, trust_domain: &str, authorities: &[&TestAuthority]) {
    let mut bundle = Bundle::empty(TrustDomain::parse(trust_domain).unwrap());
    bundle.x509_authorities = authorities.iter().map(|one| one.certificate()).collect();
    bundles.insert(Arc::new(bundle));
}
