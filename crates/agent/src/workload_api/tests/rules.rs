//! The rules of SPIFFE_Workload_Endpoint and SPIFFE_Workload_API that good clients never test.

use std::{
    os::unix::fs::PermissionsExt,
    sync::{Arc, atomic::Ordering},
};

use hyper_util::rt::TokioIo;
use renkei_api::workload::{
    JwtBundlesRequest, JwtsvidRequest, ValidateJwtsvidRequest, X509BundlesRequest, X509svidRequest,
    spiffe_workload_api_client::SpiffeWorkloadApiClient,
};
use tokio::net::UnixStream;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};

use crate::{
    testing::{Running, me, part_of},
    workload_api::GrpcLimits,
};

pub(super) async fn client(running: &Running) -> SpiffeWorkloadApiClient<Channel> {
    let socket = running.socket();
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    SpiffeWorkloadApiClient::new(endpoint.connect_with_connector(connect).await.unwrap())
}

pub(super) fn with_header<T>(message: T, values: &[&'static str]) -> Request<T> {
    let mut request = Request::new(message);
    for value in values {
        request
            .metadata_mut()
            .append("workload.spiffe.io", value.parse().unwrap());
    }
    request
}

fn code<T: std::fmt::Debug>(result: Result<T, Status>) -> Code {
    result.unwrap_err().code()
}

#[tokio::test]
async fn the_security_header_must_be_there_exactly_once() {
    let running = Running::serving(part_of(&[("one", &me())]), GrpcLimits::default());
    let mut client = client(&running).await;
    let bad: [&[&str]; 4] = [&[], &["false"], &["True"], &["true", "true"]];
    for values in bad {
        let svid = client
            .fetch_x509svid(with_header(X509svidRequest {}, values))
            .await;
        assert_eq!(code(svid), Code::InvalidArgument, "{values:?}");
        let bundles = client
            .fetch_x509_bundles(with_header(X509BundlesRequest {}, values))
            .await;
        assert_eq!(code(bundles), Code::InvalidArgument, "{values:?}");
        let jwt = client
            .fetch_jwt_bundles(with_header(JwtBundlesRequest {}, values))
            .await;
        assert_eq!(code(jwt), Code::InvalidArgument, "{values:?}");
    }
    assert_eq!(running.metrics.denials()["bad_request"], 12);
    client
        .fetch_x509svid(with_header(X509svidRequest {}, &["true"]))
        .await
        .unwrap();
}

#[tokio::test]
async fn not_ready_is_said_as_unavailable() {
    let running = Running::serving(part_of(&[("one", &me())]), GrpcLimits::default());
    let mut identities = running.kept.identities.clone();
    let own = running.bundles.send_replace(Arc::default());
    identities
        .wait_for(|now| now.bundles.iter().next().is_none())
        .await
        .unwrap();
    let mut client = client(&running).await;
    let svid = client
        .fetch_x509svid(with_header(X509svidRequest {}, &["true"]))
        .await;
    assert_eq!(code(svid), Code::Unavailable);
    let bundles = client
        .fetch_x509_bundles(with_header(X509BundlesRequest {}, &["true"]))
        .await;
    assert_eq!(code(bundles), Code::Unavailable);

    // With bundles, but no SVID that could be issued.
    running.signer.fails.store(true, Ordering::SeqCst);
    running.part.send_replace(part_of(&[("two", &me())]));
    running.bundles.send_replace(own);
    identities
        .wait_for(|now| now.bundles.iter().next().is_some())
        .await
        .unwrap();
    let svid = client
        .fetch_x509svid(with_header(X509svidRequest {}, &["true"]))
        .await;
    assert_eq!(code(svid), Code::Unavailable);
    client
        .fetch_x509_bundles(with_header(X509BundlesRequest {}, &["true"]))
        .await
        .unwrap();
}

#[tokio::test]
async fn jwt_methods_say_that_they_do_not_exist() {
    let running = Running::serving(part_of(&[("one", &me())]), GrpcLimits::default());
    let mut client = client(&running).await;
    let ask = |audience: &[&str]| {
        let audience = audience.iter().map(|text| text.to_string()).collect();
        with_header(
            JwtsvidRequest {
                audience,
                spiffe_id: String::new(),
            },
            &["true"],
        )
    };
    let status = client.fetch_jwtsvid(ask(&["a"])).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("no JWT-SVIDs"), "{status}");
    assert_eq!(
        code(client.fetch_jwtsvid(ask(&[])).await),
        Code::InvalidArgument
    );
    assert_eq!(
        code(client.fetch_jwtsvid(ask(&[""])).await),
        Code::InvalidArgument
    );
    let bundles = client
        .fetch_jwt_bundles(with_header(JwtBundlesRequest {}, &["true"]))
        .await;
    assert_eq!(code(bundles), Code::Unimplemented);
    let empty = ValidateJwtsvidRequest {
        audience: "a".into(),
        svid: String::new(),
    };
    let validated = client.validate_jwtsvid(with_header(empty, &["true"])).await;
    assert_eq!(code(validated), Code::InvalidArgument);
}

#[tokio::test]
async fn everyone_may_connect() {
    let running = Running::serving(part_of(&[]), GrpcLimits::default());
    let mode = std::fs::metadata(running.socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o666);
}
