//! Readers of the bundle endpoint, brought by a gateway that cannot read their TLS.

use std::sync::Arc;

use renkei_api::node_stream::{Piece, node_client::NodeClient};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tonic::{Code, Status, transport::Channel};

use crate::lab::{Lab, SOON, id, provider};

/// A connection to the bundle endpoint through the API.
async fn through(channel: Channel) -> Result<DuplexStream, Status> {
    let (near, far) = tokio::io::duplex(16 * 1024);
    let (pieces, sent) = mpsc::channel(4);
    let (mut read, mut write) = tokio::io::split(far);
    tokio::spawn(async move {
        let mut data = vec![0; 4096];
        while let Ok(count @ 1..) = read.read(&mut data).await {
            let piece = Piece {
                source: "192.0.2.1:4000".to_owned(),
                data: data[..count].to_vec(),
            };
            if pieces.send(piece).await.is_err() {
                return;
            }
        }
    });
    let sent =
        futures_util::stream::unfold(sent, async |mut sent| Some((sent.recv().await?, sent)));
    let mut client = NodeClient::new(channel);
    tokio::spawn(async move {
        let Ok(answer) = client.read_bundle(sent).await else {
            return;
        };
        let mut answers = answer.into_inner();
        while let Ok(Some(piece)) = answers.message().await {
            if write.write_all(&piece.data).await.is_err() {
                return;
            }
        }
    });
    Ok(near)
}

#[tokio::test]
async fn a_reader_comes_through_a_gateway_node_alone() {
    let lab = Lab::start().await;
    let gateway = lab.join("gw1").await.channel(&lab).await;
    let stream = through(gateway).await.unwrap();
    let (bundles, endpoint) = (lab.bundles(), Arc::new(id("renkei/server")));
    let side = renkei_spiffe::anonymous_client_side(&provider(), bundles, endpoint, &[b"http/1.1"]);
    let connector = TlsConnector::from(side.unwrap().config);
    let name = "hokkaido.example".try_into().unwrap();
    let read = async {
        let mut stream = connector.connect(name, stream).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: hokkaido.example\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // Some programs end without a goodbye.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer = timeout(SOON, read).await.unwrap();
    assert!(answer.contains(&lab.server.bundle_document()), "{answer}");

    let store = lab.join("store").await.channel(&lab).await;
    let piece = futures_util::stream::iter([Piece::default()]);
    let refused = NodeClient::new(store).read_bundle(piece).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
}
