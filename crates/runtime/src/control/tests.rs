//! Both sides against one another, over a real socket.

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::Notify,
};

use super::*;
use crate::unix_socket::SocketError;

fn folder() -> TempDir {
    tempfile::Builder::new()
        .permissions(PermissionsExt::from_mode(0o700))
        .tempdir()
        .unwrap()
}

fn router() -> Router {
    Router::new(|method, path, body| async move {
        match (&method, path.as_str()) {
            (&Method::GET, "/status") => Ok(json!({"site": "osaka"})),
            (&Method::POST, "/echo") => serde_json::from_slice(&body)
                .map_err(|error| ControlError::bad_request(error.to_string())),
            (&Method::POST, "/apply") => Err(ControlError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "the site file has 1 fault",
            )
            .with_hint("correct line 3")
            .with_details(json!([{"line": 3}]))),
            (_, "/panic") => panic!("on purpose"),
            _ => Err(ControlError::not_found(&method, &path)),
        }
    })
}

fn serve(path: &Path) -> tokio::task::JoinHandle<()> {
    let server = Server::bind(path).unwrap();
    tokio::spawn(async move { server.serve(router()).await })
}

#[tokio::test]
async fn commands_and_their_refusals_arrive_as_they_were_sent() {
    let folder = folder();
    let path = folder.path().join("control.sock");
    serve(&path);
    let client = Client::new(&path);
    assert_eq!(
        client.get("/status").await.unwrap(),
        json!({"site": "osaka"})
    );
    let sent = json!({"from": "a", "to": ["b", 1, null]});
    assert_eq!(client.post("/echo", &sent).await.unwrap(), sent);

    let error = client.post("/apply", &Value::Null).await.unwrap_err();
    assert_eq!(error.to_string(), "the site file has 1 fault");
    assert_eq!(error.hint().as_deref(), Some("correct line 3"));
    assert!(
        matches!(error, CallError::Refused { status: StatusCode::UNPROCESSABLE_ENTITY, details, .. }
        if details == json!([{"line": 3}]))
    );

    let error = client.get("/nothing").await.unwrap_err();
    assert_eq!(error.to_string(), "GET /nothing is not a command");
    let error = client.get("/panic").await.unwrap_err();
    assert!(error.to_string().contains("without an answer"), "{error}");
    assert!(
        client.get("/status").await.is_ok(),
        "one failed command stops no other"
    );
}

#[tokio::test]
async fn only_its_user_may_open_the_socket_and_its_folder() {
    let parent = folder();
    let path = parent.path().join("state/control.sock");
    let server = Server::bind(&path).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    drop(server);
    assert!(!path.exists(), "the socket goes with its server");
}

#[tokio::test]
async fn a_living_process_keeps_its_socket_and_a_dead_one_loses_it() {
    let folder = folder();
    let path = folder.path().join("control.sock");
    let running = serve(&path);
    let error = Server::bind(&path).unwrap_err();
    assert!(matches!(error, BindError::AlreadyRunning { .. }), "{error}");
    assert!(Client::new(&path).get("/status").await.is_ok());
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());

    // What a killed process leaves: a socket nobody listens on.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let error = Client::new(&path).get("/status").await.unwrap_err();
    assert!(matches!(error, CallError::NotRunning { .. }), "{error}");
    serve(&path);
    assert!(Client::new(&path).get("/status").await.is_ok());
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let folder = folder();
    let path = folder.path().join("control.sock");
    std::fs::write(&path, "precious").unwrap();
    let error = Server::bind(&path).unwrap_err();
    assert!(
        matches!(error, BindError::Socket(SocketError::NotASocket(_))),
        "{error}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn a_missing_process_is_named_with_what_to_do() {
    let folder = folder();
    let error = Client::new(folder.path().join("none.sock"))
        .get("/status")
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("no Renkei is running with this state folder")
    );
    assert!(error.hint().unwrap().contains("renkei up"));
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused() {
    let folder = folder();
    let path = folder.path().join("control.sock");
    serve(&path);
    let large = Value::String("x".repeat(MAX_REQUEST_BYTES));
    let error = Client::new(&path).post("/echo", &large).await.unwrap_err();
    let refused = matches!(
        error,
        CallError::Refused {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            ..
        } | CallError::Io { .. }
    );
    assert!(refused, "{error}");
}

#[tokio::test]
async fn garbage_and_silence_harm_nobody() {
    let folder = folder();
    let path = folder.path().join("control.sock");
    serve(&path);
    let _silent = UnixStream::connect(&path).await.unwrap();
    let mut garbage = UnixStream::connect(&path).await.unwrap();
    garbage.write_all(&[0xff; 4096]).await.unwrap();
    let mut answer = Vec::new();
    let _ = garbage.read_to_end(&mut answer).await;
    assert!(Client::new(&path).get("/status").await.is_ok());
}

#[tokio::test]
async fn a_command_is_finished_when_its_client_goes_away() {
    let folder = folder();
    let path = folder.path().join("control.sock");
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let finished = Arc::new(AtomicBool::new(false));
    let router = Router::new({
        let (begun, go_on, finished) = (begun.clone(), go_on.clone(), finished.clone());
        move |_, _, _| {
            let (begun, go_on, finished) = (begun.clone(), go_on.clone(), finished.clone());
            async move {
                begun.notify_one();
                go_on.notified().await;
                finished.store(true, Ordering::SeqCst);
                begun.notify_one();
                Ok(Value::Null)
            }
        }
    });
    let server = Server::bind(&path).unwrap();
    tokio::spawn(async move { server.serve(router).await });
    let mut client = UnixStream::connect(&path).await.unwrap();
    let request = b"POST /apply HTTP/1.1\r\nhost: renkei\r\ncontent-length: 2\r\n\r\n{}";
    client.write_all(request).await.unwrap();
    begun.notified().await;
    // The server ends the connection of a client that goes away before its answer.
    client.shutdown().await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"");
    go_on.notify_one();
    begun.notified().await;
    assert!(finished.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_socket_whose_folder_hangs_is_an_error_of_its_call() {
    let folder = folder();
    let path = folder.path().join("control.sock");
    serve(&path);
    let client = Client::new(&path);
    let (answer, answers) = std::sync::mpsc::channel::<()>();
    let hang = move || answers.recv().map_err(std::io::Error::other);
    let limit = Duration::from_millis(1);
    crate::files::run_within(limit, crate::files::Budget::Folder, &path, hang).unwrap_err();
    match client.get("/status").await {
        Err(CallError::Io { source, .. }) => {
            assert_eq!(source.kind(), std::io::ErrorKind::TimedOut, "{source}");
        }
        other => panic!("{other:?}"),
    }
    drop(answer);
    while client.get("/status").await.is_err() {
        tokio::task::yield_now().await;
    }
}
