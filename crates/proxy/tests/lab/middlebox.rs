//! A box on the path between two sites that forwards TCP connections, or does not.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
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

/// What the middlebox knows of one connection.
#[derive(Clone)]
struct Memory {
    state: Arc<State>,
    used: Arc<Mutex<Instant>>,
    forgotten: CancellationToken,
}

impl Memory {
    /// Whether the connection is known; bytes that come in time keep it so.
    fn knows(&self) -> bool {
        let idle = *self.state.forget_after.lock().unwrap();
        let mut used = self.used.lock().unwrap();
        if idle.is_some_and(|idle| used.elapsed() > idle) {
            self.forgotten.cancel();
        }
        *used = Instant::now();
        !self.forgotten.is_cancelled()
    }
}

#[derive(Default)]
struct State {
    refusing: AtomicBool,
    forget_after: Mutex<Option<Duration>>,
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

    /// Which of all connections is the oldest that is open, counted from 0.
    pub fn oldest(&self) -> Option<usize> {
        self.state.open.lock().unwrap().keys().next().copied()
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

    /// From now on, connections that were idle for this long are forgotten: what is sent on them
    /// vanishes, in both directions, and nobody is told.
    pub fn forget_after(&self, idle: Duration) {
        *self.state.forget_after.lock().unwrap() = Some(idle);
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
        let memory = Memory {
            state: state.clone(),
            used: Arc::new(Mutex::new(Instant::now())),
            forgotten: CancellationToken::new(),
        };
        tokio::spawn(async move {
            forward(near, far, kill, stalled, memory).await;
            state.open.lock().unwrap().remove(&number);
        });
    }
}

async fn forward(
    mut near: TcpStream,
    mut far: TcpStream,
    kill: CancellationToken,
    stalled: watch::Receiver<bool>,
    memory: Memory,
) {
    // A reset shows even while nothing is read.
    let broken = async |stream: &std::net::TcpStream| {
        while stream.take_error().unwrap().is_none() || memory.forgotten.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let watched: Vec<std::net::TcpStream> = [&near, &far]
        .map(|stream| socket2::SockRef::from(stream).try_clone().unwrap().into())
        .into();
    let cut = {
        let (mut near_read, mut near_write) = near.split();
        let (mut far_read, mut far_write) = far.split();
        let there = pump(&mut near_read, &mut far_write, stalled.clone(), &memory);
        let back = pump(&mut far_read, &mut near_write, stalled, &memory);
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
    memory: &Memory,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(count) if memory.knows() => count,
            Ok(1..) => continue,
            // The end of a forgotten connection vanishes like its bytes.
            Ok(0) => std::future::pending().await,
            Err(_) if memory.forgotten.is_cancelled() => std::future::pending().await,
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
