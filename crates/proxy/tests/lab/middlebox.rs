//! A box on the path between two sites that forwards TCP connections, or does not.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

/// Ends a connection with a reset.
pub fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

struct Connection {
    kill: CancellationToken,
    stall: watch::Sender<bool>,
    forgotten: CancellationToken,
}

#[derive(Default)]
struct State {
    refusing: AtomicBool,
    refused: AtomicUsize,
    accepted: AtomicUsize,
    open: Mutex<BTreeMap<usize, Connection>>,
    /// How often the last open connection has ended.
    emptied: AtomicUsize,
}

pub struct Middlebox {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
    turn: AtomicUsize,
}

impl Middlebox {
    /// Forwards to `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        tokio::spawn(accept(listener, target, state.clone()));
        Self {
            address,
            state,
            turn: AtomicUsize::new(0),
        }
    }

    /// Connections forwarded so far.
    pub fn accepted(&self) -> usize {
        self.state.accepted.load(Ordering::Relaxed)
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.state.open.lock().unwrap().len()
    }

    /// Which of all connections is the oldest that is open, counted from 0.
    pub fn oldest(&self) -> Option<usize> {
        self.state.open.lock().unwrap().keys().next().copied()
    }

    /// Open connections that carry nothing.
    pub fn stalled(&self) -> usize {
        let open = self.state.open.lock().unwrap();
        open.values().filter(|one| *one.stall.borrow()).count()
    }

    /// Connections reset at once so far.
    pub fn refused(&self) -> usize {
        self.state.refused.load(Ordering::Relaxed)
    }

    /// How often there was no connection any more.
    pub fn emptied(&self) -> usize {
        self.state.emptied.load(Ordering::Relaxed)
    }

    /// New connections are reset.
    pub fn refuse(&self, refuse: bool) {
        self.state.refusing.store(refuse, Ordering::Relaxed);
    }

    /// Forgets the connections that are open, as a firewall does with those that were idle: what
    /// is sent on them vanishes, in both directions, and nobody is told.
    pub fn forget(&self) {
        let open = self.state.open.lock().unwrap();
        open.values().for_each(|one| one.forgotten.cancel());
    }

    /// Resets every connection, at both ends.
    pub fn kill_all(&self) {
        let open = self.state.open.lock().unwrap();
        open.values().for_each(|one| one.kill.cancel());
    }

    /// Resets one connection; `false` when there is none.
    pub fn kill_one(&self) -> bool {
        let open = self.state.open.lock().unwrap();
        let turn = self.turn.fetch_add(7, Ordering::Relaxed);
        let victim = open.values().nth(turn % open.len().max(1));
        victim.inspect(|one| one.kill.cancel()).is_some()
    }

    /// Connections that are open now carry nothing more until told otherwise; later ones do.
    pub fn stall(&self, stall: bool) {
        let open = self.state.open.lock().unwrap();
        open.values().for_each(|one| {
            one.stall.send_replace(stall);
        });
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, state: Arc<State>) {
    while let Ok((near, _)) = listener.accept().await {
        if state.refusing.load(Ordering::Relaxed) {
            reset(near);
            state.refused.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let Ok(far) = TcpStream::connect(target).await else {
            reset(near);
            continue;
        };
        let number = state.accepted.fetch_add(1, Ordering::Relaxed);
        let kill = CancellationToken::new();
        let (stall, stalled) = watch::channel(false);
        let forgotten = CancellationToken::new();
        let connection = Connection {
            kill: kill.clone(),
            stall,
            forgotten: forgotten.clone(),
        };
        state.open.lock().unwrap().insert(number, connection);
        if state.refusing.load(Ordering::Relaxed) {
            // Whoever has just killed all that were open has not seen this one.
            kill.cancel();
        }
        let state = state.clone();
        tokio::spawn(async move {
            forward(near, far, kill, stalled, forgotten).await;
            let mut open = state.open.lock().unwrap();
            open.remove(&number);
            if open.is_empty() {
                state.emptied.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

async fn forward(
    mut near: TcpStream,
    mut far: TcpStream,
    kill: CancellationToken,
    stalled: watch::Receiver<bool>,
    forgotten: CancellationToken,
) {
    // A reset shows even while nothing is read.
    let broken = async |stream: &std::net::TcpStream| {
        while stream.take_error().unwrap().is_none() || forgotten.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let watched: Vec<std::net::TcpStream> = [&near, &far]
        .map(|stream| socket2::SockRef::from(stream).try_clone().unwrap().into())
        .into();
    let cut = {
        let (mut near_read, mut near_write) = near.split();
        let (mut far_read, mut far_write) = far.split();
        let there = pump(&mut near_read, &mut far_write, stalled.clone(), &forgotten);
        let back = pump(&mut far_read, &mut near_write, stalled, &forgotten);
        tokio::select! {
            () = kill.cancelled() => true,
            () = broken(&watched[0]) => true,
            () = broken(&watched[1]) => true,
            (there, back) = async { tokio::join!(there, back) } => there.is_err() || back.is_err(),
        }
    };
    drop(watched);
    if cut {
        reset(near);
        reset(far);
    }
}

async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut stalled: watch::Receiver<bool>,
    forgotten: &CancellationToken,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(1..) if forgotten.is_cancelled() => continue,
            // The end of a forgotten connection vanishes like its bytes.
            Ok(0) | Err(_) if forgotten.is_cancelled() => std::future::pending().await,
            Ok(count) => count,
            Err(error) => return Err(error),
        };
        // The sender is gone with the middlebox.
        let _ = stalled.wait_for(|stalled| !stalled).await;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
    }
}
