//! One lane: a TLS connection that carries frames of a trunk, both ways. Its task reads, and
//! writes what [`LaneWriter`]'s other users leave.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use renkei_trunk::LaneId;
use tokio::sync::oneshot;

use super::{
    KeyLimits,
    core::LaneFate,
    driver::{Driver, Left, Pushed, push},
    lane_writer::LaneWriter,
    panic::EndOnPanic,
    takes_key_update,
};
use crate::{
    record::{RecordReader, TlsConnection},
    sockets::OnClose,
};

/// Bytes that TCP takes before it has sent those that it has.
const UNSENT: u32 = 128 * 1024;
/// Turns after which a lane lets others run.
const ROUNDS: usize = 32;
/// How long the connection of a lane that is over has to take what is left.
const LEAVE: Duration = Duration::from_secs(2);

/// The two halves of a connection that is to carry frames, for the trunk and for the lane's task.
pub(super) fn split(connection: TlsConnection, limits: KeyLimits) -> (LaneWriter, RecordReader) {
    let takes_key_update = connection.alpn().is_some_and(takes_key_update);
    let (reader, writer) = connection.into_split();
    // What waits in the trunk can still be overtaken. An error means that the connection is gone,
    // which the first use will notice.
    let _ = socket2::SockRef::from(reader.tcp()).set_tcp_notsent_lowat(UNSENT);
    let writer = LaneWriter::new(writer, takes_key_update, limits);
    (writer, reader)
}

/// Carries frames until the connection or the lane ends, then takes the lane out of the trunk.
/// `first` was read behind the greeting.
pub(super) async fn run(
    driver: Arc<Driver>,
    id: LaneId,
    reader: RecordReader,
    first: Bytes,
) -> io::Result<()> {
    let _end = EndOnPanic::of(&driver);
    let mut lane = Lane {
        driver: driver.clone(),
        id,
        reader,
        writer: None,
        over: None,
    };
    let left = left(&driver, id);
    lane.receive(first.len(), std::iter::once(first));
    let ended = tokio::select! {
        biased;
        ended = std::future::poll_fn(|cx| lane.poll(cx)) => ended,
        // TCP takes nothing any more.
        () = left => Err(io::ErrorKind::TimedOut.into()),
    };
    if ended.is_err() || lane.over == Some(LaneFate::Drop) {
        // Closing the connection sends a TCP reset. On an error the socket is gone already.
        let _ = OnClose::Reset.set(&socket2::SockRef::from(lane.reader.tcp()));
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
    reader: RecordReader,
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
            match ready!(self.reader.poll_read(cx)) {
                Ok(Some(pieces)) => self.receive(pieces.memory(), pieces.into_data()),
                // Clean or not: a lane's end is no stream's.
                Ok(None) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Ok(()));
                }
                Err(error) => return Poll::Ready(Err(error)),
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
                    if let Poll::Ready(ready) = self.reader.tcp().poll_write_ready(cx) {
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
    fn receive(&self, memory: usize, mut input: impl Iterator<Item = Bytes>) {
        let id = self.id;
        let worn = self.reader.opened() > self.driver.context.limits.keys.records_per_lane;
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
}
