//! Readers of the site's bundle endpoint that come to the gateway of a node: their bytes are taken
//! to the server as they are, and its own back. The TLS in them is the server's.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use renkei_api::node_stream::{Piece, node_client::NodeClient};
use renkei_runtime::shares::{Network, Pool};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};
use tonic::{Status, Streaming};

use super::issuer::ServerIssuer;

/// How long one reader may take. A bundle is read in one exchange.
const READ_TIME: Duration = Duration::from_secs(60);
/// The bytes of one message to the server, at most, and the messages that may wait to be sent.
const PIECE: usize = 16 * 1024;
const PIECES: usize = 4;

/// Readers at once, of which one address has at most half. They share the connection to the server
/// with the node's own requests, which find room in it because the server takes more.
const READERS: usize = 64;

/// Takes readers to the server, over whatever connection there is to it now.
#[derive(Clone)]
pub struct BundleReaders {
    server: Arc<ServerIssuer>,
    places: Pool<Network>,
}

impl BundleReaders {
    pub(super) fn new(server: Arc<ServerIssuer>) -> Self {
        Self {
            server,
            places: Pool::new(READERS),
        }
    }

    /// Serves one reader, of whom some bytes have come already, until either end is done.
    ///
    /// # Errors
    /// When too many are served, there is no connection to the server, or the server refuses.
    pub async fn serve<S>(
        &self,
        source: SocketAddr,
        received: Bytes,
        connection: S,
    ) -> Result<(), Status>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let place = self.places.try_take(vec![Network::of(source.ip())]);
        let _place = place.map_err(|_| Status::resource_exhausted("too many readers"))?;
        let channel = self.server.channel().map_err(Status::unavailable)?;
        let (pieces, sent) = mpsc::channel(PIECES);
        let first = Piece {
            source: source.to_string(),
            data: received.to_vec(),
        };
        // There is room for it.
        let _ = pieces.try_send(first);
        let requests = stream::unfold(sent, async |mut sent| Some((sent.recv().await?, sent)));
        let carried = async {
            let mut client = NodeClient::new(channel);
            let answers = client.read_bundle(requests).await?.into_inner();
            let (reader, writer) = tokio::io::split(connection);
            tokio::select! {
                done = download(answers, writer) => done,
                // The server may still be writing when the reader has said everything.
                () = async { upload(reader, pieces).await; std::future::pending().await } => Ok(()),
            }
        };
        let late = |_| Status::deadline_exceeded("the reader took too long");
        tokio::time::timeout(READ_TIME, carried)
            .await
            .map_err(late)?
    }
}

/// Until the reader has said everything, or is gone.
async fn upload(mut reader: impl AsyncRead + Unpin, pieces: mpsc::Sender<Piece>) {
    let mut buffer = vec![0; PIECE];
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        let piece = Piece {
            source: String::new(),
            data: buffer.get(..count).unwrap_or_default().to_vec(),
        };
        if pieces.send(piece).await.is_err() {
            return;
        }
    }
}

async fn download(
    mut answers: Streaming<Piece>,
    mut writer: impl AsyncWrite + Unpin,
) -> Result<(), Status> {
    while let Some(piece) = answers.message().await? {
        if writer.write_all(&piece.data).await.is_err() {
            return Ok(());
        }
    }
    let _ = writer.shutdown().await;
    Ok(())
}
