//! Against a running agent, and against messages that no good agent would send.

use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;
use renkei_api::workload::{X509svid, X509svidResponse};
use renkei_runtime::{files, supervise::Supervisor};
use renkei_spiffe::TrustDomain;
use renkei_testkit::TestAuthority;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{DecodeError, FetchError, decode::update, fetch, watch};
use crate::{
    testing::{Running, id, me, part_of, provider, within},
    workload_api::GrpcLimits,
};

#[tokio::test]
async fn one_fetch_brings_svids_in_their_order_and_bundles() {
    let part = part_of(&[("zebra", &me()), ("ant", &me())]);
    let running = Running::serving(part, GrpcLimits::default());
    let update = fetch(&running.endpoint(), &provider()).await.unwrap();
    let hints: Vec<_> = update.svids.iter().map(|(hint, _)| hint.as_str()).collect();
    assert_eq!(hints, ["ant", "zebra"]);
    let identities = update.identities();
    assert!(identities.svids.contains_key(&id("zebra")));
    let own = TrustDomain::parse("osaka.example").unwrap();
    let bundle = identities.bundles.get(&own).unwrap();
    assert_eq!(bundle.x509_authorities, [running.signer.certificate()]);
}

#[tokio::test]
async fn a_refusal_and_an_absent_agent_are_told_apart() {
    let running = Running::serving(
        part_of(&[("other", "unix:uid:4242")]),
        GrpcLimits::default(),
    );
    match fetch(&running.endpoint(), &provider()).await {
        Err(FetchError::Status(status)) => assert_eq!(status.code(), Code::PermissionDenied),
        other => panic!("{other:?}"),
    }
    let absent = running.folder().join("absent.sock");
    let error = fetch(absent.to_str().unwrap(), &provider())
        .await
        .unwrap_err();
    assert!(matches!(error, FetchError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("No such file"), "{error}");
}

#[tokio::test]
async fn an_agent_whose_folder_hangs_gives_no_answer_and_holds_up_nothing() {
    let running = Running::serving(part_of(&[("one", &me())]), GrpcLimits::default());
    let socket = super::socket_path(&running.endpoint()).unwrap();
    let (answer, answers) = std::sync::mpsc::channel::<()>();
    let hang = move || answers.recv().map_err(std::io::Error::other);
    let limit = Duration::from_millis(1);
    files::run_within(limit, files::Budget::Folder, &socket, hang).unwrap_err();
    let error = fetch(&running.endpoint(), &provider()).await.unwrap_err();
    assert!(matches!(error, FetchError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("no answer"), "{error}");
    drop(answer);
    while fetch(&running.endpoint(), &provider()).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_watch_follows_changes_and_survives_the_agents_restart() {
    let mut running = Running::serving(part_of(&[("one", &me())]), GrpcLimits::default());
    let stop = CancellationToken::new();
    let source = watch(
        &running.endpoint(),
        provider(),
        (Supervisor::default(), stop.clone()),
    )
    .unwrap();
    let mut identities = source.identities.clone();
    identities
        .wait_for(|now| now.svids.contains_key(&id("one")))
        .await
        .unwrap();

    running
        .part
        .send_replace(part_of(&[("one", &me()), ("two", &me())]));
    identities
        .wait_for(|now| now.svids.contains_key(&id("two")))
        .await
        .unwrap();

    running.stop.cancel();
    let mut status = source.status.clone();
    status.wait_for(|status| !status.connected).await.unwrap();
    assert!(
        identities.borrow().svids.contains_key(&id("two")),
        "the last good state stays"
    );

    running.restart().await;
    running.part.send_replace(part_of(&[("three", &me())]));
    let found = identities.wait_for(|now| now.svids.contains_key(&id("three")));
    within(found).await.unwrap();
    stop.cancel();
}

#[tokio::test]
async fn what_an_answer_no_longer_holds_is_gone_and_a_denial_takes_everything() {
    let running = Running::serving(
        part_of(&[("one", &me()), ("two", &me())]),
        GrpcLimits::default(),
    );
    let stop = CancellationToken::new();
    let source = watch(
        &running.endpoint(),
        provider(),
        (Supervisor::default(), stop.clone()),
    )
    .unwrap();
    let mut identities = source.identities.clone();
    identities
        .wait_for(|now| now.svids.len() == 2)
        .await
        .unwrap();
    running.part.send_replace(part_of(&[("two", &me())]));
    identities
        .wait_for(|now| !now.svids.contains_key(&id("one")))
        .await
        .unwrap();
    assert!(identities.borrow().svids.contains_key(&id("two")));
    // Nothing is this process's any more: PermissionDenied.
    running
        .part
        .send_replace(part_of(&[("two", "unix:uid:4242")]));
    identities
        .wait_for(|now| now.svids.is_empty())
        .await
        .unwrap();
    assert_eq!(identities.borrow().bundles.iter().count(), 0);
    let mut status = source.status.clone();
    let denied = status
        .wait_for(|status| !status.connected)
        .await
        .unwrap()
        .clone();
    let error = denied.last_error.unwrap();
    assert!(error.contains("PermissionDenied"), "{error}");
    running.part.send_replace(part_of(&[("one", &me())]));
    let back = identities.wait_for(|now| now.svids.contains_key(&id("one")));
    within(back).await.unwrap();
    stop.cancel();
}

#[tokio::test]
async fn after_a_long_denial_the_client_is_back_within_two_seconds() {
    use tokio::time::Instant;
    let socket = tempfile::tempdir().unwrap();
    let socket = socket.path().join("denies.sock");
    let mut asked = denying_agent(&socket);
    tokio::time::pause();
    let stop = CancellationToken::new();
    let _source = watch(
        socket.to_str().unwrap(),
        provider(),
        (Supervisor::default(), stop.clone()),
    )
    .unwrap();
    asked.recv().await.unwrap();
    // Longer than any backoff that doubles needs to reach half a minute.
    for _ in 0..15 {
        let before = Instant::now();
        asked.recv().await.unwrap();
        let waited = before.elapsed();
        assert!(waited < Duration::from_secs(2), "{waited:?}");
    }
    stop.cancel();
}

/// An agent that denies everyone; says when it was asked.
fn denying_agent(socket: &std::path::Path) -> tokio::sync::mpsc::UnboundedReceiver<()> {
    use renkei_api::workload::*;
    use tonic::{Request, Response, Status};

    struct Denies(tokio::sync::mpsc::UnboundedSender<()>);

    type Stream<T> = futures_util::stream::Pending<Result<T, Status>>;

    impl Denies {
        fn deny<T>(&self) -> Result<Response<T>, Status> {
            let _ = self.0.send(());
            Err(Status::permission_denied("no identity issued"))
        }
    }

    #[tonic::async_trait]
    impl spiffe_workload_api_server::SpiffeWorkloadApi for Denies {
        type FetchX509SVIDStream = Stream<X509svidResponse>;
        type FetchX509BundlesStream = Stream<X509BundlesResponse>;
        type FetchJWTBundlesStream = Stream<JwtBundlesResponse>;

        async fn fetch_x509svid(
            &self,
            _: Request<X509svidRequest>,
        ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
            self.deny()
        }

        async fn fetch_x509_bundles(
            &self,
            _: Request<X509BundlesRequest>,
        ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
            self.deny()
        }

        async fn fetch_jwtsvid(
            &self,
            _: Request<JwtsvidRequest>,
        ) -> Result<Response<JwtsvidResponse>, Status> {
            self.deny()
        }

        async fn fetch_jwt_bundles(
            &self,
            _: Request<JwtBundlesRequest>,
        ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
            self.deny()
        }

        async fn validate_jwtsvid(
            &self,
            _: Request<ValidateJwtsvidRequest>,
        ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
            self.deny()
        }
    }

    let (asked, seen) = tokio::sync::mpsc::unbounded_channel();
    let listener = tokio::net::UnixListener::bind(socket).unwrap();
    let incoming = futures_util::stream::unfold(listener, async |listener| {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    let service = spiffe_workload_api_server::SpiffeWorkloadApiServer::new(Denies(asked));
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming),
    );
    seen
}

#[tokio::test]
async fn what_has_ended_is_not_kept_for_want_of_an_agent() {
    let running = Running::serving(part_of(&[]), GrpcLimits::default());
    running.signer.set_lifetime(Duration::from_secs(3));
    running.part.send_replace(part_of(&[("one", &me())]));
    let stop = CancellationToken::new();
    let source = watch(
        &running.endpoint(),
        provider(),
        (Supervisor::default(), stop.clone()),
    )
    .unwrap();
    let mut identities = source.identities.clone();
    let held = identities
        .wait_for(|now| now.svids.contains_key(&id("one")))
        .await
        .unwrap()
        .clone();
    running.stop.cancel();
    identities
        .wait_for(|now| now.svids.is_empty())
        .await
        .unwrap();
    let end = held.svids[&id("one")].not_after();
    assert!(time::OffsetDateTime::now_utc() >= end, "not before its end");
    stop.cancel();
}

#[test]
fn a_bad_answer_takes_what_it_does_not_name() {
    let authority = TestAuthority::new("osaka.example");
    let good = update(message(&authority), &provider()).unwrap();
    let (valid, seen) = watch::channel(std::sync::Arc::default());
    let published = super::Published::new(valid);
    published.receive(good.identities());
    published.retain(&["spiffe://osaka.example/one".to_owned()].into());
    assert_eq!(seen.borrow().svids.len(), 1);
    published.retain(&["spiffe://osaka.example/two".to_owned()].into());
    assert_eq!(seen.borrow().svids.len(), 0);
    assert_eq!(seen.borrow().bundles.iter().count(), 2);
}

fn message(authority: &TestAuthority) -> X509svidResponse {
    let issued = authority.issue("/one");
    let svid = X509svid {
        spiffe_id: "spiffe://osaka.example/one".into(),
        x509_svid: issued.chain[0].to_vec(),
        x509_svid_key: issued.key_pkcs8,
        bundle: authority.certificate().to_vec(),
        hint: String::new(),
    };
    let federated = [
        authority.certificate().to_vec(),
        authority.certificate().to_vec(),
    ]
    .concat();
    X509svidResponse {
        svids: vec![svid],
        crl: Vec::new(),
        federated_bundles: HashMap::from([("spiffe://tokyo.example".into(), federated)]),
    }
}

#[test]
fn a_bundle_of_several_certificates_is_taken_apart() {
    let authority = TestAuthority::new("osaka.example");
    let update = update(message(&authority), &provider()).unwrap();
    let tokyo = update
        .bundles
        .get(&TrustDomain::parse("tokyo.example").unwrap())
        .unwrap();
    assert_eq!(
        tokyo.x509_authorities,
        [authority.certificate(), authority.certificate()]
    );
}

#[test]
fn bad_messages_are_refused_with_their_fault() {
    let authority = TestAuthority::new("osaka.example");
    let good = message(&authority);
    let fault = |change: fn(&mut X509svidResponse)| {
        let mut bad = good.clone();
        change(&mut bad);
        update(bad, &provider()).unwrap_err()
    };
    assert_eq!(fault(|m| m.svids.clear()), DecodeError::NoSvids);
    assert!(matches!(
        fault(|m| m.svids[0].spiffe_id = "x".into()),
        DecodeError::Id { .. }
    ));
    let other = |m: &mut X509svidResponse| m.svids[0].spiffe_id = "spiffe://osaka.example/b".into();
    assert!(matches!(fault(other), DecodeError::OtherId { .. }));
    assert!(matches!(
        fault(|m| m.svids[0].x509_svid.truncate(100)),
        DecodeError::Der(_)
    ));
    assert!(matches!(
        fault(|m| m.svids[0].bundle.push(0x30)),
        DecodeError::Der(_)
    ));
    assert!(matches!(
        fault(|m| m.svids[0].x509_svid.clear()),
        DecodeError::Svid { .. }
    ));
    assert!(matches!(
        fault(|m| m.svids[0].x509_svid_key.clear()),
        DecodeError::Key { .. }
    ));
    let key = |m: &mut X509svidResponse| {
        m.svids[0].x509_svid_key = TestAuthority::new("osaka.example").issue("/one").key_pkcs8;
    };
    assert!(matches!(fault(key), DecodeError::Key { .. }));
    let path = |m: &mut X509svidResponse| {
        m.federated_bundles
            .insert("spiffe://tokyo.example/x".into(), Vec::new());
    };
    assert!(matches!(fault(path), DecodeError::NotATrustDomain(_)));
}

proptest! {
    #[test]
    fn arbitrary_certificates_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let svid = X509svid {
            spiffe_id: "spiffe://osaka.example/one".into(),
            x509_svid: bytes.clone(),
            x509_svid_key: bytes.clone(),
            bundle: bytes,
            hint: String::new(),
        };
        let message = X509svidResponse { svids: vec![svid], ..Default::default() };
        prop_assert!(update(message, &provider()).is_err());
    }
}
