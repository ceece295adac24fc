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
}

#[derive(Default)]
struct State {
    refusing: AtomicBool,
    accepted: AtomicUsize,
    open: Mutex<BTreeMap<usize, Connection>>,
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

    /// Open connections that carry nothing.
    pub fn stalled(&self) -> usize {
        let open = self.state.open.lock().unwrap();
        open.values().filter(|one| *one.stall.borrow()).count()
    }

    /// New connections are reset.
    pub fn refuse(&self, refuse: bool) {
        self.state.refusing.store(refuse, Ordering::Relaxed);
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
            continue;
        }
        let Ok(far) = TcpStream::connect(target).await else {
            reset(near);
            continue;
        };
        let number = state.accepted.fetch_add(1, Ordering::Relaxed);
        let kill = CancellationToken::new();
        let (stall, stalled) = watch::channel(false);
        let connection = Connection {
            kill: kill.clone(),
            stall,
        };
        state.open.lock().unwrap().insert(number, connection);
        let state = state.clone();
        tokio::spawn(async move {
            forward(near, far, kill, stalled).await;
            state.open.lock().unwrap().remove(&number);
        });
    }
}

async fn forward(
    mut near: TcpStream,
    mut far: TcpStream,
    kill: CancellationToken,
    stalled: watch::Receiver<bool>,
) {
    // A reset shows even while nothing is read.
    let broken = async |stream: &std::net::TcpStream| {
        while stream.take_error().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let watched: Vec<std::net::TcpStream> = [&near, &far]
        .map(|stream| socket2::SockRef::from(stream).try_clone().unwrap().into())
        .into();
    let cut = {
        let (mut near_read, mut near_write) = near.split();
        let (mut far_read, mut far_write) = far.split();
        let there = pump(&mut near_read, &mut far_write, stalled.clone());
        let back = pump(&mut far_read, &mut near_write, stalled);
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
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        // The sender is gone with the middlebox.
        let _ = stalled.wait_for(|stalled| !stalled).await;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
    }
}
