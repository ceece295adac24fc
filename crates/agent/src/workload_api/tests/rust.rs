//! The Rust crate `spiffe`.

use std::{sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt};
use spiffe::{TrustDomain, WorkloadApiClient, WorkloadApiError, X509Context};

use crate::{
    testing::{DEADLINE, Running, bundle, me, part_of, within},
    workload_api::GrpcLimits,
};

type Item = Result<X509Context, WorkloadApiError>;

async fn next(stream: &mut (impl Stream<Item = Item> + Unpin)) -> Item {
    within(stream.next()).await.expect("the stream goes on")
}

fn names(context: &X509Context) -> Vec<String> {
    let named = |svid: &Arc<spiffe::X509Svid>| {
        assert_eq!(svid.hint(), svid.spiffe_id().path().strip_prefix('/'));
        svid.spiffe_id().to_string()
    };
    context.svids().iter().map(named).collect()
}

#[tokio::test]
async fn everything_comes_at_once_and_changes_are_pushed() {
    let running = Running::serving(part_of(&[("one", &me())]), GrpcLimits::default());
    let client = WorkloadApiClient::connect_to(running.endpoint())
        .await
        .unwrap();
    let mut contexts = Box::pin(client.stream_x509_contexts().await.unwrap());
    let first = next(&mut contexts).await.unwrap();
    assert_eq!(names(&first), ["spiffe://osaka.example/one"]);

    // A new workload.
    running
        .part
        .send_replace(part_of(&[("one", &me()), ("two", &me())]));
    let second = next(&mut contexts).await.unwrap();
    assert_eq!(
        names(&second),
        ["spiffe://osaka.example/one", "spiffe://osaka.example/two"]
    );
    assert_eq!(
        first.svids()[0].leaf(),
        second.svids()[0].leaf(),
        "the first one is as it was"
    );

    // A peer's bundle.
    let peer = bundle("tokyo.example", vec![running.signer.certificate()]);
    running
        .bundles
        .send_modify(|bundles| Arc::make_mut(bundles).insert(peer));
    let third = next(&mut contexts).await.unwrap();
    let tokyo = TrustDomain::new("tokyo.example").unwrap();
    let authorities = third.bundle_set().get(&tokyo).unwrap();
    let known = running.signer.certificate();
    assert_eq!(authorities.authorities()[0].as_bytes(), known.as_ref());

    // One workload less.
    running.part.send_replace(part_of(&[("two", &me())]));
    assert_eq!(
        names(&next(&mut contexts).await.unwrap()),
        ["spiffe://osaka.example/two"]
    );
}

/// While no time passes: it would not arrive if something on its way waited for a timer.
#[tokio::test]
async fn a_change_arrives_at_once() {
    let running = Running::serving(part_of(&[("one", &me())]), GrpcLimits::default());
    let client = WorkloadApiClient::connect_to(running.endpoint())
        .await
        .unwrap();
    let mut contexts = Box::pin(client.stream_x509_contexts().await.unwrap());
    next(&mut contexts).await.unwrap();
    let who = me();
    let names = [("one", &*who), ("two", &*who)];
    for round in 0..5 {
        let count = if round % 2 == 0 { 2 } else { 1 };
        running.part.send_replace(part_of(&names[..count]));
        let context = at_once(contexts.next()).await.unwrap().unwrap();
        assert_eq!(context.svids().len(), count);
    }
}

/// What comes while the clock of this runtime stands still.
async fn at_once<T>(what: impl Future<Output = T>) -> T {
    tokio::time::pause();
    let (_done, waiting) = std::sync::mpsc::channel::<()>();
    // Time does not go on by itself while a thread is at work.
    let late = tokio::task::spawn_blocking(move || {
        // Ends when the other end is dropped.
        let _ = waiting.recv_timeout(DEADLINE);
    });
    let result = tokio::select! {
        result = what => result,
        _ = late => panic!("it waits for a timer"),
    };
    tokio::time::resume();
    result
}

#[tokio::test]
async fn a_renewal_is_pushed() {
    let running = Running::serving(part_of(&[]), GrpcLimits::default());
    running.signer.set_lifetime(Duration::from_secs(3));
    running.part.send_replace(part_of(&[("one", &me())]));
    let client = WorkloadApiClient::connect_to(running.endpoint())
        .await
        .unwrap();
    let mut contexts = Box::pin(client.stream_x509_contexts().await.unwrap());
    let first = next(&mut contexts).await.unwrap();
    let second = next(&mut contexts).await.unwrap();
    assert_eq!(names(&first), names(&second));
    let (first, second) = (first.svids()[0].clone(), second.svids()[0].clone());
    assert_ne!(first.leaf(), second.leaf());
    assert_ne!(
        first.private_key().as_bytes(),
        second.private_key().as_bytes()
    );
}

#[tokio::test]
async fn nothing_is_sent_when_nothing_changed_for_this_caller() {
    let running = Running::serving(part_of(&[("one", &me())]), GrpcLimits::default());
    let client = WorkloadApiClient::connect_to(running.endpoint())
        .await
        .unwrap();
    let mut contexts = Box::pin(client.stream_x509_contexts().await.unwrap());
    next(&mut contexts).await.unwrap();

    let mut identities = running.kept.identities.clone();
    running
        .part
        .send_replace(part_of(&[("one", &me()), ("other", "unix:uid:4242")]));
    identities
        .wait_for(|now| now.svids.len() == 3)
        .await
        .unwrap();
    let silence = tokio::time::timeout(Duration::from_millis(300), contexts.next()).await;
    assert!(
        silence.is_err(),
        "another workload's SVID is none of its business: {silence:?}"
    );

    running
        .part
        .send_replace(part_of(&[("one", &me()), ("two", &me())]));
    assert_eq!(next(&mut contexts).await.unwrap().svids().len(), 2);
}

#[tokio::test]
async fn a_lost_entitlement_ends_the_stream() {
    let running = Running::serving(part_of(&[("one", &me())]), GrpcLimits::default());
    let client = WorkloadApiClient::connect_to(running.endpoint())
        .await
        .unwrap();
    let mut contexts = Box::pin(client.stream_x509_contexts().await.unwrap());
    let mut bundles = Box::pin(client.stream_x509_bundles().await.unwrap());
    next(&mut contexts).await.unwrap();
    assert_eq!(bundles.next().await.unwrap().unwrap().len(), 1);

    running
        .part
        .send_replace(part_of(&[("one", "unix:uid:4242")]));
    let ended = next(&mut contexts).await.unwrap_err();
    assert!(
        matches!(ended, WorkloadApiError::NoIdentityIssued),
        "{ended}"
    );
    let ended = bundles.next().await.unwrap().unwrap_err();
    assert!(
        matches!(ended, WorkloadApiError::NoIdentityIssued),
        "{ended}"
    );
    assert!(contexts.next().await.is_none());
    assert_eq!(running.metrics.denials()["no_identity"], 2);
}

#[tokio::test]
async fn a_client_may_come_before_its_workload_is_registered() {
    let running = Running::serving(part_of(&[]), GrpcLimits::default());
    let client = WorkloadApiClient::connect_to(running.endpoint())
        .await
        .unwrap();
    let refused = client.fetch_x509_svid().await.unwrap_err();
    assert!(
        matches!(refused, WorkloadApiError::NoIdentityIssued),
        "{refused}"
    );
    // No pause: the first message waits for the SVID that is just being issued.
    running.part.send_replace(part_of(&[("one", &me())]));
    let svid = client.fetch_x509_svid().await.unwrap();
    assert_eq!(svid.spiffe_id().to_string(), "spiffe://osaka.example/one");
}
