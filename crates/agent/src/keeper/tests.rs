//! A keeper over a signer that can fail, slow down and change its CA.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use renkei_api::issue::{CertificateIssuer, IssueFuture, SvidRequest};
use renkei_runtime::{readiness::Readiness, supervise::Supervisor};
use renkei_spiffe::{BundleSet, Identities, X509Svid};
use renkei_testkit::TestAuthority;
use time::OffsetDateTime;
use tokio::sync::watch::Receiver;
use tokio_util::sync::CancellationToken;

use super::{KeeperInputs, keep};
use crate::testing::{Running, bundle, id, me, part_of, provider, within};

const HOUR: Duration = Duration::from_secs(3600);

async fn until(
    identities: &mut Receiver<Arc<Identities>>,
    condition: impl FnMut(&Arc<Identities>) -> bool,
) -> Arc<Identities> {
    let found = within(identities.wait_for(condition)).await;
    found.expect("the keeper runs").clone()
}

fn serial(identities: &Identities, path: &str) -> Option<String> {
    identities
        .svids
        .get(&id(path))
        .map(|svid| svid.serial().to_owned())
}

/// Whether the SVID has come to its end, which on a slow machine it may.
fn has_ended(identities: &Identities, path: &str) -> bool {
    identities.svids[&id(path)].not_after() <= OffsetDateTime::now_utc()
}

#[tokio::test]
async fn every_entry_gets_an_svid_with_a_key_of_its_own() {
    let part = part_of(&[("collector", "unix:uid:0"), ("broker", "")]);
    let running = Running::keeper(part, HOUR);
    let mut identities = running.kept.identities.clone();
    let all = until(&mut identities, |now| now.svids.len() == 3).await;
    for path in ["broker", "collector", "renkei/server"] {
        let svid = &all.svids[&id(path)];
        // Fails unless the key is that of the certificate.
        svid.certified_key(&provider()).unwrap();
    }
    let keys: std::collections::BTreeSet<_> = all
        .svids
        .values()
        .map(|svid| svid.key().pkcs8().to_vec())
        .collect();
    assert_eq!(keys.len(), 3);
}

#[tokio::test]
async fn renewal_comes_at_half_of_the_life_and_is_counted() {
    let running = Running::keeper(part_of(&[("long", &me())]), HOUR);
    let mut identities = running.kept.identities.clone();
    let first = until(&mut identities, |now| now.svids.contains_key(&id("long"))).await;
    let status = running.kept.status.borrow().clone();
    let long = status.iter().find(|one| one.id == id("long")).unwrap();
    let left = first.svids[&id("long")].not_after() - long.next_renewal.unwrap();
    // Half of the life, give or take a tenth.
    let minutes = time::Duration::minutes;
    assert!(left > minutes(26) && left < minutes(34), "{left}");

    running.signer.set_lifetime(Duration::from_secs(8));
    running.part.send_replace(part_of(&[("one", &me())]));
    let first = until(&mut identities, |now| now.svids.contains_key(&id("one"))).await;
    let before = serial(&first, "one");
    let next = until(&mut identities, |now| {
        serial(now, "one").is_some_and(|now| Some(now) != before)
    });
    let next = next.await;
    assert!(running.metrics.renewals() >= 1);
    // The signer dates back by ten seconds.
    let renewed = next.svids[&id("one")].not_before() + Duration::from_secs(10);
    assert!(
        first.svids[&id("one")].not_after() > renewed,
        "renewed in time"
    );
    let mut status = running.kept.status.clone();
    let seen = status.wait_for(|all| all.iter().any(|s| s.id == id("one") && s.renewals >= 1));
    within(seen).await.unwrap();
}

#[tokio::test]
async fn a_failed_renewal_keeps_the_valid_svid_and_is_tried_again() {
    let running = Running::keeper(part_of(&[("one", &me())]), Duration::from_secs(3));
    let mut identities = running.kept.identities.clone();
    let first = until(&mut identities, |now| now.svids.contains_key(&id("one"))).await;
    running.signer.fails.store(true, Ordering::SeqCst);
    let mut status = running.kept.status.clone();
    let failing = status.wait_for(|all| all.iter().any(|s| s.last_error.is_some()));
    within(failing).await.unwrap();
    let kept = identities.borrow().svids.contains_key(&id("one"));
    assert!(kept || has_ended(&first, "one"), "still valid, still there");

    // It is down for longer than the SVID lives.
    until(&mut identities, |now| now.svids.is_empty()).await;
    running.signer.set_lifetime(HOUR);
    running.signer.fails.store(false, Ordering::SeqCst);
    until(&mut identities, |now| now.svids.contains_key(&id("one"))).await;
    let healed = status.wait_for(|all| all.iter().all(|s| s.last_error.is_none()));
    within(healed).await.unwrap();
}

