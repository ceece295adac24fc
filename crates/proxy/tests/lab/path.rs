//! Two sites with a middlebox on the path between them, and what crosses it.

use std::sync::Arc;

use renkei_proxy::ProxyLimits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
};

use super::{Lab, Node, middlebox::Middlebox, svid, within};

pub const MIB: usize = 1024 * 1024;

/// Osaka reaches Hokkaido's gateway through a middlebox.
pub struct Path {
    pub lab: Lab,
    pub middlebox: Middlebox,
}

impl Path {
    pub async fn to(lab: Lab) -> Self {
        let middlebox = Middlebox::start(lab.gateway).await;
        Self { lab, middlebox }
    }

    pub fn osaka_text(&self) -> String {
        let (real, between) = (self.lab.gateway, self.middlebox.address);
        let text = self.lab.osaka_text();
        text.replace(&real.to_string(), &between.to_string())
    }

    pub async fn osaka(&self, limits: ProxyLimits) -> Node {
        let identities = self.lab.osaka_identities();
        Node::start_with(&self.osaka_text(), identities, limits, None).await
    }

    pub async fn hokkaido(&self, limits: ProxyLimits) -> Node {
        let text = self.lab.hokkaido_text("osaka.example/collector");
        Node::start_with(&text, self.lab.hokkaido_identities(), limits, None).await
    }

    pub async fn sites(&self) -> (Node, Node) {
        let limits = ProxyLimits::default();
        (self.hokkaido(limits).await, self.osaka(limits).await)
    }

    /// Osaka with a second workload, the reader, at an address of its own.
    pub async fn osaka_with_reader(&self, listen: std::net::SocketAddr) -> Node {
        let uid = rustix::process::geteuid().as_raw();
        let text = format!(
            "{}  reader:\n    selectors: ['unix:uid:{uid}']\n    \
             uses: {{hokkaido.example/broker: '{listen}'}}\n",
            self.osaka_text(),
        );
        let mut identities = self.lab.osaka_identities();
        let reader = svid(self.lab.osaka_ca.issue("/reader"));
        identities.svids.insert(reader.id().clone(), reader);
        Node::start(&text, identities).await
    }
}

/// Bytes of which no part is like another.
pub fn bytes(count: usize) -> Arc<Vec<u8>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.extend_from_slice(&state.to_le_bytes());
    }
    all.truncate(count);
    Arc::new(all)
}

/// How many bytes of an exchange have come back.
#[derive(Clone, Default)]
pub struct Progress(Arc<watch::Sender<usize>>);

impl Progress {
    pub fn bytes(&self) -> usize {
        *self.0.borrow()
    }

    /// Waits until so many have come.
    pub async fn reached(&self, bytes: usize) {
        let mut seen = self.0.subscribe();
        within(seen.wait_for(|count| *count >= bytes))
            .await
            .unwrap();
    }
}

/// Sends everything to an echo, ends, and compares what comes back; `got` counts on the way.
pub async fn exchange(app: TcpStream, sent: Arc<Vec<u8>>, got: Progress) {
    let (mut read, mut write) = app.into_split();
    let sending = tokio::spawn({
        let sent = sent.clone();
        async move {
            write.write_all(&sent).await.expect("no reset");
            write.shutdown().await.expect("no reset");
        }
    });
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = within(read.read(&mut buffer)).await.expect("no reset");
        let before = got.bytes();
        if count == 0 {
            break;
        }
        assert!(
            sent[before..before + count] == buffer[..count],
            "bytes {before} to {} are others",
            before + count
        );
        got.0.send_replace(before + count);
    }
    assert_eq!(got.bytes(), sent.len());
    sending.await.unwrap();
}
