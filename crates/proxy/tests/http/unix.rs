//! HTTP to a backend behind a unix socket.

use std::{fs::Permissions, os::unix::fs::PermissionsExt};

use tokio::net::UnixListener;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_pass_a_unix_socket_that_not_every_user_can_connect_to() {
    let folder = tempfile::tempdir().unwrap();
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    mode(folder.path(), 0o755);
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    mode(&path, 0o777);
    let accepted = Arc::new(AtomicUsize::new(0));
    let counter = accepted.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let answer =
                service_fn(|request| async { Ok::<_, Infallible>(respond(request).await) });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    let lab = Lab::new(&[]);
    let backends = format!("backends: ['unix:{}']", path.display());
    let text = text(&lab, RULES).replace("backends: []", &backends);
    let hokkaido = Node::start(&text, lab.hokkaido_identities()).await;
    let _osaka = lab.osaka().await;
    let mut client = client(&lab).await;
    let (status, ..) = ask(&mut client, request("GET", "/v1/records", "")).await;
    assert_eq!((status, accepted.load(Ordering::SeqCst)), (502, 0));
    let sentence = hokkaido.refusal("backend_unavailable").await;
    assert!(sentence.contains("(mode 0777)"), "{sentence}");
    mode(&path, 0o770);
    for _ in 0..3 {
        let (status, _, told) = ask(&mut client, request("GET", "/v1/records", "")).await;
        assert_eq!(status, 200);
        assert!(told.starts_with("GET /v1/records\n"), "{told}");
    }
    let body = "a body that goes there and back";
    let (status, _, told) = ask(&mut client, request("PUT", "/v1/echo", body)).await;
    assert_eq!((status, told.as_str()), (200, body));
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}