#[tokio::test]
async fn entries_come_and_go_with_the_site_and_others_stay_untouched() {
    let running = Running::keeper(part_of(&[("one", &me())]), HOUR);
    let mut identities = running.kept.identities.clone();
    let first = until(&mut identities, |now| now.svids.contains_key(&id("one"))).await;
    running
        .part
        .send_replace(part_of(&[("one", &me()), ("two", &me())]));
    let second = until(&mut identities, |now| now.svids.contains_key(&id("two"))).await;
    assert_eq!(serial(&first, "one"), serial(&second, "one"));
    running.part.send_replace(part_of(&[("two", &me())]));
    let third = until(&mut identities, |now| !now.svids.contains_key(&id("one"))).await;
    assert_eq!(serial(&second, "two"), serial(&third, "two"));
}

#[tokio::test]
async fn another_lifetime_has_everything_issued_anew_at_once() {
    let running = Running::keeper(part_of(&[("one", &me()), ("two", &me())]), HOUR);
    let mut identities = running.kept.identities.clone();
    let first = until(&mut identities, |now| now.svids.len() == 3).await;
    let minute = Duration::from_secs(60);
    running.signer.set_lifetime(minute);
    let mut part = (*part_of(&[("one", &me()), ("two", &me())])).clone();
    // Another version alone changes nothing.
    part.version = 2;
    running.part.send_replace(Arc::new(part.clone()));
    part.version = 3;
    part.svid_lifetime = minute;
    running.part.send_replace(Arc::new(part));
    let all = until(&mut identities, |now| {
        let ends = now.svids.values().map(|svid| svid.not_after());
        ends.max() < Some(OffsetDateTime::now_utc() + 2 * minute)
    })
    .await;
    for path in ["one", "two", "renkei/server"] {
        assert_ne!(serial(&first, path), serial(&all, path), "{path}");
    }
    assert_eq!(running.signer.asked.load(Ordering::SeqCst), 6);
}

#[tokio::test]
async fn a_withdrawn_authority_has_everything_issued_anew_at_once() {
    let running = Running::keeper(part_of(&[("one", &me())]), HOUR);
    let mut identities = running.kept.identities.clone();
    let first = until(&mut identities, |now| now.svids.contains_key(&id("one"))).await;
    let (old, asked) = (running.signer.certificate(), || {
        running.signer.asked.load(Ordering::SeqCst)
    });
    let before = asked();

    // Prepared and active: both authorities are in the bundle, nothing is issued anew.
    running.signer.rotate();
    let both = bundle("osaka.example", vec![old, running.signer.certificate()]);
    running
        .bundles
        .send_replace(Arc::new(BundleSet::from_iter([both.clone()])));
    let during = until(&mut identities, |now| {
        now.bundles
            .iter()
            .any(|bundle| bundle.x509_authorities == both.x509_authorities)
    });
    assert_eq!(serial(&*during.await, "one"), serial(&first, "one"));
    assert_eq!(asked(), before);

    // Revoked: the old one leaves.
    let new = bundle("osaka.example", vec![running.signer.certificate()]);
    running
        .bundles
        .send_replace(Arc::new(BundleSet::from_iter([new])));
    until(&mut identities, |now| {
        serial(now, "one").is_some_and(|now| Some(now) != serial(&first, "one"))
    })
    .await;
}

#[tokio::test]
async fn what_the_own_bundle_does_not_verify_is_not_used() {
    let running = Running::keeper(part_of(&[("one", &me())]), HOUR);
    let other = TestAuthority::new("osaka.example");
    let strange = bundle("osaka.example", vec![other.certificate()]);
    running
        .bundles
        .send_replace(Arc::new(BundleSet::from_iter([strange])));
    running.part.send_replace(part_of(&[("two", &me())]));
    let mut status = running.kept.status.clone();
    let refused = status.wait_for(|all| {
        all.iter()
            .any(|s| s.id == id("two") && s.last_error.is_some() && s.serial.is_none())
    });
    within(refused).await.unwrap();
    assert!(
        !running
            .kept
            .identities
            .borrow()
            .svids
            .contains_key(&id("two"))
    );
}

