//! The first message of a TLS connection, read without answering it: its server name decides who
//! answers, and that may be another site, which then needs the bytes as they came.

use std::net::SocketAddr;

use bytes::BytesMut;
use rustls::server::Acceptor;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    sockets::keep_alive,
    tls::{HandshakeFault, PendingHandshake},
};

/// First byte of a TLS record that carries a handshake (RFC 8446 5.1).
const HANDSHAKE_RECORD: u8 = 0x16;
/// The most that a ClientHello may have; rustls itself takes 64 KiB.
const MOST: usize = 80 * 1024;
const READ: usize = 4 * 1024;

/// Why there is none.
pub(super) enum HelloError {
    /// The peer went away without having sent anything.
    Gone,
    /// What it sent is no ClientHello.
    Fault(HandshakeFault),
}

pub(super) async fn read(
    mut stream: TcpStream,
    peer: SocketAddr,
) -> Result<PendingHandshake, HelloError> {
    keep_alive(&stream, peer);
    let mut acceptor = Acceptor::default();
    let mut bytes = BytesMut::new();
    loop {
        bytes.reserve(READ);
        let before = bytes.len();
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) if before == 0 => return Err(HelloError::Gone),
            Ok(0) => return Err(bad("the connection ended", stream)),
            Err(error) => return Err(bad(error, stream)),
            Ok(_) => {}
        }
        if bytes.first() != Some(&HANDSHAKE_RECORD) {
            let sentence = "the peer sends plaintext; the gateway accepts only TLS";
            return Err(HelloError::Fault(HandshakeFault::new(
                "plaintext",
                sentence,
            )));
        }
        let mut new = bytes.get(before..).unwrap_or_default();
        while !new.is_empty() {
            match acceptor.read_tls(&mut new) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(bad(error, stream)),
            }
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                return Ok(PendingHandshake {
                    accepted,
                    tcp: stream,
                    received: bytes.freeze(),
                });
            }
            Ok(None) if bytes.len() < MOST => {}
            Ok(None) => return Err(bad("the ClientHello is incomplete", stream)),
            Err((error, mut alert)) => {
                let mut said = Vec::new();
                // Neither can fail in a way that matters: the peer is being let go.
                let _ = alert.write_all(&mut said);
                let _ = stream.write_all(&said).await;
                return Err(bad(error, stream));
            }
        }
    }
}

fn bad(error: impl std::fmt::Display, stream: TcpStream) -> HelloError {
    let fault = HandshakeFault::new("bad_handshake", format!("no TLS handshake: {error}"));
    HelloError::Fault(fault.with_alert(stream))
}
