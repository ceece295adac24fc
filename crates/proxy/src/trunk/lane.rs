//! One lane: a TLS connection that carries frames of a trunk, both ways. Its task reads, and
//! writes what [`LaneWriter`]'s other users leave.

use std::{
    io,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use renkei_trunk::LaneId;
use tokio::{
    net::{TcpStream, tcp::OwnedReadHalf},
    sync::oneshot,
};
use tokio_rustls::TlsStream;
use tokio_util::io::poll_read_buf;

use crate::relay::buffers::Pool;

use super::{
    core::LaneFate,
    driver::{Driver, Left, Pushed, push},
    lane_writer::{LaneWriter, invalid},
    panic::EndOnPanic,
    record::{self, Opened, Opener, WHOLE, WORN},
};

/// What a busy lane reads at once: eight whole records, each an eighth of the buffer that it keeps
/// alive.
pub(crate) static READS: Pool = Pool::new(8 * WHOLE);
/// What a quiet lane reads at once.
const LITTLE: usize = 8 * 1024;
/// Bytes that TCP takes before it has sent those that it has.
const UNSENT: u32 = 128 * 1024;
/// Turns after which a lane lets others run.
const ROUNDS: usize = 32;
/// How long the connection of a lane that is over has to take what is left.
const LEAVE: Duration = Duration::from_secs(2);

/// A connection that can carry frames.
pub(super) struct Wire {
    writer: LaneWriter,
    inlet: Inlet,
}

impl Wire {
    /// Takes over a connection after its handshake; the peer must wait for our word now.
    pub(super) fn new(stream: TlsStream<TcpStream>) -> io::Result<Self> {
        let (tcp, connection) = match stream {
            TlsStream::Client(stream) => {
                let (tcp, connection) = stream.into_inner();
                (tcp, connection.into())
            }
            TlsStream::Server(stream) => {
                let (tcp, connection) = stream.into_inner();
                (tcp, connection.into())
            }
        };
        let (sealer, opener) = record::take_over(connection).map_err(invalid)?;
        // What waits in the trunk can still be overtaken. An error means that the connection is
        // gone, which the first use will notice.
        let _ = socket2::SockRef::from(&tcp).set_tcp_notsent_lowat(UNSENT);
        let (read, write) = tcp.into_split();
        Ok(Self {
            writer: LaneWriter::new(write, sealer),
            inlet: Inlet {
                socket: read,
                opener,
                left: Vec::new(),
                size: LITTLE,
                end: None,
            },
        })
    }

    /// The two halves, for the trunk and for the lane's task.
    pub(super) fn split(self) -> (LaneWriter, Inlet) {
        (self.writer, self.inlet)
    }
}

/// Carries frames until the connection or the lane ends, then takes the lane out of the trunk.
/// `first` was read behind the greeting.
pub(super) async fn run(
    driver: Arc<Driver>,
    id: LaneId,
    inlet: Inlet,
    first: Bytes,
) -> io::Result<()> {
    let _end = EndOnPanic::of(&driver);
    let mut lane = Lane {
        driver: driver.clone(),
        id,
        inlet,
        writer: None,
        over: None,
    };
    let left = left(&driver, id);
    let memory = first.len();
    lane.receive(std::iter::once(first), memory);
    let ended = tokio::select! {
        biased;
        ended = std::future::poll_fn(|cx| lane.poll(cx)) => ended,
        // TCP takes nothing any more.
        () = left => Err(io::ErrorKind::TimedOut.into()),
    };
    if ended.is_err() || lane.over == Some(LaneFate::Drop) {
        lane.inlet.arm_reset();
    }
    driver.standing.leave(id);
    driver.with(|core, now| {
        core.lanes.remove(&id);
        core.trunk.lane_down(now, id);
    });
    driver.wake_lanes();
    ended
}

/// Ready some time after the lane's fate is known.
fn left(driver: &Driver, id: LaneId) -> impl Future<Output = ()> + use<> {
    let (alive, over) = oneshot::channel();
    driver.with(|core, _| {
        if let Some(lane) = core.lanes.get_mut(&id).filter(|lane| lane.fate.is_none()) {
            lane.alive = Some(alive);
        }
    });
    async move {
        // Nothing is ever sent: the sender goes.
        let _ = over.await;
        tokio::time::sleep(LEAVE).await;
    }
}

struct Lane {
    driver: Arc<Driver>,
    id: LaneId,
    inlet: Inlet,
    /// While this task is the one that writes.
    writer: Option<Box<LaneWriter>>,
    over: Option<LaneFate>,
}

impl Lane {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..ROUNDS {
            self.poll_write(cx)?;
            if self.over.is_some() {
                return Poll::Ready(Ok(()));
            }
            match self.inlet.poll_read(cx)? {
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some(pieces)) => self.receive_all(pieces),
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what TCP takes now, unless another task is writing, which then looks again. What is
    /// left, and what another lane could carry meanwhile, wakes whom it concerns.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            let writer = match self.writer.take() {
                Some(writer) => Some(writer),
                None => self.driver.claim_for_task(self.id, cx.waker()),
            };
            let Some(writer) = writer else { return Ok(()) };
            let (mut writer, left) = match push(writer, &self.driver, self.id) {
                Pushed::Rests(other) => {
                    other.into_iter().for_each(Waker::wake);
                    return Ok(());
                }
                Pushed::Left(writer, left) => (writer, left),
            };
            match left {
                Left::Over(fate) => {
                    if fate == LaneFate::Close {
                        writer.close();
                    }
                    self.over = Some(fate);
                    return Ok(());
                }
                Left::Broken(error) => return Err(error),
                Left::Blocked => {
                    self.writer = Some(writer);
                    if let Poll::Ready(ready) = self.inlet.poll_writable(cx) {
                        ready?;
                        continue;
                    }
                }
                Left::More => {
                    self.writer = Some(writer);
                    cx.waker().wake_by_ref();
                }
            }
            self.driver.wake_other(self.id);
            return Ok(());
        }
    }

    /// What this brings to write, the lane writes next: to a peer that broke the protocol, why
    /// the trunk is over.
    fn receive(&self, mut input: impl Iterator<Item = Bytes>, memory: usize) {
        let id = self.id;
        let worn = self.inlet.opener.opened() > WORN;
        let received = self.driver.act(|core, now| {
            if let Some(lane) = core.lanes.get_mut(&id) {
                lane.worn |= worn;
            }
            input.try_for_each(|data| core.trunk.receive_part(now, id, data, memory))
        });
        self.driver.hand_over();
        if let Err(violation) = received {
            tracing::warn!(trunk = ?self.driver.id(), lane = id.number(), %violation, "a peer broke the protocol of trunks");
        }
    }

    fn receive_all(&self, pieces: Pieces) {
        let memory = pieces.whole.capacity();
        let whole = READS.lend(pieces.whole);
        self.receive(
            pieces.data.into_iter().map(|data| whole.slice(data)),
            memory,
        )
    }
}

