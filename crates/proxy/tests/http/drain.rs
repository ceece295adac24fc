//! How a session ends when the process stops.

use std::{io, sync::Arc};

use tracing_subscriber::fmt::MakeWriter;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_drain_finishes_the_request_under_way() {
    let (address, mut accepted) = backend().await;
    let lab = Lab::new(&[address]);
    let (hokkaido, _osaka) = sites(&lab, RULES).await;
    let (mut busy, mut idle) = (lab.connect().await, lab.connect().await);
    let ask = b"GET /v1/a HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    idle.write_all(ask).await.unwrap();
    let mut socket = within(accepted.recv()).await.unwrap();
    head(&mut socket).await;
    socket.write_all(answer).await.unwrap();
    response(&mut idle).await;
    busy.write_all(ask).await.unwrap();
    let mut socket = within(accepted.recv()).await.unwrap();
    head(&mut socket).await;
    hokkaido.drain.begin();
    assert_ended(&mut idle).await;
    socket.write_all(answer).await.unwrap();
    let (told, body) = response(&mut busy).await;
    assert!(told.contains("connection: close"), "{told}");
    assert_eq!(body, "ok");
    assert_ended(&mut busy).await;
    let drained = within(hokkaido.drain.wait(lab::DEADLINE)).await;
    assert_eq!(drained.left, 0);
}

/// Begins the drain as soon as a line is logged: the moment of a decision.
struct DrainOnLog(Arc<Node>);

impl io::Write for &DrainOnLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.drain.begin();
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for DrainOnLog {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// All in one thread, so that what it logs is seen here, and nothing comes between.
#[tokio::test]
async fn an_answer_says_that_it_is_the_last_even_if_the_drain_began_while_it_was_made() {
    let (backend, _) = records().await;
    let lab = Lab::new(&[backend]);
    let (hokkaido, _osaka) = sites(&lab, RULES).await;
    let hokkaido = Arc::new(hokkaido);
    let mut app = lab.connect().await;
    let allowed = b"GET /v1/a HTTP/1.1\r\nhost: a\r\n\r\n";
    app.write_all(allowed).await.unwrap();
    let (told, _) = response(&mut app).await;
    assert!(!told.contains("connection: close"), "{told}");
    let refused = b"GET /v2 HTTP/1.1\r\nhost: a\r\n\r\n";
    app.write_all(refused).await.unwrap();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(DrainOnLog(hokkaido.clone()))
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let (told, _) = response(&mut app).await;
    drop(guard);
    assert!(told.starts_with("HTTP/1.1 403 "), "{told}");
    assert!(told.contains("connection: close\r\n"), "{told}");
    assert_ended(&mut app).await;
}
