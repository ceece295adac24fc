//! A connection as tonic serves it: the stream, who is at the other end, the place that it takes
//! among the limits, and when it is to end.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// Done when a connection is to end.
pub type Closing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A stream of a caller `C`, which keeps its place `P` as long as it lives.
pub struct AdmittedStream<S, C, P> {
    stream: S,
    caller: Arc<C>,
    closes: Option<Closing>,
    has_ended: bool,
    _place: P,
}

impl<S, C, P> AdmittedStream<S, C, P> {
    /// Requests on `stream` are of this caller. When `closes` is done, the stream reads as ended.
    pub fn new(stream: S, caller: Arc<C>, place: P, closes: Option<Closing>) -> Self {
        Self {
            stream,
            caller,
            closes,
            has_ended: false,
            _place: place,
        }
    }
}

impl<S, C, P> Connected for AdmittedStream<S, C, P>
where
    C: Send + Sync + 'static,
{
    type ConnectInfo = Arc<C>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.caller.clone()
    }
}

impl<S: AsyncRead + Unpin, C, P: Unpin> AsyncRead for AdmittedStream<S, C, P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let closes = self.closes.as_mut();
        if closes.is_some_and(|closes| closes.as_mut().poll(cx).is_ready()) {
            // A future that is done must not be polled again.
            self.closes = None;
            self.has_ended = true;
        }
        if self.has_ended {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin, C, P: Unpin> AsyncWrite for AdmittedStream<S, C, P> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn a_stream_that_is_to_end_reads_as_ended_however_often_it_is_read() {
        let (mut client, server) = duplex(64);
        client.write_all(b"never read").await.unwrap();
        let closes: Closing = Box::pin(async {});
        let mut stream = AdmittedStream::new(server, Arc::new(()), (), Some(closes));
        for _ in 0..3 {
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        }
    }
}
