//! One lane: a TLS connection that carries frames of a trunk, both ways, in one task.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use renkei_trunk::LaneId;
use tokio::{io::AsyncWrite, net::TcpStream, sync::oneshot};
use tokio_rustls::TlsStream;
use tokio_util::io::poll_read_buf;

use super::driver::{Driver, LaneFate};
use crate::relay::Link;

/// What is read at once.
const READ: usize = 64 * 1024;
/// What is taken from the trunk at once; the rest is for other lanes.
const TAKE: usize = 128 * 1024;
/// Bytes of one DATA frame.
const FRAME: usize = 32 * 1024;
/// Pieces of one vectored write.
const SLICES: usize = 16;
/// Turns after which a lane lets others run.
const ROUNDS: usize = 32;
/// How long the connection of a lane that is over has to take what is left.
const LEAVE: Duration = Duration::from_secs(2);

/// Carries frames until the connection or the lane ends, then takes the lane out of the trunk.
/// `first` was read behind the greeting.
pub(super) async fn run(
    driver: Arc<Driver>,
    id: LaneId,
    stream: TlsStream<TcpStream>,
    first: Bytes,
) -> io::Result<()> {
    let mut lane = Lane {
        driver: driver.clone(),
        id,
        stream,
        output: VecDeque::new(),
        unflushed: false,
        ending: None,
    };
    let left = left(&driver, id);
    let ended = match lane.receive(first) {
        Ok(()) => tokio::select! {
            biased;
            ended = poll_fn(|cx| lane.poll(cx)) => ended,
            // TCP takes nothing any more.
            () = left => Err(io::ErrorKind::TimedOut.into()),
        },
        Err(error) => Err(error),
    };
    if ended.is_err() || lane.ending == Some(LaneFate::Drop) {
        lane.stream.get_ref().0.arm_reset();
    }
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
    stream: TlsStream<TcpStream>,
    output: VecDeque<Bytes>,
    unflushed: bool,
    ending: Option<LaneFate>,
}

impl Lane {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..ROUNDS {
            let wrote = self.poll_write(cx)?;
            if let (Poll::Ready(()), Some(_)) = (wrote, self.ending) {
                return self.poll_close(cx);
            }
            match self.poll_read(cx)? {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready when there is nothing left to write.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        loop {
            while !self.output.is_empty() {
                match self.poll_send(cx) {
                    Poll::Ready(sent) => sent?,
                    Poll::Pending => {
                        self.note(true);
                        return Ok(Poll::Pending);
                    }
                }
            }
            if self.ending == Some(LaneFate::Drop) || !self.take(cx) {
                break;
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(flushed) => flushed?,
                Poll::Pending => return Ok(Poll::Pending),
            }
            self.unflushed = false;
        }
        Ok(Poll::Ready(()))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.output) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        let slices = slices.get(..count).unwrap_or_default();
        let mut sent = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        if sent == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.unflushed = true;
        while let Some(piece) = self.output.front_mut() {
            let part = sent.min(piece.len());
            piece.advance(part);
            sent -= part;
            if piece.has_remaining() {
                break;
            }
            self.output.pop_front();
        }
        Poll::Ready(Ok(()))
    }

    /// Takes frames for this lane out of the trunk; `false` when it has none, and then the lane
    /// is woken for the next.
    fn take(&mut self, cx: &mut Context<'_>) -> bool {
        let (id, output) = (self.id, &mut self.output);
        let (taken, fate) = self.driver.with(|core, now| {
            let mut taken = 0;
            while taken < TAKE {
                let Some(transmit) = core.trunk.poll_transmit(now, id, FRAME) else {
                    break;
                };
                taken += transmit.len();
                output.push_back(Bytes::copy_from_slice(transmit.header()));
                let payload = transmit.into_payload();
                if !payload.is_empty() {
                    output.push_back(payload);
                }
            }
            let Some(lane) = core.lanes.get_mut(&id) else {
                return (taken, Some(LaneFate::Drop));
            };
            lane.stuck = false;
            lane.written += taken as u64;
            lane.idle = (taken == 0).then(|| cx.waker().clone());
            (taken, lane.fate)
        });
        self.ending = fate;
        taken > 0
    }

    fn note(&self, stuck: bool) {
        let id = self.id;
        self.driver.with(|core, _| {
            if let Some(lane) = core.lanes.get_mut(&id) {
                lane.stuck = stuck;
            }
        });
    }

    /// `false` at the end of the connection.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<bool>> {
        let mut input = BytesMut::with_capacity(READ);
        while input.len() < READ {
            match poll_read_buf(Pin::new(&mut self.stream), cx, &mut input) {
                Poll::Ready(Ok(0)) if input.is_empty() => return Ok(Poll::Ready(false)),
                Poll::Ready(Ok(0)) => break,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => {
                    self.receive(input.freeze())?;
                    return Err(error);
                }
                Poll::Pending if input.is_empty() => return Ok(Poll::Pending),
                Poll::Pending => break,
            }
        }
        self.receive(input.freeze())?;
        Ok(Poll::Ready(true))
    }

    fn receive(&self, input: Bytes) -> io::Result<()> {
        if input.is_empty() {
            return Ok(());
        }
        let id = self.id;
        self.driver
            .with(|core, now| core.trunk.receive(now, id, input))
            .map_err(|violation| io::Error::new(io::ErrorKind::InvalidData, violation.to_string()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.ending {
            Some(LaneFate::Close) => Pin::new(&mut self.stream).poll_shutdown(cx),
            _ => Poll::Ready(Ok(())),
        }
    }
}
