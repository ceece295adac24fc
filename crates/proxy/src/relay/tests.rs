use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::sockets::{PlainStream, TcpInfo};

/// An application or a peer, and the relay's end of its connection.
async fn pair() -> (TcpStream, PlainStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.unwrap(), PlainStream::armed(server.unwrap().0))
}

/// Doubles what the application sends once four bytes are there; refuses `bad!`.
struct Doubling;

impl Session for Doubling {
    fn advance(
        &mut self,
        from: Side,
        received: &mut BytesMut,
        out: &mut Vec<Bytes>,
    ) -> io::Result<Next> {
        while received.len() >= 4 {
            let four = received.split_to(4).freeze();
            if &four[..] == b"bad!" {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if from == Side::App {
                out.push(four.clone());
            }
            out.push(four);
        }
        Ok(Next::More)
    }
}

#[tokio::test]
async fn a_session_sees_and_changes_what_passes() {
    let (mut app, near) = crate::testing::tcp().await;
    let received = socket2::SockRef::from(&near).try_clone().unwrap();
    let (near, (mut peer, far)) = (PlainStream::armed(near), pair().await);
    let cut = CancellationToken::new();
    let relay = tokio::spawn(async move {
        let traffic = Traffic::default();
        let end = relay(near, far, Some(Box::new(Doubling)), &traffic, &cut).await;
        (end, traffic)
    });
    app.write_all(b"ab").await.unwrap();
    // In two pieces: the first has arrived, and is read.
    crate::testing::until("the first piece is read", || {
        let there = received.peek(&mut [MaybeUninit::uninit()]);
        TcpInfo::undelivered(&app) == 0 && there.is_err()
    })
    .await;
    app.write_all(b"cdef").await.unwrap();
    let mut seen = [0; 8];
    peer.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"abcdabcd");
    peer.write_all(b"back").await.unwrap();
    let mut seen = [0; 4];
    app.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"back");
    // Two bytes of a message that nobody completes: no clean end.
    app.shutdown().await.unwrap();
    let error = peer.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let (end, traffic) = relay.await.unwrap();
    assert!(
        matches!(
            end,
            End::Broken {
                side: Side::App,
                ..
            }
        ),
        "{end:?}"
    );
    assert_eq!((traffic.to_wan(), traffic.to_app()), (8, 4));
}

#[tokio::test]
async fn a_session_that_cannot_go_on_resets_both_sides() {
    let ((mut app, near), (mut peer, far)) = (pair().await, pair().await);
    let cut = CancellationToken::new();
    let relay = tokio::spawn(async move {
        relay(
            near,
            far,
            Some(Box::new(Doubling)),
            &Traffic::default(),
            &cut,
        )
        .await
    });
    peer.write_all(b"bad!").await.unwrap();
    for stream in [&mut app, &mut peer] {
        let error = stream.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    let end = relay.await.unwrap();
    assert!(
        matches!(
            end,
            End::Broken {
                side: Side::Wan,
                ..
            }
        ),
        "{end:?}"
    );
}

#[tokio::test]
async fn a_cut_resets_both_sides() {
    let ((mut app, near), (mut peer, far)) = (pair().await, pair().await);
    let cut = CancellationToken::new();
    cut.cancel();
    let end = relay(near, far, None, &Traffic::default(), &cut).await;
    assert!(matches!(end, End::Cut));
    for stream in [&mut app, &mut peer] {
        let error = stream.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}

/// A stream whose peer has sent a few bytes and an alert, and is gone; the runtime has not noticed
/// yet.
struct Refusing {
    bytes: usize,
    noticed: bool,
}

impl Transport for Refusing {
    fn release(&self) {}
}

impl AsyncRead for Refusing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.noticed, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.bytes == 0 {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "alert")));
        }
        self.bytes -= 1;
        buf.put_slice(b"x");
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Refusing {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let broken_pipe = io::Error::from_raw_os_error(rustix::io::Errno::PIPE.raw_os_error());
        Poll::Ready(Err(broken_pipe))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn the_alert_of_a_peer_that_has_closed_is_still_read() {
    let (mut app, near) = pair().await;
    app.write_all(b"hello").await.unwrap();
    let (cut, traffic) = (CancellationToken::new(), Traffic::default());
    let wan = Refusing {
        bytes: 10,
        noticed: false,
    };
    let end = relay(near, wan, None, &traffic, &cut).await;
    let End::Broken { side, error } = end else {
        panic!("{end:?}");
    };
    assert_eq!((side, error.to_string()), (Side::Wan, "alert".to_owned()));
}

/// The kernel tells of a reset once: to a write, if one comes first. It then calls the end of
/// what the reset left an end of file, whether there was a FIN or not.
#[tokio::test]
async fn a_reset_that_a_write_has_found_is_no_end_but_the_fin_before_it_is() {
    for fin in [false, true] {
        let (mut peer, mut near) = pair().await;
        if !fin {
            near.write_all(b"unread").await.unwrap();
            peer.readable().await.unwrap();
        }
        peer.write_all(b"answer").await.unwrap();
        drop(peer);
        let mut written = Ok(());
        while written.is_ok() {
            written = near.write_all(b"more").await;
            tokio::task::yield_now().await;
        }
        let mut all = Vec::new();
        let end = near.read_to_end(&mut all).await;
        assert_eq!((all.as_slice(), end.is_ok()), (&b"answer"[..], fin));
    }
}

/// Takes no bytes from the application before there is room, and refuses `stop`.
struct Waiting(tokio::sync::oneshot::Receiver<()>, bool);

impl Session for Waiting {
    fn advance(
        &mut self,
        _: Side,
        received: &mut BytesMut,
        out: &mut Vec<Bytes>,
    ) -> io::Result<Next> {
        let bytes = received.split().freeze();
        if &bytes[..] == b"stop" {
            return Ok(Next::Refuse(Bytes::from_static(b"why")));
        }
        out.push(bytes);
        Ok(Next::More)
    }

    fn poll_room(&mut self, from: Side, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if from == Side::App && !self.1 {
            ready!(Pin::new(&mut self.0).poll(cx)).unwrap();
            self.1 = true;
        }
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_session_without_room_is_read_no_further_and_may_refuse_with_an_answer() {
    let ((mut app, near), (mut peer, far)) = (pair().await, pair().await);
    let cut = CancellationToken::new();
    let (room, waits) = tokio::sync::oneshot::channel();
    let relay = tokio::spawn(async move {
        let session = Box::new(Waiting(waits, false));
        relay(near, far, Some(session), &Traffic::default(), &cut).await
    });
    app.write_all(b"asked").await.unwrap();
    // The other direction has room.
    peer.write_all(b"told").await.unwrap();
    let mut seen = [0; 4];
    app.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"told");
    let early = peer.try_read(&mut seen).unwrap_err();
    assert_eq!(early.kind(), io::ErrorKind::WouldBlock);
    room.send(()).unwrap();
    let mut seen = [0; 5];
    peer.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"asked");
    app.write_all(b"stop").await.unwrap();
    let mut seen = Vec::new();
    app.read_to_end(&mut seen).await.unwrap();
    assert_eq!(seen, b"why");
    seen.clear();
    peer.read_to_end(&mut seen).await.unwrap();
    assert!(seen.is_empty());
    assert!(matches!(relay.await.unwrap(), End::Closed));
}