/// The reading half of a lane.
pub(super) struct Inlet {
    socket: OwnedReadHalf,
    opener: Opener,
    /// The beginning of a record whose end has not come.
    left: Vec<u8>,
    /// How much to read at once; follows what comes.
    size: usize,
    /// What came behind the last record that was handed on.
    end: Option<io::Result<()>>,
}

/// What one read gave: memory, and where in it the data of the peer is.
struct Pieces {
    whole: Vec<u8>,
    data: Vec<Range<usize>>,
}

impl Inlet {
    /// The next records with data; `None` at the end of the connection, clean or not: a lane's
    /// end is no stream's.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Pieces>>> {
        loop {
            if let Some(end) = self.end.take() {
                return Poll::Ready(end.map(|()| None));
            }
            // No memory while nothing comes.
            ready!(self.socket.as_ref().poll_read_ready(cx))?;
            let mut whole = self.buffer();
            let room = whole.capacity() - whole.len();
            match poll_read_buf(Pin::new(&mut self.socket), cx, &mut whole) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(None)),
                Poll::Ready(Ok(count)) => self.resize(count, room),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.keep(&whole);
                    return Poll::Pending;
                }
            }
            let pieces = self.open(whole);
            if !pieces.data.is_empty() {
                return Poll::Ready(Ok(Some(pieces)));
            }
        }
    }

    /// Memory to read into, behind the record that has begun.
    fn buffer(&mut self) -> Vec<u8> {
        let left = std::mem::take(&mut self.left);
        if left.capacity() >= left.len() + LITTLE {
            return left;
        }
        let mut whole = READS.take(self.size.max(left.len() + LITTLE));
        whole.extend_from_slice(&left);
        whole
    }

    fn resize(&mut self, count: usize, room: usize) {
        if count == room {
            self.size = READS.size().min(self.size * 2);
        } else if count < self.size / 4 {
            self.size = LITTLE.max(self.size / 2);
        }
    }

    /// Opens all records that are there, and keeps the rest.
    fn open(&mut self, mut whole: Vec<u8>) -> Pieces {
        let (mut data, mut at) = (Vec::new(), 0);
        while self.end.is_none() {
            match self.opener.open(whole.get_mut(at..).unwrap_or_default()) {
                Ok(Opened::Incomplete) => break,
                Ok(Opened::Record {
                    length,
                    data: place,
                }) => {
                    if !place.is_empty() {
                        data.push(at + place.start..at + place.end);
                    }
                    at += length;
                }
                Ok(Opened::Closed) => self.end = Some(Ok(())),
                Err(error) => self.end = Some(Err(invalid(error))),
            }
        }
        if self.end.is_none() {
            self.keep(whole.get(at..).unwrap_or_default());
        }
        Pieces { whole, data }
    }

    /// Keeps the beginning of a record, on a busy lane in memory for the next read.
    fn keep(&mut self, begun: &[u8]) {
        if begun.is_empty() {
            return;
        }
        let busy = self.size == READS.size();
        self.left = READS.take(if busy { self.size } else { begun.len() });
        self.left.extend_from_slice(begun);
    }

    /// From now on, closing the connection sends a TCP reset.
    fn arm_reset(&self) {
        let tcp: &TcpStream = self.socket.as_ref();
        // On an error the socket is gone already.
        let _ = socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO));
    }

    /// Ready when TCP may take bytes again.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.as_ref().poll_write_ready(cx)
    }
}