#[tokio::test]
async fn nothing_is_asked_for_before_the_own_bundle_is_there() {
    let running = Running::keeper(part_of(&[]), HOUR);
    let own = running.bundles.send_replace(Arc::default());
    running.part.send_replace(part_of(&[("one", &me())]));
    let mut identities = running.kept.identities.clone();
    until(&mut identities, |now| now.bundles.iter().next().is_none()).await;
    let before = running.signer.asked.load(Ordering::SeqCst);
    // The keeper is in this thread: it does what it can do now.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(running.signer.asked.load(Ordering::SeqCst), before);
    running.bundles.send_replace(own);
    until(&mut identities, |now| now.svids.contains_key(&id("one"))).await;
}

/// Every reader keeps what it has: an SVID is never changed in place.
#[tokio::test]
async fn a_published_set_is_never_edited() {
    let running = Running::keeper(part_of(&[("one", &me())]), Duration::from_secs(3));
    let mut identities = running.kept.identities.clone();
    let first = until(&mut identities, |now| now.svids.contains_key(&id("one"))).await;
    let held: Arc<X509Svid> = first.svids[&id("one")].clone();
    let serial_before = held.serial().to_owned();
    until(&mut identities, |now| {
        serial(now, "one") != Some(serial_before.clone())
    })
    .await;
    assert_eq!(first.svids[&id("one")].serial(), serial_before);
}

/// Panics when it is asked for the second time.
struct Fragile(Arc<crate::testing::Signer>);

impl CertificateIssuer for Fragile {
    fn issue(&self, request: SvidRequest) -> IssueFuture<'_> {
        let answer = self.0.issue(request);
        assert_ne!(self.0.asked.load(Ordering::SeqCst), 3, "out of order");
        answer
    }
}

#[tokio::test]
async fn a_keeper_that_fails_is_started_again_with_what_it_held_and_readiness_says_so() {
    let around = Running::keeper(part_of(&[("one", &me())]), HOUR);
    let mut settled = around.kept.identities.clone();
    until(&mut settled, |now| now.svids.len() == 2).await;
    // Two SVIDs; the third request, the first renewal, panics.
    around.signer.asked.store(0, Ordering::SeqCst);
    around.signer.set_lifetime(Duration::from_secs(4));
    let readiness = Readiness::new();
    readiness.condition("listeners").set_ready();
    let inputs = KeeperInputs {
        issuer: Arc::new(Fragile(around.signer.clone())),
        tasks: Supervisor::new(readiness.clone()),
        ..around.inputs()
    };
    let ready = readiness.snapshot();
    let stop = CancellationToken::new();
    let kept = keep(inputs, stop.clone());
    let mut identities = kept.identities.clone();
    let before = until(&mut identities, |now| now.svids.len() == 2).await;
    let now = readiness.changed_from(&ready).await;
    let (name, why) = now.missing().next().unwrap();
    assert_eq!(name, "task identities");
    assert!(why.contains("it panicked"), "{why}");
    let held = kept.identities.borrow().clone();
    for path in ["one", "renkei/server"] {
        assert!(
            held.svids.contains_key(&id(path)) || has_ended(&before, path),
            "they are still held"
        );
    }
    until(&mut identities, |now| {
        ["one", "renkei/server"]
            .iter()
            .all(|path| serial(now, path) != serial(&before, path))
    })
    .await;
    around.signer.set_lifetime(HOUR);
    readiness.wait_ready().await;
    stop.cancel();
}

/// The time that this thread has spent on a CPU, whatever else the machine does.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

async fn cpu_per_svid(count: u32) -> Duration {
    let names: Vec<String> = (0..count).map(|n| format!("w{n}")).collect();
    let entries: Vec<(&str, &str)> = names
        .iter()
        .map(|name| (&**name, "unix:uid:4242"))
        .collect();
    let start = cpu();
    let running = Running::keeper(part_of(&entries), HOUR);
    let mut identities = running.kept.identities.clone();
    until(&mut identities, |now| now.svids.len() == names.len() + 1).await;
    (cpu() - start) / count
}

#[tokio::test]
async fn the_work_for_one_svid_does_not_grow_with_the_number_of_all() {
    cpu_per_svid(50).await;
    let (few, many) = (cpu_per_svid(200).await, cpu_per_svid(4_000).await);
    assert!(many < few * 2, "{few:?} of 200, {many:?} of 4,000");
}
