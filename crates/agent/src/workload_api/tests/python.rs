//! The Python package `spiffe`, over gRPC's C core: its `:authority` is the path of the socket.

use std::process::Stdio;

use renkei_testkit::python;
use tokio::process::Command;

use crate::{
    testing::{Running, bundle, me, part_of},
    workload_api::GrpcLimits,
};

const FETCH: &str = r#"
import sys
from spiffe import WorkloadApiClient, TrustDomain
with WorkloadApiClient(socket_path=sys.argv[1]) as client:
    for svid in client.fetch_x509_svids(timeout=10):
        print("svid", svid.spiffe_id)
    bundles = client.fetch_x509_bundles(timeout=10)
    for name in ("osaka.example", "tokyo.example"):
        bundle = bundles.get_bundle_for_trust_domain(TrustDomain(name))
        print("bundle", name, len(bundle.x509_authorities))
    context = client.fetch_x509_context(timeout=10)
    print("default", context.default_svid.spiffe_id)
"#;

const DENIED: &str = r#"
import sys
from spiffe import WorkloadApiClient
with WorkloadApiClient(socket_path=sys.argv[1]) as client:
    try:
        client.fetch_x509_svid(timeout=10)
    except Exception as error:
        print("refused:", error)
"#;

async fn run(program: &str, running: &Running) -> String {
    let output = Command::new(python())
        .args(["-c", program, &running.endpoint()])
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_client_fetches_svids_and_bundles() {
    let part = part_of(&[
        ("collector", &me()),
        ("archiver", &me()),
        ("stranger", "unix:uid:4242"),
    ]);
    let running = Running::serving(part, GrpcLimits::default());
    let peer = bundle("tokyo.example", vec![running.signer.certificate()]);
    running
        .bundles
        .send_modify(|bundles| std::sync::Arc::make_mut(bundles).insert(peer));
    let text = run(FETCH, &running).await;
    let expected = "svid spiffe://osaka.example/archiver\n\
                    svid spiffe://osaka.example/collector\n\
                    bundle osaka.example 1\n\
                    bundle tokyo.example 1\n\
                    default spiffe://osaka.example/archiver\n";
    assert_eq!(text, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_client_sees_why_it_is_refused() {
    let running = Running::serving(
        part_of(&[("other", "unix:uid:4242")]),
        GrpcLimits::default(),
    );
    let text = run(DENIED, &running).await;
    assert!(text.contains("refused: "), "{text}");
    assert!(text.contains("no identity issued"), "{text}");
    assert_eq!(running.metrics.denials()["no_identity"], 1);
}
