//! The stream between two sites: the seam at which a trunk takes the place of one TLS session
//! per connection.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsStream, client, server};

use crate::relay::Link;

/// A verified stream to one peer.
#[derive(Debug)]
pub(crate) struct WanStream(TlsStream<TcpStream>);

impl WanStream {
    /// What both sides agreed to speak inside.
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        self.0.get_ref().1.alpn_protocol()
    }
}

impl From<client::TlsStream<TcpStream>> for WanStream {
    fn from(stream: client::TlsStream<TcpStream>) -> Self {
        Self(stream.into())
    }
}

impl From<server::TlsStream<TcpStream>> for WanStream {
    fn from(stream: server::TlsStream<TcpStream>) -> Self {
        Self(stream.into())
    }
}

impl Link for WanStream {
    fn arm_reset(&self) {
        self.0.get_ref().0.arm_reset();
    }
}

impl AsyncRead for WanStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for WanStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
