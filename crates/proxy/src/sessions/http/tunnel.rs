//! A connection that has become a tunnel, for a WebSocket.

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;

use super::{counted_stream::CountedStream, progress::Held, socket::BackendSocket};
use crate::{
    context::Flow,
    relay::{self, Traffic},
    sockets::PlainStream,
};

/// A connection that has become a tunnel.
pub(super) struct Tunnel {
    pub(super) caller: OnUpgrade,
    pub(super) backend: OnUpgrade,
    /// It may be quiet for as long as it likes.
    pub(super) held: Held,
}

impl Tunnel {
    /// Carries its bytes up to its end.
    pub(super) async fn carry(self, flow: &Flow) {
        let Self {
            caller,
            backend,
            held: _held,
        } = self;
        let streams = async {
            let (caller, backend) = tokio::try_join!(caller, backend).ok()?;
            open(caller, backend).await
        };
        let streams = tokio::select! {
            biased;
            () = flow.cut_token().cancelled() => return,
            streams = streams => streams,
        };
        if let Some((backend, caller)) = streams {
            // The line counts its bytes itself.
            let uncounted = Traffic::default();
            let end = relay::relay(backend, caller, None, &uncounted, flow.cut_token()).await;
            tracing::debug!(flow = flow.id, ?end, "a tunnel ended");
        }
    }
}

/// The streams below HTTP, with what was read ahead of them passed on.
async fn open(caller: Upgraded, backend: Upgraded) -> Option<(PlainStream, CountedStream)> {
    let caller = caller.downcast::<TokioIo<CountedStream>>().ok()?;
    let backend = backend.downcast::<TokioIo<BackendSocket>>().ok()?;
    let mut line = caller.io.into_inner();
    line.end_http();
    let (mut stream, held) = backend.io.into_inner().into_parts();
    stream.write_all(&caller.read_buf).await.ok()?;
    line.write_all(&backend.read_buf).await.ok()?;
    line.write_all(&held).await.ok()?;
    line.flush().await.ok()?;
    stream.arm();
    Some((stream, line))
}
