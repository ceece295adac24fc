//! Somebody on the path who keeps all that passes, and may change a byte of it.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

pub const NEVER: u64 = u64::MAX;

/// One direction of all connections.
#[derive(Default)]
pub struct Direction {
    seen: Mutex<Vec<u8>>,
    /// Which byte of a connection is changed.
    flip: AtomicU64,
    key_updates: AtomicUsize,
}

/// A record of application data (RFC 8446 5.2) as long as one with a KeyUpdate: 5 bytes of the
/// message, one of its type, 16 of the cipher. No frame of a lane has such a length.
const KEY_UPDATE: [u8; 5] = [23, 3, 3, 0, 22];

/// Finds the records of one direction of a connection.
#[derive(Default)]
struct Records {
    header: Vec<u8>,
    /// Bytes up to the next header.
    body: usize,
}

impl Records {
    /// How many key updates begin in what passes.
    fn key_updates(&mut self, mut passed: &[u8]) -> usize {
        let mut count = 0;
        while !passed.is_empty() {
            let part = passed.len().min(self.body);
            self.body -= part;
            passed = &passed[part..];
            let part = passed.len().min(5 - self.header.len());
            self.header.extend_from_slice(&passed[..part]);
            passed = &passed[part..];
            if self.header.len() == 5 {
                count += usize::from(self.header == KEY_UPDATE);
                self.body = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
                self.header.clear();
            }
        }
        count
    }
}

pub struct Tap {
    pub address: SocketAddr,
    pub there: Arc<Direction>,
    pub back: Arc<Direction>,
    accepted: Arc<AtomicUsize>,
}

impl Direction {
    pub fn seen(&self) -> Vec<u8> {
        self.seen.lock().unwrap().clone()
    }

    /// How many records were key updates.
    pub fn key_updates(&self) -> usize {
        self.key_updates.load(Ordering::Relaxed)
    }

    /// Changes this byte of each connection from now on.
    pub fn flip(&self, byte: u64) {
        self.flip.store(byte, Ordering::Relaxed);
    }
}

impl Tap {
    /// Forwards to `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tap = Self {
            address: listener.local_addr().unwrap(),
            there: Arc::default(),
            back: Arc::default(),
            accepted: Arc::default(),
        };
        tap.there.flip(NEVER);
        tap.back.flip(NEVER);
        let (there, back, accepted) = (tap.there.clone(), tap.back.clone(), tap.accepted.clone());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::Relaxed);
                let Ok(far) = TcpStream::connect(target).await else {
                    continue;
                };
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                tokio::spawn(pump(near_read, far_write, there.clone()));
                tokio::spawn(pump(far_read, near_write, back.clone()));
            }
        });
        tap
    }

    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: Arc<Direction>) {
    let mut buffer = vec![0; 64 * 1024];
    let (mut passed, mut records) = (0, Records::default());
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let flip = way.flip.load(Ordering::Relaxed);
        if (passed..passed + count as u64).contains(&flip) {
            buffer[(flip - passed) as usize] ^= 1;
        }
        passed += count as u64;
        let updates = records.key_updates(&buffer[..count]);
        way.key_updates.fetch_add(updates, Ordering::Relaxed);
        way.seen.lock().unwrap().extend_from_slice(&buffer[..count]);
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
