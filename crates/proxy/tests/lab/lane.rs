//! A lane that is spoken by hand: what peers of another version, slow ones and hostile ones send.

use std::{net::SocketAddr, sync::Arc};

use renkei_spiffe::{BundleSet, X509Svid, client_side, server_side};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::{Lab, bundle, id, provider, svid, within};

/// A lane that Osaka dialed, and all of them.
pub type Lane = server::TlsStream<TcpStream>;
pub type Connections = mpsc::UnboundedReceiver<Lane>;

/// The version of the protocol that is spoken here.
pub const VERSION: u8 = 1;
pub const HELLO: u8 = 0x01;
pub const REFUSED: u8 = 0x02;
pub const DATA: u8 = 0x10;
pub const OPEN: u8 = 0x12;
pub const OPEN_OK: u8 = 0x13;
pub const ACK: u8 = 0x15;
pub const RESET: u8 = 0x16;
pub const PING: u8 = 0x22;
pub const PONG: u8 = 0x23;
pub const LANE_CLOSE: u8 = 0x24;
pub const LANES: u8 = 0x28;

/// A caller's connection to Hokkaido's gateway, on which it may speak as a lane.
pub async fn dial(lab: &Lab, caller: &X509Svid) -> client::TlsStream<TcpStream> {
    dial_by(lab, caller, lab.gateway, b"renkei-trunk/1").await
}

/// The same by another address, with this name of the protocol.
pub async fn dial_by(
    lab: &Lab,
    caller: &X509Svid,
    address: SocketAddr,
    protocol: &[u8],
) -> client::TlsStream<TcpStream> {
    let trusts: Arc<BundleSet> = Arc::new([bundle(&lab.hokkaido_ca)].into_iter().collect());
    let callee = Arc::new(id("hokkaido.example/broker"));
    let side = client_side(&provider(), caller, trusts, callee, &[protocol]).unwrap();
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("broker.hokkaido.example").unwrap();
    within(TlsConnector::from(side.config).connect(name, tcp))
        .await
        .unwrap()
}

/// A gateway at Hokkaido's address that is no Renkei of today: it takes Osaka's collector, chooses
/// among `protocols`, and leaves the rest to the test.
pub async fn gateway(
    lab: &Lab,
    protocols: &[&[u8]],
) -> mpsc::UnboundedReceiver<server::TlsStream<TcpStream>> {
    gateway_as(lab, &svid(lab.hokkaido_ca.issue("/broker")), protocols).await
}

/// The same with an SVID of the test's.
pub async fn gateway_as(
    lab: &Lab,
    own: &X509Svid,
    protocols: &[&[u8]],
) -> mpsc::UnboundedReceiver<server::TlsStream<TcpStream>> {
    let trusts: Arc<BundleSet> = Arc::new([bundle(&lab.osaka_ca)].into_iter().collect());
    let caller = Arc::new(id("osaka.example/collector"));
    let side = server_side(&provider(), own, trusts, caller, protocols).unwrap();
    let listener = TcpListener::bind(lab.gateway).await.unwrap();
    let (taken, connections) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(side.config);
        while let Ok((tcp, _)) = listener.accept().await {
            // A caller that does not take the certificate goes away.
            let Ok(stream) = acceptor.accept(tcp).await else {
                continue;
            };
            if taken.send(stream).is_err() {
                return;
            }
        }
    });
    connections
}

/// A frame: type, length, fields.
pub fn frame(kind: u8, fields: &[u8]) -> Vec<u8> {
    let length = u32::try_from(fields.len()).unwrap().to_be_bytes();
    [&[kind], &length[1..], fields].concat()
}

/// The greeting of a lane. `incarnation` is 0 until the acceptor has told its own.
pub fn hello(version: u8, trunk: [u8; 16], incarnation: [u8; 8], lane: u32) -> Vec<u8> {
    let mut fields = vec![version];
    fields.extend(trunk);
    fields.extend(incarnation);
    fields.extend(lane.to_be_bytes());
    fields.extend(0_u32.to_be_bytes());
    fields.extend(16_u32.to_be_bytes());
    fields.extend((1_u64 << 20).to_be_bytes());
    fields.extend((1_u64 << 20).to_be_bytes());
    frame(HELLO, &fields)
}

/// Answers the greeting of a lane that Osaka dialed; gives the lane's number.
pub async fn answer(lane: &mut server::TlsStream<TcpStream>) -> u32 {
    let (kind, fields) = next(lane).await.unwrap();
    assert_eq!(kind, HELLO);
    let trunk = fields[1..17].try_into().unwrap();
    let number = u32::from_be_bytes(fields[25..29].try_into().unwrap());
    let hello = hello(VERSION, trunk, [1; 8], number);
    lane.write_all(&hello).await.unwrap();
    number
}

/// The next frame: its type and fields.
pub async fn next(lane: &mut (impl AsyncRead + Unpin)) -> std::io::Result<(u8, Vec<u8>)> {
    within(async {
        let head = lane.read_u32().await?;
        let mut fields = vec![0; (head & 0xff_ffff) as usize];
        lane.read_exact(&mut fields).await?;
        Ok((head.to_be_bytes()[0], fields))
    })
    .await
}
