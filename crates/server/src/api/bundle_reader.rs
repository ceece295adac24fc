//! Readers of the bundle endpoint that come through a gateway node, which carries their TLS and
//! cannot read it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use renkei_api::node_stream::Piece;
use renkei_spiffe::SpiffeId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf},
    time::timeout,
};
use tonic::{Status, Streaming, codegen::BoxStream};

use super::Shared;

const MAX_PIECE: usize = 64 * 1024;
/// A piece with the address of its reader.
pub(super) const MAX_MESSAGE: usize = MAX_PIECE + 1024;
const FIRST_TIME: Duration = Duration::from_secs(10);

/// Serves one reader. How long it may stay is bounded by the endpoint.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    gateway: &SpiffeId,
    mut pieces: Streaming<Piece>,
) -> Result<BoxStream<Piece>, Status> {
    let place = shared.places.reader(gateway);
    let place = place.map_err(|_| Status::resource_exhausted("too many readers of the bundle"))?;
    let first = timeout(FIRST_TIME, pieces.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("the reader said nothing"))??;
    let first = first.ok_or_else(|| Status::invalid_argument("the reader said nothing"))?;
    let (near, far) = tokio::io::duplex(MAX_PIECE);
    let (endpoint, identities) = (shared.parts.endpoint.clone(), shared.own.identities());
    let source = first.source;
    tokio::spawn(async move {
        let served = endpoint.serve(far, Bytes::from(first.data), &identities);
        if let Err(error) = served.await {
            tracing::debug!(%error, source, "a reader of the bundle endpoint went away");
        }
        drop(place);
    });
    let (read, write) = tokio::io::split(near);
    tokio::spawn(take(pieces, write));
    Ok(stream::unfold(read, give).boxed())
}

async fn take(mut pieces: Streaming<Piece>, mut write: WriteHalf<DuplexStream>) {
    while let Ok(Some(piece)) = pieces.message().await {
        // The endpoint has ended.
        if write.write_all(&piece.data).await.is_err() {
            return;
        }
    }
    let _ = write.shutdown().await;
}

type Reading = ReadHalf<DuplexStream>;

async fn give(mut read: Reading) -> Option<(Result<Piece, Status>, Reading)> {
    let mut data = vec![0; MAX_PIECE];
    match read.read(&mut data).await {
        Ok(0) | Err(_) => None,
        Ok(count) => {
            data.truncate(count);
            let piece = Piece {
                source: String::new(),
                data,
            };
            Some((Ok(piece), read))
        }
    }
}
