//! A server whose clock was wrong for a while.

use renkei_spiffe::Identities;
use time::{Duration, OffsetDateTime};
use tokio::time::timeout;

use crate::lab::{Lab, SOON};

/// Whether an SVID starts later than `time`.
fn some_start_after(identities: &Identities, time: OffsetDateTime) -> bool {
    let mut svids = identities.svids.values();
    svids.any(|svid| svid.not_before() > time)
}

#[tokio::test]
async fn a_server_does_not_keep_svids_of_the_future() {
    let lab = Lab::start().await;
    let now = OffsetDateTime::now_utc();
    let mut own = lab.server.own_identities();
    // Within the life of the CA, so that these SVIDs alone are wrong afterwards.
    lab.set_ahead(Duration::hours(3));
    let future = own.wait_for(|own| some_start_after(own, now + Duration::hours(1)));
    timeout(SOON, future).await.unwrap().unwrap();

    lab.set_ahead(Duration::ZERO);
    let present = own.wait_for(|own| !some_start_after(own, OffsetDateTime::now_utc()));
    timeout(SOON, present).await.unwrap().unwrap();
    lab.join("store").await;
}
